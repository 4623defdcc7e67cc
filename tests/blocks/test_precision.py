"""Half precision against float64, at the scales where its rounding, its overflow and its underflow would show."""

from functools import partial

import numpy as np
import pytest

from nfm_tfrs.blocks.base import field_pairs
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.cin import CIN
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.field_matrixed_fm import FieldMatrixedFM
from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM
from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.blocks.inner_product import InnerProduct
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.testing.kit import BOUNDS
from tfrs_registry import blocks

BATCH, DIM = 256, 16


def normal(mean, stddev):
    return lambda rng, fields: rng.normal(mean, stddev, [BATCH, fields, DIM])


def one_dominant(rng, fields):
    embeddings = rng.normal(0.0, 1.0, [BATCH, fields, DIM])
    embeddings[:, 0] = 100.0
    return embeddings


SCALES = {
    "sd 1e-4": normal(0.0, 1e-4),
    "sd 1e-2": normal(0.0, 1e-2),
    "sd 1": normal(0.0, 1.0),
    "sd 30": normal(0.0, 30.0),
    "mean 8": normal(8.0, 1.0),
    "one field of 100": one_dominant,
}


# --- the blocks, in NumPy's float64 -----------------------------------------------------------------------------------


def pair_sum(e, block):
    return 0.5 * (e.sum(1) ** 2 - (e**2).sum(1))


def fm(e, block):
    return pair_sum(e, block).sum(1, keepdims=True)


def inner_product(e, block):
    return np.stack([(e[:, i] * e[:, j]).sum(1) for i, j in field_pairs(e.shape[1])], axis=1)


def field_weighted_fm(e, block):
    return (inner_product(e, block) * float64(block.strengths)).sum(1, keepdims=True)


def field_matrixed_fm(e, block):
    matrices = float64(block.matrices)
    pairs = zip(field_pairs(e.shape[1]), matrices, strict=True)
    return sum(((e[:, i] @ matrix) * e[:, j]).sum(1, keepdims=True) for (i, j), matrix in pairs)


def cross(e, block):
    weights = {weight.name.split("/")[-1].split(":")[0]: float64(weight) for weight in block.weights}
    first = x = e.reshape(len(e), -1)
    for n in range(block.num_layers):
        if block.kind in ("vector", "matrix"):
            product = x @ weights[f"kernel_{n}"]
        elif block.kind == "low_rank":
            product = x @ weights[f"v_{n}"] @ weights[f"u_{n}"]
        else:
            low = np.tanh(x @ weights[f"v_{n}"]).reshape(len(x), block.num_experts, block.rank)
            low = np.tanh(np.einsum("ber,ers->bes", low, weights[f"c_{n}"]))
            scores = x @ weights[f"gate_{n}"]
            gates = np.exp(scores - scores.max(1, keepdims=True))
            gates /= gates.sum(1, keepdims=True)
            product = (low * gates[:, :, None]).reshape(len(x), -1) @ weights[f"u_{n}"]
        x = (
            first * (product + weights[f"bias_{n}"]) + x
            if block.kind != "vector"
            else first * product + weights[f"bias_{n}"] + x
        )
    return x


def cin(e, block):
    first = maps = e.transpose(0, 2, 1)  # [batch, dim, fields]
    kept = []
    for number, (kernel, bias) in enumerate(zip(block._kernels, block._biases, strict=True), start=1):
        products = np.einsum("bdi,bdj->bdij", maps, first).reshape(*maps.shape[:2], -1)
        maps = np.maximum(products @ float64(kernel) + float64(bias), 0)
        if block.split_half and number < len(block._kernels):
            maps, output = np.split(maps, 2, axis=2)
            kept.append(output)
        else:
            kept.append(maps)
    return np.concatenate([output.sum(1) for output in kept], axis=1)


def float64(weight):
    return np.asarray(weight, np.float64)


REFERENCES = {
    "bi_interaction": (BiInteraction, pair_sum),
    "fm": (FM, fm),
    "inner_product": (InnerProduct, inner_product),
    "field_weighted_fm": (FieldWeightedFM, field_weighted_fm),
    "field_matrixed_fm": (FieldMatrixedFM, field_matrixed_fm),
    **{f"cross, {kind}": (partial(Cross, kind=kind), cross) for kind in ("vector", "matrix", "low_rank", "mixture")},
}


UP_TO_1 = {"cin": (partial(CIN, [8, 4]), cin)}


def error(output, expected):
    """‖output − expected‖ ÷ ‖expected‖"""
    return np.linalg.norm(np.asarray(tf.cast(output, tf.float64)) - expected) / np.linalg.norm(expected)


def shaken(block, embeddings):
    """The block, built, its weights away from the ones and zeros that they may start at."""
    block(embeddings)
    rng = np.random.default_rng(1)
    block.set_weights([weight * rng.uniform(0.5, 1.5, weight.shape) for weight in block.get_weights()])
    return block


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *((name, scale) for name in REFERENCES for scale in SCALES),
        *((name, scale) for name in UP_TO_1 for scale in ("sd 1e-4", "sd 1e-2", "sd 1")),
    ],
)
@pytest.mark.parametrize("fields", [2, 39])
@pytest.mark.parametrize("policy", BOUNDS)
def test_half_precision_errs_by_its_rounding_at_every_scale(name, policy, fields, scale):
    keras.utils.set_random_seed(0)
    make, reference = (REFERENCES | UP_TO_1)[name]
    block = make(dtype=policy)
    rounded = tf.cast(SCALES[scale](np.random.default_rng(0), fields), block.compute_dtype)
    shaken(block, rounded)
    assert error(block(rounded), reference(float64(tf.cast(rounded, tf.float64)), block)) <= BOUNDS[policy]


@pytest.mark.parametrize("policy", BOUNDS)
@pytest.mark.parametrize("name", ["bi_interaction", "fm"])
def test_bags_of_512_fields_err_by_rounding_alone(name, policy):
    make, reference = REFERENCES[name]
    block = make(dtype=policy)
    rounded = tf.cast(normal(0.5, 1.0)(np.random.default_rng(0), 512), block.compute_dtype)
    assert error(block(rounded), reference(float64(tf.cast(rounded, tf.float64)), block)) <= 1e-5


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
@pytest.mark.parametrize("policy", BOUNDS)
def test_bags_of_512_values_are_pooled_in_float32(policy, combiner):
    feature = MultiCategoricalFeature("bag", vocabulary_size=1000, combiner=combiner)
    spec = FeatureSpec((CategoricalFeature("a", vocabulary_size=3), feature))
    layer, rng = FusedEmbedding(spec, DIM, dtype=policy), np.random.default_rng(0)
    ids = rng.integers(0, 1000, [BATCH, 512])
    encoded = FeatureEncoder(spec)({"a": np.zeros(BATCH, int), "bag": tf.RaggedTensor.from_tensor(ids)})
    layer(encoded)
    table = rng.normal(0.5, 1.0, layer.table.shape).astype(np.float32)
    layer.table.assign(table)
    rows = table[spec.offsets["bag"] + 1 + ids, :DIM].astype(np.float64)
    expected = rows.sum(1) / {"sum": 1, "mean": 512, "sqrtn": 512**0.5}[combiner]
    assert error(layer(encoded).embeddings[:, 1], expected) <= BOUNDS[policy]
    assert error(layer(encoded, sums=True).total - table[1, :DIM], expected) <= 1e-6


OURS = [name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")]


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_faint_loss_moves_as_many_rows_as_in_float32(name):
    features = [CategoricalFeature(field, vocabulary_size=500) for field in "abc"]
    rng = np.random.default_rng(0)
    columns = {field: rng.integers(0, 500, BATCH) for field in "abc"}
    labels, moved = rng.integers(0, 2, BATCH).astype(np.float32), []
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = RankingModel(features, interaction=name, linear=False, embedding_stddev=0.3, dtype=policy)
        model.compile(keras.optimizers.SGD(1e9))
        before = model.embedding.table.numpy()
        model.fit(columns, labels, sample_weight=np.full(BATCH, 1e-5), batch_size=BATCH, verbose=0)
        moved.append(int((model.embedding.table.numpy() != before).any(axis=1).sum()))
    assert moved[0] > 500
    assert moved[1] == moved[0]
