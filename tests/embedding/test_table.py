import numpy as np
import pytest

from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf

DIM = 3
USER = CategoricalFeature("user", vocabulary_size=4)  # rows 0 … 4
BAGS = [[0, 2, 2], [], [1], [9, 0], []]
WEIGHTS = [[0.5, 2.0, -1.0], [], [3.0], [1.0, 0.25], []]
USERS = [0, 3, 9, -1, 1]


def embedded(features, columns, **arguments):
    """The layer, its table as float64, and what it returns for raw columns."""
    spec = FeatureSpec(features)
    layer = FusedEmbedding(spec, DIM, **{"stddev": 1.0, **arguments})
    encoded = FeatureEncoder(spec)(columns)
    layer(encoded)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=layer.table.shape)])  # row 0 and the first order too: none may be zero
    return layer, layer.table.numpy().astype(np.float64), layer(encoded)


def ragged(lists, dtype=tf.int64):
    return tf.ragged.constant(lists, dtype, ragged_rank=1)


def pooled(rows, weights, combiner):
    """A bag's rows [n, width] and weights [n] as one row, as the docstring of MultiCategoricalFeature says."""
    if not len(rows):
        return np.zeros(DIM + 1)
    weighted = rows * np.array(weights)[:, None]
    if combiner == "max":
        return weighted.max(axis=0)
    divisors = {"sum": 1.0, "mean": np.sum(weights), "sqrtn": np.sqrt(np.sum(np.square(weights)))}
    return weighted.sum(axis=0) / divisors[combiner]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", "max"])
def test_each_combiner_equals_numpy(combiner, weighted):
    bag = MultiCategoricalFeature("bag", vocabulary_size=3, combiner=combiner, weights="w" if weighted else None)
    columns = {"user": tf.constant(USERS), "bag": ragged(BAGS), "w": ragged(WEIGHTS, tf.float32)}
    _, table, (embeddings, mask, first_order) = embedded([USER, bag], columns)
    for row, (ids, weights, user) in enumerate(zip(BAGS, WEIGHTS, USERS, strict=True)):
        user_row = table[user + 1 if 0 <= user < 4 else 0]
        rows = table[[5 + (i + 1 if i < 3 else 0) for i in ids]]
        bag_row = pooled(rows, weights if weighted else np.ones(len(ids)), combiner)
        np.testing.assert_allclose(embeddings[row], [user_row[:DIM], bag_row[:DIM]], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(first_order[row], [user_row[DIM] + bag_row[DIM]], rtol=1e-5, atol=1e-6)
    assert mask.numpy().tolist() == [[True, bool(ids)] for ids in BAGS]
    assert first_order.dtype == tf.float32


def test_weights_that_add_up_to_zero_make_a_zero_mean():
    bag = MultiCategoricalFeature("bag", vocabulary_size=3, weights="w")
    _, _, output = embedded([USER, bag], {"user": [0], "bag": ragged([[0, 1]]), "w": ragged([[1.0, -1.0]], tf.float32)})
    np.testing.assert_array_equal(output.embeddings[0, 1], np.zeros(DIM))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("max_length", [None, 2, 4])
def test_positions_that_are_not_pooled_are_fields_of_their_own(max_length, weighted):
    bag = MultiCategoricalFeature(
        "bag", vocabulary_size=3, combiner=None, max_length=max_length, weights="w" if weighted else None
    )
    columns = {"user": tf.constant(USERS), "bag": ragged(BAGS), "w": ragged(WEIGHTS, tf.float32)}
    layer, table, (embeddings, mask, first_order) = embedded([USER, bag], columns)
    length = max_length or 3
    assert layer.num_fields == (None if max_length is None else 1 + max_length)
    assert embeddings.shape == (5, 1 + length, DIM)
    for row, (ids, weights, user) in enumerate(zip(BAGS, WEIGHTS, USERS, strict=True)):
        expected = np.zeros([1 + length, DIM + 1])
        expected[0] = table[user + 1 if 0 <= user < 4 else 0]
        for position, (i, w) in enumerate(list(zip(ids, weights, strict=True))[:length]):
            expected[1 + position] = table[5 + (i + 1 if i < 3 else 0)] * (w if weighted else 1.0)
        np.testing.assert_allclose(embeddings[row], expected[:, :DIM], rtol=1e-5)
        np.testing.assert_allclose(first_order[row], [expected[:, DIM].sum()], rtol=1e-5)
        assert mask[row].numpy().tolist() == [True] + [p < len(ids) for p in range(length)]


def test_a_number_is_value_times_vector_and_a_missing_one_a_vector_of_its_own():
    features = [USER, NumericFeature("x", mean=1.0, std=2.0), NumericFeature("y")]
    columns = {"user": tf.constant([0, 1]), "x": tf.constant([5.0, np.nan]), "y": tf.constant([-3.0, 0.0])}
    layer, table, (embeddings, mask, first_order) = embedded(features, columns)
    assert layer.num_rows == 5 + 4
    x_missing, x_present, _, y_present = table[5:]
    expected = np.array([[table[1], 2.0 * x_present, -3.0 * y_present], [table[2], x_missing, 0.0 * y_present]])
    np.testing.assert_allclose(embeddings, expected[:, :, :DIM], rtol=1e-5)
    np.testing.assert_allclose(first_order, expected[:, :, DIM:].sum(axis=1), rtol=1e-5)
    assert mask is None


def test_numbers_may_be_left_to_others():
    layer, _, output = embedded([USER, NumericFeature("x")], {"user": [0], "x": [2.0]}, numbers=False)
    assert layer.num_rows == 5
    assert output.embeddings.shape == (1, 1, DIM)


def test_fields_come_in_the_documented_order():
    features = [
        MultiCategoricalFeature("pooled", vocabulary_size=1),
        MultiCategoricalFeature("positions", vocabulary_size=1, combiner=None, max_length=2),
        NumericFeature("number"),
        CategoricalFeature("single", vocabulary_size=1),
    ]
    columns = {"pooled": ragged([[0]]), "positions": ragged([[0]]), "number": [1.0], "single": [0]}
    layer, table, output = embedded(features, columns)
    assert layer.num_fields == 5
    offsets = layer.features.offsets
    rows = [offsets["single"] + 1, 6 + 1, offsets["positions"] + 1, None, offsets["pooled"] + 1]
    expected = [np.zeros(DIM) if row is None else table[row][:DIM] for row in rows]
    np.testing.assert_allclose(output.embeddings[0], expected, rtol=1e-6)
    assert output.mask.numpy().tolist() == [[True, True, True, False, True]]


@pytest.mark.parametrize("batch", [1, 2])
def test_bags_may_be_the_only_features(batch):
    features = [MultiCategoricalFeature(name, vocabulary_size=3) for name in "ab"]
    columns = {"a": ragged([[0, 1], []][:batch]), "b": ragged([[2], [1, 1]][:batch])}
    _, table, output = embedded(features, columns)
    np.testing.assert_allclose(output.embeddings[0], [table[[1, 2], :DIM].mean(axis=0), table[7, :DIM]], rtol=1e-5)
    assert output.embeddings.shape == (batch, 2, DIM)


def test_positions_of_bags_that_are_all_empty_are_no_field():
    bag = MultiCategoricalFeature("bag", vocabulary_size=3, combiner=None)
    for features, fields in (([bag], 0), ([USER, bag], 1)):
        _, _, output = embedded(features, {"user": [0, 1], "bag": ragged([[], []])})
        assert output.embeddings.shape == (2, fields, DIM)
        assert output.mask.shape == (2, fields)


def test_a_batch_without_rows_embeds_to_one():
    bag = MultiCategoricalFeature("bag", vocabulary_size=3)
    columns = {"user": tf.zeros([0], tf.int64), "bag": tf.zeros([0, 2], tf.int64), "x": tf.zeros([0])}
    _, _, output = embedded([USER, bag, NumericFeature("x")], columns, l2=0.1)
    assert output.embeddings.shape == (0, 3, DIM)
    assert output.first_order.shape == (0, 1)


# --- the table -------------------------------------------------------------------------------------------------------


def test_unknown_rows_and_first_order_start_at_zero_and_the_others_normal():
    features = [
        CategoricalFeature("a", vocabulary_size=2000),
        CategoricalFeature("b", vocabulary_size=2000),
        CategoricalFeature("c", vocabulary_size=2000, embedding_name="a"),
        NumericFeature("x"),
    ]
    keras.utils.set_random_seed(0)
    layer = FusedEmbedding(FeatureSpec(features), 8, stddev=0.05)
    layer.build(None)
    table = layer.table.numpy()
    assert table.shape == (2 * 2001 + 2, 9)
    zero = [0, 2001, 4002]
    np.testing.assert_array_equal(table[zero], 0.0)
    np.testing.assert_array_equal(table[:, 8], 0.0)
    others = np.delete(table, zero, axis=0)[:, :8]
    assert (others != 0).all()
    assert others.std() == pytest.approx(0.05, rel=0.02)
    assert others.mean() == pytest.approx(0.0, abs=0.001)


def test_without_the_first_order_rows_are_as_wide_as_an_embedding():
    layer, _, output = embedded_without_linear()
    assert layer.table.shape == (5, DIM)
    assert output.first_order is None


def embedded_without_linear():
    layer = FusedEmbedding(FeatureSpec([USER]), DIM, linear=False)
    output = layer(FeatureEncoder(layer.features)({"user": tf.constant([1])}))
    return layer, None, output


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", tf.float16), ("float16", tf.float16), ("mixed_bfloat16", tf.bfloat16)]
)
def test_half_precision_leaves_the_table_and_the_first_order_float32(policy, compute):
    features = [USER, NumericFeature("x")]
    layer, table, output = embedded(features, {"user": [1], "x": [16_777.0]}, dtype=policy)
    assert output.embeddings.dtype == compute
    assert (layer.table.dtype, output.first_order.dtype) == (tf.float32, tf.float32)
    np.testing.assert_allclose(output.first_order, [[table[2, DIM] + 16_777 * table[6, DIM]]], rtol=1e-6)


# --- l2 --------------------------------------------------------------------------------------------------------------


def test_l2_is_the_mean_over_the_batch_of_the_distinct_rows_squared():
    features = [
        USER,
        CategoricalFeature("friend", vocabulary_size=4, embedding_name="user"),
        MultiCategoricalFeature("bag", vocabulary_size=3),
        MultiCategoricalFeature("positions", vocabulary_size=3, combiner=None, max_length=4),
        NumericFeature("x"),
    ]
    columns = {
        "user": tf.constant(USERS),
        "friend": tf.constant([0, 0, 2, 9, 3]),
        "bag": ragged(BAGS),
        "positions": ragged([[0], [0], [], [1], []]),
        "x": tf.constant([1.0, 2.0, np.nan, 3.0, 4.0]),
    }
    layer, table, _ = embedded(features, columns, l2=0.5)
    users = {1, 4, 0, 2} | {1, 3, 0, 4}
    bags = {5 + i for i in (1, 3, 2, 0)}
    positions = {9 + 1, 9 + 2}  # padding is no row of the batch
    distinct = sorted(users | bags | positions | {13, 14})
    expected = 0.5 * np.square(table[distinct, :DIM]).sum() / 5
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-6)


def test_without_l2_there_is_no_loss():
    layer, _, _ = embedded([USER], {"user": [1]})
    assert layer.losses == []


# --- gradients -------------------------------------------------------------------------------------------------------


def everything():
    features = [
        USER,
        MultiCategoricalFeature("bag", vocabulary_size=3, combiner="max"),
        MultiCategoricalFeature("other", vocabulary_size=3, combiner="sqrtn", weights="w"),
        MultiCategoricalFeature("positions", vocabulary_size=3, combiner=None),
        NumericFeature("x"),
    ]
    columns = {
        "user": tf.constant(USERS),
        "bag": ragged(BAGS),
        "other": ragged(BAGS),
        "w": ragged(WEIGHTS, tf.float32),
        "positions": ragged(BAGS),
        "x": tf.constant([1.0, np.nan, 0.5, 2.0, 3.0]),
    }
    return features, columns


def objective(layer, encoded):
    embeddings, _, first_order = layer(encoded)
    cubes = tf.reduce_sum(tf.cast(embeddings, tf.float32) ** 3)  # not linear, so that positions matter
    return cubes + tf.reduce_sum(first_order**2) + tf.add_n(layer.losses or [0.0])


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_the_gradient_is_sparse_and_equals_differences(l2):
    features, columns = everything()
    layer, table, _ = embedded(features, columns, l2=l2)
    encoded = FeatureEncoder(layer.features)(columns)
    with tf.GradientTape() as tape:
        total = objective(layer, encoded)
    gradient = tape.gradient(total, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    dense = tf.convert_to_tensor(gradient).numpy()
    step = 1e-2
    for at in [(0, 0), (1, 1), (6, 2), (8, DIM), (10, 1), (13, 0), (17, 0), (18, DIM)]:
        values = []
        for sign in (1, -1):
            moved = table.copy()
            moved[at] += sign * step
            layer.set_weights([moved])
            values.append(float(objective(layer, encoded)))
        assert dense[at] == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-2, abs=2e-2)


def test_the_gradient_stays_sparse_under_loss_scaling():
    features, columns = everything()
    layer, _, _ = embedded(features, columns, l2=0.3, dtype="mixed_float16")
    encoded = FeatureEncoder(layer.features)(columns)
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adagrad(0.1))
    optimizer.build([layer.table])
    with tf.GradientTape() as tape:
        scaled = optimizer.get_scaled_loss(objective(layer, encoded) * 1e-3)
    (gradient,) = optimizer.get_unscaled_gradients(tape.gradient([scaled], [layer.table]))
    assert isinstance(gradient, tf.IndexedSlices)


def test_rows_outside_the_batch_do_not_move():
    layer, _, _ = embedded([USER], {"user": [1, 2]}, l2=0.1)
    encoded = FeatureEncoder(layer.features)({"user": tf.constant([1, 2])})
    before = layer.table.numpy()
    optimizer = keras.optimizers.Adagrad(0.1)
    with tf.GradientTape() as tape:
        total = objective(layer, encoded)
    optimizer.apply_gradients([(tape.gradient(total, layer.table), layer.table)])
    moved = np.flatnonzero((layer.table.numpy() != before).any(axis=1))
    assert moved.tolist() == [2, 3]


# --- the layer -------------------------------------------------------------------------------------------------------


def test_the_layer_survives_its_config():
    layer = FusedEmbedding(FeatureSpec([USER]), 5, linear=False, numbers=False, stddev=0.2, l2=0.1)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("arguments", [{"embedding_dim": 0}, {"l2": -0.1}, {"stddev": -1.0}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="needs embedding_dim of 1 or more, l2 and stddev of 0 or more; received"):
        FusedEmbedding(FeatureSpec([USER]), **{"embedding_dim": 4, **arguments})
