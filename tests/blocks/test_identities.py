"""What blocks are to each other, to their own fields in another order, and beside fields that say nothing."""

from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from nfm_tfrs.blocks.attention_fm import AttentionFM
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.bilinear import Bilinear
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.field_matrixed_fm import FieldMatrixedFM
from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM
from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.blocks.gated_cross import GatedCross
from nfm_tfrs.blocks.inner_product import InnerProduct
from nfm_tfrs.blocks.outer_product import OuterProduct
from nfm_tfrs.blocks.self_attention import SelfAttention
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import tf
from tfrs_registry import get_model

SYMMETRIC = {
    "bi_interaction": BiInteraction,
    "fm": FM,
    "outer_product": OuterProduct,
    "attention_fm": partial(AttentionFM, 3),
}
BATCH = 3
NOTHING = [0.0, np.inf, -np.inf, np.nan, 1e30]  # what an absent field may hold
# The same examples in every run; not shrunk, which takes minutes and has little to do on batches this small.
few = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])


@st.composite
def batches(draw, max_fields=5):
    """Embeddings [3, fields, dim], and a mask [3, fields]."""
    fields, dim = draw(st.integers(2, max_fields)), draw(st.integers(1, 4))
    numbers = st.floats(-4, 4, width=32, allow_subnormal=False)
    embeddings = draw(st_numpy.arrays(np.float32, [BATCH, fields, dim], elements=numbers))
    return embeddings, draw(st_numpy.arrays(np.bool_, [BATCH, fields]))


def random_weights(block, embeddings, seed=0):
    """The block with random weights, built for the shape of the embeddings."""
    block(embeddings)
    rng = np.random.default_rng(seed)
    for weight in block.weights:
        weight.assign(rng.normal(0.0, 0.6, weight.shape))
    return block


def assert_near(actual, expected, embeddings):
    """Up to float32's error in sums of products of what the embeddings hold."""
    scale = max(1.0, np.square(embeddings).sum(axis=(1, 2)).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)


def draw_normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inserted(array, position, value):
    """The array with one more field, `value` throughout."""
    return np.insert(array, position, np.asarray(value, array.dtype), axis=1)


# --- blocks and other blocks ------------------------------------------------------------------------------------------


@few
@given(batches())
def test_bi_interaction_is_the_sum_of_the_products_of_pairs(batch):
    embeddings, mask = batch
    expected = np.zeros([BATCH, embeddings.shape[2]])
    for b in range(BATCH):
        for j in range(embeddings.shape[1]):
            for i in range(j):
                if mask[b, i] and mask[b, j]:
                    expected[b] += np.float64(embeddings[b, i]) * embeddings[b, j]
    assert_near(BiInteraction()(embeddings, mask=tf.constant(mask)), expected, embeddings)


@few
@given(batches())
def test_fm_is_the_sum_of_bi_interaction_of_inner_products_and_of_fwfm_and_fmfm_before_training(batch):
    embeddings, mask = batch[0], tf.constant(batch[1])
    fm = FM()(embeddings, mask=mask).numpy()
    for block in (BiInteraction(), InnerProduct(), FieldWeightedFM(), FieldMatrixedFM()):
        total = block(embeddings, mask=mask).numpy().sum(axis=1, keepdims=True)
        assert_near(total, fm, embeddings)


def test_the_fm_model_is_nfm_without_layers_and_a_head_of_ones():
    features = [CategoricalFeature(name, vocabulary_size=4) for name in "abc"]
    fm = get_model("fm", features=features, embedding_dim=5)
    nfm = get_model("nfm", features=features, embedding_dim=5, hidden_units=[], interaction_batch_norm=False)
    table, bias = draw_normal(*fm.embedding.table.shape), draw_normal(1)
    for model in (fm, nfm):
        model.embedding.table.assign(table)
        model._bias.assign(bias)
    nfm._head.kernel.assign(np.ones([5, 1]))
    batch = {name: tf.constant([0, 1, 2, 3, position]) for position, name in enumerate("abc")}
    np.testing.assert_allclose(fm(batch), nfm(batch), rtol=1e-5, atol=1e-5)
    assert np.ptp(fm(batch)) > 1


@few
@given(batches(), st.integers(0, 99))
def test_fmfm_with_strengths_times_the_identity_is_fwfm(batch, seed):
    embeddings, mask = batch[0], tf.constant(batch[1])
    fwfm = random_weights(FieldWeightedFM(), embeddings, seed)
    fmfm = random_weights(FieldMatrixedFM(), embeddings)
    fmfm.matrices.assign(fwfm.strengths[:, None, None] * tf.eye(embeddings.shape[2]))
    assert_near(fmfm(embeddings, mask=mask), fwfm(embeddings, mask=mask), embeddings)


@few
@given(batches())
def test_the_trace_of_the_outer_product_is_twice_fm_and_the_squares(batch):
    embeddings, mask = batch
    dim = embeddings.shape[2]
    outer = OuterProduct()(embeddings, mask=tf.constant(mask)).numpy().reshape([BATCH, dim, dim])
    squares = np.square(embeddings * mask[:, :, None]).sum(axis=(1, 2))
    expected = 2 * FM()(embeddings, mask=tf.constant(mask)).numpy()[:, 0] + squares
    assert_near(np.trace(outer, axis1=1, axis2=2), expected, embeddings)
    np.testing.assert_array_equal(outer, outer.transpose([0, 2, 1]))


@few
@given(batches())
def test_attention_fm_without_preferences_is_bi_interaction_over_the_number_of_pairs_there(batch):
    embeddings, mask = batch
    block = random_weights(AttentionFM(3), embeddings)
    block._score.kernel.assign(tf.zeros([3, 1]))
    there = mask.sum(axis=1, keepdims=True)
    pairs = np.maximum(there * (there - 1) / 2, 1)
    pooled = BiInteraction()(embeddings, mask=tf.constant(mask)).numpy()
    assert_near(block(embeddings, mask=tf.constant(mask)), pooled / pairs, embeddings)


@pytest.mark.parametrize("rank", [2, 12])
def test_a_cross_of_low_rank_is_one_of_the_product_of_its_matrices(rank):
    embeddings = draw_normal(BATCH, 4, 3)
    low = random_weights(Cross(3, "low_rank", rank=rank), embeddings)
    full = random_weights(Cross(3, "matrix"), embeddings)
    for n in range(3):
        full._kernels[n].assign(low._v[n].numpy() @ low._u[n].numpy())
        full._biases[n].assign(low._biases[n])
    mask = tf.constant(np.random.default_rng(0).random([BATCH, 4]) < 0.7)
    expected = full(embeddings, mask=mask).numpy()
    assert np.abs(low(embeddings, mask=mask).numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_cross_with_gates_that_know_nothing_is_half_of_one_without():
    embeddings = draw_normal(BATCH, 4, 3)
    gated = random_weights(GatedCross(2), embeddings)
    plain = random_weights(Cross(2, "matrix"), embeddings)
    for n in range(2):
        gated._gates[n].kernel.assign(tf.zeros([12, 12]))  # σ(0) = ½
        plain._kernels[n].assign(0.5 * gated._crosses[n].kernel)
        plain._biases[n].assign(0.5 * gated._crosses[n].bias)
    expected = plain(embeddings).numpy()
    assert np.abs(gated(embeddings).numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_a_bilinear_interaction_through_identities_adds_up_to_bi_interaction(kind):
    embeddings = draw_normal(BATCH, 4, 3)
    block = random_weights(Bilinear(kind, senet=False), embeddings)
    block._matrices[0].assign(tf.eye(3, batch_shape=block._matrices[0].shape[:1]))
    products = block(embeddings).numpy().reshape([BATCH, 6, 3])
    assert_near(products.sum(axis=1), BiInteraction()(embeddings), embeddings)


# --- fields in another order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYMMETRIC)
@few
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_the_fields_does_not_matter(name, batch, random):
    embeddings, mask = batch
    block = random_weights(SYMMETRIC[name](), embeddings)
    order = random.sample(range(mask.shape[1]), mask.shape[1])
    output = block(embeddings, mask=tf.constant(mask)).numpy()
    assert_near(block(embeddings[:, order], mask=tf.constant(mask[:, order])), output, embeddings)


@few
@given(batches(), st.randoms(use_true_random=False))
def test_self_attention_returns_the_fields_in_the_order_they_come_in(batch, random):
    embeddings, mask = batch
    fields = mask.shape[1]
    block = random_weights(SelfAttention(2, 2, 3), embeddings)
    order = random.sample(range(fields), fields)
    chunks = block(embeddings, mask=tf.constant(mask)).numpy().reshape([BATCH, fields, 6])
    permuted = block(embeddings[:, order], mask=tf.constant(mask[:, order])).numpy().reshape([BATCH, fields, 6])
    assert_near(permuted, chunks[:, order], embeddings)


# --- fields that say nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYMMETRIC)
@few
@given(batches(), st.data())
def test_one_more_field_that_is_always_absent_changes_nothing(name, batch, data):
    embeddings, mask = batch
    position = data.draw(st.integers(0, mask.shape[1]))
    held = data.draw(st.sampled_from(NOTHING))
    block = random_weights(SYMMETRIC[name](), embeddings)
    padded = SYMMETRIC[name]()
    padded(inserted(embeddings, position, 0.0))
    padded.set_weights(block.get_weights())
    output = padded(inserted(embeddings, position, held), mask=tf.constant(inserted(mask, position, False)))
    assert_near(output, block(embeddings, mask=tf.constant(mask)), embeddings)


@few
@given(batches(), st.sampled_from(NOTHING))
def test_self_attention_returns_zeros_for_one_more_absent_field_and_the_rest_as_before(batch, held):
    embeddings, mask = batch
    fields = mask.shape[1]
    block = random_weights(SelfAttention(2, 2, 3), embeddings)
    padded = SelfAttention(2, 2, 3)
    padded(inserted(embeddings, fields, 0.0))
    padded.set_weights(block.get_weights())
    output = padded(inserted(embeddings, fields, held), mask=tf.constant(inserted(mask, fields, False))).numpy()
    chunks = output.reshape([BATCH, fields + 1, 6])
    expected = block(embeddings, mask=tf.constant(mask)).numpy().reshape([BATCH, fields, 6])
    assert_near(chunks[:, :-1], expected, embeddings)
    assert not chunks[:, -1].any()


@pytest.mark.parametrize("masked", [False, True], ids=["zero", "absent"])
@pytest.mark.parametrize("name", ["bi_interaction", "fm", "field_weighted_fm", "field_matrixed_fm", "inner_product"])
@few
@given(batches(max_fields=4), st.data())
def test_one_more_field_of_zeros_adds_pairs_of_zero(name, masked, batch, data):
    embeddings, mask = batch
    fields = mask.shape[1]
    new = data.draw(st.integers(0, fields))
    blocks = {"field_weighted_fm": FieldWeightedFM, "field_matrixed_fm": FieldMatrixedFM, "inner_product": InnerProduct}
    make = {**SYMMETRIC, **blocks}[name]
    more = inserted(embeddings, new, data.draw(st.sampled_from(NOTHING)) if masked else 0.0)
    more_mask = inserted(mask, new, not masked)
    wide = random_weights(make(), inserted(embeddings, new, 0.0))
    pairs = [(i, j) for i in range(fields + 1) for j in range(i + 1, fields + 1)]
    old = [number for number, pair in enumerate(pairs) if new not in pair]  # the pairs of the other fields
    narrow = make()
    narrow(embeddings)
    narrow.set_weights([weight[old] for weight in wide.get_weights()])  # a row a pair, in every weight there is
    output = wide(more, mask=tf.constant(more_mask)).numpy()
    if name == "inner_product":
        assert not np.delete(output, old, axis=1).any()
        output = output[:, old]
    assert_near(output, narrow(embeddings, mask=tf.constant(mask)), embeddings)
