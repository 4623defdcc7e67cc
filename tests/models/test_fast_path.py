"""A model reads each row of a batch once, and pools rows where it can: the same numbers as field by field."""

from dataclasses import replace

import numpy as np
import pytest

from nfm_tfrs.blocks.base import PooledBlock
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.embedding.table import FieldEmbeddings, FieldSums, FusedEmbedding
from nfm_tfrs.features.encoder import IDS, FeatureEncoder, bag_key
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam

SINGLE = [CategoricalFeature("a", vocabulary_size=6), CategoricalFeature("b", vocabulary_size=6)]
NUMBERS = [NumericFeature("x", mean=1.0, std=2.0), NumericFeature("y")]
POOLED = MultiCategoricalFeature("bag", vocabulary_size=4)
POSITIONS = MultiCategoricalFeature("positions", vocabulary_size=4, combiner=None, max_length=3)
BATCH = 12
WAYS = [{"distinct": True}, {"sums": True}, {"distinct": True, "sums": True}]


def rows(batch=BATCH, seed=0):
    """Raw columns of all of the above: unknown and repeated ids, empty bags, negative weights, missing numbers."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, batch)
    values, weights = rng.integers(-1, 5, lengths.sum()), rng.normal(1.0, 1.0, lengths.sum()).astype(np.float32)
    bag = tf.RaggedTensor.from_row_lengths(values, lengths)
    columns = {
        "a": tf.constant(rng.integers(-1, 7, batch)),
        "b": tf.constant(rng.integers(-1, 7, batch)),
        "x": tf.constant(np.where(rng.random(batch) < 0.3, np.nan, rng.normal(size=batch)).astype(np.float32)),
        "y": tf.constant(rng.normal(size=batch).astype(np.float32)),
        "bag": bag,
        "positions": bag[::-1],
        "weights": bag[::-1].with_values(tf.constant(weights)),
    }
    return columns, tf.constant(rng.integers(0, 2, batch).astype(np.float32))


def difference(one, other):
    """The largest difference of two tensors, as a share of the other's largest element."""
    one, other = (tf.convert_to_tensor(part).numpy().astype(np.float64) for part in (one, other))
    assert one.shape == other.shape
    return np.abs(one - other).max(initial=0) / max(np.abs(other).max(initial=0), 1e-30)


# --- the embedding ---------------------------------------------------------------------------------------------------


def embedding(features, **arguments):
    keras.utils.set_random_seed(0)
    layer = FusedEmbedding(FeatureSpec(features), 5, stddev=1.0, **arguments)
    layer.build(None)
    layer.set_weights([np.random.default_rng(1).normal(size=layer.table.shape)])  # the rows of unknown values too
    return layer


def sums_and_gradient(layer, columns, **arguments):
    """Σ v, Σ v², the first-order term, and the table's gradient of a weighted sum of all three."""
    encoded = FeatureEncoder(layer.features)(columns)
    with tf.GradientTape() as tape:
        fields = layer(encoded, **arguments)
        if isinstance(fields, FieldEmbeddings):
            vectors = fields.embeddings
            fields = FieldSums(tf.reduce_sum(vectors, 1), tf.reduce_sum(vectors**2, 1), fields.first_order)
        else:
            assert arguments["sums"]
        parts = [part for part in fields if part is not None]
        scales = [np.random.default_rng(3).normal(size=part.shape).astype(np.float32) for part in parts]
        objective = tf.add_n([tf.reduce_sum(part * s) for part, s in zip(parts, scales, strict=True)] + layer.losses)
    return parts, tape.gradient(objective, layer.table)


def bag(combiner, weighted, max_length=None):
    return replace(POSITIONS, combiner=combiner, weights="weights" if weighted else None, max_length=max_length)


EMBEDDED = {
    **{
        f"{combiner}, weighted: {weighted}": [*SINGLE, bag(combiner, weighted)]
        for combiner in ("sum", "mean", "sqrtn", "max")
        for weighted in (False, True)
    },
    **{
        f"positions to {length}, weighted: {weighted}": [*SINGLE, bag(None, weighted, length)]
        for length in (None, 2, 9)
        for weighted in (False, True)
    },
    "one": [SINGLE[0]],
    "one and a number": [SINGLE[0], NUMBERS[0]],
    "numbers": NUMBERS,
    "bags": [POOLED, POSITIONS],
    "one table": [replace(feature, embedding_name="shared") for feature in SINGLE],
    "everything": [*SINGLE, *NUMBERS, POOLED, POSITIONS],
}


@pytest.mark.parametrize("ways", WAYS, ids=str)
@pytest.mark.parametrize("name", EMBEDDED)
def test_every_way_to_look_up_gives_the_same_sums_and_gradient(name, ways):
    layer, (columns, _) = embedding(EMBEDDED[name]), rows()
    expected, gradient = sums_and_gradient(layer, columns)
    assert np.abs(tf.convert_to_tensor(gradient)).max() > 0.1
    parts, other = sums_and_gradient(layer, columns, **ways)
    for one, two in zip(parts, expected, strict=True):
        assert difference(one, two) < 1e-6
    assert difference(other, gradient) < 1e-6
    if ways.get("distinct"):
        ids = other.indices.numpy()
        assert len(set(ids.tolist())) == len(ids)


@pytest.mark.parametrize("arguments", [{"linear": False}, {"numbers": False}, {"l2": 0.3}], ids=str)
@pytest.mark.parametrize("batch", [0, 1, BATCH])
def test_switches_and_small_batches_change_nothing_in_that(arguments, batch):
    layer, (columns, _) = embedding(EMBEDDED["everything"], **arguments), rows(batch)
    expected, gradient = sums_and_gradient(layer, columns)
    for ways in WAYS:
        parts, other = sums_and_gradient(layer, columns, **ways)
        assert all(difference(one, two) < 1e-6 for one, two in zip(parts, expected, strict=True))
        assert difference(other, gradient) < 1e-6


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize(("numbers", "kinds"), [([1.0, 2.0], [1]), ([np.nan, np.nan], [0]), ([np.nan, 2.0], [0, 1])])
def test_a_row_of_a_number_counts_in_l2_only_where_the_batch_has_such_a_value(numbers, kinds, distinct):
    layer = embedding([SINGLE[0], NUMBERS[1]], l2=0.3)
    layer(FeatureEncoder(layer.features)({"a": [4, 4], "y": tf.constant(numbers)}), distinct=distinct)
    held = layer.table.numpy().astype(np.float64)[[5, *(7 + kind for kind in kinds)], :5]
    assert float(layer.losses[0]) == pytest.approx(0.3 * np.square(held).sum() / 2, rel=1e-6)


def test_fields_are_the_same_one_by_one():
    layer, (columns, _) = embedding(EMBEDDED["everything"]), rows()
    encoded = FeatureEncoder(layer.features)(columns)
    one, other = layer(encoded), layer(encoded, distinct=True)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert difference(other.embeddings, one.embeddings) < 1e-6


# --- a model ---------------------------------------------------------------------------------------------------------


class Swish(PooledBlock):
    """A block of somebody else's, with a weight."""

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_float32_weight("scale", [input_shape[-1]], "random_normal")

    def from_sums(self, total, squares):
        return tf.nn.silu(total) * self.scale - squares


class Negative(BiInteraction):
    """A Bi-Interaction that writes its own call."""

    def call(self, embeddings, mask=None):
        return -super().call(embeddings, mask)


EVERYTHING = EMBEDDED["everything"]
MODELS = {
    "bi_interaction": {},
    "fm": {"interaction": "fm", "hidden_units": ()},
    "both": {"interaction": ["bi_interaction", "fm"], "hidden_units": ()},
    "cross": {"interaction": "cross"},
    "one of sums and one not": {"interaction": ["bi_interaction", "field_weighted_fm"]},
    "concat": {"structure": "concat"},
    "parallel": {"structure": "parallel", "interaction": ["fm", "bi_interaction"]},
    "no first order, batch norm, l2": {"linear": False, "interaction_batch_norm": True, "embedding_l2": 0.3},
    "numbers beside": {"numeric": "concat"},
    "bottom": {"numeric": "bottom_mlp", "bottom_units": (3,)},
    "bottom beside others": {"numeric": "bottom_mlp", "bottom_units": (3,), "interaction": "inner_product"},
    "somebody else's": {"interaction": Swish},
    "a call of its own": {"interaction": Negative},
}


SMALL = {"embedding_dim": 4, "hidden_units": (5,), "task": "regression"}  # whose metrics trace in no time


def fast_model(features=EVERYTHING, interaction="bi_interaction", **arguments):
    block = interaction() if isinstance(interaction, type) else interaction
    model = RankingModel(features, interaction=block, **{**SMALL, **arguments})
    rng = np.random.default_rng(2)
    model.set_weights([np.abs(rng.normal(0.3, 0.5, weight.shape)) for weight in model.get_weights()])  # none is zero
    return model


def plain_model(*features, **arguments):
    """A model of the same weights that looks up field by field and calls every block with embeddings."""
    model = fast_model(*features, **arguments)
    look_up = model.embedding.call
    model.embedding.call = lambda encoded, **_: look_up(encoded)
    return model


def logits_loss_and_gradients(model, columns, labels):
    with tf.GradientTape() as tape:
        logits = model(columns, training=True)
        loss = tf.reduce_mean(tf.math.softplus(logits) - labels[:, None] * logits) + tf.add_n(model.losses or [0.0])
    return [logits, loss, *tape.gradient(loss, model.trainable_variables)]


def assert_close(ones, others, tolerance=2e-6):
    for one, other in zip(ones, others, strict=True):
        assert difference(one, other) < tolerance


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_and_infers_as_its_plain_twin(name):
    fast, plain = fast_model(**MODELS[name]), plain_model(**MODELS[name])
    columns, labels = rows()
    one, other = (logits_loss_and_gradients(model, columns, labels) for model in (fast, plain))
    assert any(isinstance(gradient, tf.IndexedSlices) for gradient in one)
    assert_close(one, other)
    assert difference(fast(columns), plain(columns)) < 1e-6


@pytest.mark.parametrize("interaction", ["bi_interaction", "cross"])
@pytest.mark.parametrize("batch", ["one row", "one id"])
def test_a_batch_of_one_row_or_of_one_id_trains_alike(interaction, batch):
    columns, labels = rows(1 if batch == "one row" else BATCH)
    if batch == "one id":
        columns["a"] = columns["b"] = tf.fill([BATCH], tf.constant(3, tf.int64))
    shared = [replace(feature, embedding_name="shared") for feature in SINGLE]
    models = [make(shared, interaction=interaction) for make in (fast_model, plain_model)]
    assert_close(*(logits_loss_and_gradients(model, columns, labels) for model in models))


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 3e-2), ("mixed_float16", 4e-3)])
@pytest.mark.parametrize("interaction", ["bi_interaction", "cross"])
def test_half_precision_agrees_within_its_rounding(policy, tolerance, interaction):
    # Plain, embeddings are rounded to half precision before they are summed; by sums they never are.
    columns, labels = rows()
    models = [make(interaction=interaction, dtype=policy) for make in (fast_model, plain_model)]
    assert_close(*(logits_loss_and_gradients(model, columns, labels) for model in models), tolerance)


@pytest.mark.parametrize("training", [True, False])
def test_a_block_that_writes_its_own_call_is_called(training):
    own, other = (fast_model(interaction=block, linear=False, hidden_units=()) for block in (Negative, BiInteraction))
    for model in (own, other):
        model._bias.assign([0.0])
        model.label_mean.assign(0.0)
    columns, _ = rows()
    assert difference(own(columns, training=training), -other(columns, training=training)) < 1e-6


# --- training --------------------------------------------------------------------------------------------------------


def fit(model, optimizer, steps=20, **arguments):
    model.compile(optimizer, steps_per_execution=1, **arguments)
    for seed in range(steps // 5):
        columns, labels = rows(5 * BATCH, seed)
        model.fit(tf.data.Dataset.from_tensor_slices((columns, labels)).batch(BATCH), verbose=0)
    assert int(model.optimizer.iterations) == steps
    return model


@pytest.mark.parametrize("interaction", ["bi_interaction", "cross"])
def test_20_steps_of_row_wise_adagrad_equal_keras_adagrad_on_the_plain_path(interaction):
    fast, plain = fast_model(interaction=interaction), plain_model(interaction=interaction)
    start = fast.get_weights()
    fit(fast, LazyAdagrad(0.1))
    fit(plain, keras.optimizers.Adagrad(0.1))
    for one, other, before in zip(fast.get_weights(), plain.get_weights(), start, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        assert not before.shape or np.abs(one - before).max() > 0.01  # all but where the label starts


def test_batches_with_more_or_fewer_distinct_ids_share_one_graph():
    model = fast_model()
    fit(model, LazyAdam(0.1), steps=5)
    graphs = model.train_function.experimental_get_tracing_count()
    for seed in (3, 4):
        columns, labels = rows(4 + seed, seed)
        model.fit(tf.data.Dataset.from_tensor_slices((columns, labels)).batch(4), verbose=0)
    assert model.train_function.experimental_get_tracing_count() == graphs


@pytest.mark.parametrize("interaction", ["bi_interaction", "cross"])
def test_row_wise_training_moves_the_rows_of_the_batch_only(interaction):
    model = fast_model(interaction=interaction)
    model.compile(LazyAdam(0.1), run_eagerly=True)
    before = model.embedding.table.numpy()
    columns, labels = rows(2)
    model.train_on_batch(columns, labels)
    spec = model.features
    encoded = model.encoder(columns)
    held = {*encoded[IDS].numpy().ravel().tolist()} | {*range(spec.num_rows, model.embedding.num_rows)}  # and numbers'
    for feature in spec.bags:
        held |= {*encoded[bag_key(feature.name)].values.numpy().tolist()}
    moved = np.flatnonzero((model.embedding.table.numpy() != before).any(axis=1))
    assert {*moved.tolist()} <= held < {*range(model.embedding.num_rows)}
