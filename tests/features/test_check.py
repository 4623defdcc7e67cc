"""Checked Arrow columns, and their NumPy form for feeding."""

import datetime
import decimal
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfm_tfrs.features.check import Bag, checked_arrays, raw_columns
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec

INTEGER = CategoricalFeature("a", vocabulary_size=10)
STRING = CategoricalFeature("a", vocabulary=["x", "y"])
ANY = CategoricalFeature("a", num_hash_buckets=10)
NUMBER = NumericFeature("a")
BAG = MultiCategoricalFeature("a", num_hash_buckets=10)
WEIGHTED = MultiCategoricalFeature("a", vocabulary_size=10, weights="w")


def checked(feature, **columns):
    arrays = checked_arrays(pa.table(columns), FeatureSpec([feature]))
    return arrays["a"]


def raw(feature, **columns):
    spec = FeatureSpec([feature])
    return raw_columns(checked_arrays(pa.table(columns), spec), spec)


def lists(bag):
    return [bag.values[low:high].tolist() for low, high in zip(bag.row_splits, bag.row_splits[1:], strict=False)]


def message(feature, **columns):
    with pytest.raises(ValueError, match=r".") as caught:
        checked(feature, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1995, None, 3], pa.int16()),
        pa.array([1995, None, 3], pa.uint32()),
        pa.array([1995.0, float("nan"), 3.0]),
        pa.array([1995.0, None, 3.0], pa.float32()),
        pa.array([1995, None, 3]).dictionary_encode(),
        pa.array([decimal.Decimal("1995"), None, decimal.Decimal("3")]),
        pa.chunked_array([[1995], [None, 3]]),
        pa.chunked_array([pa.array([1995]).dictionary_encode(), pa.array([None, 3]).dictionary_encode()]),
        pa.array([[1995], [None], [3]], pa.list_(pa.int32(), 1)),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("feature", [INTEGER, ANY], ids=["declared", "undeclared"])
def test_every_kind_of_integer_becomes_int64_with_nulls(feature, column):
    array = checked(feature, a=column)
    assert array.type == pa.int64()
    assert array.to_pylist() == [1995, None, 3]


@pytest.mark.parametrize("feature", [INTEGER, ANY], ids=["declared", "undeclared"])
def test_unsigned_integers_of_64_bits_stay_what_they_are(feature):
    array = checked(feature, a=pa.array([2**63 + 5, None, 3], pa.uint64()))
    assert array.type == pa.uint64()
    assert array.to_pylist() == [2**63 + 5, None, 3]


def test_booleans_are_zero_and_one():
    assert checked(INTEGER, a=[True, None, False]).to_pylist() == [1, None, 0]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x", None, "ÿ"]),
        pa.array(["x", None, "ÿ"], pa.large_string()),
        pa.array(["x", None, "ÿ"], pa.string_view()),
        pa.array([b"x", None, "ÿ".encode()]),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("feature", [STRING, ANY], ids=["declared", "undeclared"])
def test_every_kind_of_string_becomes_string_with_nulls(feature, column):
    array = checked(feature, a=column)
    assert array.type == pa.string()
    assert array.to_pylist() == ["x", None, "ÿ"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()], ids=str)
@pytest.mark.parametrize("indices", [pa.int8(), pa.uint32(), pa.int64()], ids=str)
def test_a_dictionary_of_strings_stays_one(kind, indices):
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], indices), pa.array(["ÿ", "x"]).cast(kind))
    array = checked(ANY, a=column)
    assert array.type == pa.dictionary(pa.int32(), pa.string())
    assert array.to_pylist() == ["x", None, "ÿ"]


def test_chunks_of_different_dictionaries_share_one():
    chunks = [pa.array(["x", "y"]).dictionary_encode(), pa.array(["z", None, "y"]).dictionary_encode()]
    array = checked(ANY, a=pa.chunked_array(chunks))
    assert array.to_pylist() == ["x", "y", "z", None, "y"]
    assert array.dictionary.to_pylist() == ["x", "y", "z"]


def test_a_dictionary_that_holds_null_becomes_string():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["x", None]))
    assert checked(ANY, a=column) == pa.array(["x", None, None])


@pytest.mark.parametrize(("feature", "kind"), [(STRING, pa.string()), (INTEGER, pa.int64()), (ANY, pa.int64())])
def test_a_column_of_nulls_takes_the_declared_type(feature, kind):
    assert checked(feature, a=pa.nulls(2)) == pa.nulls(2, kind)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, -2], pa.int8()),
        pa.array([1.0, float("nan"), -2.0]),
        pa.array([decimal.Decimal("1.0"), None, decimal.Decimal("-2.0")]),
        pa.array([1.0, None, -2.0], pa.float32()).dictionary_encode(),
        pa.array([[1.0], [None], [-2.0]], pa.list_(pa.float64(), 1)),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_become_float32_with_nan_for_missing(column):
    array = checked(NUMBER, a=column)
    assert array.type == pa.float32()
    assert array.null_count == 0
    np.testing.assert_array_equal(array.to_numpy(), np.array([1, np.nan, -2], np.float32))


def test_a_number_column_of_nulls_is_all_nan():
    assert np.isnan(checked(NUMBER, a=pa.nulls(3)).to_numpy()).all()


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view], ids=lambda kind: kind.__name__)
def test_every_kind_of_list_becomes_a_list_of_the_normal_type(kind):
    column = pa.array([[9], [1, 2], None, [], [3, None]], kind(pa.int32())).slice(1)
    array = checked(BAG, a=column)
    assert array.type == pa.list_(pa.int64())
    assert array.to_pylist() == [[1, 2], None, [], [3, None]]


def test_lists_of_dictionary_strings_are_decoded():
    values = pa.array(["x", "y", "x"]).dictionary_encode()
    assert checked(BAG, a=pa.ListArray.from_arrays([0, 2, 3], values)).to_pylist() == [["x", "y"], ["x"]]


def test_lists_of_fixed_size_are_bags():
    assert checked(BAG, a=pa.array([[1, 2], None], pa.list_(pa.int64(), 2))).to_pylist() == [[1, 2], None]


def test_a_scalar_column_is_bags_of_one():
    assert checked(BAG, a=["x", None, "y"]).to_pylist() == [["x"], None, ["y"]]
    assert lists(raw(WEIGHTED, a=[1, None, 2], w=[0.5, None, 2.0])["w"]) == [[0.5], [], [2.0]]


def test_raw_missing_values_are_minus_one_empty_bytes_and_nan():
    columns = raw(INTEGER, a=[1, None])
    assert columns["a"].dtype == np.int64
    assert columns["a"].tolist() == [1, -1]
    assert raw(STRING, a=["x", None, "ÿ"])["a"].tolist() == [b"x", b"", "ÿ".encode()]
    numbers = raw(NUMBER, a=[1.5, None])["a"]
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, [1.5, np.nan])


def test_a_null_in_a_bag_is_dropped_with_its_weight():
    columns = raw(WEIGHTED, a=[[1, None, 2], None, [], [None]], w=[[0.1, 0.2, 0.3], None, [], [float("nan")]])
    assert lists(columns["a"]) == [[1, 2], [], [], []]
    np.testing.assert_array_equal(columns["w"].values, np.array([0.1, 0.3], np.float32))
    np.testing.assert_array_equal(columns["a"].row_splits, columns["w"].row_splits)


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=4)), max_size=8))
def test_raw_bags_are_the_lists_without_their_nulls(rows):
    bag = raw(BAG, a=pa.array(rows, pa.list_(pa.string())))["a"]
    assert lists(bag) == [[value.encode() for value in row or [] if value is not None] for row in rows]


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**53)), max_size=20))
def test_whole_floats_give_the_integers_they_were(values):
    floats = pa.array([None if value is None else float(value) for value in values], pa.float64())
    assert checked(INTEGER, a=floats).to_pylist() == values


@given(st.data())
def test_take_gives_the_rows_asked_for(data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=6))
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    splits = np.cumsum([0, *map(len, rows)])
    taken = Bag(np.array([value for row in rows for value in row], np.int64), splits).take(np.array(chosen, np.int64))
    assert lists(taken) == [rows[row] for row in chosen]
    assert len(taken) == len(chosen)


def test_columns_that_the_spec_does_not_name_are_ignored():
    assert list(checked_arrays(pa.table({"b": [float("inf")], "a": [1]}), FeatureSpec([INTEGER]))) == ["a"]


def test_a_record_batch_is_taken_too():
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert checked_arrays(batch, FeatureSpec([INTEGER]))["a"].to_pylist() == [1, 2]


def test_a_missing_column_is_named_with_the_nearest_one():
    feature = CategoricalFeature("genre", num_hash_buckets=10)
    with pytest.raises(ValueError, match="There is no column 'genre'; did you mean 'genres'") as caught:
        checked_arrays(pa.table({"genres": ["x"], "title": ["y"]}), FeatureSpec([feature]))
    assert str(caught.value).endswith("The data has 'genres', 'title'.")


def test_missing_weights_are_named():
    assert message(WEIGHTED, a=[[1]]) == "There is no column 'w'. The data has 'a'."


@pytest.mark.parametrize(
    ("feature", "column", "text"),
    [
        (INTEGER, ["1"], "Column 'a' is string, another type than in training: feature 'a' was declared int64. Cast"),
        (STRING, [1], "Column 'a' is int64, another type than in training: feature 'a' was declared string. Cast"),
        (STRING, [1.0], "Column 'a' is double, another type than in training"),
        (ANY, [1.0, 1.5], "Column 'a' is 1.5 in row 1, but categories are strings or whole numbers. Round"),
        (ANY, [1.0, float("inf")], "Column 'a' is inf in row 1, but categories"),
        (ANY, [decimal.Decimal("1.5")], "Column 'a' is decimal128(2, 1) with values that are no int64. Round"),
        (ANY, [datetime.date(2020, 1, 1)], "Column 'a' is date32[day], but categories are strings or whole numbers."),
        (ANY, [b"\xff"], "Column 'a' holds bytes that are not UTF-8. Decode"),
        (ANY, [[1, 2]], "Column 'a' holds lists (list<item: int64>), but a CategoricalFeature has one value a row."),
        (NUMBER, [[1.0]], "Column 'a' holds lists (list<item: double>), but a NumericFeature has one value a row."),
        (NUMBER, ["1"], "Column 'a' is string, not a number, but feature 'a' was declared numeric."),
        (
            NUMBER,
            ["1", "2.5e3", "", None, "-", "x"],
            "Column 'a' is '-' in row 4, but feature 'a' was declared numeric.",
        ),
        (NUMBER, ["1", "n/a", "."], "Column 'a' is string, not a number, but feature 'a' was declared numeric."),
        (NUMBER, [b"1", b"2", b"\xff"], "Column 'a' is '\ufffd' in row 2, but feature 'a' was declared numeric. Leave"),
        (NUMBER, [datetime.datetime(2020, 1, 1)], "Column 'a' is timestamp[us], a date or time, but feature 'a'"),
        (NUMBER, [1.0, float("-inf")], "Column 'a' is infinite (-inf) in row 1. Clip it, or set it to null"),
        (BAG, [[[1]]], "Column 'a' holds lists of lists (list<item: list<item: int64>>). Give one flat list a row."),
        (BAG, [[1.0], None, [2.0, 2.5]], "Column 'a' is 2.5 in row 2, but categories"),
        (
            MultiCategoricalFeature("a", vocabulary_size=3),
            [["x"]],
            "Column 'a' is string, another type than in training",
        ),
    ],
)
def test_a_column_that_is_not_what_was_declared_is_one_clear_line(feature, column, text):
    assert message(feature, a=column).startswith(text)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([[1.0], [1.0]], "Column 'w' weighs 'a', but row 1 has 1 weights for 2 values. Give each value one weight."),
        ([[1.0], [1.0, float("inf")]], "A weight in column 'w' is inf in row 1. Give finite numbers."),
        ([[1.0], [1.0, None]], "A weight in column 'w' is nan in row 1. Give finite numbers."),
        ([["x"], ["x", "y"]], "Column 'w' is list<item: string>, but weights are numbers. Cast the column first."),
        ([1.0, 2.0], "Column 'w' holds one number a row (double), but it weighs the bags of 'a'. Give one list"),
    ],
)
def test_weights_that_do_not_fit_their_bag_are_one_clear_line(weights, text):
    assert message(WEIGHTED, a=[[1], [2, 3]], w=weights).startswith(text)


def test_rows_in_messages_count_from_the_first_row_of_the_file():
    with pytest.raises(ValueError, match=r"in row 101\."):
        checked_arrays(pa.table({"a": [1.0, np.inf]}), FeatureSpec([NUMBER]), first_row=100)


def test_many_columns_are_checked_in_linear_time():
    names = [f"column {number}" for number in range(8000)]
    table = pa.table({name: [1, 2] for name in names})
    spec = FeatureSpec([CategoricalFeature(name, vocabulary_size=3) for name in names])
    began = time.process_time()
    assert list(checked_arrays(table, spec)) == names
    assert time.process_time() - began < 5  # about 0.2; 12 where each column lists the names of all


@pytest.mark.parametrize("dictionary", [False, True])
def test_strings_of_a_damaged_file_are_refused(dictionary):
    """Arrow takes their bytes as they are."""
    damaged = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"a\xff")]
    )
    column = pa.DictionaryArray.from_arrays(pa.array([0]), damaged) if dictionary else damaged
    line = "Column 'a' holds bytes that are not UTF-8. Decode it to strings first."
    with pytest.raises(ValueError, match=line):
        checked_arrays(pa.table({"a": column}), FeatureSpec((ANY,)))
    with pytest.raises(ValueError, match=line):
        FeatureSpec.from_table(pa.table({"a": column}))
