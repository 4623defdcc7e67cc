"""Target attention against a loop over its equation in float64, ragged and padded."""

import numpy as np
import pytest

from nfm_tfrs.embedding.attention import Dice, TargetAttention
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.testing.kit import BOUNDS

DIM, WIDTH, MOST = 3, 4, 5
LENGTHS = [2, 0, 5, 1, 0, 3, 0]
ACTIVATIONS = ["dice", "prelu", "sigmoid", "relu"]


def drawn(layer, seed=0):
    """The layer with weights that are none of those it starts with, and bags to pool, as NumPy."""
    rng = np.random.default_rng(seed)
    layer.build(tf.TensorShape([None, None, WIDTH]))
    for weight in layer.weights:
        low, high = (0.5, 2.0) if "variance" in weight.name else (-0.9, 0.9)
        weight.assign(rng.uniform(low, high, weight.shape))
    rows, targets = rng.normal(size=[sum(LENGTHS), WIDTH]), rng.normal(size=[len(LENGTHS), WIDTH])
    return rows.astype(np.float32), targets.astype(np.float32), rng.uniform(-1, 2, len(rows)).astype(np.float32)


def made(activation="dice", *, softmax=False, positions=False, units=(6, 5), **arguments):
    settings = Attention(units=units, activation=activation, softmax=softmax, positions=positions)
    return TargetAttention(DIM, settings, MOST if positions else None, **arguments)


def ragged(rows):
    return tf.RaggedTensor.from_row_lengths(tf.convert_to_tensor(rows), LENGTHS)


def seen_by_the_network(seen, target):
    return np.concatenate([seen, target, seen - target, seen * target])


def looped(layer, rows, targets, weights=None, parts=seen_by_the_network):
    """The pooled rows, value by value in float64."""
    kernels, biases = ([np.asarray(one, np.float64) for one in many] for many in (layer._kernels, layer._biases))
    pooled, starts = np.zeros([len(LENGTHS), WIDTH]), np.cumsum([0, *LENGTHS])
    for row, length in enumerate(LENGTHS):
        bag, target = rows[starts[row] : starts[row] + length].astype(np.float64), targets[row, :DIM].astype(np.float64)
        scores = []
        for place, value in enumerate(bag):
            seen = value[:DIM] + (layer._positions.numpy()[place] if layer.attention.positions else 0.0)
            hidden = parts(seen, target)
            for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
                hidden = hidden @ kernel + bias
                if number < len(layer._activations):
                    hidden = bent(layer._activations[number], hidden)
            scores.append(hidden[0])
        scores = np.array(scores)
        if layer.attention.softmax and length:
            scores = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        for place, value in enumerate(bag):
            pooled[row] += scores[place] * value * (1.0 if weights is None else weights[starts[row] + place])
    return pooled


def bent(activation, x):
    if isinstance(activation, Dice):
        share = 1 / (1 + np.exp(-(x - activation.moving_mean) / np.sqrt(activation.moving_variance + 1e-9)))
        return share * x + (1 - share) * activation.alpha.numpy() * x
    if isinstance(activation, keras.layers.PReLU):
        return np.where(x > 0, x, activation.alpha.numpy() * x)
    return {"sigmoid": lambda: 1 / (1 + np.exp(-x)), "relu": lambda: np.maximum(x, 0)}[activation.activation.__name__]()


def padded(layer, rows, targets, weights=None):
    """What `padded` makes of the same bags, their values anywhere in a row."""
    there = np.zeros([len(LENGTHS), 7], bool)
    wide, wide_weights = np.full([len(LENGTHS), 7, WIDTH], 9.0, np.float32), np.full([len(LENGTHS), 7], 9.0, np.float32)
    for row, length in enumerate(LENGTHS):
        there[row, [0, 2, 3, 5, 6][:length]] = True
    wide[there], wide_weights[there] = rows, 1.0 if weights is None else weights
    return layer.padded(wide, targets, tf.constant(there), None if weights is None else wide_weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bags_are_pooled_as_the_equation_says(activation, softmax, positions, weighted):
    layer = made(activation, softmax=softmax, positions=positions)
    rows, targets, weights = drawn(layer)
    weights = weights if weighted else None
    wanted = looped(layer, rows, targets, weights)
    np.testing.assert_allclose(layer(ragged(rows), targets, weights), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(padded(layer, rows, targets, weights), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "parts",
    [
        lambda e, t: np.concatenate([t, e, e - t, e * t]),
        lambda e, t: np.concatenate([e, t, t - e, e * t]),
        lambda e, t: np.concatenate([e, t, e - t, e + t]),
        lambda e, t: np.concatenate([e, t, e - t, 0 * t]),
        lambda e, t: np.concatenate([e, t, 0 * t, e * t]),
    ],
    ids=["sides changed", "difference changed", "sum for product", "no product", "no difference"],
)
def test_another_equation_gives_something_else(parts):
    layer = made("sigmoid")
    rows, targets, _ = drawn(layer)
    assert np.abs(layer(ragged(rows), targets) - looped(layer, rows, targets, parts=parts)).max() > 0.01


def test_without_hidden_layers_the_weights_are_linear_in_what_the_network_is_given():
    layer = made(units=())
    rows, targets, _ = drawn(layer)
    np.testing.assert_allclose(layer(ragged(rows), targets), looped(layer, rows, targets), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_an_empty_bag_is_zero_also_where_all_are(softmax):
    layer = made(softmax=softmax)
    rows, targets, _ = drawn(layer)
    empty = [length == 0 for length in LENGTHS]
    for pooled in (layer(ragged(rows), targets), padded(layer, rows, targets)):
        assert (np.abs(pooled).sum(axis=1) == 0).tolist() == empty
    none = tf.RaggedTensor.from_row_lengths(tf.zeros([0, WIDTH]), [0, 0])
    for training in (False, True):
        np.testing.assert_array_equal(layer(none, tf.ones([2, WIDTH]), training=training), np.zeros([2, WIDTH]))
    nothing = tf.zeros([2, 0], tf.bool)
    np.testing.assert_array_equal(layer.padded(tf.zeros([2, 0, WIDTH]), tf.ones([2, WIDTH]), nothing), np.zeros([2, 4]))


def test_softmax_is_stable_at_scores_that_float32_cannot_raise():
    layer = made("relu", softmax=True, units=())
    rows, targets, _ = drawn(layer)
    layer._kernels[0].assign(layer._kernels[0] * 300.0)
    for pooled in (layer(ragged(rows), targets), padded(layer, rows, targets)):
        np.testing.assert_allclose(pooled, looped(layer, rows, targets), rtol=1e-3, atol=1e-4)


def test_positions_are_counted_from_the_first_value():
    layer = made("sigmoid", positions=True)
    rows, targets, _ = drawn(layer)
    before = layer(ragged(rows), targets).numpy()
    layer._positions.assign(layer._positions.numpy() + np.eye(MOST, 1, -(MOST - 1)))  # the fifth place
    moved = np.abs(layer(ragged(rows), targets) - before).sum(axis=1) > 0
    assert moved.tolist() == [length == MOST for length in LENGTHS]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["dice", "prelu"])
def test_gradients_are_those_of_small_steps(activation, softmax):
    layer = made(activation, softmax=softmax, positions=True, units=(4,))
    rows, targets, weights = drawn(layer)
    upstream = np.random.default_rng(3).normal(size=targets.shape)
    start = [weight.numpy() for weight in layer.non_trainable_weights]

    def total(rows, targets):
        pooled = layer(ragged(rows), targets, weights, training=True)
        for weight, value in zip(layer.non_trainable_weights, start, strict=True):
            weight.assign(value)  # moments of training move them
        return tf.reduce_sum(pooled * upstream)

    def small_step(array, apply):
        """The slope along one direction, from both sides."""
        direction = np.random.default_rng(4).normal(size=array.shape).astype(np.float32)
        return direction, (apply(array + 3e-3 * direction) - apply(array - 3e-3 * direction)) / 6e-3

    given = [tf.constant(rows), tf.constant(targets)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        objective = total(*given)
    gradients = tape.gradient(objective, [*given, *layer.trainable_weights])
    for number, gradient in enumerate(gradients[:2]):
        direction, slope = small_step(
            given[number].numpy(), lambda moved, n=number: total(*(moved if k == n else given[k] for k in range(2)))
        )
        np.testing.assert_allclose(np.sum(direction * gradient), slope, rtol=0.02, atol=0.02)
    for weight, gradient in zip(layer.trainable_weights, gradients[2:], strict=True):
        value = weight.numpy()

        def moved_to(moved, weight=weight, value=value):
            weight.assign(moved)
            found = total(*given)
            weight.assign(value)
            return found

        direction, slope = small_step(value, moved_to)
        np.testing.assert_allclose(np.sum(direction * gradient), slope, rtol=0.02, atol=0.02, err_msg=weight.name)


def test_dice_in_training_is_keras_batch_norm_and_its_gradient():
    rng = np.random.default_rng(0)
    x, upstream = (rng.normal(1.0, 2.0, [9, 4]).astype(np.float32) for _ in range(2))
    alpha = rng.normal(size=4).astype(np.float32)
    dice, norm = Dice(), keras.layers.BatchNormalization(center=False, scale=False, epsilon=1e-9)
    dice.build([None, 4])
    dice.alpha.assign(alpha)
    found = []
    for bend in (
        lambda x: dice(x, training=True),
        lambda x: x * ((share := tf.sigmoid(norm(x, training=True))) + (1 - share) * dice.alpha),
    ):
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            objective = tf.reduce_sum(bend(given) * upstream)
        found.append([objective, *tape.gradient(objective, [given, dice.alpha])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dice.moving_mean, 0.9 * x.mean(axis=0), rtol=1e-5)  # the first momentum is 1 / 10


def test_dice_keeps_its_averages_in_a_batch_without_values():
    dice = Dice()
    dice(tf.ones([3, 2]), training=True)
    before = [weight.numpy() for weight in dice.non_trainable_weights]
    assert dice(tf.zeros([0, 2]), training=True).shape == (0, 2)
    for weight, value in zip(dice.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(("scale", "softmax"), [(1e-2, False), (1e-2, True), (1.0, False), (1.0, True), (300.0, False)])
@pytest.mark.parametrize("activation", ["dice", "prelu"])
@pytest.mark.parametrize("policy", BOUNDS)
def test_half_precision_gives_what_float32_does(policy, activation, softmax, scale):
    full, half = (made(activation, softmax=softmax, dtype=dtype) for dtype in ("float32", policy))
    rows, targets, _ = drawn(full)
    drawn(half)
    rows, targets = rows * scale, targets * scale
    wanted, found = full(ragged(rows), targets), half(ragged(rows), targets)
    assert found.dtype == tf.float32
    # Three products lie one behind another; at 300 those of the embeddings are beyond float16.
    assert np.linalg.norm(found - wanted) <= 3 * BOUNDS[policy] * np.linalg.norm(wanted)
    assert {weight.dtype for weight in half.weights} == {tf.float32}


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("sums", [False, True])
def test_a_bag_of_attention_is_a_field_pooled_by_its_target(sums, distinct):
    film = CategoricalFeature("film", vocabulary_size=4)
    seen = MultiCategoricalFeature(
        "seen", vocabulary_size=4, embedding_name="film", combiner="attention", target="film", weights="w"
    )
    features = [CategoricalFeature("user", vocabulary_size=3), film, seen]
    spec = FeatureSpec(features)
    layer = FusedEmbedding(spec, DIM, stddev=1.0)
    bags = [[0, 2, 2], [], [9, 3], [1]]
    columns = {
        "user": [0, 1, 2, 7],
        "film": [3, 0, -1, 1],
        "seen": tf.ragged.constant(bags, tf.int64),
        "w": tf.ragged.constant([[1.0, 0.5, 2.0], [], [1.0, -1.0], [3.0]], tf.float32),
    }
    encoded = FeatureEncoder(spec)(columns)
    layer(encoded)
    layer.table.assign(np.random.default_rng(0).normal(size=layer.table.shape))
    table, attention = layer.table.numpy(), layer.attention_of(seen)
    users, films = table[[1, 2, 3, 0]], table[4 + np.array([4, 1, 0, 2])]  # unknown ones are row 0
    history = [[table[4 + (value + 1 if value < 4 else 0)] for value in bag] for bag in bags]
    flat = np.array([value for bag in history for value in bag], np.float32)
    pooled = attention(
        tf.RaggedTensor.from_row_lengths(flat, list(map(len, bags))), films, columns["w"].values, training=False
    ).numpy()
    together = np.stack([users, films, pooled], axis=1)
    found = layer(encoded, distinct=distinct, sums=sums)
    np.testing.assert_allclose(found.first_order, together[:, :, DIM:].sum(axis=1), rtol=1e-4, atol=1e-5)
    if sums:
        np.testing.assert_allclose(found.total, together[:, :, :DIM].sum(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.squares, (together[:, :, :DIM] ** 2).sum(axis=1), rtol=1e-4, atol=1e-5)
        return
    np.testing.assert_allclose(found.embeddings, together[:, :, :DIM], rtol=1e-4, atol=1e-5)
    assert found.mask.numpy()[:, 2].tolist() == [True, False, True, True]


def test_gradients_through_distinct_rows_are_those_of_all():
    film = CategoricalFeature("film", vocabulary_size=4)
    seen = MultiCategoricalFeature(
        "seen", vocabulary_size=4, embedding_name="film", combiner="attention", target="film"
    )
    spec = FeatureSpec([film, seen])
    layer = FusedEmbedding(spec, DIM, stddev=1.0)
    encoded = FeatureEncoder(spec)({"film": [3, 0, 3], "seen": tf.ragged.constant([[0, 2, 2], [], [3]], tf.int64)})
    layer(encoded)
    upstream = np.random.default_rng(1).normal(size=[3, 2, DIM])
    dense = []
    for distinct in (False, True):
        with tf.GradientTape() as tape:
            objective = tf.reduce_sum(layer(encoded, distinct=distinct, training=True).embeddings * upstream)
        gradient = tf.convert_to_tensor(tape.gradient(objective, layer.table))
        dense.append(gradient.numpy())
    np.testing.assert_allclose(dense[0], dense[1], rtol=1e-4, atol=1e-6)
    assert np.abs(dense[0]).sum(axis=1).astype(bool).tolist() == [False, True, False, True, True]


def test_a_layer_without_attention_has_the_weights_that_it_had():
    features = [
        CategoricalFeature("film", vocabulary_size=4),
        MultiCategoricalFeature("seen", vocabulary_size=4, embedding_name="film", target="film"),
    ]
    layer = FusedEmbedding(FeatureSpec(features), DIM)
    layer.build(None)
    assert [weight.name for weight in layer.weights] == ["table:0"]
    assert list(layer._flatten_layers(include_self=False)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "needs a dim of 1 or more, and a max_length for positions; received dim=0, max_length=None"),
        ({"dim": 2, "attention": Attention(positions=True)}, "received dim=2, max_length=None"),
        ({"dim": 2, "attention": Attention(activation="bent")}, "name of a Keras activation; received 'bent'"),
    ],
)
def test_attention_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        TargetAttention(**arguments)
    assert "\n" not in str(raised.value)


def test_the_config_makes_the_same_layer():
    layer = made(positions=True)
    assert TargetAttention.from_config(layer.get_config()).get_config() == layer.get_config()


def test_dice_is_made_again_of_its_config():
    config = Dice(momentum=0.5).get_config()

    assert Dice.from_config(config).get_config() == config
    assert config["momentum"] == 0.5
