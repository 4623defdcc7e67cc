"""Rows of several lengths, frozen and compressed: fields as a loop in float64 makes them, and one table as ever."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.compression import MultiHash, QuotientRemainder
from nfm_tfrs.features.encoder import FeatureEncoder, encoded_signature
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam

DIM = 3
THING = {"vocabulary": ["a", "b", "c"], "embedding_name": "thing"}
ONE_TABLE = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary_size=9),
        CategoricalFeature("item", **THING),
        MultiCategoricalFeature("liked", **THING),
        MultiCategoricalFeature("tags", vocabulary_size=5, combiner="max", weights="w"),
        MultiCategoricalFeature("seen", vocabulary_size=5, combiner=None, max_length=2),
        NumericFeature("price"),
    ]
)
OWN = {"embedding_dim": 2}
FEATURES = [
    CategoricalFeature("user", vocabulary_size=4),
    CategoricalFeature("long", vocabulary_size=4, embedding_dim=5),
    CategoricalFeature("short", vocabulary_size=4, **OWN),
    CategoricalFeature("still", vocabulary_size=4, frozen=True),
    CategoricalFeature("other", vocabulary_size=4, **OWN),
    CategoricalFeature("pair", vocabulary_size=30, compression=QuotientRemainder(num_rows=7)),
    CategoricalFeature("sum", vocabulary_size=30, compression=QuotientRemainder(operation="sum"), **OWN),
    MultiCategoricalFeature("bag", vocabulary_size=4, embedding_name="short", **OWN),
    MultiCategoricalFeature("most", vocabulary_size=4, combiner="max", embedding_dim=5, weights="w"),
    MultiCategoricalFeature("root", vocabulary_size=4, combiner="sqrtn", frozen=True, embedding_dim=2),
    MultiCategoricalFeature("hashed", vocabulary_size=900, combiner="sum", compression=MultiHash(num_rows=8)),
    MultiCategoricalFeature("places", vocabulary_size=4, combiner=None, max_length=2, **OWN),
    NumericFeature("x"),
]
BAGS = [[0, 2, 2], [], [1], [9, 0], [3]]
WEIGHTS = [[0.5, 2.0, -1.0], [], [3.0], [1.0, 0.25], [1.0]]
VALUES = {
    "user": [0, 3, 9, -1, 1],
    "long": [1, 1, 2, 9, 0],
    "short": [3, 0, 0, 9, 2],
    "still": [0, 1, 2, 3, 9],
    "other": [0, 3, 3, 1, 9],
    "pair": [0, 29, 8, 30, 8],
    "sum": [29, 5, -1, 6, 12],
    "x": [1.0, np.nan, 0.5, 2.0, 3.0],
    "bag": BAGS,
    "most": BAGS,
    "root": BAGS,
    "hashed": [[800, 2, 2], [], [1], [900, 0], [3]],
    "places": BAGS,
    "w": WEIGHTS,
}


def columns():
    def tensor(name, values):
        dtype = tf.float32 if name in ("x", "w") else tf.int64
        ragged = isinstance(values[0], list)
        return tf.ragged.constant(values, dtype, ragged_rank=1) if ragged else tf.constant(values, dtype)

    return {name: tensor(name, values) for name, values in VALUES.items()}


def layer_of(features, **arguments):
    """The layer, its variables of numbers that nothing else has, and the encoded batch."""
    layer = FusedEmbedding(FeatureSpec(features), DIM, **{"stddev": 1.0, **arguments})
    layer.build(None)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer, FeatureEncoder(layer.features)(columns())


def vector(layer, name, value, width=DIM + 1):
    """The field and first-order weight of one value, float64, as the docstrings say."""
    feature = layer.features[name]
    place = next(at for at, one in enumerate(layer.layouts) if feature.table in one.tables)
    layout, rows = layer.layouts[place], layer.tables[place].numpy().astype(np.float64)
    known = 0 <= value < feature.num_ids
    if isinstance(feature.compression, QuotientRemainder):
        m = feature.compression.num_rows
        one, other = (rows[1 + value % m], rows[m + 2 + value // m]) if known else (rows[0], rows[m + 1])
        product = feature.compression.operation == "product"
        own = np.append(one[:-1] * other[:-1] if product else one[:-1] + other[:-1], one[-1] + other[-1])
    elif feature.compression is not None:
        hashes = [
            ((a * (value % (2**31 - 1)) + b * (value // (2**31 - 1)) + c) % (2**31 - 1)) % feature.compression.num_rows
            for a, b, c in feature.compression.factors
        ]
        own = sum(rows[1 + one] for one in hashes) if known else len(hashes) * rows[0]
    else:
        own = rows[layout.tables[feature.table][0] + (value + 1 if known else 0)]
    if not layout.projected:
        return own
    matrix = layer.projections[layer.projected.index(feature.table)].numpy().astype(np.float64)
    return own @ matrix if layout.frozen else np.append(own[:-1] @ matrix, own[-1])


def fields_of(layer):
    """The fields of the batch one by one, float64 [batch, fields, dim + 1]."""
    numbers = layer.table.numpy()[layer.layouts[0].first_number :].astype(np.float64)
    found = []
    for row in range(5):
        single = [vector(layer, f.name, VALUES[f.name][row]) for f in layer.features.single]
        single += [numbers[0] if np.isnan(x := VALUES["x"][row]) else x * numbers[1]]
        unpooled, pooled = [], []
        for bag in layer.features.bags:
            values = VALUES[bag.name][row]
            rows = np.array([vector(layer, bag.name, value) for value in values]).reshape(-1, DIM + 1)
            if bag.combiner is None:
                unpooled += [*rows[:2], *np.zeros([2 - len(rows[:2]), DIM + 1])]
                continue
            rows = rows * (np.array(WEIGHTS[row])[:, None] if bag.weights else 1)
            if not len(rows):
                pooled.append(np.zeros(DIM + 1))
            else:
                most = rows.max(axis=0) if bag.combiner == "max" else rows.sum(axis=0)
                pooled.append(most / {"mean": len(rows), "sqrtn": len(rows) ** 0.5}.get(bag.combiner, 1))
        found.append([*single, *unpooled, *pooled])
    return np.array(found)


@pytest.mark.parametrize("distinct", [False, True])
def test_fields_and_first_order_equal_a_loop_in_float64(distinct):
    layer, encoded = layer_of(FEATURES)
    expected = fields_of(layer)
    output = layer(encoded, distinct=distinct)
    np.testing.assert_allclose(output.embeddings, expected[:, :, :DIM], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.first_order, expected[:, :, DIM:].sum(axis=1), rtol=1e-5, atol=1e-5)
    sums = layer(encoded, distinct=distinct, sums=True)
    np.testing.assert_allclose(sums.total, expected[:, :, :DIM].sum(axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums.squares, np.square(expected[:, :, :DIM]).sum(axis=1), rtol=1e-5, atol=1e-5)


def test_without_first_order_weights_rows_are_as_long_as_embeddings():
    layer, encoded = layer_of(FEATURES, linear=False)
    assert [table.shape[1] for table in layer.tables] == [layout.dim for layout in layer.layouts]
    one, other = (layer(encoded, distinct=distinct) for distinct in (False, True))
    assert one.first_order is None
    np.testing.assert_allclose(one.embeddings, other.embeddings, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("policy", "bound"), [("float32", 1e-6), ("mixed_bfloat16", 2**-7), ("mixed_float16", 2**-10)])
def test_half_precision_rounds_fields_alone(policy, bound):
    layer, encoded = layer_of(FEATURES, dtype=policy)
    assert all(weight.dtype == tf.float32 for weight in layer.weights)
    expected, output = fields_of(layer), layer(encoded, distinct=True)
    np.testing.assert_allclose(np.float32(output.embeddings), expected[:, :, :DIM], rtol=bound, atol=1e-5)
    np.testing.assert_allclose(output.first_order, expected[:, :, DIM:].sum(axis=1), rtol=1e-5, atol=1e-5)


def test_there_is_one_variable_for_each_length_and_for_frozen_and_compressed_rows():
    layer, _ = layer_of(FEATURES)
    found = [(set(one.tables), one.dim, one.frozen, one.num_rows) for one in layer.layouts]
    assert found == [
        ({"user"}, 3, False, 5 + 2),
        ({"long", "most"}, 5, False, 10),
        ({"short", "other", "places"}, 2, False, 15),
        ({"still"}, 3, True, 5),
        ({"pair"}, 3, False, 8 + 6),
        ({"sum"}, 2, False, 7 + 6),
        ({"root"}, 2, True, 5),
        ({"hashed"}, 3, False, 9),
    ]
    assert layer.projected == ["long", "most", "short", "other", "places", "still", "sum", "root"]
    assert [weight.name.split("/")[-1] for weight in layer.non_trainable_weights] == ["table_3:0", "table_6:0"]


# --- one table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "l2", "how"),
    [
        ("inference", 0.0, {}),
        ("training by sums", 0.0, {"distinct": True, "sums": True}),
        ("training with l2", 0.1, {"distinct": True}),
    ],
)
def test_the_graph_of_one_table_is_node_for_node_what_it_was_before_there_were_several(case, l2, how):
    written = json.loads((Path(__file__).parent / "one_table.json").read_text())
    if written["tensorflow"] != tf.__version__:
        pytest.skip("Another TensorFlow may make another graph of the same calls.")
    layer = FusedEmbedding(ONE_TABLE, 4, l2=l2)
    layer.build(None)
    traced = tf.function(lambda encoded: [x for x in layer(encoded, **how) if x is not None], autograph=False)
    graph = traced.get_concrete_function(encoded_signature(ONE_TABLE)).graph
    assert [op.type for op in graph.get_operations()] == " ".join(written[case]).split()


def test_the_model_s_own_length_said_of_a_feature_changes_nothing():
    said = ONE_TABLE.replace(replace(ONE_TABLE["user"], embedding_dim=4))
    layer = FusedEmbedding(said, 4)
    layer.build(None)
    assert [(weight.name, tuple(weight.shape)) for weight in layer.weights] == [("table:0", (28, 5))]


# --- the start -------------------------------------------------------------------------------------------------------


def test_fields_start_as_large_as_those_of_one_table_unknown_ones_at_zero_and_frozen_ones_too():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary_size": 4000}
    features = [
        CategoricalFeature("long", embedding_dim=32, **sizes),
        CategoricalFeature("still", frozen=True, **sizes),
        CategoricalFeature("product", compression=QuotientRemainder(), **sizes),
        CategoricalFeature("sum", compression=QuotientRemainder(operation="sum"), **sizes),
        CategoricalFeature("hashed", compression=MultiHash(num_rows=1500, num_hashes=3), **sizes),
    ]
    layer = FusedEmbedding(FeatureSpec(features), 16, stddev=0.05)
    values = np.arange(-1, 4000)
    output = layer(FeatureEncoder(layer.features)({feature.name: tf.constant(values) for feature in features}))
    fields = output.embeddings.numpy()
    assert not fields[0].any()
    assert not output.first_order.numpy().any()
    for at, spread in enumerate([0.05, 0.0, 0.05, 0.05, 0.05]):
        assert fields[1:, at].std() == pytest.approx(spread, rel=0.1)


# --- training --------------------------------------------------------------------------------------------------------


def objective(layer, encoded, **how):
    output = layer(encoded, **how)
    cubes = tf.reduce_sum(tf.cast(output.embeddings, tf.float32) ** 3)
    return cubes + tf.reduce_sum(output.first_order**2) + tf.add_n(layer.losses or [0.0])


def test_gradients_are_sparse_equal_however_rows_are_read_and_equal_differences():
    layer, encoded = layer_of(FEATURES, l2=0.1)
    found = []
    for distinct in (False, True):
        with tf.GradientTape() as tape:
            total = objective(layer, encoded, distinct=distinct)
        gradients = tape.gradient(total, layer.trainable_weights)
        assert all(isinstance(one, tf.IndexedSlices) for one in gradients[: len(gradients) - len(layer.projected)])
        found.append([tf.convert_to_tensor(one).numpy() for one in gradients])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    rng = np.random.default_rng(1)
    for weight, gradient in zip(layer.trainable_weights, found[1], strict=True):
        own, direction = weight.numpy(), rng.normal(size=weight.shape)
        values = []
        for sign in (1, -1):
            weight.assign(own + sign * 1e-3 * direction)
            values.append(float(objective(layer, encoded)))
        weight.assign(own)
        expected = (gradient * direction).sum()
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(expected, rel=2e-2, abs=0.5)


@pytest.mark.parametrize("make", [LazyAdagrad, lambda: LazyAdam(0.1)])
def test_rows_that_a_batch_does_not_hold_stay_and_rows_are_read_once(make):
    layer, encoded = layer_of(FEATURES, l2=0.1)
    before = [table.numpy() for table in layer.tables]
    optimizer = make()
    optimizer.build(layer.trainable_weights)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            total = objective(layer, encoded, distinct=True)
        gradients = tape.gradient(total, layer.trainable_weights)
        optimizer.apply_gradients(zip(gradients, layer.trainable_weights, strict=True))

    step()
    moved = [np.flatnonzero((t.numpy() != b).any(axis=1)).tolist() for t, b in zip(layer.tables, before, strict=True)]
    assert moved[0] == [0, 1, 2, 4, 5, 6]  # the number's both rows behind those of the users
    assert moved[1] == [0, 1, 2, 3, *(5 + one for one in (0, 1, 2, 3, 4))]
    assert moved[3] == moved[6] == []
    assert moved[4] == [0, 1, 2, 8, 9, 10, 13]  # pairs (0, 0), (1, 1) twice, (1, 4) and of an unknown value
    assert all((one.numpy() != 0).any() for one in layer.projections)


def test_l2_is_of_the_distinct_rows_as_they_lie_in_the_tables_but_frozen_ones():
    features = [
        CategoricalFeature("short", vocabulary_size=4, embedding_dim=2),
        MultiCategoricalFeature("bag", vocabulary_size=4, embedding_name="short", embedding_dim=2),
        CategoricalFeature("still", vocabulary_size=4, frozen=True),
        NumericFeature("x"),
    ]
    layer, encoded = layer_of(features, l2=0.5)
    layer(encoded)
    short, numbers = layer.tables[1].numpy(), layer.table.numpy()
    expected = np.square(short[:, :2]).sum() + np.square(numbers[:, :DIM]).sum()  # all of them are in the batch
    assert float(layer.losses[0]) == pytest.approx(0.5 * expected / 5, rel=1e-5)
