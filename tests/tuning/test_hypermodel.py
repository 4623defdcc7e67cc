import json
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.tuning import RankingHyperModel, keras_tuner
from nfm_tfrs.tuning.hypermodel import OPTIONS
from tfrs_registry import ComponentSpec, PluginWarning, UnknownComponentError, blocks, get_model

FEATURES = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "item")] + [NumericFeature("price")]
DYNAMIC = [FEATURES[0], MultiCategoricalFeature("seen", vocabulary_size=9, combiner=None)]


@keras.utils.register_keras_serializable(package="tests")
class Sums(InteractionBlock):
    """A block of another package."""

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def call(self, embeddings, mask=None):
        return tf.reduce_sum(tf.cast(embeddings, tf.float32) ** self.power, axis=1)

    def get_config(self):
        return {**super().get_config(), "power": self.power}

    def build(self, input_shape):
        if self.power == 2 and input_shape[1] == 3:
            raise ValueError("no squares of three fields")
        super().build(input_shape)

    @classmethod
    def search_space(cls, hp):
        return {"power": hp.Int("power", 1, 3)}


@pytest.fixture
def third_party(monkeypatch):
    monkeypatch.setattr(blocks, "_local", dict(blocks._local))  # forgotten behind the test
    monkeypatch.setitem(sys.modules, "acme_blocks", sys.modules[__name__])
    blocks.register(ComponentSpec(name="acme_sums", target="acme_blocks:Sums", summary="Sums."))
    return "acme_sums"


def explored(hypermodel):
    """Every hyperparameter that a tuner finds, and every candidate on the way."""
    found, tuner = [], keras_tuner.engine.base_tuner.BaseTuner

    class Explorer(tuner):
        def run_trial(self, trial):
            return 0.0

    def candidate(hp):
        found.append(hypermodel.candidate(hp))

    oracle = keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("val_auc", "max"), max_trials=1)
    with tempfile.TemporaryDirectory() as folder:
        Explorer(oracle, candidate, directory=folder, project_name="x")
    return oracle, found


def sampled(oracle, hypermodel, count):
    for seed in range(count):
        oracle._seed_state = seed * 1000
        hp = oracle.get_space()
        hp.values = oracle._random_values()
        yield hypermodel.candidate(hp)


def test_the_defaults_are_those_of_nfm():
    hypermodel = RankingHyperModel(FEATURES)
    candidate = hypermodel.candidate(keras_tuner.HyperParameters())
    assert candidate.model == "ranking"
    assert candidate.arguments == {
        "interaction": {"name": "bi_interaction", "config": {}},
        "hidden_units": [64],
        "structure": "stacked",
        "batch_norm": True,
        "dropout": 0.2,
        "interaction_batch_norm": True,
        "embedding_dim": 64,
        "interaction_dropout": 0.5,
        "embedding_l2": 0.0,
        **{name: values[0] for name, values in OPTIONS.items() if hypermodel.takes("ranking", name)},
        "dtype": "float32",
        "task": "binary",
    }
    training = {"optimizer": "lazyadagrad", "learning_rate": 0.05, "schedule": "constant", "batch_size": 256}
    assert candidate.training == training
    whole = RankingHyperModel(FEATURES, decay_steps=9).candidate(keras_tuner.HyperParameters())
    assert whole == replace(candidate, averaging=0.999)  # which takes more than KerasTuner's own loop


def space_of(hypermodel):
    return {space.name: space for space in explored(hypermodel)[0].hyperparameters.space}


def test_schedules_averages_and_accumulators_are_drawn_where_they_go_together():
    space = space_of(RankingHyperModel(FEATURES, blocks=["fm"], decay_steps=100))
    assert space["schedule"].values == ["constant", "cosine", "one_cycle", "plateau"]
    conditions = {
        name: {condition.name: condition.values for condition in space[name].conditions}
        for name in ("one_cycle/warm_up", "averaging", "adagrad/initial_accumulator_value")
    }
    assert conditions == {
        "one_cycle/warm_up": {"schedule": ["one_cycle"]},
        "averaging": {"schedule": ["constant", "plateau"]},
        "adagrad/initial_accumulator_value": {"optimizer": ["lazyadagrad", "adagrad"]},
    }
    assert 128 in space["embedding_dim"].values
    assert 0.4 in space["dropout"].values
    assert 0.4 in space["interaction_dropout"].values


@pytest.mark.parametrize(
    ("values", "training"),
    [
        ({"schedule": "cosine"}, {"schedule": "cosine"}),
        (
            {"schedule": "one_cycle", "one_cycle/warm_up": 0.05, "optimizer": "lazyadam", "adam/learning_rate": 0.005},
            {"optimizer": "lazyadam", "learning_rate": 0.005, "schedule": "one_cycle"}
            | {"schedule_arguments": {"warm_up": 0.05}},
        ),
        (
            {"schedule": "plateau", "averaging": 0.999, "adagrad/initial_accumulator_value": 1e-3},
            {"schedule": "plateau", "schedule_arguments": {"looks": 4}, "averaging": 0.999}
            | {"optimizer_arguments": {"initial_accumulator_value": 1e-3}},
        ),
    ],
)
def test_what_is_drawn_of_a_training_is_in_the_candidate(values, training):
    hp = keras_tuner.HyperParameters()
    hp.values = values
    candidate = RankingHyperModel(FEATURES, blocks=["fm"], decay_steps=100).candidate(hp)
    default = {"optimizer": "lazyadagrad", "learning_rate": 0.05, "batch_size": 256}
    assert candidate.training == {**default, **training}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_off_by_default_is_drawn_where_a_model_takes_it(name):
    hypermodel = RankingHyperModel(FEATURES, models=["ranking", "deepfm"], blocks=["fm"])
    space = space_of(hypermodel)
    assert (name in space) == hypermodel.takes("ranking", name)
    if name in space:
        hp = keras_tuner.HyperParameters()
        hp.values = {name: OPTIONS[name][1]}
        assert hypermodel.candidate(hp).config[name] == OPTIONS[name][1]
        fixed = RankingHyperModel(FEATURES, blocks=["fm"], fixed={name: OPTIONS[name][1]})
        assert name not in space_of(fixed)
        assert fixed.candidate(keras_tuner.HyperParameters()).config[name] == OPTIONS[name][1]
    regression = RankingHyperModel(FEATURES, blocks=["fm"], task="regression")
    assert name != "label_smoothing" or name not in space_of(regression)


def test_a_fixed_schedule_leaves_no_other_s_arguments():
    fixed = {"schedule": "cosine", "schedule_arguments": {"floor": 0.1}, "optimizer_arguments": {"epsilon": 1e-6}}
    fixed |= {"optimizer": "lazyadagrad"}
    hypermodel = RankingHyperModel(FEATURES, blocks=["fm"], decay_steps=100, fixed=fixed)
    assert not {"schedule", "averaging", "one_cycle/warm_up", "adagrad/initial_accumulator_value"} & set(
        space_of(hypermodel)
    )
    found = hypermodel.candidate(keras_tuner.HyperParameters())
    assert (found.schedule_arguments, found.optimizer_arguments) == ({"floor": 0.1}, {"epsilon": 1e-6})


def test_a_training_that_is_not_the_search_s_own_has_a_constant_rate():
    assert not {"schedule", "averaging"} & set(space_of(RankingHyperModel(FEATURES, blocks=["fm"])))


def test_fixed_averages_are_kept_where_the_rate_does_not_end_low():
    hypermodel = RankingHyperModel(FEATURES, blocks=["fm"], decay_steps=100, fixed={"averaging": 0.99})
    for schedule in ("constant", "cosine", "one_cycle", "plateau"):
        hp = keras_tuner.HyperParameters()
        hp.values = {"schedule": schedule}
        candidate = hypermodel.candidate(hp)
        assert candidate.averaging == (0.99 if schedule in ("constant", "plateau") else None)
        assert hypermodel.problem(candidate) is None


@pytest.mark.parametrize("told", [{"schedule": "cosine", "averaging": 0.9}, {"schedule_arguments": {"floor": 0.1}}])
def test_what_makes_no_training_is_a_problem(told):
    found = RankingHyperModel(FEATURES, blocks=["fm"]).problem(Configuration(model="ranking", **told))
    assert "Averaged weights gain nothing" in found if "averaging" in told else "takes no schedule_arguments" in found


def test_what_the_penalty_is_divided_by_is_drawn_where_rows_are_counted():
    assert "embedding_l2_by" not in space_of(RankingHyperModel(FEATURES, blocks=["fm"]))
    assert "embedding_l2_by" in space_of(RankingHyperModel(FEATURES, blocks=["fm"], decay_steps=9))


@pytest.mark.parametrize("config", [{"dropout": 0.0}, {"dropout": 0.1}, {}])
def test_two_passes_that_learn_from_their_mean_need_dropout(config):
    candidate = Configuration(model="ranking", config={**config, "self_ensemble": 1.0})
    found = RankingHyperModel(FEATURES, blocks=["fm"]).problem(candidate)
    expected = None if config.get("dropout") else "two passes that each learn from their mean need dropout"
    assert found == expected


def test_every_block_with_its_own_arguments_takes_part():
    hypermodel = RankingHyperModel(FEATURES)
    oracle, _ = explored(hypermodel)
    names = {space.name for space in oracle.hyperparameters.space}
    assert {
        "interaction",
        "cross/kind",
        "cross/rank",
        "cin/num_layers",
        "adam/learning_rate",
        "layers",
        "units",
    } <= names
    assert set(hypermodel.blocks) == set(blocks.names())
    space = {space.name: space for space in oracle.hyperparameters.space}
    assert [condition.name for condition in space["cross/rank"].conditions] == ["interaction", "cross/kind"]


def with_histories(*combiners):
    bags = [
        MultiCategoricalFeature(f"seen_{n}", vocabulary_size=9, embedding_name="item", target="item", combiner=combiner)
        for n, combiner in enumerate(combiners)
    ]
    return [*FEATURES, *bags]


@pytest.mark.parametrize(
    ("combiners", "choices"),
    [
        ([], None),
        (["mean", "mean"], ["declared", "attention"]),
        (["attention"], ["declared", "mean"]),
        (["sum", "mean"], ["declared", "mean", "attention"]),
        (["mean", None], None),
    ],
)
def test_histories_are_searched_where_there_are_some(combiners, choices):
    oracle, found = explored(RankingHyperModel(with_histories(*combiners), blocks=["fm"]))
    space = {space.name: space for space in oracle.hyperparameters.space}
    assert (list(space["history_combiner"].values) if "history_combiner" in space else None) == choices
    if choices:
        assert found[0].config["history_combiner"] is None
    else:
        assert "history_combiner" not in found[0].config


def test_a_drawn_history_combiner_makes_the_model():
    hypermodel = RankingHyperModel(with_histories("mean"), blocks=["fm"])
    hp = keras_tuner.HyperParameters()
    hp.Fixed("history_combiner", "attention")
    candidate = hypermodel.candidate(hp)
    assert candidate.config["history_combiner"] == "attention"
    assert hypermodel.built(candidate).features["seen_0"].attends
    fixed = RankingHyperModel(with_histories("mean"), blocks=["fm"], fixed={"history_combiner": "attention"})
    assert fixed.candidate(keras_tuner.HyperParameters()).config["history_combiner"] == "attention"


class Plain:
    """A model of another package that takes no way to pool histories."""

    def __init__(self, features, *, embedding_dim=8, task="binary"):
        self.told = features, embedding_dim, task


@pytest.mark.parametrize(("models", "drawn"), [(["ranking"], False), (["ranking", "nfm"], True)])
def test_how_histories_are_pooled_is_drawn_where_a_model_takes_it(monkeypatch, models, drawn):
    hypermodel = RankingHyperModel(with_histories("mean"), models=models, blocks=["fm"])
    monkeypatch.setitem(hypermodel._classes, "ranking", Plain)
    oracle, found = explored(hypermodel)
    assert ("history_combiner" in {space.name for space in oracle.hyperparameters.space}) == drawn
    assert all("history_combiner" not in one.config for one in found if one.model == "ranking")


@pytest.fixture(scope="module")
def drawn():
    hypermodel = RankingHyperModel(FEATURES, decay_steps=100)
    oracle, _ = explored(hypermodel)
    return list(sampled(oracle, hypermodel, 12))


def test_candidates_are_json(drawn):
    assert len({json.dumps(candidate.to_json()) for candidate in drawn}) == 12
    for candidate in drawn:
        assert Configuration.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate


@pytest.mark.slow
def test_what_is_drawn_can_be_made(drawn):
    hypermodel = RankingHyperModel(FEATURES, decay_steps=100)
    for candidate in drawn:
        model = hypermodel.built(candidate)
        assert model.count_params() > 0
        again = get_model(candidate.model, features=FEATURES, **candidate.arguments)
        assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]


def test_schedules_follow_the_whole_training():
    hypermodel = RankingHyperModel(FEATURES, decay_steps=100, fixed={"schedule": "cosine", "learning_rate": 0.2})
    model = hypermodel.built(hypermodel.candidate(keras_tuner.HyperParameters()), decay_steps=50)
    rate = model.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 25, 50)] == pytest.approx([0.2, 0.1, 0.0], abs=1e-7)


def test_a_cosine_schedule_needs_to_know_over_how_many_steps():
    with pytest.raises(ValueError, match=r"needs to know over how many steps\. Pass decay_steps too\."):
        RankingHyperModel(FEATURES, fixed={"schedule": "cosine"})


def test_a_block_of_another_package_takes_part_by_being_installed(third_party):
    hypermodel = RankingHyperModel(FEATURES)
    oracle, _ = explored(hypermodel)
    assert "acme_sums/power" in {space.name for space in oracle.hyperparameters.space}
    hp = keras_tuner.HyperParameters()
    hp.Fixed("interaction", "acme_sums")
    candidate = RankingHyperModel(FEATURES, blocks=[third_party]).candidate(hp)
    assert candidate.config["interaction"] == {"name": "acme_sums", "config": {"power": 1}}


@pytest.mark.parametrize(("power", "problem"), [(1, None), (2, "no squares of three fields"), (3, None)])
def test_arguments_that_do_not_go_together_are_a_problem(third_party, power, problem):
    hypermodel = RankingHyperModel(FEATURES, blocks=[third_party, "fm"])
    hp = keras_tuner.HyperParameters()
    hp.values = {"interaction": third_party, "acme_sums/power": power}
    found = hypermodel.problem(hypermodel.candidate(hp))
    assert found is None if problem is None else problem in found


def test_a_number_of_fields_that_differs_by_batch_leaves_what_takes_it():
    hypermodel = RankingHyperModel(DYNAMIC)
    assert {"bi_interaction", "fm"} <= set(hypermodel.blocks)
    assert "cross" not in hypermodel.blocks
    assert hypermodel.structures == ("stacked",)


def test_one_field_leaves_the_blocks_that_take_one():
    assert set(RankingHyperModel(FEATURES[:1]).blocks) == {
        name for name in blocks.names() if blocks.load(name).min_fields == 1
    }


def test_other_models_keep_their_own_interaction_and_structure():
    hypermodel = RankingHyperModel(FEATURES, models=["deepfm", "dcnv2"])
    oracle, _ = explored(hypermodel)
    names = {space.name for space in oracle.hyperparameters.space} - set(OPTIONS) - {"embedding_l2_by"}
    assert names == {"model", "embedding_dim", "interaction_dropout", "embedding_l2", "optimizer"} | {
        "number_encoder",
        "adagrad/learning_rate",
        "adagrad/initial_accumulator_value",
        "adam/learning_rate",
    }
    for candidate in sampled(oracle, hypermodel, 3):
        assert "interaction" not in candidate.config
        assert hypermodel.built(candidate).interaction is not None


@pytest.mark.parametrize("models", [["ranking", "nfm"], ["nfm", "ranking"]])
def test_blocks_are_drawn_for_the_open_model_only(models):
    hypermodel = RankingHyperModel(FEATURES, models=models)
    oracle, _ = explored(hypermodel)
    drawn = list(sampled(oracle, hypermodel, 8))
    assert {candidate.model for candidate in drawn} == set(models)
    for candidate in drawn:
        assert ("interaction" in candidate.config) == (candidate.model == "ranking")


def test_what_is_fixed_is_not_searched():
    fixed = {
        "embedding_dim": 5,
        "hidden_units": [7],
        "interaction": ["fm", "cross"],
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "jit_compile": True,
        "batch_norm_momentum": 0.9,
    }
    hypermodel = RankingHyperModel(FEATURES, fixed=fixed)
    oracle, _ = explored(hypermodel)
    assert {space.name for space in oracle.hyperparameters.space} - set(OPTIONS) - {"embedding_l2_by"} == {
        *("structure", "batch_norm", "dropout", "interaction_batch_norm", "interaction_dropout", "embedding_l2"),
        "number_encoder",
    }
    candidate = hypermodel.candidate(keras_tuner.HyperParameters())
    model = hypermodel.built(candidate)
    assert (model.embedding_dim, model.hidden_units, model.batch_norm_momentum) == (5, (7,), 0.9)
    assert type(model.optimizer).__name__ == "SGD"
    assert model._scored_by_xla is not None


@pytest.mark.slow
@pytest.mark.parametrize("make", ["RandomSearch", "Hyperband", "BayesianOptimization", "GridSearch"])
def test_every_tuner_of_keras_tuner_takes_it_and_keeps_no_model(make, tmp_path, num_graphs):
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 9, 64), "item": rng.integers(0, 9, 64), "price": rng.normal(size=64)}
    data = tf.data.Dataset.from_tensor_slices((columns, rng.integers(0, 2, 64).astype(np.float32))).batch(32)
    hypermodel = RankingHyperModel(
        FEATURES, blocks=["fm", "cross"], fixed={"embedding_dim": 4, "hidden_units": [4], "learning_rate": 0.1}
    )
    budget = {"max_epochs": 2} if make == "Hyperband" else {"max_trials": 2}
    tuner = getattr(keras_tuner, make)(
        hypermodel,
        keras_tuner.Objective("val_auc", "max"),
        directory=tmp_path,
        seed=1,
        max_model_size=100_000,
        **budget,
    )
    before = num_graphs()
    tuner.search(data, validation_data=data, epochs=1, verbose=0)
    assert num_graphs() == before
    statuses = {trial.status for trial in tuner.oracle.trials.values()}
    assert statuses == {"COMPLETED"}
    best = tuner.get_best_hyperparameters()[0]
    assert hypermodel.candidate(best).config["interaction"]["name"] in ("fm", "cross")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"blocks": []}, ValueError, r"blocks must list one or more; received \[\]. Leave it out"),
        ({"blocks": "fm"}, ValueError, "blocks must list one or more; received 'fm'"),
        ({"models": []}, ValueError, "models must list one or more"),
        (
            {"structures": ["stacked", "round"]},
            ValueError,
            "structures may hold stacked, .*; received 'round'. Correct",
        ),
        ({"blocks": ["fm", "crosss"]}, UnknownComponentError, "cross"),
        ({"models": ["nfn"]}, UnknownComponentError, "nfm"),
        ({"fixed": {"model": "fm"}}, ValueError, "fixed may hold .*; received 'model'"),
        ({"fixed": {"task": "regression"}}, ValueError, "fixed may hold .*; received 'task'"),
        ({"fixed": {"interaction": object()}}, ValueError, 'fixed holds plain numbers.* Write a block as {"name"'),
        ({"models": ["nfm"], "blocks": ["fm"]}, ValueError, r"Blocks are searched of .*; received \['fm'\] for nfm"),
        ({"blocks": ["fm"], "fixed": {"interaction": "fm"}}, ValueError, "where no interaction is fixed; received"),
        ({"fixed": {"embeding_dim": 3}}, ValueError, "fixed may hold .*embedding_dim.*; received 'embeding_dim'"),
        ({"fixed": {"optimizer": "sgd"}}, ValueError, "received optimizer='sgd'. Fix its learning_rate too."),
        (
            {"fixed": {"optimizer_arguments": {"initial_accumulator_value": 0.1}}},
            ValueError,
            "arguments of its own; received optimizer_arguments initial_accumulator_value. Fix the optimizer too.",
        ),
        ({"fixed": {"schedule_arguments": {"looks": 3}}}, ValueError, "received looks. Give schedule= too"),
        (
            {"fixed": {"schedule": "cosine", "averaging": 0.9}, "decay_steps": 9},
            ValueError,
            'Averaged weights gain nothing with schedule="cosine"',
        ),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        RankingHyperModel(FEATURES, **arguments)
    assert "\n" not in str(caught.value)


def test_what_is_fixed_is_plain_in_the_candidate():
    fixed = {"hidden_units": (4, 2), "interaction": "fm"}
    config = RankingHyperModel(FEATURES, fixed=fixed).candidate(keras_tuner.HyperParameters()).config
    assert config["hidden_units"] == [4, 2]


def test_names_are_those_of_the_registry_however_they_are_spelled():
    hypermodel = RankingHyperModel(FEATURES, models=["Ranking"], blocks=["FM", "fm", "Bi-Interaction"])
    assert hypermodel.models == ("ranking",)
    assert list(hypermodel.blocks) == ["fm", "bi_interaction"]


def test_a_block_whose_search_space_fails_takes_no_part(third_party, monkeypatch):
    monkeypatch.setattr(Sums, "search_space", lambda hp: {}["power"])
    with pytest.warns(PluginWarning, match="'acme_sums' takes no part: The search space .* fails: KeyError: 'power'"):
        assert third_party not in RankingHyperModel(FEATURES).blocks
    with pytest.raises(ValueError, match=r"The search space of the block 'acme_sums' fails: .* Leave the block out."):
        RankingHyperModel(FEATURES, blocks=[third_party])


def test_whatever_a_block_raises_is_a_problem_of_its_candidate_alone(third_party, monkeypatch):
    def cost(self, num_fields, embedding_dim):
        raise KeyError("width")

    monkeypatch.setattr(Sums, "cost", cost)
    hypermodel = RankingHyperModel(FEATURES, blocks=[third_party])
    assert hypermodel.problem(hypermodel.candidate(keras_tuner.HyperParameters())) == "'width'"


@pytest.mark.parametrize(
    ("features", "names", "message"),
    [
        (
            DYNAMIC,
            ["cross"],
            "'cross' does not fit these features: it needs a known number of fields; received one that differs",
        ),
        (
            FEATURES[:1],
            ["fm"],
            "'fm' does not fit these features: it needs at least 2 fields; received 1. Leave it out.",
        ),
    ],
)
def test_a_block_that_does_not_fit_is_refused_where_it_is_named(features, names, message):
    with pytest.raises(ValueError, match=message):
        RankingHyperModel(features, blocks=names)


def test_a_drawn_embedding_dim_goes_with_features_of_their_own_length():
    features = [
        CategoricalFeature("user", vocabulary_size=9, embedding_dim=8),
        CategoricalFeature("item", vocabulary=["a", "b"], embedding_dim=3, frozen=True),
        NumericFeature("price"),
    ]
    hypermodel = RankingHyperModel(features, blocks=["fm"], fixed={"hidden_units": (), "members": 1})
    for dim, lengths in ((8, [8, 3]), (16, [16, 8, 3])):
        hp = keras_tuner.HyperParameters()
        hp.Fixed("embedding_dim", dim)
        model = hypermodel.build(hp)
        assert [layout.dim for layout in model.embedding.layouts] == lengths
        assert model.embedding.projections[-1].shape == (3, dim + 1)
