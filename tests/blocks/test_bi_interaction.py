import numpy as np
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.keras_compat import keras, tf


def pair_sum(embeddings, mask=None):
    """Σ_{i<j} v_i ⊙ v_j, pair by pair, in float64."""
    embeddings = np.asarray(embeddings, np.float64)
    if mask is not None:
        embeddings = embeddings * np.asarray(mask, np.float64)[:, :, None]
    fields = embeddings.shape[1]
    pairs = [embeddings[:, i] * embeddings[:, j] for i in range(fields) for j in range(i + 1, fields)]
    return np.sum(pairs, axis=0)


def draw(fields=39, dim=8, mean=0.0, sd=1.0, batch=16, dtype=np.float32):
    return np.random.default_rng(fields).normal(mean, sd, [batch, fields, dim]).astype(dtype)


@pytest.mark.parametrize("fields", [2, 3, 39])
def test_equals_the_sum_over_pairs(fields):
    embeddings = draw(fields)
    np.testing.assert_allclose(BiInteraction()(embeddings), pair_sum(embeddings), rtol=1e-4, atol=1e-4)


def test_masked_fields_count_as_zero_whatever_they_hold():
    embeddings = draw(5)
    mask = np.random.default_rng(1).random([16, 5]) < 0.5
    block = BiInteraction()
    expected = block(embeddings, mask=tf.constant(mask)).numpy()
    np.testing.assert_allclose(expected, pair_sum(embeddings, mask), rtol=1e-4, atol=1e-5)
    other = np.where(mask[:, :, None], embeddings, np.float32(1e3))
    np.testing.assert_array_equal(block(other, mask=tf.constant(mask)), expected)


def test_a_field_that_is_always_masked_might_as_well_not_be_there():
    embeddings = draw(4)
    mask = np.array([[True, True, True, False]] * 16)
    np.testing.assert_allclose(
        BiInteraction()(embeddings, mask=tf.constant(mask)), BiInteraction()(embeddings[:, :3]), rtol=1e-5, atol=1e-6
    )


def test_all_true_and_no_mask_agree():
    embeddings = draw(4)
    np.testing.assert_array_equal(
        BiInteraction()(embeddings, mask=tf.ones([16, 4], tf.bool)), BiInteraction()(embeddings)
    )


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float32"])
def test_returns_float32_under_every_policy(policy):
    output = BiInteraction(dtype=policy)(draw(3))
    assert output.dtype == tf.float32
    assert output.shape == (16, 8)


@pytest.mark.parametrize(
    ("what", "embeddings"),
    [
        ("means of 8 overflow float16", draw(39, mean=8.0, dtype=np.float16)),
        ("products of sd 1e-4 underflow it", draw(2, sd=1e-4, dtype=np.float16)),
        ("unit variance", draw(39, dtype=np.float16)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_half_precision_embeddings_pool_as_in_float64(policy, what, embeddings):
    expected = pair_sum(embeddings)
    error = np.abs(BiInteraction(dtype=policy)(tf.constant(embeddings)).numpy() - expected)
    assert error.max() <= 1e-5 * np.abs(expected).max()


def test_a_dominant_field_does_not_drown_the_others():
    embeddings = draw(39, dtype=np.float16)
    embeddings[:, 0] = 100.0
    expected = pair_sum(embeddings)
    output = BiInteraction(dtype="float16")(tf.constant(embeddings)).numpy()
    assert np.abs(output - expected).max() <= 1e-4 * np.abs(expected).max()


def test_gradients_are_those_of_the_pair_sum():
    embeddings = tf.constant(draw(4, dim=3, batch=2))
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        total = tf.reduce_sum(BiInteraction()(embeddings))
    others = embeddings.numpy().sum(axis=1, keepdims=True) - embeddings.numpy()  # d/dv_i = Σ_{j≠i} v_j
    np.testing.assert_allclose(tape.gradient(total, embeddings), others, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [None, 3])
def test_unknown_batch_and_field_counts_are_fine(fields):
    pooled = tf.function(BiInteraction(), input_signature=[tf.TensorSpec([None, fields, 8])])
    assert pooled(draw(3)).shape == (16, 8)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([None, 8], r"pairs needs \[batch, fields, dim\]; received shape \(None, 8\). Stack the fields on axis 1"),
        ([2, 3, 4, 5], r"pairs needs \[batch, fields, dim\]; received shape \(2, 3, 4, 5\)"),
        ([None, 3, None], r"pairs needs a known embedding dim; received shape \(None, 3, None\)"),
        ([None, 1, 8], "pairs needs at least 2 fields; received 1. Add a feature"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_at_build(shape, message):
    with pytest.raises(ValueError, match=message):
        BiInteraction(name="pairs").build(shape)


def test_a_block_needs_a_known_number_of_fields_unless_it_says_otherwise():
    class Static(InteractionBlock):
        pass

    with pytest.raises(ValueError, match="needs a known number of fields; received"):
        Static().build([None, None, 8])
    Static().build([None, 2, 8])
    BiInteraction().build([None, None, 8])


def test_the_block_survives_its_config():
    block = BiInteraction(name="pairs", dtype="mixed_bfloat16")
    again = keras.layers.deserialize(keras.layers.serialize(block))
    assert type(again) is BiInteraction
    assert (again.name, again.dtype_policy.name) == ("pairs", "mixed_bfloat16")


def test_a_block_without_arguments_has_nothing_to_search():
    assert BiInteraction.search_space(hp=None) == {}


def test_the_mask_is_not_passed_on():
    assert not BiInteraction().supports_masking
