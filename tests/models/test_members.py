"""Members of one model: each says what a model of its own says, and learns as fast."""

import json
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

from nfm_tfrs.blocks.base import PooledBlock
from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.features import keys
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.growth import Growth
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ensemble import ensemble_of
from nfm_tfrs.models.grow import grow
from nfm_tfrs.models.losses import run_twice
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.pretrained import load_pretrained
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.refresh import refreshed
from nfm_tfrs.models.tower import Tower
from nfm_tfrs.testing import example_features, example_rows
from nfm_tfrs.testing.models import check_model_config, check_model_output, check_model_save_and_load
from tfrs_registry import blocks, get_model

OURS = [name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")]
FEATURES = example_features()
COLUMNS, LABELS = example_rows(24)
DIM = 4
NUMBERS = [
    CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
    CategoricalFeature("hour", vocabulary_size=3),
    NumericFeature("x"),
    NumericFeature("y"),
]
ROWS = {
    "city": np.array(["Oslo", "Rome", "Oslo"]),
    "hour": np.arange(3),
    "x": np.array([0.5, -2.0, np.nan]),
    "y": np.array([1.0, 0.0, 3.0]),
}


def model_of(members=3, model=RankingModel, features=FEATURES, **arguments):
    keras.utils.set_random_seed(1)
    made = model(
        features,
        **{"embedding_dim": DIM, "embedding_stddev": 0.7, "hidden_units": (5,), "members": members} | arguments,
    )
    rng = np.random.default_rng(2)
    for weight in made.trainable_variables:
        weight.assign_add(rng.normal(scale=0.2, size=weight.shape))
    for layer in made.submodules:
        if isinstance(layer, BatchNormalization):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2.0, size=layer.moving_variance.shape))
    return made


def alone(model, member):
    """A model of one with a member's weights."""
    config = {key: value for key, value in model.get_config().items() if key != "members"}
    one, dim, count = type(model).from_config(config), model.member_dim or model.embedding_dim, model.members
    table = model.embedding.table.numpy()
    columns = [*range(member * dim, (member + 1) * dim), *range(count * dim, table.shape[1])]
    one.embedding.table.assign(table[:, columns])
    for own, blocks_of in zip(one._blocks, model._members_of, strict=True):
        own.set_weights(blocks_of[member if len(blocks_of) > 1 else 0].get_weights())
    bottoms = (one._bottom._layers, model._bottom._layers) if one._bottom else ((), ())
    for own, theirs in zip(*bottoms, strict=True):
        cut = [weight[..., member * dim : (member + 1) * dim] for weight in theirs.get_weights()]
        last = own.get_weights() and own.get_weights()[-1].shape != theirs.get_weights()[-1].shape
        own.set_weights(cut if last else theirs.get_weights())
    layers = [(one._interaction_batch_norm, model._interaction_batch_norm), (one._head, model._head)]
    layers += list(zip(one._tower._layers, model._tower._layers, strict=True))
    for own, theirs in layers:
        for weight, whole in zip(own.weights if own is not None else (), theirs.weights if own else (), strict=True):
            parts = whole.numpy()
            weight.assign(parts if parts.shape == () else parts.reshape([count, *weight.shape])[member])
    for name in ("_bias", "label_mean", "label_scale"):
        getattr(one, name).assign(getattr(model, name))
    if one._number_weights is not None:
        one._number_weights.set_weights(model._number_weights.get_weights())
    return one


# --- what members say ------------------------------------------------------------------------------------------------


def nfm_by_loops(model, rows):
    """The logits of each member of an NFM on fields of ids, in float64."""
    table, dim, count = model.embedding.table.numpy().astype(np.float64), model.embedding_dim, model.members
    norm, (dense, after, *_) = model._interaction_batch_norm, model._tower._layers
    found = np.zeros([len(rows), count])
    for row, ids in enumerate(rows):
        for member in range(count):
            vectors = [table[at, member * dim : (member + 1) * dim] for at in ids]
            z = sum(vectors[i] * vectors[j] for i in range(len(ids)) for j in range(i))
            part = slice(member * dim, (member + 1) * dim)
            z = (z - norm.moving_mean.numpy()[part]) / np.sqrt(norm.moving_variance.numpy()[part] + norm.epsilon)
            z = z * norm.gamma.numpy()[part] + norm.beta.numpy()[part]
            h = z @ dense.kernel.numpy()[member].astype(np.float64) + dense.bias.numpy()[member]
            part = slice(member * h.size, (member + 1) * h.size)
            h = (h - after.moving_mean.numpy()[part]) / np.sqrt(after.moving_variance.numpy()[part] + after.epsilon)
            h = np.maximum(h * after.gamma.numpy()[part] + after.beta.numpy()[part], 0.0)
            logit = h @ model._head.kernel.numpy()[member, :, 0] + model._bias.numpy()[0]
            found[row, member] = logit + sum(table[at, count * dim] for at in ids)
    return found


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 1e-5), ("mixed_bfloat16", 5e-2), ("mixed_float16", 1e-2)], ids=lambda p: str(p)
)
def test_each_member_of_an_nfm_says_what_loops_find(dtype, bound):
    features = [CategoricalFeature(name, vocabulary_size=6) for name in "abc"]
    model = model_of(model=NFM, features=features, dtype=dtype)
    ids = np.random.default_rng(3).integers(0, 6, [10, 3])
    columns = {name: tf.constant(ids[:, at]) for at, name in enumerate("abc")}
    expected = nfm_by_loops(model, ids + 1 + np.array([0, 7, 14]))
    logits = model.member_logits(columns)
    assert logits.dtype == model(columns).dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=bound * np.abs(expected).max())
    np.testing.assert_allclose(model(columns), expected.mean(1, keepdims=True), atol=bound * np.abs(expected).max())


CASES = [(name, {"structure": "stacked"}) for name in OURS]
CASES += [(name, {"structure": "parallel"}) for name in ("fm", "cin", "two_stream")]
CASES += [("inner_product", {"structure": "concat"}), (["fm", "cross"], {"hidden_units": ()})]
CASES += [(["bi_interaction", "fm"], {"hidden_units": (), "linear": False}), ("fm", {"member_dim": 3})]
CASES += [("bi_interaction", {"activation": "softmax", "hidden_units": (5, 3), "batch_norm": True})]
CASES += [(name, {"numeric": numeric}) for name in ("fm", "cross") for numeric in ("concat", "bottom_mlp")]
CASES += [("inner_product", {"numeric": "bottom_mlp", "structure": "concat", "bottom_units": (3,)})]


@pytest.mark.parametrize(("interaction", "arguments"), CASES, ids=str)
def test_each_member_says_what_a_model_of_one_with_its_weights_says(interaction, arguments):
    model = model_of(interaction=interaction, interaction_batch_norm=True, **arguments)
    model.adapt_labels([0.0, 0.0, 1.0])
    logits = model.member_logits(COLUMNS).numpy()
    assert logits.std(axis=1).min() > 0
    for member in range(3):
        np.testing.assert_allclose(alone(model, member)(COLUMNS)[:, 0], logits[:, member], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("interaction", "arguments", "jit_compile"),
    [
        ("bi_interaction", {}, True),
        ("fm", {"hidden_units": ()}, False),
        ("bi_interaction", {"numeric": "bottom_mlp", "self_ensemble": 1.0}, False),
    ],
    ids=str,
)
def test_the_same_fields_of_each_member_are_dropped(interaction, arguments, jit_compile):
    model = model_of(interaction=interaction, field_dropout=0.4, **arguments)
    model.compile(jit_compile=jit_compile)
    start = model._field_dropout.dropout_state.numpy()
    with run_twice(model) if model.self_ensemble else nullcontext():
        logits = model.member_logits(COLUMNS, training=True).numpy()
    for member in range(3):
        one = alone(model, member)
        one._field_dropout.dropout_state.assign(start)
        with run_twice(one) if one.self_ensemble else nullcontext():
            np.testing.assert_allclose(one(COLUMNS, training=True)[:, 0], logits[:, member], rtol=1e-4, atol=1e-4)


@keras.utils.register_keras_serializable(package="test_members")
class Weighed(PooledBlock):
    """A block of sums with weights."""

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight("scale", [input_shape[-1]], initializer="uniform")

    def from_sums(self, total, squares):
        return (total * total - squares) * self.scale


@pytest.mark.parametrize("block", [Weighed, Cross])
def test_the_first_member_has_a_block_that_is_given_and_the_others_have_new_ones_of_its_config(block):
    given = block(name="given")
    model = model_of(interaction=given)
    assert [one.name for one in model._members_of[0]] == ["given", "given_of_member_1", "given_of_member_2"]
    assert model._members_of[0][0] is given
    for member in range(3):
        own = alone(model, member)
        np.testing.assert_allclose(own(COLUMNS)[:, 0], model.member_logits(COLUMNS)[:, member], rtol=1e-5, atol=1e-5)


def test_a_softmax_of_a_tower_is_over_the_columns_of_one_member():
    outputs = Tower([3], "softmax", members=2)(tf.random.normal([4, 10])).numpy()
    np.testing.assert_allclose(outputs.reshape(4, 2, 3).sum(2), 1.0, rtol=1e-6)


def test_kernels_start_as_large_as_those_of_one_member_and_differ():
    kernel = Tower([200], members=2)
    kernel(tf.zeros([1, 200]))
    first, second = kernel.first_weights[0].numpy()
    assert np.abs([first, second]).max(axis=(1, 2)) == pytest.approx([(6 / 300) ** 0.5] * 2, rel=1e-2)
    assert np.abs(first - second).max() > 0.1


# --- what members learn ----------------------------------------------------------------------------------------------


def with_equal_members(model, one):
    """Gives each member of a model the weights of a model of one."""
    count, dim = model.members, one.embedding_dim
    table = one.embedding.table.numpy()
    model.embedding.table.assign(np.concatenate([np.tile(table[:, :dim], [1, count]), table[:, dim:]], axis=1))
    for own, theirs in zip(model.trainable_variables[1:], one.trainable_variables[1:], strict=True):
        repeats = own.shape[0] // theirs.shape[0] if len(own.shape) == len(theirs.shape) else None
        parts = theirs.numpy()
        own.assign(np.stack([parts] * count).reshape(own.shape) if repeats is None else np.tile(parts, repeats))


@pytest.mark.parametrize(("task", "weighed"), [("binary", False), ("binary", True), ("regression", False)])
def test_equal_members_have_the_gradients_of_one_and_the_shared_weights_have_their_sum(task, weighed):
    one = model_of(1, task=task, interaction_batch_norm=True)
    model = RankingModel.from_config({**one.get_config(), "members": 3})
    with_equal_members(model, one)
    batch = (COLUMNS, LABELS, tf.linspace(0.0, 2.0, 24)) if weighed else (COLUMNS, LABELS)
    losses, gradients = [], []
    for each in (one, model):
        with tf.GradientTape() as tape:
            losses.append(each.compute_loss(batch, training=True))
        gradients.append([tf.convert_to_tensor(g).numpy() for g in tape.gradient(losses[-1], each.trainable_variables)])
    assert losses[1].numpy() == pytest.approx(losses[0].numpy(), rel=1e-6)
    (table, *others), (wide, *several) = gradients
    for member in range(3):
        np.testing.assert_allclose(wide[:, member * DIM : (member + 1) * DIM], table[:, :DIM], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(wide[:, 3 * DIM], 3 * table[:, DIM], rtol=1e-4, atol=1e-6)
    for theirs, own in zip(several[:-1], others[:-1], strict=True):
        np.testing.assert_allclose(theirs.reshape([3, *own.shape]), np.stack([own] * 3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(several[-1], 3 * others[-1], rtol=1e-4, atol=1e-6)  # the bias


def test_what_is_reported_is_the_loss_of_the_mean():
    model = model_of(dropout=0.0, embedding_l2=0.1)
    model.compile(keras.optimizers.SGD(0.0))
    reported = model.fit(tf.data.Dataset.from_tensors((COLUMNS, LABELS)), verbose=0).history
    logits = tf.reduce_mean(model.member_logits(COLUMNS), axis=1).numpy()
    expected = float(np.mean(np.logaddexp(0.0, np.where(LABELS > 0, -logits, logits))))
    assert reported["loss"] == pytest.approx([expected], rel=1e-5)
    assert reported["log_loss"] == pytest.approx([expected], rel=1e-5)
    assert reported["total_loss"] == pytest.approx([expected + reported["regularization_loss"][0]], rel=1e-5)
    assert model.evaluate(COLUMNS, LABELS, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("dtype", "jit_compile"), [("float32", True), ("mixed_bfloat16", False), ("mixed_float16", False)]
)
def test_members_train_under_each_policy_and_with_xla(dtype, jit_compile):
    model = model_of(2, NFM, dtype=dtype)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensors((COLUMNS, LABELS)).repeat(20)
    losses = model.fit(data, epochs=2, verbose=0, steps_per_epoch=20).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]


# --- one member ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interaction", ["bi_interaction", "fm"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_members_of_a_block_of_sums_train_where_fields_are_dropped(interaction, jit_compile):
    model = model_of(interaction=interaction, field_dropout=0.4)
    encoded = model.encoder(COLUMNS)
    fields, _, _ = model._with_numbers(model.embedding(encoded), encoded[keys.NUMBERS], False)
    mask = np.ones(fields.embeddings.shape[:2], bool) if fields.mask is None else fields.mask.numpy()
    vectors = np.where(mask[:, :, None], fields.embeddings.numpy(), 0).astype(np.float64)
    pairs = [(i, j) for i in range(mask.shape[1]) for j in range(i)]
    crossed = sum(vectors[:, i] * vectors[:, j] for i, j in pairs)
    expected = crossed if interaction == "bi_interaction" else crossed.reshape(24, 3, DIM).sum(axis=2)
    found = model._interaction(model._members_of[0], fields)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    model.compile("sgd" if jit_compile else "lazyadam", jit_compile=jit_compile)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(COLUMNS, LABELS)).all()
    assert not np.array_equal(model.embedding.table, before[0])


def test_one_member_is_the_model_of_before():
    model = model_of(1)
    assert not {"members", "member_dim"} & model.get_config().keys()
    assert [type(layer).__name__ for layer in model._tower._layers] == ["Dense", "Activation"]
    assert model._members_of == [model._blocks]
    assert model(COLUMNS).shape == model.member_logits(COLUMNS).shape == (24, 1)


@pytest.mark.parametrize("arguments", [{"members": 0}, {"members": 2.5}, {"member_dim": 0}], ids=str)
def test_what_is_no_number_of_members_is_refused(arguments):
    with pytest.raises(ValueError, match=r"member(s|_dim) must be a whole number of 1 or more; received (0|2\.5)\."):
        RankingModel(**arguments)


@pytest.mark.parametrize(
    ("name", "check", "arguments"),
    [
        ("nfm", check_model_output, {}),
        ("deepfm", check_model_config, {"hidden_units": (4,)}),
        ("dcnv2", check_model_save_and_load, {"hidden_units": (4,)}),
    ],
)
def test_models_of_members_keep_the_contract(name, check, arguments):
    check(partial(get_model, name, members=2, member_dim=3, **arguments))


def test_a_config_says_what_is_not_as_ever():
    config = json.loads(json.dumps(model_of(3, member_dim=2).get_config()))
    assert (config["members"], config["member_dim"], config["embedding_dim"]) == (3, 2, DIM)
    assert RankingModel.from_config(config).embedding.embedding_dim == 6


def test_more_blocks_and_layers_than_are_made_in_seconds_are_refused_before_any_is():
    with pytest.raises(ValueError, match=r"members=129 of 2 blocks .* make 258, and 256 are the most\. Lower members"):
        NFM(FEATURES, members=129, hidden_units=(2,))
    assert NFM(members=128, hidden_units=(2,)).members == 128
    with pytest.raises(ValueError, match="members=2 of 200 blocks and layers each make 400"):
        RankingModel(FEATURES, members=2, hidden_units=(2,) * 199)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"members": 9, "member_dim": 10**10}, "members=9 of member_dim=10000000000 takes"),
        ({"members": 9, "embedding_dim": 10**10}, "members=9 of embedding_dim=10000000000 takes"),
        ({"member_dim": 10**11}, "members=1 of member_dim=100000000000 takes"),
    ],
)
def test_a_table_that_fits_into_no_memory_names_members(arguments, said):
    with pytest.raises(ValueError, match=rf"A table of .* rows and {said} .*\. Lower .* members, hidden_units"):
        NFM(FEATURES, **arguments)


def test_it_says_how_many_members_it_has():
    assert "hidden_units=(5,), 3 members, " in repr(model_of())
    assert "<td>3 members</td>" in model_of()._repr_html_()
    assert "members" not in repr(model_of(1))


# --- uncertainty -----------------------------------------------------------------------------------------------------


def test_uncertainty_is_the_deviation_of_the_members_probabilities():
    model = model_of()
    rows = {name: column if name == "genres" else column.numpy() for name, column in COLUMNS.items()}
    probabilities, spread = model.predict_proba(rows, uncertainty=True, batch_size=7, verbose=0)
    of_members = 1 / (1 + np.exp(-model.member_logits(COLUMNS).numpy().astype(np.float64)))
    np.testing.assert_allclose(spread, of_members.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(probabilities, model.predict_proba(rows, verbose=0), rtol=1e-5)
    assert probabilities.dtype == spread.dtype == np.float32


def test_the_members_of_an_ensemble_are_those_of_its_models():
    ensemble = ensemble_of([model_of(2, features=NUMBERS), model_of(1, features=NUMBERS, hidden_units=())])
    _, spread = ensemble.predict_proba(ROWS, uncertainty=True, verbose=0)
    logits = np.concatenate([model.member_logits(ROWS) for model in ensemble.models], axis=1).astype(np.float64)
    assert logits.shape == (3, ensemble.members)
    np.testing.assert_allclose(spread, (1 / (1 + np.exp(-logits))).std(axis=1), rtol=1e-4)


def test_a_model_of_one_has_no_spread():
    with pytest.raises(ValueError, match=r"Uncertainty is the spread .*; this one has members=1\. Make it with"):
        model_of(1).predict_proba(COLUMNS, uncertainty=True)


class Halved(RankingModel):
    def call(self, columns, training=None):
        return super().call(columns, training) / 2


def test_a_subclass_with_a_call_of_its_own_learns_from_it_and_says_why_members_are_not_apart():
    model = model_of(model=Halved)
    np.testing.assert_allclose(model.predictions_to_learn(COLUMNS, False), model(COLUMNS), rtol=1e-6)
    with pytest.raises(ValueError, match=r"Halved has a call of its own\. Let it write member_logits too\."):
        model.member_logits(COLUMNS)


# --- models of models ------------------------------------------------------------------------------------------------


def trained(**arguments):
    model = model_of(2, features=NUMBERS, **arguments)
    model.compile()
    model.fit(tf.data.Dataset.from_tensors((ROWS, np.array([0.0, 1.0, 1.0]))), verbose=0)
    return model


@pytest.mark.parametrize("numeric", ["field", "concat", "bottom_mlp"])
def test_members_keep_their_predictions_where_numbers_are_standardised_anew(numeric):
    model = trained(numeric=numeric)
    new = refreshed(model, {"x": (0.0, 3.0) if numeric == "field" else (0.7, 3.0)})
    assert new.features["x"].std == 3.0
    np.testing.assert_allclose(new.member_logits(ROWS), model.member_logits(ROWS), rtol=1e-5, atol=1e-6)


def test_heads_that_take_numbers_cannot_keep_their_predictions():
    with pytest.raises(ValueError, match="The heads of members=2 take numbers as they are and share one bias"):
        refreshed(trained(numeric="concat", hidden_units=()), {"x": (0.7, 3.0)})


def test_members_keep_their_predictions_where_the_table_grows():
    model = trained()
    tonight = {"city": ["Oslo", "Lima"], "hour": [0, 1], "x": [0.0, 1.0], "y": [0.0, 1.0]}
    grown = grow(model, tonight, Growth(init="random"))
    assert grown.embedding.table.shape == (model.embedding.table.shape[0] + 1, 2 * DIM + 1)
    np.testing.assert_array_equal(grown.member_logits(ROWS), model.member_logits(ROWS))
    lima = grown.embedding.table.numpy()[3]
    assert np.abs(lima[: 2 * DIM]).min() > 0
    assert lima[2 * DIM] == 0


def test_vectors_are_as_long_as_the_row_of_all_members():
    model = model_of(2, features=NUMBERS)
    load_pretrained(model, {"city": (["Rome"], [np.arange(2.0 * DIM)])})
    np.testing.assert_array_equal(model.embedding.table[1, : 2 * DIM], np.arange(2 * DIM))
