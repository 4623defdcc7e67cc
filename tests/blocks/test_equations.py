"""Every block against its paper's equation, written as float64 loops over examples, fields, pairs and units."""

import math
from functools import partial

import numpy as np
import pytest

from nfm_tfrs import specs
from nfm_tfrs.blocks.attention_fm import AttentionFM
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.bilinear import Bilinear
from nfm_tfrs.blocks.cin import CIN
from nfm_tfrs.blocks.concat import Concat
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.field_matrixed_fm import FieldMatrixedFM
from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM
from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.blocks.gated_cross import GatedCross
from nfm_tfrs.blocks.inner_product import InnerProduct
from nfm_tfrs.blocks.logarithmic import Logarithmic
from nfm_tfrs.blocks.mask import MaskBlock
from nfm_tfrs.blocks.outer_product import OuterProduct
from nfm_tfrs.blocks.self_attention import SelfAttention
from nfm_tfrs.blocks.two_stream import TwoStream
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from tfrs_registry import get_model

MASK = np.array(
    [
        [True, True, True, True],
        [False, False, False, False],  # nothing is there
        [False, False, True, False],  # no pair is there
        [False, True, True, True],
        [True, False, True, False],
        [True, True, False, True],
    ]
)
BATCH, FIELDS, DIM = *MASK.shape, 3
TOLERANCE = 1e-5  # of the largest output


# --- what the equations are written with -----------------------------------------------------------------------------
# An equation takes the block, for its arguments and weights; the embeddings of one example, a list of lists that holds
# zeros where a field is absent; and which fields are there. It returns the block's output for the example, as a list.


def values(weight):
    return np.asarray(weight, np.float64).tolist()


def affine(x, kernel, bias=None):
    """Σ_i x_i K_ik + b_k for each k."""
    kernel = values(kernel)
    bias = [0.0] * len(kernel[0]) if bias is None else values(bias)
    result = []
    for k in range(len(bias)):
        total = bias[k]
        for i in range(len(x)):
            total += x[i] * kernel[i][k]
        result.append(total)
    return result


def dense(x, layer):
    """A Dense layer, with a bias and without its activation."""
    return affine(x, layer.kernel, layer.bias)


def dot(x, y):
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += a * b
    return total


def product(x, y):
    return [a * b for a, b in zip(x, y, strict=True)]


def added(x, y):
    return [a + b for a, b in zip(x, y, strict=True)]


def side_by_side(vectors):
    return [number for vector in vectors for number in vector]


def relu(x):
    return [max(0.0, number) for number in x]


def sigmoid(x):
    return [1 / (1 + math.exp(-number)) for number in x]


def softmax(x):
    exponentials = [math.exp(number) for number in x]
    return [number / sum(exponentials) for number in exponentials]


def layer_norm(x, norm):
    gamma, beta = values(norm.gamma), values(norm.beta)
    mean = sum(x) / len(x)
    variance = sum((number - mean) ** 2 for number in x) / len(x)
    return [gamma[d] * (x[d] - mean) / math.sqrt(variance + norm.epsilon) + beta[d] for d in range(len(x))]


def batch_norm(x, channel, norm, mean=None, variance=None):
    """One number of a channel, by the moving statistics where none are given."""
    mean = values(norm.moving_mean)[channel] if mean is None else mean
    variance = values(norm.moving_variance)[channel] if variance is None else variance
    normalised = (x - mean) / math.sqrt(variance + norm.epsilon)
    return values(norm.gamma)[channel] * normalised + values(norm.beta)[channel]


# --- the equations ---------------------------------------------------------------------------------------------------


def concat(block, v, there):
    return side_by_side(v)


def bi_interaction(block, v, there):
    """Σ_{i<j} v_i ⊙ v_j"""
    total = [0.0] * DIM
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            total = added(total, product(v[i], v[j]))
    return total


def fm(block, v, there):
    """Σ_{i<j} ⟨v_i, v_j⟩"""
    total = 0.0
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            total += dot(v[i], v[j])
    return [total]


def field_weighted_fm(block, v, there):
    """Σ_{i<j} r_ij ⟨v_i, v_j⟩"""
    strengths, pair, total = values(block.strengths), 0, 0.0
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            total += strengths[pair] * dot(v[i], v[j])
            pair += 1
    return [total]


def field_matrixed_fm(block, v, there):
    """Σ_{i<j} v_iᵀ M_ij v_j"""
    matrices, pair, total = values(block.matrices), 0, 0.0
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            for a in range(DIM):
                for b in range(DIM):
                    total += v[i][a] * matrices[pair][a][b] * v[j][b]
            pair += 1
    return [total]


def attention_fm(block, v, there):
    """Σ_{i<j} a_ij (v_i ⊙ v_j) with a = softmax(hᵀ ReLU(W (v_i ⊙ v_j) + b)), over the pairs that are there"""
    products, scores = [], []
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            if there[i] and there[j]:
                products.append(product(v[i], v[j]))
                scores.append(affine(relu(dense(products[-1], block._hidden)), block._score.kernel)[0])
    total = [0.0] * DIM
    for weight, pair in zip(softmax(scores), products, strict=True):
        total = added(total, [weight * number for number in pair])
    return total


def inner_product(block, v, there):
    """⟨v_i, v_j⟩, i < j; then ⟨v_i, v_i⟩"""
    result = []
    for i in range(FIELDS):
        for j in range(i + 1, FIELDS):
            result.append(dot(v[i], v[j]))
    if block.self_interaction:
        for i in range(FIELDS):
            result.append(dot(v[i], v[i]))
    return result


def outer_product(block, v, there):
    """Σ_i Σ_j v_i v_jᵀ, row by row"""
    result = []
    for a in range(DIM):
        for b in range(DIM):
            total = 0.0
            for i in range(FIELDS):
                for j in range(FIELDS):
                    total += v[i][a] * v[j][b]
            result.append(total)
    return result


def bilinear(block, v, there):
    """(v_i W) ⊙ v_j, i < j, of the fields that SENET reweights, u_i = A_i v_i, and of the fields"""

    def pairs(vectors, matrices):
        result, pair = [], 0
        for i in range(FIELDS):
            for j in range(i + 1, FIELDS):
                matrix = {"all": 0, "each": i, "interaction": pair}[block.kind]
                result += product(affine(vectors[i], matrices[matrix]), vectors[j])
                pair += 1
        return result

    plain = pairs(v, block._matrices[0])
    if not block.senet:
        return plain
    squeezed = [sum(vector) / DIM for vector in v]
    weights = relu(affine(relu(affine(squeezed, block._squeeze.kernel)), block._excite.kernel))
    reweighted = [[weight * number for number in vector] for weight, vector in zip(weights, v, strict=True)]
    return pairs(reweighted, block._matrices[1]) + plain


def cin(block, v, there):
    """X^k_h = φ(Σ_i Σ_j W^{k,h}_ij (X^{k-1}_i ⊙ X⁰_j) + b^k_h); [Σ_d X^k_hd, …]"""
    phi = {"relu": lambda x: max(0.0, x), "tanh": math.tanh}[block.activation]
    maps, result = v, []
    for k, size in enumerate(block.layer_sizes):
        kernel, bias = values(block._kernels[k]), values(block._biases[k])
        new = []
        for h in range(size):
            new.append([])
            for d in range(DIM):
                total = bias[h]
                for i in range(len(maps)):
                    for j in range(FIELDS):
                        total += kernel[i * FIELDS + j][h] * maps[i][d] * v[j][d]
                new[h].append(phi(total))
        split = block.split_half and k < len(block.layer_sizes) - 1
        maps, kept = (new[: size // 2], new[size // 2 :]) if split else (new, new)
        for feature_map in kept:
            result.append(sum(feature_map))
    return result


def cross(block, v, there):
    """x_{l+1} = x_0 (x_lᵀ w_l) + b_l + x_l, or x_0 ⊙ (W_l x_l + b_l) + x_l, W_l = U_l V_lᵀ, or a mixture of experts"""
    first = side_by_side(v)
    x = first
    for n in range(block.num_layers):
        bias = values(block._biases[n])
        if block.kind == "vector":
            weight = affine(x, block._kernels[n])[0]
            x = [first[k] * weight + bias[k] + x[k] for k in range(len(x))]
            continue
        if block.kind == "matrix":
            through = added(affine(x, block._kernels[n]), bias)
        elif block.kind == "low_rank":
            through = added(affine(affine(x, block._v[n]), block._u[n]), bias)
        else:
            through = [0.0] * len(x)
            for e, gate in enumerate(softmax(affine(x, block._gates[n]))):
                columns = slice(e * block.rank, (e + 1) * block.rank)  # the expert's own of U and V
                low = [math.tanh(number) for number in affine(x, block._v[n][:, columns])]
                low = [math.tanh(number) for number in affine(low, block._c[n][e])]
                expert = added(affine(low, block._u[n][columns]), bias)
                through = added(through, [gate * number for number in expert])
        x = added(product(first, through), x)
    return x


def gated_cross(block, v, there):
    """c_{l+1} = c_0 ⊙ (W_l c_l + b_l) ⊙ σ(G_l c_l) + c_l"""
    first = side_by_side(v)
    c = first
    for n in range(block.num_layers):
        crossed, gate = dense(c, block._crosses[n]), sigmoid(affine(c, block._gates[n].kernel))
        c = [first[k] * crossed[k] * gate[k] + c[k] for k in range(len(c))]
    return c


def self_attention(block, v, there):
    """α^h_ij = softmax_j ⟨Q_h e_i, K_h e_j⟩; e'_i = ReLU([Σ_j α^1_ij V_1 e_j, …] + R e_i), among the fields there"""
    e, size = v, block.attention_dim
    for projections in block._projections:
        query, key, value, *residual = projections
        new = []
        for i in range(FIELDS):
            if not there[i]:
                new.append([0.0] * block.num_heads * size)
                continue
            attended = []
            for h in range(block.num_heads):
                columns, scores, vectors = slice(h * size, (h + 1) * size), [], []
                for j in range(FIELDS):
                    if there[j]:
                        score = dot(affine(e[i], query[:, columns]), affine(e[j], key[:, columns]))
                        scores.append(score / math.sqrt(size) if block.scaled else score)
                        vectors.append(affine(e[j], value[:, columns]))
                head = [0.0] * size
                for weight, vector in zip(softmax(scores), vectors, strict=True):
                    head = added(head, [weight * number for number in vector])
                attended += head
            if block.residual:
                attended = added(attended, affine(e[i], residual[0]))
            new.append(relu(attended))
        e = new
    return side_by_side(e)


def mask_block(block, v, there):
    """ReLU(LN(W_k (mask_k(V) ⊙ x))), x = LN_EMB(V) or, serially, the block before; an absent field is 0 in LN_EMB(V)"""
    x = side_by_side(layer_norm(v[i], block._embedding_norm) if there[i] else v[i] for i in range(FIELDS))
    outputs = []
    for n in range(block.num_blocks):
        guide = dense(relu(dense(side_by_side(v), block._aggregations[n])), block._projections[n])
        source = outputs[-1] if block.kind == "serial" and n else x
        outputs.append(relu(layer_norm(affine(product(guide, source), block._hidden[n].kernel), block._norms[n])))
    return outputs[-1] if block.kind == "serial" else side_by_side(outputs)


def two_stream(block, v, there):
    """o_s = MLP_s(2 σ(gate_s(x_s)) ⊙ V); b + w_1ᵀ o_1 + w_2ᵀ o_2 + Σ_h o_1hᵀ W_h o_2h"""
    phi = {"relu": lambda x: max(0.0, x), "tanh": math.tanh}[block.activation]
    outputs = []
    for context, learnt, (hidden, last), stream in (
        (block.first_context, block._first_learnt, block._first_gate, block._first_stream),
        (block.second_context, block._second_learnt, block._second_gate, block._second_stream),
    ):
        x = side_by_side(v[i] for i in context) if context else values(learnt)[0]
        gate = sigmoid(dense(relu(dense(x, hidden)), last))
        o = [2 * g * number for g, number in zip(gate, side_by_side(v), strict=True)]
        for layer in stream:
            o = [phi(number) for number in dense(o, layer)]
        outputs.append(o)
    first, second = outputs
    logit = affine(first + second, block._linear, block._bias)[0]
    fusion, heads = values(block._fusion), block.num_heads
    rows, columns = len(first) // heads, len(second) // heads
    for h in range(heads):
        for a in range(rows):
            for b in range(columns):
                logit += first[h * rows + a] * fusion[h][a][b] * second[h * columns + b]
    return [logit]


def logarithmic(block, v, there):
    """y_j = BN(exp(Σ_i w_ij BN(ln |v_i|))), element by element, over the fields there"""
    powers, result = values(block._powers), []
    for j in range(block.neurons):
        for d in range(DIM):
            exponent = 0.0
            for i in range(FIELDS):
                if there[i]:
                    logarithm = math.log(abs(v[i][d]) + block.epsilon)
                    if block.batch_norm:
                        logarithm = batch_norm(logarithm, i, block._log_norm)
                    exponent += powers[i][j] * logarithm
            y = math.exp(exponent)
            result.append(batch_norm(y, j, block._exp_norm) if block.batch_norm else y)
    return result


STREAMS = {"first_units": [5, 6], "second_units": [4], "num_heads": 2, "gate_units": 3, "activation": "tanh"}
CASES = {
    "concat": (Concat, concat),
    "bi_interaction": (BiInteraction, bi_interaction),
    "fm": (FM, fm),
    "field_weighted_fm": (FieldWeightedFM, field_weighted_fm),
    "field_matrixed_fm": (FieldMatrixedFM, field_matrixed_fm),
    "attention_fm": (partial(AttentionFM, 5), attention_fm),
    "inner_product": (InnerProduct, inner_product),
    "inner_product, self": (partial(InnerProduct, self_interaction=True), inner_product),
    "outer_product": (OuterProduct, outer_product),
    "bilinear, all": (partial(Bilinear, "all", senet=False), bilinear),
    "bilinear, each": (partial(Bilinear, "each", senet=False), bilinear),
    "bilinear, interaction": (partial(Bilinear, "interaction", senet=False), bilinear),
    "bilinear, all, senet": (partial(Bilinear, "all", reduction_ratio=2), bilinear),
    "bilinear, each, senet": (partial(Bilinear, "each", reduction_ratio=1), bilinear),
    "bilinear, interaction, senet": (partial(Bilinear, "interaction", reduction_ratio=2), bilinear),
    "cin": (partial(CIN, [4, 6, 3], split_half=False, activation="tanh"), cin),
    "cin, split": (partial(CIN, [4, 6, 3]), cin),
    "cross, vector": (partial(Cross, 3, "vector"), cross),
    "cross, matrix": (partial(Cross, 2, "matrix"), cross),
    "cross, low_rank": (partial(Cross, 2, "low_rank", rank=5), cross),
    "cross, mixture": (partial(Cross, 2, "mixture", rank=5, num_experts=3), cross),
    "gated_cross": (partial(GatedCross, 2), gated_cross),
    "self_attention": (partial(SelfAttention, 2, 2, 3), self_attention),
    "self_attention, scaled": (partial(SelfAttention, 2, 3, 2, residual=False, scaled=True), self_attention),
    "mask, parallel": (partial(MaskBlock, num_blocks=3, block_units=5), mask_block),
    "mask, serial": (partial(MaskBlock, "serial", num_blocks=3, block_units=5, reduction_ratio=0.5), mask_block),
    "two_stream": (partial(TwoStream, **STREAMS), two_stream),
    "two_stream, contexts": (partial(TwoStream, first_context=[0], second_context=[3, 1], **STREAMS), two_stream),
    "two_stream, one context": (partial(TwoStream, [6, 5], [5], num_heads=5, second_context=[2]), two_stream),
    # epsilon: large enough to be seen
    "logarithmic": (partial(Logarithmic, 5, batch_norm=False, epsilon=0.1), logarithmic),
    "logarithmic, batch_norm": (partial(Logarithmic, 5, epsilon=0.1), logarithmic),
}
every_case = pytest.mark.parametrize("case", CASES)


def draw(seed=0):
    """Embeddings, [batch, fields, dim]; one of them a zero vector."""
    embeddings = np.random.default_rng(seed).normal(size=[BATCH, FIELDS, DIM]).astype(np.float32)
    embeddings[0, 1] = 0.0
    return embeddings


def randomise(layer, seed=1):
    """No weight keeps a value that would hide it: gammas of 1, biases, betas and moving means of 0, identities."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        drawn = rng.normal(0.0, 0.6, weight.shape)
        weight.assign(0.4 + np.abs(drawn) if "moving_variance" in weight.name else drawn)


def built(case):
    """The case's block with random weights, and its equation."""
    make, equation = CASES[case]
    block = make()
    block.build([None, FIELDS, DIM])
    block(draw())  # sublayers get their weights at the first call
    randomise(block)
    return block, equation


def by_loops(block, equation, embeddings, mask):
    rows = []
    for example, there in zip(values(embeddings), mask.tolist(), strict=True):
        v = [vector if there[i] else [0.0] * DIM for i, vector in enumerate(example)]
        rows.append(equation(block, v, there))
    return np.array(rows)


def assert_near(actual, expected):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@every_case
def test_the_output_is_that_of_the_papers_equation(case):
    block, equation = built(case)
    expected = by_loops(block, equation, draw(), np.ones_like(MASK))
    assert_near(block(draw()).numpy(), expected)


@every_case
def test_absent_fields_are_left_out_of_the_papers_equation(case):
    block, equation = built(case)
    expected = by_loops(block, equation, draw(), MASK)
    assert np.isfinite(expected).all()
    assert_near(block(draw(), mask=tf.constant(MASK)).numpy(), expected)


@pytest.mark.parametrize("held", [1e30, np.inf, np.nan], ids=str)
@every_case
def test_what_an_absent_field_holds_does_not_matter(case, held):
    block, _ = built(case)
    outputs, gradients = [], []
    for embeddings in (draw(), np.where(MASK[:, :, None], draw(), np.float32(held))):
        watched = tf.constant(embeddings)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(watched)
            output = block(watched, mask=tf.constant(MASK))
            total = tf.reduce_sum(output * tf.range(1.0, 1.0 + output.shape[1]))
        outputs.append(output.numpy())
        gradients.append([tape.gradient(total, watched), *tape.gradient(total, block.trainable_weights)])
    assert np.isfinite(outputs[0]).all()  # the example without any field too
    np.testing.assert_array_equal(outputs[1], outputs[0])
    assert not gradients[1][0].numpy()[~MASK].any()
    for clean, gradient in zip(*gradients, strict=True):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(gradient, clean)


@pytest.mark.parametrize(
    "case", ["concat", "cross, matrix", "cross, low_rank", "cross, mixture", "gated_cross", "self_attention"]
)
def test_an_absent_field_stays_zero(case):
    block, _ = built(case)
    output = block(draw(), mask=tf.constant(MASK)).numpy().reshape([BATCH, FIELDS, -1])
    assert not output[~MASK].any()


def test_every_block_of_this_distribution_has_its_equation():
    targets = {spec.target for name, spec in vars(specs).items() if name.endswith("_BLOCK")}
    makers = [getattr(make, "func", make) for make, _ in CASES.values()]
    assert {f"{maker.__module__}:{maker.__qualname__}" for maker in makers} == targets


# --- training ---------------------------------------------------------------------------------------------------------


def moments(numbers):
    mean = sum(numbers) / len(numbers)
    return mean, sum((number - mean) ** 2 for number in numbers) / len(numbers)


def test_logarithmic_normalises_by_the_batch_in_training():
    block, _ = built("logarithmic, batch_norm")
    embeddings, powers = draw(), values(block._powers)
    for norm in (block._log_norm, block._exp_norm):
        norm.warmed_steps.assign(0.0)  # the random averages are taken for arrived
    before = [values(norm.moving_mean) for norm in (block._log_norm, block._exp_norm)]
    inference = block(embeddings).numpy()
    output = block(embeddings, training=True).numpy()

    logarithms, log_moments = np.zeros([BATCH, FIELDS, DIM]), []
    for i in range(FIELDS):
        raw = [[math.log(abs(float(x)) + block.epsilon) for x in embeddings[b, i]] for b in range(BATCH)]
        log_moments.append(moments(side_by_side(raw)))  # of a field: over examples and dim
        for b in range(BATCH):
            for d in range(DIM):
                logarithms[b, i, d] = batch_norm(raw[b][d], i, block._log_norm, *log_moments[i])
    expected, exp_moments = np.zeros([BATCH, block.neurons, DIM]), []
    for j in range(block.neurons):
        raw = [
            [math.exp(sum(powers[i][j] * logarithms[b, i, d] for i in range(FIELDS))) for d in range(DIM)]
            for b in range(BATCH)
        ]
        exp_moments.append(moments(side_by_side(raw)))  # of a neuron
        for b in range(BATCH):
            for d in range(DIM):
                expected[b, j, d] = batch_norm(raw[b][d], j, block._exp_norm, *exp_moments[j])

    assert_near(output, expected.reshape([BATCH, -1]))
    assert np.abs(output - inference).max() > 0.1
    for norm, old, batch in zip((block._log_norm, block._exp_norm), before, (log_moments, exp_moments), strict=True):
        new = [0.99 * o + 0.01 * mean for o, (mean, _) in zip(old, batch, strict=True)]
        np.testing.assert_allclose(norm.moving_mean, new, rtol=1e-5)


def test_an_embedding_of_zero_has_a_gradient():
    """Rows of unknown values start there."""
    block, embeddings = Logarithmic(neurons=2, batch_norm=False), tf.zeros([2, FIELDS, DIM])
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        total = tf.reduce_sum(block(embeddings))
    assert np.all(np.abs(tape.gradient(total, embeddings)) > 0)


def test_absent_fields_move_no_mean_of_logarithmic_away():
    """Half of the examples lack field 0; its moving mean still goes to the mean of the logarithms that are there."""
    block = Logarithmic(neurons=2)
    embeddings = np.random.default_rng(0).lognormal(1.0, 0.1, [64, FIELDS, DIM]).astype(np.float32)
    mask = np.ones([64, FIELDS], bool)
    mask[::2, 0] = False
    block(embeddings)
    block._log_norm.momentum = 0.5
    for _ in range(60):
        block(embeddings, mask=tf.constant(mask), training=True)
    np.testing.assert_allclose(
        block._log_norm.moving_mean[0], np.log(embeddings[mask[:, 0], 0] + 1e-4).mean(), rtol=1e-5
    )


# --- DLRM, whose equation is that of a model --------------------------------------------------------------------------


def test_dlrm_is_a_network_for_numbers_a_product_of_each_pair_and_a_network_on_top():
    features = [
        CategoricalFeature("user", vocabulary_size=4),
        CategoricalFeature("item", vocabulary_size=5),
        MultiCategoricalFeature("tags", vocabulary_size=3, combiner="mean"),
        NumericFeature("age", mean=40.0, std=10.0),
        NumericFeature("price", mean=2.0, std=0.5),
    ]
    model = get_model("dlrm", features=features, embedding_dim=DIM, bottom_units=[5, 4], hidden_units=[6, 5])
    randomise(model)
    model.label_mean.assign(0.0)  # the paper's model starts nowhere else
    model.label_scale.assign(1.0)
    columns = {
        "user": [0, 1, 2, 3],
        "item": [4, 3, 2, 1],
        "tags": [[0, 2], [1], [], [2, 1, 1]],  # the third has a field that is absent
        "age": [20.0, 40.0, 65.0, np.nan],
        "price": [2.0, 3.5, 0.25, 1.0],
    }
    table, offsets = values(model.embedding.table), model.features.offsets

    def vector(feature, number):
        return table[offsets[feature] + 1 + number]  # the first row is for unknown values

    def network(x, tower):
        for layer in tower._layers:
            x = dense(x, layer) if isinstance(layer, keras.layers.Dense) else relu(x)
        return x

    expected = []
    for b in range(4):
        age, price = columns["age"][b], columns["price"][b]
        standardised = [0.0 if math.isnan(age) else (age - 40.0) / 10.0, (price - 2.0) / 0.5]
        bottom = network(standardised, model._bottom)
        bag = [vector("tags", tag) for tag in columns["tags"][b]]
        pooled = [sum(tag[d] for tag in bag) / len(bag) if bag else 0.0 for d in range(DIM)]
        fields = [vector("user", columns["user"][b]), vector("item", columns["item"][b]), pooled, bottom]
        products = []
        for i in range(len(fields)):
            for j in range(i + 1, len(fields)):
                products.append(dot(fields[i], fields[j]))
        top = network(products + bottom, model._tower)
        expected.append(affine(top, model._head.kernel, model._bias))

    tags = tf.ragged.constant(columns["tags"], tf.int64, ragged_rank=1)
    batch = {name: tf.constant(column) for name, column in columns.items() if name != "tags"}
    assert_near(model({**batch, "tags": tags}).numpy(), np.array(expected))
