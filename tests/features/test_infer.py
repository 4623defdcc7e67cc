import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.bag import WEIGHTS_OF
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.column import ColumnCounts
from nfm_tfrs.features.encoder import IDS, FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf

pytestmark = pytest.mark.filterwarnings("error")


def table(**columns):
    return pa.table(columns)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "city": rng.choice(["Rome", "Oslo", "Пермь", ""], 60),
            "year": rng.integers(1990, 1995, 60),
            "premium": rng.integers(0, 2, 60).astype(bool),
            "price": rng.normal(5.0, 2.0, 60).astype(np.float32),
            "genres": [list(rng.choice(["a", "b", "c"], rng.integers(0, 3))) for _ in range(60)],
        }
    )


def dataset_of(frame, batch_size):
    columns = {name: tf.constant(frame[name]) for name in ("city", "year", "premium", "price")}
    columns["genres"] = tf.ragged.constant(frame["genres"].to_list(), dtype=tf.string)
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)


def test_dataframe_parquet_and_dataset_agree(frame, tmp_path):
    expected = FeatureSpec.from_dataframe(frame, min_count=2)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "rows.parquet", row_group_size=7)
    assert FeatureSpec.from_parquet(tmp_path / "rows.parquet", min_count=2) == FeatureSpec.from_table(
        pa.Table.from_pandas(frame), min_count=2
    )
    for batch_size in (7, 60):
        inferred = FeatureSpec.from_dataset(dataset_of(frame, batch_size), min_count=2)
        assert inferred.names == expected.names
        for name in ("city", "year", "premium", "genres"):
            assert inferred[name] == expected[name]
        assert inferred["price"].mean == pytest.approx(expected["price"].mean, rel=1e-9)
        assert inferred["price"].std == pytest.approx(expected["price"].std, rel=1e-9)


def test_kinds_follow_from_types(frame):
    spec = FeatureSpec.from_dataframe(frame, min_count=1)
    assert [type(feature) for feature in spec] == [CategoricalFeature] * 3 + [NumericFeature, MultiCategoricalFeature]
    assert set(spec["city"].vocabulary) == {"Rome", "Oslo", "Пермь"}
    assert spec["premium"].dtype == "int64"
    assert spec["genres"].combiner == "mean"


def test_moments_are_those_of_numpy(frame):
    price = frame["price"].astype(np.float64)
    feature = FeatureSpec.from_dataframe(frame, min_count=1)["price"]
    assert feature.mean == pytest.approx(price.mean(), rel=1e-12)
    assert feature.std == pytest.approx(price.std(ddof=0), rel=1e-12)
    assert not feature.log


def test_moments_of_numbers_far_from_zero_keep_their_digits():
    numbers = 1e9 + np.arange(1000) % 3
    chunks = pa.chunked_array([numbers[:10], numbers[10:11], numbers[11:]])
    feature = FeatureSpec.from_table(table(x=chunks))["x"]
    assert feature.std == pytest.approx(np.std(np.arange(1000) % 3), rel=1e-6)


def test_skewed_non_negative_numbers_are_logged():
    numbers = np.r_[np.ones(97), 1e4, 1e5, 1e6]
    feature = FeatureSpec.from_table(table(x=numbers))["x"]
    assert feature.log
    assert feature.mean == pytest.approx(np.log1p(numbers).mean())
    assert feature.std == pytest.approx(np.log1p(numbers).std())
    assert not FeatureSpec.from_table(table(x=-numbers))["x"].log


@pytest.mark.parametrize("mark", [np.finfo(np.float32).max, -np.finfo(np.float32).max, np.finfo(np.float64).max, 1e30])
def test_a_mark_of_a_missing_number_is_said_and_missing(mark):
    numbers = np.r_[1.0, 3.0, mark, mark]
    line = re.escape(
        f"Column 'x' holds {float(mark):.9g} (2 times) in 4 rows, which is taken as missing. Set it to null"
    )
    with pytest.warns(UserWarning, match=line):
        feature = FeatureSpec.from_table(table(x=numbers))["x"]
    assert feature == NumericFeature("x", mean=2.0, std=1.0, missing_values=(float(mark),))


def test_a_column_of_many_huge_numbers_is_logged_and_holds_no_marks():
    numbers = np.geomspace(1.0, 1e300, 301)
    feature = FeatureSpec.from_table(table(x=numbers))["x"]
    assert (feature.log, feature.missing_values) == (True, ())
    assert feature.mean == pytest.approx(np.log1p(numbers).mean())
    assert feature.std == pytest.approx(np.log1p(numbers).std())


def test_missing_and_infinite_numbers_do_not_count():
    feature = FeatureSpec.from_table(table(x=pa.array([1.0, None, 3.0, float("nan"), float("inf")])))["x"]
    assert (feature.mean, feature.std) == (2.0, 1.0)


def test_rarer_values_than_min_count_are_left_out_and_the_rest_sorted_by_count():
    values = ["a"] * 3 + ["c"] * 5 + ["b"] * 5 + ["d"] * 2
    assert FeatureSpec.from_table(table(x=values), min_count=3)["x"].vocabulary == ("b", "c", "a")
    assert FeatureSpec.from_table(table(x=values))["x"].vocabulary == ("b", "c")


def test_missing_values_are_not_in_a_vocabulary():
    spec = FeatureSpec.from_table(
        table(x=["", "a", None, "a"], n=pa.array([-1, 3, None, 3]), b=[["", "q"], None, [], [None]]), min_count=1
    )
    assert spec["x"].vocabulary == ("a",)
    assert spec["n"].vocabulary == (3,)
    assert spec["b"].vocabulary == ("q",)


def test_more_values_than_max_vocabulary_are_hashed():
    spec = FeatureSpec.from_table(table(x=["a", "b", "c"], n=[1, 2, 3]), min_count=1, max_vocabulary=2)
    assert spec["x"] == CategoricalFeature("x", num_hash_buckets=6, dtype="string")
    assert spec["n"] == CategoricalFeature("n", num_hash_buckets=6, dtype="int64")


@pytest.mark.parametrize(("max_vocabulary", "buckets"), [(10, 6), (2, 4)])
def test_a_category_of_rare_values_alone_is_hashed(max_vocabulary, buckets):
    columns = table(x=["a", "b", "c", "a"], n=[1, 2, 3, 3], bag=[["a", "b"], ["c"], [], [""]], k=["k"] * 4)
    spec = FeatureSpec.from_table(columns, min_count=3, max_vocabulary=max_vocabulary)
    assert spec.features == (
        CategoricalFeature("x", num_hash_buckets=buckets, dtype="string"),
        CategoricalFeature("n", num_hash_buckets=buckets, dtype="int64"),
        MultiCategoricalFeature("bag", num_hash_buckets=buckets, dtype="string"),
        CategoricalFeature("k", vocabulary=("k",)),
    )


def test_mostly_unique_integers_are_a_number_and_one_warning_names_them_all():
    columns = table(x=np.arange(100), y=np.arange(100) % 50, z=3 * np.arange(100), u=np.arange(100) / 2)
    line = (
        r"^Columns 'x', 'z' of integers became numbers, because most values differ\. Say what each is with "
        r"--category and --number, or kinds=\.$"
    )
    with pytest.warns(UserWarning, match=line) as said:
        spec = FeatureSpec.from_table(columns, min_count=1)
    assert len(said) == 1
    assert [type(feature) for feature in spec] == [NumericFeature, CategoricalFeature, NumericFeature, NumericFeature]


def test_nothing_is_said_of_integers_whose_kind_the_user_says():
    columns = table(x=np.arange(100), y=np.arange(100))
    spec = FeatureSpec.from_table(columns, min_count=1, kinds={"x": "number", "y": "category"})
    assert [type(feature) for feature in spec] == [NumericFeature, CategoricalFeature]


@pytest.mark.parametrize("name", ["id", "ID", "uid", "user_id", "USER_ID", "userId", "itemID", "item_key", "a1Id"])
def test_a_column_whose_name_says_id_is_a_category_whatever_its_values(name):
    assert FeatureSpec.from_table(table(**{name: np.arange(100)}), min_count=1)[name].vocabulary == tuple(range(100))


@pytest.mark.parametrize("name", ["paid", "grid", "key", "idle", "id_count", "userid_age", "GRID", "monkey"])
def test_a_name_that_only_sounds_like_id_says_nothing(name):
    with pytest.warns(UserWarning, match=f"^Column '{name}' of integers became a number, because most values differ"):
        spec = FeatureSpec.from_table(table(**{name: np.arange(100)}), min_count=1)
    assert isinstance(spec[name], NumericFeature)


def test_a_column_whose_name_says_id_may_be_called_a_number():
    spec = FeatureSpec.from_table(table(user_id=np.arange(100)), kinds={"user_id": "number"})
    assert isinstance(spec["user_id"], NumericFeature)


def test_nullable_integers_stay_integers():
    spec = FeatureSpec.from_dataframe(pd.DataFrame({"year": pd.array([1995, None, 1995], "Int64")}), min_count=1)
    assert spec["year"] == CategoricalFeature("year", vocabulary=(1995,))


def test_ids_beyond_what_float64_can_hold_are_told_apart():
    ids = [2**60 + 1, 2**60 + 3]
    assert FeatureSpec.from_table(table(x=ids * 5))["x"].vocabulary == tuple(ids)


@pytest.mark.parametrize("how", [{"min_count": 1}, {"min_count": 1, "max_vocabulary": 2}], ids=str)
def test_ids_beyond_int64_are_a_category(how):
    ids = pa.array([2**63, 2**64 - 2, 7, 2**64 - 1, None], pa.uint64())
    (feature,) = FeatureSpec.from_table(table(x=ids), **how)
    rows = FeatureEncoder(FeatureSpec((feature,))).encode_arrays(checked_arrays(table(x=ids), FeatureSpec((feature,))))
    found = rows[IDS][:, 0].tolist()
    assert feature.dtype == "int64"
    assert feature.vocabulary == (None if "max_vocabulary" in how else (7, 2**63, 2**64 - 2))
    assert min(found[:3]) > 0
    assert found[3:] == [0, 0]  # 2⁶⁴ - 1 is -1 there, and a null is missing too


def test_dictionary_columns_are_read_as_their_values():
    city = pa.array(["Rome", "Oslo", "Rome"]).dictionary_encode()
    bags = pa.ListArray.from_arrays([0, 1, 3], city)
    frame = pd.DataFrame({"city": pd.Categorical(["Rome", "Oslo", "Rome"])})
    assert FeatureSpec.from_table(table(city=city), min_count=1)["city"].vocabulary == ("Rome", "Oslo")
    assert FeatureSpec.from_dataframe(frame, min_count=1)["city"].vocabulary == ("Rome", "Oslo")
    assert FeatureSpec.from_table(table(bag=bags), min_count=1)["bag"].vocabulary == ("Rome", "Oslo")


def test_columns_are_chosen_ordered_and_excluded(frame):
    assert FeatureSpec.from_dataframe(frame, columns=["year", "city"], min_count=1).names == ("year", "city")
    assert "year" not in FeatureSpec.from_dataframe(frame, exclude=["year"], min_count=1)
    dataset = dataset_of(frame, 16)
    assert "premium" not in FeatureSpec.from_dataset(dataset, label="premium", min_count=1)
    assert FeatureSpec.from_dataset(dataset, label="premium", exclude=["year"], min_count=1).names == (
        "city",
        "price",
        "genres",
    )


def test_a_column_marked_as_weights_comes_along_with_its_bag():
    weights = pa.field("w", pa.list_(pa.float32()), metadata={WEIGHTS_OF: "bag"})
    schema = pa.schema([pa.field("bag", pa.list_(pa.int64())), weights, pa.field("other", pa.int64())])
    rows = pa.table([[[1, 2], [1]], [[0.5, 2.0], [1.0]], [7, 7]], schema=schema)
    for rules in ({}, {"columns": ["bag", "other"]}):
        spec = FeatureSpec.from_table(rows, min_count=1, **rules)
        assert spec.names == ("bag", "other")
        assert spec["bag"].weights == "w"


def test_a_dataset_may_carry_labels_and_weights():
    batch = ({"x": tf.constant(["a", "a"])}, tf.constant([0.0, 1.0]), tf.constant([1.0, 1.0]))
    assert FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(batch), min_count=2).names == ("x",)


# --- what a column of a dataset is does not hang on its first batch --------------------------------------------------


def test_padded_bags_are_bags_even_if_the_longest_of_a_batch_has_one_value():
    rows = tf.data.Dataset.from_generator(
        lambda: iter([[1], [2], [3, 1], [2, 3]]), output_signature=tf.TensorSpec([None], tf.int64)
    )
    dataset = rows.padded_batch(2, padding_values=tf.constant(-1, tf.int64)).map(lambda x: {"x": x})
    assert FeatureSpec.from_dataset(dataset, min_count=1)["x"] == MultiCategoricalFeature("x", vocabulary=(1, 2, 3))


def test_a_column_of_one_value_a_row_is_a_category():
    columns = {"x": tf.constant([[3], [3]]), "y": tf.constant(["a", "a"])}
    spec = FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(columns), min_count=1)
    assert [type(feature) for feature in spec] == [CategoricalFeature, CategoricalFeature]


def test_a_sparse_column_of_one_value_a_row_keeps_its_holes():
    sparse = tf.SparseTensor([[0, 0], [3, 0]], tf.constant([3.0, 5.0]), [4, 1])
    columns = {"price": sparse, "id": tf.cast(sparse, tf.int64), "row": tf.constant([1, 1, 1, 1])}
    spec = FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(columns), min_count=1)
    assert spec["price"] == NumericFeature("price", mean=4.0, std=1.0)
    assert spec["id"] == CategoricalFeature("id", vocabulary=(3, 5))


def test_sparse_bags_are_bags():
    sparse = tf.SparseTensor([[0, 0], [0, 2], [2, 1]], tf.constant(["a", "b", "a"]), [4, 3])
    spec = FeatureSpec.from_dataset(tf.data.Dataset.from_tensors({"x": sparse}), min_count=1)
    assert spec["x"] == MultiCategoricalFeature("x", vocabulary=("a", "b"))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int16, tf.int32, tf.bool])
def test_integers_of_any_width_are_categories(dtype):
    columns = {"x": tf.cast(tf.constant([1, 0, 1]), dtype)}
    spec = FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(columns), min_count=1)
    assert spec["x"] == CategoricalFeature("x", vocabulary=(1, 0))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_floats_of_any_width_are_numbers(dtype):
    columns = {"x": tf.cast(tf.constant([1, 3]), dtype)}
    spec = FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(columns))
    assert spec["x"] == NumericFeature("x", mean=2.0, std=1.0)


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([[1.0], [2.0]]), "a list of floats is neither a bag of categories nor a number"),
        (pa.array([None, None]), "its type null is not a string, a number or a list of them"),
        (pa.array(["", None]), "every value is missing"),
        (pa.array([-1, -2]), "every value is missing"),
        (pa.array([float("nan"), None]), "every value is missing"),
        (pa.array([2.5, 2.5]), "every value is the same"),
    ],
)
def test_a_column_that_cannot_be_used_is_left_out_with_a_warning(column, reason):
    rows = table(x=column, y=["k", "k"])
    with pytest.warns(UserWarning, match=f"Column 'x' is left out: {reason}"):
        spec = FeatureSpec.from_table(rows, min_count=2)
    assert spec.names == ("y",)


def test_no_usable_column_at_all_is_an_error():
    message = "None of the columns x, y can be used. Give others, or features="
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match=message):
        FeatureSpec.from_table(table(x=["", None], y=[-1, -2]))


def test_data_without_a_row_is_refused(tmp_path):
    empty = table(x=pa.array([], pa.string()))
    pq.write_table(empty, tmp_path / "empty.parquet")
    message = "cannot be inferred from data without a row"
    with pytest.raises(ValueError, match=message):
        FeatureSpec.from_table(empty)
    with pytest.raises(ValueError, match=message):
        FeatureSpec.from_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match=message):
        FeatureSpec.from_dataset(tf.data.Dataset.from_tensors({"x": tf.constant(["a"])}).take(0))


def test_a_value_of_a_category_that_is_no_integer_is_refused_by_the_name_of_its_column():
    with pytest.raises(ValueError, match=r"^Column 'id': .* Turn its values into strings\.$"):
        FeatureSpec.from_table(table(id=[Decimal("1.5")]), kinds={"id": "category"})


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"There is no column 'z'\. The data has 'x', 'y'\."):
        FeatureSpec.from_table(table(x=[1], y=[2]), columns=["x", "z"])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"columns": "x"}, "columns must be a list of column names; received 'x'"),
        ({"exclude": "x"}, "exclude must be a list of column names; received 'x'"),
        ({"min_count": 0}, "min_count must be 1 or more; received 0"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec.from_table(table(x=[1]), **rules)


def test_an_endless_dataset_is_refused():
    with pytest.raises(ValueError, match="repeats without end"):
        FeatureSpec.from_dataset(tf.data.Dataset.from_tensors({"x": tf.constant([1])}).repeat())


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (tf.constant([1]), "inferred from a dict of columns; received TensorSpec"),
        ({"x": tf.constant(1)}, r"'x' must be \[batch\] or \[batch, length\]; received shape \(\). Batch the dataset"),
        ({"x": tf.zeros([2, 3, 4])}, r"'x' must be .* received shape \(2, 3, 4\)"),
        ({"x": tf.constant([b"\xff"])}, "'x' holds bytes that are not UTF-8. Decode them first"),
    ],
)
def test_datasets_of_another_form_are_refused(element, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec.from_dataset(tf.data.Dataset.from_tensors(element))


# --- any source, and kinds that the user says -----------------------------------------------------------------------


ROWS = {"id": ["a", "b", "a", "b"], "year": [1999, 2001, 1999, 2001], "click": [0, 1, 1, 0]}


def csv_file(folder):
    (folder / "rows.csv").write_text("id,year,click\na,1999,0\nb,2001,1\na,1999,1\nb,2001,0\n")
    return folder / "rows.csv"


def parquet_folder(folder):
    for number in range(2):
        pq.write_table(table(**ROWS).slice(2 * number, 2), folder / f"{number}.parquet")
    return folder


SOURCES = {
    "csv": csv_file,
    "parquet folder": parquet_folder,
    "list of files": lambda folder: sorted(parquet_folder(folder).iterdir()),
    "DataFrame": lambda _: pd.DataFrame(ROWS),
    "dict": lambda _: ROWS,
    "table": lambda _: table(**ROWS),
    "batch": lambda _: table(**ROWS).to_batches()[0],
    "list of batches": lambda _: table(**ROWS).to_batches(max_chunksize=3),
    "generator": lambda _: (batch for batch in table(**ROWS).to_batches(max_chunksize=3)),
    "reader": lambda _: table(**ROWS).to_reader(),
    "dataset": lambda _: tf.data.Dataset.from_tensor_slices(ROWS).batch(3),
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_source_gives_the_same_features(source, tmp_path):
    found = infer_features(SOURCES[source](tmp_path), min_count=1, label="click", kinds={"year": "category"})
    assert found == FeatureSpec(
        (CategoricalFeature("id", vocabulary=("a", "b")), CategoricalFeature("year", vocabulary=(1999, 2001)))
    )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ({"label": "clicks"}, "There is no column 'clicks', which the label reads; did you mean 'click'? The data has"),
        ({"kinds": {"yaer": "category"}}, "There is no column 'yaer', which kinds reads; did you mean 'year'?"),
        ({"columns": ["idd"]}, "There is no column 'idd'; did you mean 'id'?"),
        ({"kinds": {"click": "number"}, "label": "click"}, "Column 'click' has a kind, but is excluded or not among"),
        ({"kinds": {"id": "number"}}, "string, but kinds calls it a number. Cast it, or name another kind."),
    ],
)
def test_any_source_refuses_what_its_columns_cannot_be(source, rules, line, tmp_path):
    with pytest.raises(ValueError, match=re.escape(line)):
        infer_features(SOURCES[source](tmp_path), **rules)


def test_a_file_that_lacks_a_column_of_the_first_is_named(tmp_path):
    pq.write_table(table(id=["a"]), tmp_path / "0.parquet")
    pq.write_table(table(ids=["a"]), tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"1\.parquet: There is no column 'id'; did you mean 'ids'"):
        infer_features(tmp_path, min_count=1)


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        ([1999.0, None, 2001.0, 1999.0], "category", CategoricalFeature("x", vocabulary=(1999, 2001))),
        (list(range(100)), "category", CategoricalFeature("x", vocabulary=tuple(range(100)))),
        ([1, 3], "number", NumericFeature("x", mean=2.0, std=1.0)),
        ([True, False], "number", NumericFeature("x", mean=0.5, std=0.5)),
        (["a", "b"], "bag", MultiCategoricalFeature("x", vocabulary=("a", "b"))),
        ([[3.0, 4.0], None, [3.0]], "bag", MultiCategoricalFeature("x", vocabulary=(3, 4))),
        (pa.array([[1.0], [3.0]], pa.list_(pa.float32(), 1)), "number", NumericFeature("x", mean=2.0, std=1.0)),
        (
            pa.array([["a"], ["b"]], pa.list_(pa.string(), 1)),
            "category",
            CategoricalFeature("x", vocabulary=("a", "b")),
        ),
    ],
)
def test_a_kind_that_the_user_says_is_taken(column, kind, expected):
    assert infer_features(table(x=column), min_count=1, kinds={"x": kind}).features == (expected,)


@pytest.mark.parametrize(
    ("column", "kind", "line"),
    [
        ([1.0, 1.5], "category", "Column 'x' is 1.5 in row 1, but categories are strings or whole numbers. Round the"),
        ([[1.0], [2.0, 2.5]], "bag", "Column 'x' is 2.5 in row 1, but categories are strings or whole numbers."),
        ([["a"]], "category", "Column 'x' is list<item: string>, but kinds calls it a category. Cast it, or name"),
        ([[1]], "number", "Column 'x' is list<item: int64>, but kinds calls it a number."),
        (pa.array([0], pa.timestamp("s")), "category", "Column 'x' is timestamp[s], but kinds calls it a category."),
        ([1], "categry", 'The kind of column \'x\' must be "category", "number" or "bag"; received \'categry\'.'),
    ],
)
def test_a_kind_that_a_column_cannot_be_is_refused(column, kind, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        infer_features(table(x=pa.array(column) if isinstance(column, list) else column), kinds={"x": kind})


def test_kinds_are_a_dict():
    with pytest.raises(ValueError, match=r"kinds must be a dict such as .*; received 'year'"):
        infer_features(table(x=[1]), kinds="year")


def test_a_float_column_that_is_called_a_category_is_encoded_by_its_ids():
    years = table(x=[1999.0, None, 2001.0, 1999.0])
    spec = infer_features(years, min_count=1, kinds={"x": "category"})
    assert checked_arrays(years, spec)["x"].to_pylist() == [1999, None, 2001, 1999]


def test_weights_that_are_given_a_kind_are_a_column_of_their_own():
    weights = pa.field("w", pa.int64(), metadata={WEIGHTS_OF: b"x"})
    data = pa.table([[["a"], ["b"]], [1, 3]], pa.schema([pa.field("x", pa.list_(pa.string())), weights]))
    spec = infer_features(data, min_count=1, kinds={"w": "number"})
    assert spec.names == ("x", "w")
    assert spec["x"].weights is None


def test_prepare_passes_kinds_on():
    data = table(x=list(range(100)), click=[0, 1] * 50)
    prepared = prepare(data, "click", Split("random"), min_count=1, kinds={"x": "category"})
    assert isinstance(prepared.features["x"], CategoricalFeature)


def test_rates_are_those_that_encoding_the_rows_finds():
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.features.encoder import FeatureEncoder
    from nfm_tfrs.features.infer import Inference, infer_with_rates

    rng = np.random.default_rng(0)
    ids = rng.integers(-2, 60, 400)
    table = pa.table(
        {
            "user": ids,
            "rare": np.arange(400).astype(str),
            "city": pa.array([None if i % 9 == 0 else f"c{i % 97}" * (i % 7 > 0) for i in range(400)]),
            "tags": pa.array([None if i % 5 == 0 else [f"t{i % 70}", "", None][: i % 4] for i in range(400)]),
            "price": np.where(ids < 3, np.nan, rng.normal(size=400)),
            "stock": np.where(ids < 1, 3.4e38, rng.normal(size=400)),
            "time": rng.integers(-5, 10**9, 400),
        }
    )
    with pytest.warns(UserWarning, match=r"became a number|taken as missing"):
        spec, rates = infer_with_rates(table, Inference())
    expected = encode_part(table, FeatureEncoder(spec)).rates
    assert [one.name for one in rates] == [one.name for one in expected]
    for one, other in zip(rates, expected, strict=True):
        assert (one.values, one.missing, one.unknown) == pytest.approx((other.values, other.missing, other.unknown))
    assert any(one.missing for one in rates)
    assert any(one.unknown for one in rates)


def test_rates_of_an_infinite_number_are_refused():
    from nfm_tfrs.features.infer import Inference, infer_with_rates

    with pytest.raises(ValueError, match=r"Column 'price' is infinite \(inf\) in row 2"):
        infer_with_rates(pa.table({"price": [1.0, 2.0, np.inf]}), Inference())


def test_a_parquet_file_with_a_name_twice_is_refused_by_its_name(tmp_path):
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.table([pa.array(["a"] * 9), pa.array([1] * 9)], names=["user", "user"]), path)
    with pytest.raises(ValueError, match=r"twice\.parquet has two columns 'user'\. Give each a name of its own\."):
        FeatureSpec.from_parquet(path)


def test_floats_named_as_ids_are_categories_where_they_are_whole():
    ids = [*map(float, range(200)), None, float("nan")] * 2
    keys = [n + 0.5 if n == 3 else float(n) for n in range(404)]
    found = infer_features({"user_id": ids, "item_key": keys}, min_count=2)

    assert found["user_id"].vocabulary == tuple(range(200))
    assert isinstance(found["item_key"], NumericFeature)


def test_the_order_in_which_values_were_counted_changes_no_bit_of_a_number(monkeypatch):
    rng = np.random.default_rng(0)
    table = pa.table({"time": (1_735_689_600 + rng.permutation(3_000_000)[:5_000]).astype(np.int64)})
    counted, found = ColumnCounts._counted, []
    for order in (rng.permutation(5_000) for _ in range(10)):
        monkeypatch.setattr(
            ColumnCounts,
            "_counted",
            lambda self, order=order: tuple(part.take(pa.array(order)) for part in counted(self)),
        )
        with pytest.warns(UserWarning, match="became a number"):
            found.append(infer_features(table)["time"].std)
    assert len(set(found)) == 1
