"""Rows of any library become the same Arrow table, and what is no table is said to be none."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.frames import as_table, batch_columns, columns_of, numbers_of, read_columns
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.keras_compat import tf

ROWS = {"user": [3, 1, 2], "city": ["Rome", None, "Oslo"], "price": [0.5, None, 2.0]}


class Stream:
    """What polars and DuckDB hand over: Arrow's C stream and nothing else."""

    def __init__(self, data):
        self._data = data

    def __len__(self):
        return len(self._data)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._data.__arrow_c_stream__(requested_schema)


def views(table):
    """Strings as polars has them, one plain and one as categories."""
    city = table["city"].cast(pa.string_view())
    coded = table["city"].combine_chunks().dictionary_encode()
    coded = pa.DictionaryArray.from_arrays(coded.indices.cast(pa.uint32()), coded.dictionary.cast(pa.string_view()))
    return table.set_column(1, "city", city).append_column("coded", coded)


FORMS = {
    "dict": ROWS,
    "DataFrame": pd.DataFrame(ROWS),
    "nullable": pd.DataFrame(ROWS).convert_dtypes(),
    "categories": pd.DataFrame(ROWS).astype({"city": "category"}),
    "dict of Series": dict(pd.DataFrame(ROWS).items()),
    "dict of streams": {
        name: Stream(pa.chunked_array([column])) for name, column in pa.table(ROWS).to_pydict().items()
    },
    "list of dicts": [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)],
    "table": pa.table(ROWS),
    "stream": Stream(pa.table(ROWS)),
    "stream of views": Stream(views(pa.table(ROWS)).select(list(ROWS))),
    "turned around": pd.DataFrame(ROWS, index=[2, 1, 0]),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_any_library_are_the_same_table(form):
    assert as_table(FORMS[form]).to_pydict() == ROWS
    assert list(columns_of(FORMS[form])) == list(ROWS)


def test_strings_of_views_are_plain_inside_categories_too():
    table = as_table(Stream(views(pa.table(ROWS))))

    assert table["coded"].to_pylist() == ROWS["city"]
    assert table.schema.field("coded").type.value_type == pa.large_string()
    assert table.take(pa.array([2]))["city"].to_pylist() == ["Oslo"]


def test_a_ragged_tensor_is_a_column_of_lists():
    ragged = tf.RaggedTensor.from_row_lengths([3, 1, 2], [2, 0, 1])
    assert as_table({"a": ragged, "b": [1, 2, 3]}).column("a").to_pylist() == [[3, 1], [], [2]]


def test_a_key_that_some_rows_lack_is_missing_there():
    assert as_table([{"a": 1}, {"b": "x"}]).to_pydict() == {"a": [1, None], "b": [None, "x"]}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            pd.DataFrame([[1, 2]], columns=[1, "1"]),
            r"^The DataFrame has two columns '1', 1\. Give each a name of its own",
        ),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"^The DataFrame has two columns 'a'\. Give each"),
        ({1: [1], "1": [2]}, r"^The dict has two columns '1', 1\."),
        (
            {"a": {"b": [1]}},
            r"^Column 'a' is a dict, but a column is \[n\] or \[n, k\]\. Give one value or list a row\.",
        ),
        ({"a": "text"}, "^Column 'a' is a str, but"),
        ({"a": {1, 2}}, "^Column 'a' is a set, but"),
        ({"a": 3}, "^Column 'a' is a int, but"),
        ({"a": None}, "^Column 'a' is a NoneType, but"),
        ({"a": np.zeros([2, 2, 2])}, r"^Column 'a' is of shape \(2, 2, 2\), but"),
        ({"a": np.array(3)}, r"^Column 'a' is of shape \(\), but"),
        ({"a": [1, "x"]}, "^Column 'a' is not of one type: "),
        ({"a": [object()]}, "^Column 'a' is not of one type: "),
        ([object()], "list of dicts, an Arrow table, .* received list of object"),
        ([{"a": 1}, 3], "received list of dict"),
        (Stream(pa.chunked_array([[1]])), "received Stream"),
        (None, "received NoneType"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(source, message):
    with pytest.raises(ValueError, match=message) as caught:
        as_table(source)
    assert "\n" not in str(caught.value)


def test_columns_that_are_not_read_need_not_fit():
    frame = pd.DataFrame({"user": [1], "thing": [object()]})

    assert read_columns(frame, ["user"]).to_pydict() == {"user": [1]}
    with pytest.raises(ValueError, match="There is no column 'users', which the model reads; did you mean 'user'"):
        read_columns(frame, ["users"])


def test_columns_of_a_batch_are_as_their_features_take_them():
    features = [
        CategoricalFeature("user", vocabulary_size=9),
        CategoricalFeature("city", vocabulary=["Rome"]),
        NumericFeature("price"),
        MultiCategoricalFeature("genres", vocabulary=["a"]),
    ]
    rows = pd.DataFrame(ROWS).assign(user=[3.0, None, 2.0], genres=[["a"], [], None])

    columns = batch_columns(as_table(rows), features)

    assert columns["user"].tolist() == [3, -1, 2]
    assert columns["city"].tolist() == [b"Rome", b"", b"Oslo"]
    np.testing.assert_array_equal(columns["price"], np.float32([0.5, np.nan, 2.0]))
    assert (columns["genres"].values.tolist(), columns["genres"].row_splits.tolist()) == ([b"a"], [0, 1, 1, 1])


@pytest.mark.parametrize(
    "values",
    [
        [0, 1.0, True],
        pd.Series([0, 1, 1], index=[2, 1, 0], dtype="Int64"),
        pd.Series([0, 1, 1], dtype="category"),
        pd.DataFrame({"y": [0, 1, 1]}),
        pa.chunked_array([[0], [1, 1]]),
        Stream(pa.chunked_array([[0, 1, 1]])),
        np.array([0, 1, 1], object),
        np.array([[0], [1], [1]]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_labels_of_any_library_are_float32(values):
    found = numbers_of("label", values)

    assert (found.dtype, found.tolist()) == (np.float32, [0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], "^The label is string, but it has to be numbers. Turn it into numbers first."),
        ([1, None, 0], "^The label has no value in 1 of 3 rows, the first in row 1. Drop these rows, or fill them."),
        ("y", "^The label is an array of numbers; received 'y'. Give one number a row."),
        (pd.DataFrame({"a": [1], "b": [2]}), "^The label is one column; received 2. Give the one that is meant."),
    ],
)
def test_labels_that_are_no_numbers_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        numbers_of("label", values)


@pytest.mark.parametrize("form", ["dict", "DataFrame", "list of dicts", "stream"])
def test_prepare_takes_rows_of_any_library_and_a_split_as_text(form):
    rows = {"user": [1, 2] * 20, "y": [0, 1, 1, 0] * 10}
    frame = pd.DataFrame(rows)
    forms = {
        "dict": rows,
        "DataFrame": frame,
        "list of dicts": frame.to_dict("records"),
        "stream": Stream(pa.table(rows)),
    }

    found = prepare(forms[form], "y", "random", seed=5)
    wanted = prepare(pa.table(rows), "y", Split("random", seed=5))

    assert found.tables["test"].to_pydict() == wanted.tables["test"].to_pydict()
    assert found.tables["test"].to_pydict() != prepare(pa.table(rows), "y", "random").tables["test"].to_pydict()


def test_a_column_label_weight_and_time_of_one_value_a_row_are_those_without_the_axis():
    flat = {"user": np.arange(40) % 4, "y": np.arange(40) % 2, "w": np.ones(40), "t": np.arange(40)}
    column = {name: values[:, None] for name, values in flat.items()}

    found, wanted = (
        prepare(rows, "y", "time:t", features=infer_features({"user": rows["user"]})) for rows in (column, flat)
    )

    assert found.features == wanted.features
    np.testing.assert_array_equal(found.train.labels, wanted.train.labels)
    np.testing.assert_array_equal(found.train.columns["encoded/ids"], wanted.train.columns["encoded/ids"])


def test_what_is_no_split_is_refused():
    with pytest.raises(ValueError, match=r"^A split is random, time:timestamp or .* received 3"):
        Split.of(3)
