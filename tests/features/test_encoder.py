import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.features.check import Bag, checked_arrays, raw_columns
from nfm_tfrs.features.encoder import IDS, NUMBERS, FeatureEncoder, bag_key, weights_key
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.host import rows_of_integers
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf


def encode(features, **columns):
    return FeatureEncoder(FeatureSpec(features))(columns)


def local_ids(feature, values):
    """Rows of a feature that comes first in its table: what `encode` gives for one column."""
    return encode([feature], **{feature.name: values})[IDS].numpy()[:, 0].tolist()


def bag_ids(feature, **columns):
    return encode([feature], **columns)[bag_key(feature.name)].to_list()


def bucket(text, buckets):
    return int(keras.layers.Hashing(buckets)(tf.constant([text]))[0])


# --- categories ------------------------------------------------------------------------------------------------------


def test_a_vocabulary_puts_value_i_in_row_i_plus_1():
    city = CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Пермь"])
    assert local_ids(city, tf.constant(["Пермь", "Rome", "Oslo", "Paris", ""])) == [3, 1, 2, 0, 0]
    year = CategoricalFeature("year", vocabulary=[1995, 7, 0])
    assert local_ids(year, tf.constant([7, 1995, 0, 3, -1])) == [2, 1, 3, 0, 0]


def test_ids_outside_their_range_are_unknown():
    hour = CategoricalFeature("hour", vocabulary_size=24)
    assert local_ids(hour, tf.constant([0, 23, 24, 2**40, -1, -(2**62)])) == [1, 24, 0, 0, 0, 0]


def test_hash_buckets_are_farmhash_of_the_decimal_form():
    hashed = CategoricalFeature("h", num_hash_buckets=5)
    from_ints = local_ids(hashed, tf.constant([1995, 0, 2**60 + 1, -5], tf.int64))
    assert from_ints == local_ids(hashed, tf.constant(["1995", "0", str(2**60 + 1), ""]))
    assert from_ints == [1 + bucket("1995", 5), 1 + bucket("0", 5), 1 + bucket(str(2**60 + 1), 5), 0]


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int8, tf.int16, tf.int32, tf.int64])
def test_integers_of_any_width_have_the_same_ids(dtype):
    values = tf.cast(tf.constant([0, 3, 9]), dtype)
    assert local_ids(CategoricalFeature("a", vocabulary_size=5), values) == [1, 4, 0]
    assert local_ids(CategoricalFeature("a", vocabulary=[3, 9]), values) == [0, 1, 2]
    hashed = CategoricalFeature("a", num_hash_buckets=100)
    assert local_ids(hashed, values) == local_ids(hashed, tf.constant(["0", "3", "9"]))


def test_booleans_are_the_ids_0_and_1():
    assert local_ids(CategoricalFeature("a", vocabulary_size=2), tf.constant([True, False])) == [2, 1]


def test_features_lie_one_behind_the_other_and_shared_ones_together():
    features = [
        CategoricalFeature("user", vocabulary_size=3),
        CategoricalFeature("city", vocabulary=["Rome"]),
        CategoricalFeature("friend", vocabulary_size=3, embedding_name="user"),
        NumericFeature("age", boundaries=[18.0]),
    ]
    encoded = encode(
        features,
        user=tf.constant([0, 2, 9]),
        city=tf.constant(["Rome", "Oslo", ""]),
        friend=tf.constant([2, 0, -1]),
        age=tf.constant([17.0, 18.0, np.nan]),
    )
    assert encoded[IDS].numpy().tolist() == [[1, 5, 3, 7], [3, 4, 1, 8], [0, 4, 0, 6]]
    assert encoded[IDS].dtype == tf.int64


def test_a_column_of_one_value_a_row_may_be_batch_by_one():
    city = CategoricalFeature("city", vocabulary=["Rome", "Oslo"])
    assert local_ids(city, tf.constant([["Oslo"], ["Rome"]])) == [2, 1]


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int32, tf.int64, tf.bool])
def test_a_hole_in_a_sparse_column_is_missing(dtype):
    sparse = tf.SparseTensor([[0, 0], [2, 0]], tf.cast([1, 0], dtype), [4, 1])
    assert local_ids(CategoricalFeature("a", vocabulary_size=2), sparse) == [2, 0, 1, 0]


def test_a_hole_in_a_sparse_column_of_strings_or_numbers_is_missing():
    sparse = tf.SparseTensor([[1, 0]], tf.constant(["Rome"]), [3, 1])
    assert local_ids(CategoricalFeature("city", vocabulary=["Rome"]), sparse) == [0, 1, 0]
    for dtype in (tf.float64, tf.int32):
        numbers = tf.SparseTensor([[1, 0]], tf.cast([2], dtype), [3, 1])
        encoded = encode([NumericFeature("x")], x=numbers)[NUMBERS].numpy()[:, 0]
        np.testing.assert_array_equal(encoded, np.float32([np.nan, 2.0, np.nan]))


def test_bytes_arrays_and_python_lists_are_strings():
    city = CategoricalFeature("city", vocabulary=["Rome", "Oslo"])
    for values in (np.array([b"Oslo", b"x"]), np.array(["Oslo", "x"]), np.array(["Oslo", "x"], object), ["Oslo", "x"]):
        assert local_ids(city, values) == [2, 0]


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.float64, tf.int32, tf.int64, tf.uint8])
def test_numbers_are_standardised_in_float32(dtype):
    encoded = encode([NumericFeature("x", mean=3.0, std=2.0)], x=tf.cast([1, 3, 8], dtype))[NUMBERS]
    assert encoded.dtype == tf.float32
    assert encoded.numpy().tolist() == [[-1.0], [0.0], [2.5]]


def test_logged_numbers_keep_their_sign():
    values = np.array([-100.0, -0.5, 0.0, 3.0, 1e6])
    encoded = encode([NumericFeature("x", mean=0.5, std=2.0, log=True)], x=values)[NUMBERS].numpy()[:, 0]
    np.testing.assert_allclose(encoded, (np.sign(values) * np.log1p(np.abs(values)) - 0.5) / 2.0, rtol=1e-6)


def test_missing_numbers_stay_nan():
    encoded = encode([NumericFeature("x"), NumericFeature("y", log=True)], x=[np.nan, 1.0], y=[2.0, np.nan])
    np.testing.assert_array_equal(np.isnan(encoded[NUMBERS].numpy()), [[True, False], [False, True]])


def test_a_limit_belongs_to_the_bucket_above_it():
    age = NumericFeature("age", boundaries=[0.1, 18.0, 65.0])
    values = tf.constant([-5.0, 0.1, 17.99, 18.0, 65.0, 1e9, np.nan])
    assert local_ids(age, values) == [1, 2, 2, 3, 4, 4, 0]
    assert local_ids(age, tf.constant([[0], [18]])) == [1, 3]
    assert local_ids(age, tf.cast(values, tf.float64)) == [1, 2, 2, 3, 4, 4, 0]


# --- bags ------------------------------------------------------------------------------------------------------------

GENRES = MultiCategoricalFeature("genres", vocabulary=["a", "b", "c"])
HISTORY = MultiCategoricalFeature("history", vocabulary_size=5)


def test_a_bag_may_be_ragged_sparse_padded_or_single():
    expected = [[1, 2], [], [3], []]
    ragged = tf.ragged.constant([["a", "b"], [], ["c"], [""]])
    assert bag_ids(GENRES, genres=ragged) == expected
    assert bag_ids(GENRES, genres=ragged.to_tensor("")) == expected
    assert bag_ids(GENRES, genres=ragged.to_sparse()) == expected
    assert bag_ids(GENRES, genres=ragged.with_row_splits_dtype(tf.int32)) == expected
    assert bag_ids(GENRES, genres=tf.constant(["b", "", "a"])) == [[2], [], [1]]


def test_integers_below_zero_pad_a_bag():
    assert bag_ids(HISTORY, history=tf.constant([[4, -1, 0], [-1, -1, -1]])) == [[5, 1], []]


def test_an_unknown_value_of_a_bag_is_row_0_and_a_missing_one_no_value():
    assert bag_ids(GENRES, genres=tf.ragged.constant([["x", "", "a"]])) == [[0, 1]]
    assert bag_ids(HISTORY, history=tf.ragged.constant([[9, -1, 0]])) == [[0, 1]]


def test_holes_of_a_sparse_bag_close_and_empty_rows_stay():
    sparse = tf.SparseTensor([[0, 3], [2, 0], [2, 4]], tf.constant([1, 2, 3]), [5, 6])
    assert bag_ids(HISTORY, history=sparse) == [[2], [], [3, 4], [], []]
    assert bag_ids(HISTORY, history=tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], tf.int32), [2, 3])) == [
        [],
        [],
    ]


def test_max_length_takes_the_first_present_values():
    history = MultiCategoricalFeature("history", vocabulary_size=5, max_length=2)
    assert bag_ids(history, history=tf.constant([[-1, 1, 2, 3], [4, -1, -1, -1]])) == [[2, 3], [5]]


def test_weights_follow_the_values_that_stay():
    feature = MultiCategoricalFeature("history", vocabulary_size=5, weights="w", max_length=2)
    columns = {"history": tf.constant([[-1, 1, 2, 3], [9, -1, 4, -1]])}
    columns["w"] = tf.constant([[9.0, 0.5, 2.0, 9.0], [3.0, 9.0, 0.25, 9.0]], tf.float64)
    encoded = encode([feature], **columns)
    assert encoded[bag_key("history")].to_list() == [[2, 3], [0, 5]]
    weights = encoded[weights_key("history")]
    assert weights.to_list() == [[0.5, 2.0], [3.0, 0.25]]
    assert weights.dtype == tf.float32


def test_weights_may_be_sparse_like_their_bag():
    feature = MultiCategoricalFeature("history", vocabulary_size=5, weights="w")
    places = [[0, 1], [2, 0]]
    encoded = encode(
        [feature],
        history=tf.SparseTensor(places, tf.constant([1, 2], tf.int64), [3, 2]),
        w=tf.SparseTensor(places, tf.constant([0.5, 2.0]), [3, 2]),
    )
    assert encoded[weights_key("history")].to_list() == [[0.5], [], [2.0]]


# --- the layer -------------------------------------------------------------------------------------------------------


def test_an_encoded_batch_passes_unchanged():
    encoder = FeatureEncoder(FeatureSpec([CategoricalFeature("a", vocabulary_size=3), HISTORY]))
    encoded = encoder({"a": tf.constant([1]), "history": tf.constant([[1, 2]])})
    again = encoder(encoded)
    assert again.keys() == encoded.keys()
    assert again[IDS] is encoded[IDS]


def test_columns_may_come_in_any_order_and_number():
    features = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
    one = encode(features, a=tf.constant([1]), b=tf.constant([2]))
    other = encode(features, b=tf.constant([2]), unused=tf.constant([["x", "y"]]), a=tf.constant([1]))
    assert one[IDS].numpy().tolist() == other[IDS].numpy().tolist() == [[2, 13]]


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16"])
def test_half_precision_does_not_touch_raw_values(policy):
    spec = FeatureSpec([CategoricalFeature("id", vocabulary_size=80_000), NumericFeature("x")])
    encoded = FeatureEncoder(spec, dtype=policy)({"id": tf.constant([70_000, 16_777]), "x": [70_000.0, 16_777.0]})
    assert encoded[IDS].numpy().tolist() == [[70_001], [16_778]]
    assert encoded[NUMBERS].numpy().tolist() == [[70_000.0], [16_777.0]]


def test_a_batch_without_rows_encodes_to_one():
    spec = FeatureSpec([CategoricalFeature("a", vocabulary=["x"]), NumericFeature("n"), GENRES])
    columns = {"a": tf.zeros([0], tf.string), "n": tf.zeros([0]), "genres": tf.zeros([0, 2], tf.string)}
    encoded = FeatureEncoder(spec)(columns)
    assert encoded[IDS].shape == (0, 1)
    assert encoded[NUMBERS].shape == (0, 1)
    assert encoded[bag_key("genres")].nrows() == 0


def test_graph_and_eager_agree_for_unknown_batch_sizes():
    spec = FeatureSpec([CategoricalFeature("a", vocabulary=["x", "y"]), NumericFeature("n", mean=0.3, std=0.7), GENRES])
    encoder = FeatureEncoder(spec)
    columns = {
        "a": tf.constant([["y"], ["x"]]),
        "n": tf.constant([0.1, 5.0]),
        "genres": tf.ragged.constant([["a"], ["c", "b"]]),
    }
    signature = {
        "a": tf.TensorSpec([None, None], tf.string),
        "n": tf.TensorSpec([None], tf.float32),
        "genres": tf.RaggedTensorSpec([None, None], tf.string),
    }
    in_graph = tf.function(encoder, input_signature=[signature])(columns)
    eager = encoder(columns)
    for key in eager:
        same = in_graph[key].to_list() == eager[key].to_list() if "bag" in key else None
        assert same or np.array_equal(in_graph[key].numpy(), eager[key].numpy())


def test_a_bag_in_the_place_of_one_value_fails_even_if_its_length_shows_late():
    encoder = FeatureEncoder(FeatureSpec([CategoricalFeature("a", vocabulary_size=3)]))
    late = tf.function(encoder, input_signature=[{"a": tf.TensorSpec([None, None], tf.int64)}])
    assert late({"a": tf.constant([[1], [2]], tf.int64)})[IDS].numpy().tolist() == [[2], [3]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        late({"a": tf.constant([[1, 2]], tf.int64)})


def test_the_encoder_survives_its_config():
    spec = FeatureSpec([CategoricalFeature("a", vocabulary=["x", "y"]), GENRES, NumericFeature("n", boundaries=[1.0])])
    config = keras.layers.serialize(FeatureEncoder(spec))
    assert keras.layers.deserialize(config).features == spec


@pytest.mark.parametrize(
    ("feature", "columns", "message"),
    [
        (HISTORY, {"x": [1], "y": [2]}, "There is no column 'history', which the model reads. The data has 'x', 'y'."),
        (HISTORY, {}, "There is no column 'history', which the model reads. The data has no columns."),
        (
            MultiCategoricalFeature("a", vocabulary_size=2, weights="w"),
            {"a": [[1]]},
            "There is no column 'w', which the model reads. The data has 'a'.",
        ),
        (CategoricalFeature("a", vocabulary_size=2), {"a": ["x"]}, "'a' was declared int64; received string"),
        (CategoricalFeature("a", vocabulary=["x"]), {"a": [1]}, "'a' was declared string; received int32"),
        (CategoricalFeature("a", num_hash_buckets=2, dtype="string"), {"a": [1]}, "'a' was declared string; rec"),
        (CategoricalFeature("a", num_hash_buckets=2), {"a": [1995.0]}, "'a' is a category; received float32. Cast"),
        (HISTORY, {"history": [[1.0]]}, "'history' is a category; received float32. Cast the column to int64 or str"),
        (NumericFeature("a"), {"a": ["1.5"]}, "'a' is a number; received strings. Convert the column"),
        (CategoricalFeature("a", vocabulary_size=2), {"a": [[1, 2]]}, r"one value .* received shape \(1, 2\)"),
        (NumericFeature("a"), {"a": [[1.0, 2.0]]}, r"one value an example, .* received shape \(1, 2\)"),
        (
            CategoricalFeature("a", vocabulary_size=2),
            {"a": tf.ragged.constant([[1]])},
            "'a' takes one value an example; received a ragged column. Declare a MultiCategoricalFeature",
        ),
        (
            CategoricalFeature("a", vocabulary_size=2),
            {"a": tf.sparse.from_dense([[1, 2]])},
            r"'a' takes one value an example; received a sparse column of shape \(1, 2\)",
        ),
        (HISTORY, {"history": tf.zeros([2, 3, 4], tf.int32)}, r"'history' must be \[batch, length\] or ragged; rec"),
        (HISTORY, {"history": tf.ragged.constant([[[1]]])}, r"'history' must have one ragged dimension, \[batch, No"),
    ],
)
def test_columns_that_do_not_fit_are_refused(feature, columns, message):
    with pytest.raises(ValueError, match=message):
        encode([feature], **columns)


def test_anything_but_a_dict_of_columns_is_refused():
    with pytest.raises(ValueError, match=r"reads a dict of columns; received EagerTensor. Give \{name: values\}"):
        FeatureEncoder(FeatureSpec([HISTORY]))(tf.constant([1, 2]))


# --- whole columns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "years", [pd.array([1995, None, 7], "Int64"), np.array([1995.0, np.nan, 7.0])], ids=["Int64", "float64 with NaN"]
)
def test_nullable_integers_hash_as_integers(years):
    spec = FeatureSpec([CategoricalFeature("year", num_hash_buckets=1000)])
    arrays = checked_arrays(pa.Table.from_pandas(pd.DataFrame({"year": years})), spec)
    ids = FeatureEncoder(spec).encode_arrays(arrays)[IDS][:, 0].tolist()
    assert ids == [1 + bucket("1995", 1000), 0, 1 + bucket("7", 1000)]


def test_encoded_arrays_are_plain_columns():
    spec = FeatureSpec([CategoricalFeature("a", vocabulary_size=3), NumericFeature("n"), HISTORY])
    rows = pa.table({"a": [1, None], "n": [0.5, None], "history": [[1, None, 2], None]})
    columns = FeatureEncoder(spec).encode_arrays(checked_arrays(rows, spec))
    assert list(columns) == [IDS, NUMBERS, bag_key("history")]
    assert columns[IDS].dtype == np.int64
    assert columns[NUMBERS].dtype == np.float32
    assert isinstance(columns[bag_key("history")], Bag)
    assert columns[bag_key("history")].values.tolist() == [6, 7]
    assert columns[bag_key("history")].row_splits.tolist() == [0, 2, 2]


STRINGS = ["", "a", "b", "ö", "Пермь", "1995", "-1", "x y"]
INTEGERS = [-(2**63), -7, -1, 0, 1, 2, 5, 1995, 2**31, 2**62 + 1]


def categories(draw, values):
    """How a value becomes an id: the arguments, and the same as a plain function."""
    known = draw(st.permutations([v for v in values if v != "" and not (isinstance(v, int) and v < 0)]))
    way = draw(st.sampled_from(["vocabulary", "num_hash_buckets"] + ["vocabulary_size"] * isinstance(values[0], int)))
    size = draw(st.integers(1, 5))
    if way == "vocabulary":
        chosen = known[:size]
        rows = {value: 1 + i for i, value in enumerate(chosen)}
        return {way: chosen}, len(chosen), lambda value: rows.get(value, 0)
    if way == "vocabulary_size":
        return {way: size}, size, lambda value: value + 1 if value < size else 0
    return {way: size}, size, lambda value: 1 + bucket(str(value), size)


@st.composite
def encodings(draw):
    """A spec of one category, one bag and one number, rows for it, and the ids a dict would give them."""
    values = draw(st.sampled_from([STRINGS, INTEGERS]))
    missing = (lambda v: v == "") if values is STRINGS else (lambda v: v < 0)
    single, single_size, single_id = categories(draw, values)
    bag, _, bag_id = categories(draw, values)
    max_length = draw(st.sampled_from([None, 1, 2]))
    rows = draw(st.integers(1, 5))
    ones = draw(st.lists(st.sampled_from(values), min_size=rows, max_size=rows))
    bags = draw(st.lists(st.lists(st.sampled_from(values), max_size=4), min_size=rows, max_size=rows))
    numbers = draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=rows, max_size=rows))
    spec = FeatureSpec(
        [
            CategoricalFeature("one", **single),
            MultiCategoricalFeature("bag", max_length=max_length, weights="w", **bag),
            NumericFeature("x", mean=draw(st.floats(-9, 9)), std=draw(st.floats(0.1, 9)), log=draw(st.booleans())),
        ]
    )
    weights = [[float(i + 10 * j) for j in range(len(bag))] for i, bag in enumerate(bags)]
    kept = [
        [(bag_id(v), w) for v, w in zip(*row, strict=True) if not missing(v)][:max_length]
        for row in zip(bags, weights, strict=True)
    ]
    expected = (
        [0 if missing(v) else single_id(v) for v in ones],
        [[single_size + 1 + i for i, _ in row] for row in kept],
        [[w for _, w in row] for row in kept],
    )
    return spec, {"one": ones, "bag": bags, "w": weights, "x": numbers}, expected, draw(st.sampled_from(FORMS))


def padded(lists, fill, length):
    return [row + [fill] * (length - len(row)) for row in lists]


def as_ragged(bags, weights, dtype, fill):
    return tf.ragged.constant(bags, dtype, ragged_rank=1), tf.ragged.constant(weights, tf.float32, ragged_rank=1)


def as_padded(bags, weights, dtype, fill):
    length = max(map(len, bags)) + 1
    return tf.constant(padded(bags, fill, length), dtype), tf.constant(padded(weights, 99.0, length), tf.float64)


def as_sparse(bags, weights, dtype, fill):
    return tuple(ragged.to_sparse() for ragged in as_ragged(bags, weights, dtype, fill))


FORMS = [as_ragged, as_padded, as_sparse]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(encodings())
def test_raw_path_encoded_path_and_a_dict_agree_bit_for_bit(case):
    spec, rows, (ones, bags, weights), form = case
    is_string = isinstance(rows["one"][0], str)
    dtype, fill = (tf.string, "") if is_string else (tf.int64, -1)
    bag, bag_weights = form(rows["bag"], rows["w"], dtype, fill)
    encoder = FeatureEncoder(spec)
    columns = {"one": tf.constant(rows["one"], dtype), "bag": bag, "w": bag_weights, "x": tf.constant(rows["x"])}
    raw = encoder(columns)
    assert raw[IDS].numpy()[:, 0].tolist() == ones
    assert raw[bag_key("bag")].to_list() == bags
    assert raw[weights_key("bag")].to_list() == weights

    kind = pa.string() if is_string else pa.int64()
    table = pa.table(
        {
            "one": pa.array(rows["one"], kind),
            "bag": pa.array(rows["bag"], pa.list_(kind)),
            "w": pa.array(rows["w"], pa.list_(pa.float32())),
            "x": pa.array(rows["x"], pa.float32()),
        }
    )
    whole = encoder.encode_arrays(checked_arrays(table, spec))
    np.testing.assert_array_equal(whole[IDS], raw[IDS].numpy())
    np.testing.assert_array_equal(whole[NUMBERS].view(np.int32), raw[NUMBERS].numpy().view(np.int32))
    for key in (bag_key("bag"), weights_key("bag")):
        np.testing.assert_array_equal(whole[key].values, raw[key].values.numpy())
        np.testing.assert_array_equal(whole[key].row_splits, raw[key].row_splits.numpy())


@pytest.mark.parametrize(
    "how",
    [
        {"vocabulary_size": 5},
        {"vocabulary": [4, 0, 7]},
        {"vocabulary": [0, 9]},
        {"vocabulary": [3, 2**40]},
        {"vocabulary": [2**63 - 1]},
        {"num_hash_buckets": 3},
    ],
    ids=str,
)
def test_whole_columns_of_integers_have_the_ids_of_a_batch(how):
    integers = [0, 1, 3, 4, 5, 7, 8, 9, 10, 2**40, 2**40 + 1, 2**63 - 1, -1, -7, -(2**63)]
    spec = FeatureSpec(
        [
            CategoricalFeature("first", vocabulary_size=2),
            CategoricalFeature("a", **how),
            MultiCategoricalFeature("bag", **how),
        ]
    )
    encoder = FeatureEncoder(spec)
    rows, bags = [*integers, None], [[value] for value in integers]
    whole = encoder.encode_arrays({"first": pa.array([0] * 16), "a": pa.array(rows), "bag": pa.array([*bags, None])})
    values = tf.constant([*integers, -1], tf.int64)
    batch = encoder({"first": tf.zeros([16], tf.int64), "a": values, "bag": values[:, None]})
    np.testing.assert_array_equal(whole[IDS], batch[IDS].numpy())
    np.testing.assert_array_equal(whole[bag_key("bag")].values, batch[bag_key("bag")].values.numpy())
    assert whole[IDS].dtype == whole[bag_key("bag")].values.dtype == np.int64


@pytest.mark.parametrize("how", [{"vocabulary": ["a", "b"]}, {"num_hash_buckets": 50}], ids=str)
def test_whole_columns_of_a_dictionary_have_the_ids_of_a_batch(how):
    values = ["b", None, "", "a", "b", "zz"]
    encoder = FeatureEncoder(FeatureSpec([CategoricalFeature("a", **how)]))
    whole = encoder.encode_arrays({"a": pa.array(values).dictionary_encode()})[IDS]
    assert whole.tolist() == encoder({"a": [value or "" for value in values]})[IDS].numpy().tolist()


def test_only_whole_columns_need_the_rows_of_integers_and_one_copy_a_table(monkeypatch):
    made = []

    def noted(feature):
        made.append(feature.table)
        return rows_of_integers(feature)

    monkeypatch.setattr("nfm_tfrs.features.encoder.rows_of_integers", noted)
    features = [
        CategoricalFeature("user", vocabulary=[3, 1]),
        CategoricalFeature("friend", vocabulary=[3, 1], embedding_name="user"),
        MultiCategoricalFeature("others", vocabulary=[3, 1], embedding_name="user"),
    ]
    encoder = FeatureEncoder(FeatureSpec(features))
    columns = {"user": tf.constant([1, 3]), "friend": tf.constant([9, 1]), "others": tf.constant([[3, 1], [-1, 9]])}
    batch = tf.function(encoder)(columns)
    assert FeatureEncoder.from_config(encoder.get_config())(columns)[IDS].numpy().tolist() == [[2, 0], [1, 2]]
    assert made == []
    arrays = {"user": pa.array([1, 3]), "friend": pa.array([9, 1]), "others": pa.array([[3, 1], [None, 9]])}
    for _ in range(2):
        whole = encoder.encode_arrays(arrays)
        np.testing.assert_array_equal(whole[IDS], batch[IDS].numpy())
        assert whole[bag_key("others")].values.tolist() == batch[bag_key("others")].values.numpy().tolist() == [1, 2, 0]
    assert made == ["user"]


@pytest.mark.parametrize("log", [True, False])
def test_numbers_encode_to_the_same_bits_whatever_batch_they_come_in(log):
    values = np.random.default_rng(0).lognormal(2.0, 3.0, 1003).astype(np.float32)
    values[:4] = np.nan, -3e38, 3e38, 1e-45
    spec = FeatureSpec([NumericFeature("x", mean=1.7, std=0.37, log=log)])
    encoder = FeatureEncoder(spec)
    whole = encoder.encode_arrays({"x": pa.array(values)})[NUMBERS][:, 0]
    in_graph = tf.function(encoder, reduce_retracing=True)
    parts = [in_graph({"x": tf.constant(values[at : at + 7])})[NUMBERS].numpy()[:, 0] for at in range(0, 1003, 7)]
    np.testing.assert_array_equal(np.concatenate(parts).view(np.int32), whole.view(np.int32))


def test_sparse_weights_are_read_by_index_and_other_layouts_must_agree():
    encoder = FeatureEncoder(FeatureSpec((MultiCategoricalFeature("x", vocabulary_size=10, weights="w"),)))
    ids = tf.sparse.from_dense([[1, 0], [2, 3]])
    weights = tf.sparse.from_dense([[0.5, 0.0], [0.0, 0.75]])  # from_dense leaves the zeros out
    assert encoder({"x": ids, "w": weights})["encoded/weights/x"].to_list() == [[0.5], [0.0, 0.75]]
    with pytest.raises(ValueError, match=r"Weights 'w' must be laid out as the bag 'x'.*Convert one of them\."):
        encoder({"x": tf.ragged.constant([[1], [2, 3]]), "w": tf.constant([[0.5, 0.0], [0.25, 0.75]])})


# --- ids beyond int64 ------------------------------------------------------------------------------------------------

BEYOND = [2**63 + 5, 3, 2**64 - 2, 2**63, 2**64 - 1]  # the last one means missing


@pytest.mark.parametrize(
    "how", [{"vocabulary": [3, 2**63 + 5, 2**64 - 2]}, {"vocabulary_size": 10}, {"num_hash_buckets": 1000}], ids=str
)
def test_unsigned_ids_of_64_bits_have_rows_of_their_own_in_graph_and_reader_alike(how):
    feature = CategoricalFeature("a", **how)
    expected = {
        "vocabulary": [2, 1, 3, 0, 0],
        "vocabulary_size": [0, 4, 0, 0, 0],
        "num_hash_buckets": [1 + bucket(str(value), 1000) for value in BEYOND[:-1]] + [0],
    }[next(iter(how))]
    column = np.array(BEYOND, np.uint64)
    encoder = FeatureEncoder(FeatureSpec([feature]))
    assert local_ids(feature, tf.constant(column)) == expected
    arrays = checked_arrays(pa.table({"a": column}), encoder.features)
    assert encoder.encode_arrays(arrays)[IDS][:, 0].tolist() == expected
    raw = raw_columns(arrays, encoder.features)
    assert encoder({"a": tf.constant(raw["a"])})[IDS].numpy()[:, 0].tolist() == expected


def test_bags_of_unsigned_ids_of_64_bits_agree_in_graph_and_reader():
    bag = MultiCategoricalFeature("a", vocabulary=[2**63 + 5, 3])
    column = pa.array([BEYOND[:2], BEYOND[2:], None, [None]], pa.list_(pa.uint64()))
    encoder = FeatureEncoder(FeatureSpec([bag]))
    arrays = checked_arrays(pa.table({"a": column}), encoder.features)
    encoded = encoder.encode_arrays(arrays)[bag_key("a")]
    assert (encoded.values.tolist(), encoded.row_splits.tolist()) == ([1, 2, 0, 0], [0, 2, 4, 4, 4])
    assert encoded.values.dtype == np.int64
    ragged = tf.RaggedTensor.from_row_splits(np.array(BEYOND, np.uint64), [0, 2, 5, 5, 5])
    assert bag_ids(bag, a=ragged) == [[1, 2], [0, 0], [], []]


def test_a_hole_among_sparse_unsigned_ids_of_64_bits_is_missing():
    sparse = tf.SparseTensor([[0, 0], [2, 0]], tf.constant(np.array([2**63 + 5, 3], np.uint64)), [3, 1])
    assert local_ids(CategoricalFeature("a", vocabulary=[2**63 + 5, 3]), sparse) == [1, 0, 2]


# --- numbers of any size ---------------------------------------------------------------------------------------------

SIZES = [0.0, 1e3, 1e7, 2e7, 1e20, 3.4e38, 1e300, 1.7e308]


@pytest.mark.parametrize("feature", [NumericFeature("x"), NumericFeature("x", mean=-1.0, std=1e-3)], ids=str)
@pytest.mark.parametrize("sparse", [False, True])
def test_finite_numbers_of_any_size_keep_their_order_and_stay_below_twice_1e7(feature, sparse):
    values = np.array([-size for size in SIZES[:0:-1]] + SIZES)
    column = tf.constant(values)
    if sparse:
        column = tf.sparse.from_dense(tf.constant(values + 0.0)[:, None])
    got = encode([feature], x=column)[NUMBERS].numpy()[:, 0]
    got = got[np.isfinite(got)]
    assert len(got) == len(values) - sparse  # 0 is a hole of a sparse column
    assert (np.diff(got) >= 0).all()
    assert np.abs(got).max() <= 2e7


def test_numbers_up_to_1e7_are_standardised_bit_for_bit_as_they_ever_were():
    values = np.float32([0.1, -3.7, 12345.678, 9.9e6, -1e7])
    got = encode([NumericFeature("x", mean=0.25, std=1.5)], x=values / 2)[NUMBERS].numpy()[:, 0]
    np.testing.assert_array_equal(got, (((values / 2).astype(np.float64) - 0.25) / 1.5).astype(np.float32))


def test_infinity_stays_infinite():
    assert encode([NumericFeature("x")], x=[np.inf, -np.inf])[NUMBERS].numpy()[:, 0].tolist() == [np.inf, -np.inf]


def test_large_numbers_are_the_same_in_graph_and_reader():
    values = np.float32([1.0, 3e7, -3.4e38, np.nan])
    encoder = FeatureEncoder(FeatureSpec([NumericFeature("x")]))
    host = encoder.encode_arrays(checked_arrays(pa.table({"x": values}), encoder.features))[NUMBERS]
    np.testing.assert_array_equal(host, encoder({"x": tf.constant(values)})[NUMBERS].numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("boundaries", [None, [0.0]])
def test_missing_values_of_a_number_are_missing_in_graph_and_reader(dtype, boundaries):
    values = np.array([-999, 2.5, 3.4e38], dtype)
    encoder = FeatureEncoder(FeatureSpec([NumericFeature("x", missing_values=[3.4e38, -999], boundaries=boundaries)]))
    key, missing = (NUMBERS, [True, False, True]) if boundaries is None else (IDS, [0, 2, 0])
    arrays = encoder.encode_arrays(checked_arrays(pa.table({"x": values}), encoder.features))
    for encoded in (arrays[key], encoder({"x": tf.constant(values)})[key].numpy()):
        found = np.isnan(encoded[:, 0]) if boundaries is None else encoded[:, 0]
        assert found.tolist() == missing


def test_a_missing_value_beyond_float32_is_missing_and_others_are_the_same_from_a_table_and_in_the_graph():
    encoder = FeatureEncoder(FeatureSpec([NumericFeature("x", missing_values=[1.7e308])]))
    values = np.array([1.7e308, 2.0])
    assert checked_arrays(pa.table({"x": values}), encoder.features)["x"].to_pylist()[1] == 2.0
    assert np.isnan(encoder({"x": tf.constant(values)})[NUMBERS].numpy()[:, 0]).tolist() == [True, False]
    others = np.array([1e39, -1.6e308, 2.0])
    from_table = encoder.encode_arrays(checked_arrays(pa.table({"x": others}), encoder.features))[NUMBERS]
    assert np.isfinite(from_table).all()
    np.testing.assert_array_equal(from_table, encoder({"x": tf.constant(others)})[NUMBERS].numpy())


# --- free ids --------------------------------------------------------------------------------------------------------

FREED = {
    "strings": (["Rome", "Oslo", "Bern"], ["Oslo", "Paris", None, "Bern", "Rome"], pa.string()),
    "a dense range": ([4, 0, 9], [0, 7, None, 9, 4], pa.int64()),
    "integers": ([4, 10**12, 9], [10**12, 7, None, 9, 4], pa.int64()),
    "unsigned": ([4, 2**63 + 5, 9], [2**63 + 5, 7, None, 9, 4], pa.uint64()),
}


@pytest.mark.parametrize("kind", FREED)
@pytest.mark.parametrize("free", [[1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("make", [CategoricalFeature, MultiCategoricalFeature])
def test_a_value_whose_id_is_free_is_unknown_in_graph_and_reader_alike(kind, free, make):
    vocabulary, values, dtype = FREED[kind]
    feature = make("a", vocabulary=vocabulary, free_ids=free)
    expected = [0 if value not in vocabulary or (at := vocabulary.index(value)) in free else 1 + at for value in values]
    table = pa.table({"a": pa.array(values, dtype)})
    encoder = FeatureEncoder(FeatureSpec([feature]))
    arrays = checked_arrays(table, encoder.features)
    raw = raw_columns(arrays, encoder.features)["a"]
    column = raw if make is CategoricalFeature else tf.RaggedTensor.from_row_splits(raw.values, raw.row_splits)

    whole, batch = encoder.encode_arrays(arrays), encoder({"a": column})

    if make is CategoricalFeature:
        assert whole[IDS][:, 0].tolist() == batch[IDS].numpy()[:, 0].tolist() == expected
    else:  # a missing value is no value of a bag
        expected = [number for number, value in zip(expected, values, strict=True) if value is not None]
        assert whole[bag_key("a")].values.tolist() == batch[bag_key("a")].values.numpy().tolist() == expected
