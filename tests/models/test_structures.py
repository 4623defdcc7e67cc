"""Where blocks and tower stand: every block in every structure, several blocks, logits, towers of none."""

import itertools
import json

import numpy as np
import pytest

from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.testing import example_features, example_rows
from tfrs_registry import blocks, get_block

PAIR = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
BATCH = {"a": np.array([1, 2, 3]), "b": np.array([0, 1, 20])}
OURS = [name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")]
STRUCTURES = ["stacked", "parallel", "concat"]
POSITIONS = MultiCategoricalFeature("seen", vocabulary_size=5, combiner=None)


def model_of(features=PAIR, **arguments):
    return RankingModel(features, **{"embedding_dim": 4, "embedding_stddev": 1.0, "hidden_units": (3,), **arguments})


def terms(model, columns):
    """First-order term, bias, and each block's own output."""
    embeddings, mask, first_order = model.embedding(model.encoder(columns))
    outputs = [block(embeddings, mask=mask).numpy() for block in model._blocks]
    return embeddings.numpy().reshape(len(embeddings), -1), first_order.numpy() + model._bias.numpy(), outputs


# --- every block in every structure ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "structure"), list(itertools.product(OURS, STRUCTURES)))
def test_every_block_trains_in_every_structure(name, structure):
    keras.utils.set_random_seed(0)
    columns, labels = example_rows(64)
    model = RankingModel(
        example_features(), embedding_dim=4, embedding_stddev=0.3, interaction=name, structure=structure
    )
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(tf.data.Dataset.from_tensors((columns, labels)), epochs=12, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < losses[0]


@pytest.mark.parametrize(("name", "structure"), list(itertools.product(OURS, STRUCTURES)))
def test_without_a_tower_every_block_still_has_a_logit(name, structure):
    model = model_of(interaction=name, structure=structure, hidden_units=())
    logits = model(BATCH).numpy()
    assert logits.shape == (3, 1)
    assert len(np.unique(logits)) == 3


@pytest.mark.parametrize(("name", "structure"), list(itertools.product(OURS, STRUCTURES)))
def test_bags_without_a_length_fit_or_say_at_build_time_why_not(name, structure):
    fits = blocks.load(name).dynamic_fields and structure == "stacked"
    if fits:
        columns = {**BATCH, "seen": tf.ragged.constant([[1], [], [2, 3, 4]])}
        assert model_of([*PAIR, POSITIONS], interaction=name, structure=structure)(columns).shape == (3, 1)
    else:
        with pytest.raises(ValueError, match=r"needs (a known|the same) number of fields.*max_length\.$"):
            model_of([*PAIR, POSITIONS], interaction=name, structure=structure)


@pytest.mark.parametrize("structure", ["parallel", "concat"])
def test_a_structure_that_needs_a_fixed_number_of_fields_says_so(structure):
    message = f'structure="{structure}" needs the same number of fields in each batch; .* Give them a max_length'
    with pytest.raises(ValueError, match=message):
        model_of([*PAIR, POSITIONS], structure=structure)


def test_an_unknown_structure_is_refused():
    with pytest.raises(ValueError, match='structure must be "stacked", "parallel" or "concat"; received \'beside\''):
        model_of(structure="beside")


# --- logits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fm", "field_weighted_fm", "field_matrixed_fm", "two_stream"])
def test_a_logit_is_added_as_it_is_where_no_tower_follows(name):
    model = model_of(interaction=name, hidden_units=())
    _, rest, (logit,) = terms(model, BATCH)
    assert model._head is None
    np.testing.assert_allclose(model(BATCH), rest + logit, rtol=1e-6)


def test_beside_a_tower_a_logit_is_added_as_it_is():
    model = model_of(interaction="fm", structure="parallel")
    embeddings, rest, (logit,) = terms(model, BATCH)
    deep = model._head(model._tower(embeddings)).numpy()
    assert model._head.kernel.shape == (3, 1)
    np.testing.assert_allclose(model(BATCH), rest + logit + deep, rtol=1e-5)


def test_before_a_tower_a_logit_is_an_input_like_any_other():
    model = model_of(interaction="fm")
    _, rest, (logit,) = terms(model, BATCH)
    np.testing.assert_allclose(model(BATCH), rest + model._head(model._tower(logit)).numpy(), rtol=1e-5)


def test_logits_and_vectors_go_their_own_ways():
    model = model_of(interaction=["bi_interaction", "fm", "field_weighted_fm"], structure="parallel")
    embeddings, rest, (fm, weighted, pooled) = terms(model, BATCH)  # logits first, then in the order given
    deep = model._head(np.hstack([pooled, model._tower(embeddings)])).numpy()
    np.testing.assert_allclose(model(BATCH), rest + fm + weighted + deep, rtol=1e-5)


def test_a_number_beside_a_logit_has_a_head():
    features = [*PAIR, NumericFeature("x")]
    columns = {**BATCH, "x": np.array([1.0, -1.0, np.nan], np.float32)}
    model = model_of(features, interaction="fm", hidden_units=(), numeric="concat", linear=False)
    _, _, first_order = model.embedding(model.encoder(columns))
    assert first_order is None
    embeddings, mask, _ = model.embedding(model.encoder(columns))
    expected = model._blocks[0](embeddings, mask=mask) + [[1.0], [-1.0], [0.0]] * model._head.kernel
    np.testing.assert_allclose(model(columns), expected, rtol=1e-5)


# --- several blocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_several_blocks_stand_side_by_side(structure):
    interaction = ["bi_interaction", {"name": "cross", "config": {"num_layers": 1}}]
    model = model_of(interaction=interaction, structure=structure)
    embeddings, rest, outputs = terms(model, BATCH)
    hidden = np.hstack(outputs)
    if structure == "stacked":
        hidden = model._tower(hidden)
    elif structure == "concat":
        hidden = model._tower(np.hstack([hidden, embeddings]))
    else:
        hidden = np.hstack([hidden, model._tower(embeddings)])
    np.testing.assert_allclose(model(BATCH), rest + model._head(hidden).numpy(), rtol=1e-5)


def test_norm_and_dropout_act_on_all_blocks_together():
    model = model_of(interaction=["bi_interaction", "fm"], interaction_batch_norm=True, interaction_dropout=0.5)
    assert model._interaction_batch_norm.gamma.shape == 5
    assert not np.allclose(model(BATCH, training=True), model(BATCH, training=True))


def test_one_name_twice_makes_two_blocks():
    model = model_of(interaction=["cross", "cross"])
    first, second = model.interaction
    assert first is not second
    assert not np.allclose(first.get_weights()[0], second.get_weights()[0])


@pytest.mark.parametrize(
    ("interaction", "names"),
    [(["fm"], ["fm"]), (("fm", {"name": "cross", "config": {"num_layers": 1}}), ["fm", "cross"])],
)
def test_a_list_survives_the_config(interaction, names):
    model = model_of(interaction=interaction, structure="concat", dtype="mixed_bfloat16")
    config = json.loads(json.dumps(model.get_config()))
    assert [block["name"] for block in config["interaction"]] == names
    again = RankingModel.from_config(config)
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(BATCH), model(BATCH))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_several_blocks_are_saved_and_loaded(tmp_path, structure):
    from nfm_tfrs.runs.saving import load_model

    model = model_of(interaction=["cross", "fm", "self_attention", "cross"], structure=structure)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "model.keras")(BATCH), model(BATCH))


def test_blocks_must_be_one_or_more_and_each_its_own():
    block = BiInteraction()
    message = "interaction must list one block or more, each once; received .* Make another block for a second copy"
    for interaction in ([], [block, block]):
        with pytest.raises(ValueError, match=message):
            model_of(interaction=interaction)


def test_arguments_that_a_block_does_not_take_are_named():
    with pytest.raises(
        TypeError,
        match=r"The block 'cross' cannot be made with .*: Cross has no .*; did you mean 'num_layers'",
    ):
        model_of(interaction={"name": "cross", "config": {"layers": 2}})
    with pytest.raises(ValueError, match="interaction must be a block's name"):
        model_of(interaction={"name": "cross", "config": [1]})


def test_a_block_that_was_built_for_another_shape_is_refused():
    block = get_block("cross", name="crosses")
    block(tf.ones([2, 3, 4]))
    with pytest.raises(ValueError, match=r'layer "crosses" is incompatible .* expected axis 1 .* value 3'):
        model_of(interaction=block)


def test_a_list_that_holds_something_else_is_refused():
    with pytest.raises(ValueError, match=r"or an InteractionBlock; received 3\."):
        model_of(interaction=["fm", 3])


# --- the numbers' network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_tower_sees_the_numbers_network_once(structure):
    columns, _ = example_rows(8)
    model = RankingModel(
        example_features(), embedding_dim=4, numeric="bottom_mlp", structure=structure, hidden_units=(3,)
    )
    fields = 4  # user, city, genres and the numbers' network
    expected = {"stacked": 4 + 4, "concat": 4 + 4 * fields, "parallel": 4 * fields}
    assert model._tower.trainable_weights[0].shape == (expected[structure], 3)
    assert model(columns).shape == (8, 1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_half_precision_says_nearly_the_same(structure, policy):
    columns, _ = example_rows(32)
    arguments = {"embedding_dim": 4, "interaction": ["cross", "fm"], "structure": structure, "numeric": "bottom_mlp"}
    model = RankingModel(example_features(), embedding_stddev=0.3, **arguments)
    half = RankingModel(example_features(), **arguments, dtype=policy)
    half.set_weights(model.get_weights())
    expected = model(columns).numpy()
    assert half(columns).dtype == tf.float32
    np.testing.assert_allclose(half(columns), expected, atol=0.02 * np.abs(expected).max())


def test_a_table_that_no_memory_holds_is_refused_before_it_is_made():
    huge = [CategoricalFeature(name, num_hash_buckets=10**12) for name in "ab"]
    with pytest.raises(ValueError, match=r"rows and embedding_dim=8 takes [\d,]+ GB, and this machine has \d+\. Lower"):
        RankingModel(huge, embedding_dim=8)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(RankingModel, "_traced_call", exhausted)
    with pytest.raises(ValueError, match=r"The model's weights do not fit into the memory that is left\. Lower"):
        RankingModel([CategoricalFeature(name, vocabulary_size=3) for name in "ab"])
