"""Our models against DeepCTR's with the same weights: written apart, they give the same logits.

Where the definitions differ, our switches follow DeepCTR here, and our presets the papers' equations:
- DeepCTR's numbers are no fields: they enter the first-order term and the DNN only, which is our `numeric="concat"`.
  FM's equation, and our default, has x·v of every feature x.
- DCN, DCN-Mix and AutoInt have a first-order term here; DCN's eq. 5 and AutoInt's eq. 9 have none.
- FwFM and AutoInt have a DNN beside them here; FwFM's paper has none, and AutoInt's calls that AutoInt+.
- NFM has no BatchNorm here; its authors' code has.
- The global bias w_0 is DeepCTR's PredictionLayer's, behind the logit that is compared.
"""

import re
from threading import Thread

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf  # before DeepCTR, which takes the Keras that is selected by then
from tfrs_registry import get_model

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Thread, "start", lambda thread: None)  # on import DeepCTR asks PyPI for its newest version
    pytest.importorskip("deepctr", reason="needs DeepCTR; run: pip install --no-deps deepctr==0.9.4")
from deepctr import feature_column, layers, models

VOCABULARY_SIZES = {"user": 5, "city": 4, "film": 6, "day": 3}
FIELDS, DIM, BATCH = len(VOCABULARY_SIZES), 3, 16
PAIRS = FIELDS * (FIELDS - 1) // 2
OURS = {"hidden_units": (5, 4), "dropout": 0, "batch_norm": False, "numeric": "concat"}
THEIRS = {"dnn_hidden_units": (5, 4)}

every_input = pytest.mark.parametrize("numbers", [(), ("price", "age")], ids=["sparse", "sparse and dense"])


# --- two models with the same weights --------------------------------------------------------------------------------


def twins(name, definition, numbers, ours, theirs):
    """Our model `name` and DeepCTR's `definition` of it, all weights random, with the same embeddings."""
    features = [CategoricalFeature(column, vocabulary_size=size) for column, size in VOCABULARY_SIZES.items()]
    our_model = get_model(name, features=[*features, *map(NumericFeature, numbers)], embedding_dim=DIM, **ours)
    randomise(our_model, seed=1)  # other values than theirs: a weight that is not copied shows
    our_model._bias.assign([0.0])
    columns = [feature_column.SparseFeat(column, size, DIM) for column, size in VOCABULARY_SIZES.items()]
    columns += map(feature_column.DenseFeat, numbers)
    # PNN is the only one without columns for a first-order term.
    whole = definition(columns, **theirs) if definition is models.PNN else definition(columns, columns, **theirs)
    randomise(whole, seed=6)  # one with which no ReLU, SENET's above all, cuts off a weight for good
    [prediction] = layers_of(whole, layers.PredictionLayer)
    logit_model = keras.Model(whole.inputs, prediction.input)
    copy_embeddings(our_model, logit_model)
    return our_model, logit_model


def randomise(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(-0.6, 0.9, variable.shape))
    if hasattr(model, "label_mean"):  # theirs starts nowhere else
        model.label_mean.assign(0.0)
        model.label_scale.assign(1.0)


def layers_of(model, kind):
    """The layers of a kind, first made first: Keras numbers their names."""
    found = [layer for layer in model.layers if isinstance(layer, kind)]
    return sorted(found, key=lambda layer: int("0" + re.search(r"\d*$", layer.name)[0]))


def copy_embeddings(ours, theirs):
    """To our one table, from their embeddings and first-order weights, a layer a feature each."""
    table = ours.embedding.table.numpy().copy()
    for name, size in VOCABULARY_SIZES.items():
        first = ours.features.offsets[name] + 1  # behind the row of unknown values
        table[first : first + size, :DIM] = theirs.get_layer(f"sparse_emb_{name}").embeddings
        if ours.linear:
            table[first : first + size, DIM:] = theirs.get_layer(f"linear0sparse_emb_{name}").embeddings
    if ours.linear and ours.features.numbers:
        [linear] = layers_of(theirs, layers.Linear)
        if ours.numeric == "concat":
            ours._number_weights.kernel.assign(linear.kernel)
        else:
            # The vector of a number that is there: it leaves the number as it is, and then DIM - 1 zeros.
            present = slice(ours.features.num_rows + 1, None, 2)
            table[present] = np.pad(linear.kernel, [[0, 0], [DIM, 0]])
            table[present, 0] = 1.0
    ours.embedding.table.assign(table)


def copy_dnn(ours, theirs, places=None):
    """`places`, [our inputs, their inputs], holds a 1 where the two are the same; left out, they are in one order."""
    [dnn] = layers_of(theirs, layers.DNN)
    kernels = [kernel.numpy() for kernel in dnn.kernels]
    if places is not None:
        kernels[0] = places @ kernels[0]
    dense_layers = [layer for layer in ours._tower._layers if isinstance(layer, keras.layers.Dense)]
    for layer, kernel, bias in zip(dense_layers, kernels, dnn.bias, strict=True):
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)


def copy_head(ours, *kernels):
    ours._head.kernel.assign(np.concatenate(kernels))


def copy_dnn_and_head(ours, theirs, places=None):
    [head] = layers_of(theirs, keras.layers.Dense)
    copy_dnn(ours, theirs, places)
    copy_head(ours, head.kernel)


# --- the comparison --------------------------------------------------------------------------------------------------


def assert_same_logits(ours, theirs):
    rng = np.random.default_rng(3)
    rows = {name: rng.integers(0, size, [BATCH, 1], np.int32) for name, size in VOCABULARY_SIZES.items()}
    rows |= {number.name: rng.normal(size=[BATCH, 1]).astype(np.float32) for number in ours.features.numbers}
    expected = tf.reshape(theirs(rows), [-1, 1])  # without numbers it has one axis more
    assert np.ptp(expected) > 0.5
    assert without_effect(ours, rows) == []  # or the comparison would be blind to them
    assert without_effect(theirs, rows) == []
    np.testing.assert_allclose(ours(rows), expected, rtol=0, atol=1e-5)


def without_effect(model, rows):
    """Names of the weights on which no logit depends."""
    with tf.GradientTape() as tape:
        logits = model(rows)
    gradients = tape.gradient(logits, model.trainable_variables, unconnected_gradients="zero")
    both = zip(model.trainable_variables, gradients, strict=True)
    return [variable.name for variable, gradient in both if not np.any(tf.convert_to_tensor(gradient))]


# --- NFM and the factorization machines ------------------------------------------------------------------------------


@every_input
def test_nfm_is_deepctrs(numbers):
    ours, theirs = twins("nfm", models.NFM, numbers, {**OURS, "interaction_batch_norm": False}, THEIRS)
    copy_dnn_and_head(ours, theirs)
    assert_same_logits(ours, theirs)


@every_input
def test_deepfm_is_deepctrs(numbers):
    ours, theirs = twins("deepfm", models.DeepFM, numbers, OURS, THEIRS)
    copy_dnn_and_head(ours, theirs)
    assert_same_logits(ours, theirs)


@every_input
def test_fwfm_with_a_dnn_is_deepctrs(numbers):
    ours, theirs = twins("fwfm", models.FwFM, numbers, {**OURS, "structure": "parallel"}, THEIRS)
    copy_strengths(ours, theirs)
    copy_dnn_and_head(ours, theirs)
    assert_same_logits(ours, theirs)


def test_fwfm_is_deepctrs():
    ours, theirs = twins("fwfm", models.FwFM, (), {}, {"dnn_hidden_units": ()})
    copy_strengths(ours, theirs)
    assert_same_logits(ours, theirs)


def copy_strengths(ours, theirs):
    [fwfm] = layers_of(theirs, layers.FwFMLayer)
    # Theirs is a matrix, of which they use what is above the diagonal; our vector is this, row by row.
    ours.interaction.strengths.assign(fwfm.field_strengths.numpy()[np.triu_indices(FIELDS, 1)])


def test_afm_is_deepctrs():
    interaction = {"name": "attention_fm", "config": {"attention_units": 6}}
    # Without numbers: DeepCTR refuses them beside the interacting features.
    ours, theirs = twins("afm", models.AFM, (), {"interaction": interaction}, {"attention_factor": 6})
    [afm] = layers_of(theirs, layers.AFMLayer)
    ours.interaction._hidden.kernel.assign(afm.attention_W)
    ours.interaction._hidden.bias.assign(afm.attention_b)
    ours.interaction._score.kernel.assign(afm.projection_h)
    copy_head(ours, afm.projection_p)
    assert_same_logits(ours, theirs)


# --- DCN: numbers cross as well, as in its eq. 2 ---------------------------------------------------------------------


def cross_twins(name, definition, numbers, config, theirs):
    """Twins whose cross network takes the numbers too: each is a field of ours, the number and DIM - 1 zeros."""
    ours = {**OURS, "numeric": "field", "structure": "parallel", "linear": True}
    interaction = {"name": "cross", "config": {"num_layers": 2, **config}}
    return twins(name, definition, numbers, {**ours, "interaction": interaction}, {**THEIRS, **theirs})


def cross_places(numbers):
    """[our inputs, their inputs] of the cross network and of the DNN; the zeros have no place in theirs."""
    firsts = FIELDS * DIM + DIM * np.arange(len(numbers))
    return np.eye((FIELDS + len(numbers)) * DIM)[:, [*range(FIELDS * DIM), *firsts]]


def copy_behind_cross(ours, theirs, places):
    [head] = layers_of(theirs, keras.layers.Dense)
    crossed = places.shape[1]
    copy_dnn(ours, theirs, places)
    copy_head(ours, places @ head.kernel[:crossed], head.kernel[crossed:])


@every_input
@pytest.mark.parametrize(("name", "kind"), [("dcn", "vector"), ("dcnv2", "matrix")])
def test_dcn_is_deepctrs(name, kind, numbers):
    ours, theirs = cross_twins(name, models.DCN, numbers, {"kind": kind}, {"cross_parameterization": kind})
    [cross] = layers_of(theirs, layers.CrossNet)
    places = cross_places(numbers)
    for n in range(2):
        # Their matrix is W of W x, with x a column; ours is its transpose, behind a row.
        kernel = cross.kernels[n].numpy()
        ours.interaction._kernels[n].assign(places @ (kernel if kind == "vector" else kernel.T @ places.T))
        ours.interaction._biases[n].assign(places @ cross.bias[n].numpy()[:, 0])
    copy_behind_cross(ours, theirs, places)
    assert_same_logits(ours, theirs)


@every_input
def test_dcn_mix_with_the_same_gates_in_every_layer_is_deepctrs(numbers):
    # DeepCTR has one set of gates for all layers, ours one a layer, of which the shared ones are a case. We follow
    # DCN V2's eq. 3 and 4, where an expert's U, C and V are the layer's own; of its gate G_i(x_l) they do not say.
    config = {"kind": "mixture", "rank": 2, "num_experts": 3}
    ours, theirs = cross_twins("dcnv2", models.DCNMix, numbers, config, {"low_rank": 2, "num_experts": 3})
    [cross] = layers_of(theirs, layers.CrossNetMix)
    gates = np.concatenate([gate.kernel for gate in cross.gating], axis=1)  # [inputs, experts]
    places, block = cross_places(numbers), ours.interaction
    for n in range(2):
        # Theirs are matrices for each expert, applied to columns; ours, to rows, hold all experts' side by side.
        block._v[n].assign(places @ np.concatenate(cross.V_list[n].numpy(), axis=1))
        block._c[n].assign(cross.C_list[n].numpy().transpose(0, 2, 1))
        block._u[n].assign((places @ np.concatenate(cross.U_list[n].numpy(), axis=1)).T)
        block._biases[n].assign(places @ cross.bias[n].numpy()[:, 0])
        block._gates[n].assign(places @ gates)
    copy_behind_cross(ours, theirs, places)
    assert_same_logits(ours, theirs)


# --- beside a DNN ----------------------------------------------------------------------------------------------------


@every_input
@pytest.mark.parametrize("split_half", [True, False])
def test_xdeepfm_is_deepctrs(split_half, numbers):
    interaction = {"name": "cin", "config": {"layer_sizes": [6, 4, 3], "split_half": split_half}}
    config = {"cin_layer_size": (6, 4, 3), "cin_split_half": split_half}
    ours, theirs = twins("xdeepfm", models.xDeepFM, numbers, {**OURS, "interaction": interaction}, {**THEIRS, **config})
    [cin] = layers_of(theirs, layers.CIN)
    own = zip(ours.interaction._kernels, ours.interaction._biases, strict=True)
    for (own_kernel, own_bias), kernel, bias in zip(own, cin.filters, cin.bias, strict=True):
        # Products of field j of X⁰ and map i of the layer before: rows of theirs run by (j, i), of ours by (i, j).
        by_pair = kernel.numpy().reshape(FIELDS, -1, kernel.shape[2])
        own_kernel.assign(by_pair.transpose(1, 0, 2).reshape(kernel.shape[1:]))
        own_bias.assign(bias)
    dnn_head, cin_head = layers_of(theirs, keras.layers.Dense)
    copy_dnn(ours, theirs)
    copy_head(ours, cin_head.kernel, dnn_head.kernel)
    assert_same_logits(ours, theirs)


@every_input
@pytest.mark.parametrize("residual", [True, False])
def test_autoint_with_a_dnn_is_deepctrs(residual, numbers):
    ours, theirs = autoint_twins(residual, numbers, {**OURS, "structure": "parallel"}, THEIRS)
    copy_dnn_and_head(ours, theirs)
    assert_same_logits(ours, theirs)


def test_autoint_is_deepctrs():
    ours, theirs = autoint_twins(True, (), {}, {"dnn_hidden_units": ()})
    [head] = layers_of(theirs, keras.layers.Dense)
    copy_head(ours, head.kernel)
    assert_same_logits(ours, theirs)


def autoint_twins(residual, numbers, ours, theirs):
    config = {"num_layers": 2, "num_heads": 2, "attention_dim": 4, "residual": residual}
    interaction = {"name": "self_attention", "config": config}
    theirs = {**theirs, "att_layer_num": 2, "att_head_num": 2, "att_embedding_size": 4, "att_res": residual}
    ours, theirs = twins(
        "autoint", models.AutoInt, numbers, {**ours, "linear": True, "interaction": interaction}, theirs
    )
    interacting = layers_of(theirs, layers.InteractingLayer)
    for projections, layer in zip(ours.interaction._projections, interacting, strict=True):
        weights = [layer.W_Query, layer.W_key, layer.W_Value] + ([layer.W_Res] if residual else [])
        for projection, weight in zip(projections, weights, strict=True):
            projection.assign(weight)
    return ours, theirs


# --- before a DNN, in another order ----------------------------------------------------------------------------------


@every_input
@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_fibinet_is_deepctrs(kind, numbers):
    interaction = {"name": "bilinear", "config": {"kind": kind, "reduction_ratio": 2}}
    config = {"bilinear_type": kind, "reduction_ratio": 2}
    ours, theirs = twins("fibinet", models.FiBiNET, numbers, {**OURS, "interaction": interaction}, {**THEIRS, **config})
    [senet] = layers_of(theirs, layers.SENETLayer)
    ours.interaction._squeeze.kernel.assign(senet.W_1)
    ours.interaction._excite.kernel.assign(senet.W_2)
    reweighted, plain = layers_of(theirs, layers.BilinearInteraction)
    for matrices, bilinear in zip(ours.interaction._matrices, [plain, reweighted], strict=True):
        matrices.assign(np.stack([bilinear.W] if kind == "all" else bilinear.W_list))
    # Theirs has the reweighted and the plain product pair by pair; ours has all reweighted ones first.
    products = np.arange(PAIRS * 2 * DIM).reshape(PAIRS, 2, DIM).transpose(1, 0, 2).ravel()
    copy_dnn_and_head(ours, theirs, in_order(products, numbers))
    assert_same_logits(ours, theirs)


@every_input
def test_pnn_is_deepctrs(numbers):
    ours, theirs = twins("pnn", models.PNN, numbers, OURS, THEIRS)
    # Theirs has the embeddings first, ours the products.
    products, embeddings = FIELDS * DIM + np.arange(PAIRS), np.arange(FIELDS * DIM)
    copy_dnn_and_head(ours, theirs, in_order([*products, *embeddings], numbers))
    assert_same_logits(ours, theirs)


def in_order(order, numbers):
    """[our inputs, their inputs] of a DNN: our input n is theirs number order[n]; the numbers come last in both."""
    total = len(order) + len(numbers)
    return np.eye(total)[[*order, *range(len(order), total)]]
