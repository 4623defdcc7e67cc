"""Target attention against DeepCTR's with the same weights: written apart, they pool alike.

Where the definitions differ, DeepCTR follows ours here:
- Its network is given [e_t, e_j, e_t - e_j, e_t ⊙ e_j]; ours [e_j, e_t, e_j - e_t, e_j ⊙ e_t].
- Its empty history, normalised, is the mean of what it is padded with; ours is zero, as is each other one of both.
- In training its Dice takes padding for values; here all histories are full there.
"""

from threading import Thread

import numpy as np
import pytest

from nfm_tfrs.embedding.attention import Dice, TargetAttention
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.keras_compat import keras, tf  # before DeepCTR, which takes the Keras that is selected by then

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Thread, "start", lambda thread: None)  # on import DeepCTR asks PyPI for its newest version
    pytest.importorskip("deepctr", reason="needs DeepCTR; run: pip install --no-deps deepctr==0.9.4")
from deepctr.layers.sequence import AttentionSequencePoolingLayer

DIM, LENGTH, UNITS = 5, 6, (7, 4)
LENGTHS = np.array([6, 1, 3, 2, 6, 4])


class PReLU(keras.layers.PReLU):
    """One slope a channel, wherever the value stands."""

    def __init__(self):
        super().__init__(shared_axes=[1])


def twins(activation, softmax):
    """Our layer and DeepCTR's with its weights, targets `[batch, dim]` and histories `[batch, length, dim]`."""
    rng = np.random.default_rng(0)
    targets, keys = (rng.normal(size=shape).astype(np.float32) for shape in ([6, DIM], [6, LENGTH, DIM]))
    theirs = AttentionSequencePoolingLayer(
        UNITS, PReLU if activation == "prelu" else activation, weight_normalization=softmax
    )
    theirs([targets[:, None], keys, LENGTHS[:, None]])
    for weight in theirs.weights:
        weight.assign(rng.uniform(*((0.5, 2.0) if "variance" in weight.name else (-0.9, 0.9)), weight.shape))
    ours = TargetAttention(DIM, Attention(units=UNITS, activation=activation, softmax=softmax))
    ours.build(None)
    unit = theirs.local_att
    of_target, of_key, of_difference, of_product = np.split(unit.dnn.kernels[0].numpy(), 4)
    kernels = [np.concatenate([of_key, of_target, -of_difference, of_product]), unit.dnn.kernels[1], unit.kernel]
    for mine, values in zip(ours._kernels, kernels, strict=True):
        mine.assign(values)
    for mine, values in zip(ours._biases, [*unit.dnn.bias, unit.bias], strict=True):
        mine.assign(values)
    for mine, other in zip(ours._activations, unit.dnn.activation_layers, strict=True):
        if isinstance(mine, Dice):
            mine.alpha.assign(other.alphas)
            mine.moving_mean.assign(other.bn.moving_mean)
            mine.moving_variance.assign(other.bn.moving_variance)
        elif activation == "prelu":
            mine.alpha.assign(other.alpha[0])
    return ours, theirs, targets, keys


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["dice", "sigmoid", "prelu"])
def test_pooled_histories_are_deepctrs(activation, softmax):
    ours, theirs, targets, keys = twins(activation, softmax)
    wanted = theirs([targets[:, None], keys, LENGTHS[:, None]])[:, 0]
    history = tf.RaggedTensor.from_tensor(keys, lengths=LENGTHS)
    np.testing.assert_allclose(ours(history, targets), wanted, rtol=1e-5, atol=1e-5)
    there = tf.sequence_mask(LENGTHS, LENGTH)
    np.testing.assert_allclose(ours.padded(tf.constant(keys), targets, there), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["dice", "sigmoid", "prelu"])
def test_gradients_of_full_histories_are_deepctrs(activation, softmax):
    ours, theirs, targets, keys = twins(activation, softmax)
    full = np.full_like(LENGTHS, LENGTH)
    upstream = np.random.default_rng(1).normal(size=targets.shape)
    found = []
    for pool in (
        lambda targets, keys: theirs([targets[:, None], keys, full[:, None]], training=True)[:, 0],
        lambda targets, keys: ours(tf.RaggedTensor.from_tensor(keys, lengths=full), targets, training=True),
    ):
        given = [tf.constant(targets), tf.constant(keys)]
        with tf.GradientTape() as tape:
            tape.watch(given)
            objective = tf.reduce_sum(pool(*given) * upstream)
        found.append([objective, *tape.gradient(objective, given)])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_an_empty_history_that_is_not_normalised_is_zero_in_both():
    ours, theirs, targets, keys = twins("dice", False)
    none = np.zeros_like(LENGTHS)
    np.testing.assert_array_equal(theirs([targets[:, None], keys, none[:, None]])[:, 0], np.zeros_like(targets))
    np.testing.assert_array_equal(
        ours(tf.RaggedTensor.from_tensor(keys, lengths=none), targets), np.zeros_like(targets)
    )
