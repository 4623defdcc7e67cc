"""A recipe says what is wrong with it, builds the model that it names, and trains it as one would by hand."""

import inspect
import json
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs import optimizers
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.training import Best, Recipe, evaluate_constant
from nfm_tfrs.training.recipe import OPTIMIZERS, ROW_WISE
from nfm_tfrs.training.schedules import Plateau
from nfm_tfrs.tuning.winner import train_again
from tfrs_registry import get_model

YESTERDAY = Path(__file__).parents[1] / "yesterday" / "best.json"  # of version 0.1.0
FEATURES = FeatureSpec([CategoricalFeature(name, vocabulary_size=9) for name in ("user", "film")])
SMALL = {"embedding_dim": 4, "hidden_units": [4]}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    user, film = rng.integers(0, 9, 200), rng.integers(0, 7, 200)
    table = pa.table({"user": user, "film": film, "y": ((user * film) % 3 + rng.normal(0, 0.8, 200) < 0.7).astype(int)})
    return prepare(table, "y", "random")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"schedule": "linear"},
            'schedule must be "constant", "cosine", "one_cycle" or "plateau"; received \'linear\'.',
        ),
        (
            {"schedule": "cosine", "optimizer": "sgd"},
            'schedule="cosine" needs the highest rate of sgd; received none. Give learning_rate= too.',
        ),
        (
            {"schedule": "cosine", "optimizer": "adagrad"},  # Keras' own rate hardly trains
            'schedule="cosine" needs the highest rate of adagrad; received none. Give learning_rate= too.',
        ),
        (
            {"schedule_arguments": {"warm_up": 0.1}},
            "A constant rate takes no schedule_arguments; received warm_up. Give schedule= too: cosine, one_cycle, "
            "plateau.",
        ),
        (
            {"schedule": "one_cycle", "schedule_arguments": {"warmup": 0.1}},
            "There is no argument of one_cycle 'warmup'; did you mean 'warm_up'? There are warm_up, floor.",
        ),
        ({"rate_rows": 0}, "rate_rows must be a whole number of 1 or more; received 0."),
        ({"averaging": 1}, "averaging must be at least 0 and below 1; received 1."),
        (
            {"averaging": 0.99, "schedule": "one_cycle"},
            'Averaged weights gain nothing with schedule="one_cycle", whose rate ends low; received 0.99. '
            "Leave averaging= out, or take a constant rate or a plateau.",
        ),
        ({"optimizer": "lazyadm"}, f"optimizer must be one of {', '.join(OPTIMIZERS)}; received 'lazyadm'."),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more; received 0."),
        ({"passes": 0}, "passes must be a number above 0; received 0."),
        ({"passes": math.inf}, "passes must be a number above 0; received inf."),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        Recipe(model="nfm", **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("recipe", "features", "message"),
    [
        (Recipe(model="nfm"), None, "A model needs to know its features; received none. Give features=."),
        (
            Recipe(model="nfm", schedule="cosine", learning_rate=0.1),
            FEATURES,
            'schedule="cosine" needs to know over how many steps. Give steps too.',
        ),
        (
            Recipe(model="nfm", schedule="one_cycle"),
            FEATURES,
            'schedule="one_cycle" needs to know over how many steps. Give steps too.',
        ),
        (
            Recipe(model="nfm", config={"embeding_dim": 4}),
            FEATURES,
            r"nfm cannot be made with embeding_dim=4: .* did you mean 'embedding_dim'\?\. Correct or remove ",
        ),
        (
            Recipe(model="nfm", config=SMALL, optimizer="adam", optimizer_arguments={"beta": 0.5}),
            FEATURES,
            r"The optimizer adam cannot be made with \{'beta': 0.5\}: .* Correct the argument.",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(recipe, features, message):
    with pytest.raises(ValueError, match=message) as caught:
        recipe.build(features)
    assert "\n" not in str(caught.value)


def test_arguments_are_checked_without_features():
    Recipe(model="nfm", config=SMALL, precision="mixed_float16").check_arguments()
    with pytest.raises(ValueError, match=r"nfm cannot be made with dims=4: .* Correct or remove the argument\."):
        Recipe(model="nfm", config={"dims": 4}).check_arguments()
    with pytest.raises(LookupError, match="nfm"):
        Recipe(model="nfn").check_arguments()
    with pytest.raises(ValueError, match=r"^The optimizer lazyadagrad cannot be made with \{'beta': 1\}: .*\.$"):
        Recipe(model="nfm", config=SMALL, optimizer_arguments={"beta": 1}).check_arguments()


# --- optimizers by their names ----------------------------------------------------------------------------------------


def test_the_optimizers_are_those_that_keras_makes_by_name_and_ours():
    def is_made(name):
        try:
            return isinstance(keras.optimizers.get(name), keras.optimizers.Optimizer)
        except ValueError:
            return False

    classes = {name.lower() for name, thing in vars(keras.optimizers).items() if inspect.isclass(thing)}
    ours = {cls.__name__.lower() for cls in optimizers.RowWiseOptimizer.__subclasses__()}
    assert set(OPTIMIZERS) == {name for name in classes | set(OPTIMIZERS) if is_made(name)} | ours
    assert set(ROW_WISE) == ours
    assert len(set(OPTIMIZERS)) == len(OPTIMIZERS)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "LazyAdam", "Adam"])
def test_each_optimizer_is_made_by_its_name_with_its_rate(name):
    made = optimizers.named_optimizer(name, 0.25)
    assert type(made).__name__.lower() == name.lower()
    assert float(made.learning_rate) == 0.25


def test_the_optimizer_has_the_rate_and_the_arguments_of_the_recipe():
    recipe = Recipe(
        model="nfm", config=SMALL, optimizer="adam", learning_rate=0.25, optimizer_arguments={"beta_1": 0.5}
    )
    optimizer = recipe.build(FEATURES).optimizer
    assert (type(optimizer).__name__, float(optimizer.learning_rate), optimizer.beta_1) == ("Adam", 0.25, 0.5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ("LazyAdagrad", 0.05)),  # the model's own
        ({"learning_rate": 0.25}, ("LazyAdagrad", 0.25)),
        ({"optimizer": "lazyadam"}, ("LazyAdam", 0.001)),
    ],
)
def test_what_is_left_out_is_the_default(arguments, expected):
    optimizer = Recipe(model="nfm", config=SMALL, **arguments).build(FEATURES).optimizer
    assert (type(optimizer).__name__, pytest.approx(float(optimizer.learning_rate))) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"schedule": "cosine", "optimizer": "sgd", "learning_rate": 0.2}, [0.2, 0.1, 0.0]),
        ({"schedule": "one_cycle", "schedule_arguments": {"warm_up": 0.5, "floor": 0.1}}, [0.0, 0.05, 0.005]),
        ({"schedule": "one_cycle", "schedule_arguments": {"warm_up": 0.5}, "batch_size": 1024}, [0.0, 0.2, 0.0]),
        ({"schedule": "one_cycle", "schedule_arguments": {"warm_up": 0.5}, "jit_compile": True}, [0.0, 0.05, 0.0]),
        ({"schedule": "cosine", "optimizer": "lazyadam", "batch_size": 1024}, [0.001, 0.0005, 0.0]),
    ],
)
def test_a_rate_rises_and_falls_over_the_steps_from_the_default_where_none_is_told(arguments, expected):
    optimizer = Recipe(model="nfm", config=SMALL, **arguments).build(FEATURES, steps=50).optimizer
    rate = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    assert [float(rate(step)) for step in (0, 25, 50)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"batch_size": 1024}, ("LazyAdagrad", 0.2)),
        ({"batch_size": 1024, "jit_compile": True}, ("Adagrad", 0.2)),
        ({"batch_size": 1024, "optimizer_arguments": {"epsilon": 1e-6}}, ("LazyAdagrad", 0.2)),
        ({"batch_size": 128, "optimizer": "Adagrad", "learning_rate": 0.3}, ("Adagrad", 0.15)),
        ({"batch_size": 100, "rate_rows": 50, "learning_rate": 0.3}, ("LazyAdagrad", 0.6)),
        ({"batch_size": 1024, "rate_rows": None, "learning_rate": 0.3}, ("LazyAdagrad", 0.3)),
        ({"batch_size": 1024, "optimizer": "adam", "learning_rate": 0.3}, ("Adam", 0.3)),
    ],
)
def test_the_rate_of_an_adagrad_grows_with_the_rows_of_a_step(arguments, expected):
    optimizer = Recipe(model="nfm", config=SMALL, **arguments).build(FEATURES).optimizer
    assert (type(optimizer).__name__, pytest.approx(float(optimizer.learning_rate))) == expected


@pytest.mark.parametrize("jit", [False, True])
def test_the_default_rate_is_the_one_that_a_model_takes_by_itself(jit):
    model = get_model("nfm", features=FEATURES, **SMALL)
    model.compile(jit_compile=jit)
    assert float(model.optimizer.learning_rate) == np.float32(Recipe(model="nfm", jit_compile=jit).rate)


def test_averaging_goes_to_the_model(monkeypatch):
    told = []
    monkeypatch.setattr(NFM, "compile", lambda self, optimizer, **arguments: told.append(arguments))
    for averaging in (None, 0, 0.99):
        Recipe(model="nfm", config=SMALL, averaging=averaging).build(FEATURES)
    assert told == [{}, {}, {"averaging": 0.99}]


def test_a_plateau_goes_to_the_training_that_divides_its_rate(data, monkeypatch):
    told = []
    monkeypatch.setattr(
        import_module("nfm_tfrs.training.fit"), "fit", lambda *args, **arguments: told.append(arguments.get("plateau"))
    )
    for schedule in ("constant", "plateau"):
        Recipe(model="nfm", config=SMALL, schedule=schedule).fit(data)
    Recipe(model="nfm", config=SMALL, schedule="plateau", schedule_arguments={"looks": 1}).fit(data)
    assert told == [None, Plateau(), Plateau(looks=1)]


@pytest.mark.parametrize(("passes", "epochs", "whole"), [(None, 4, 4), (3, 2, 3), (None, None, 20)])
def test_a_schedule_is_over_the_passes_that_are_told(data, monkeypatch, passes, epochs, whole):
    steps = []
    build = Recipe.build
    monkeypatch.setattr(Recipe, "build", lambda self, features, *, steps: _noted(build(self, features, steps=steps)))
    monkeypatch.setattr(import_module("nfm_tfrs.training.fit"), "fit", lambda *args, **arguments: {})

    def _noted(model):
        steps.append(model.optimizer.get_config()["learning_rate"]["config"]["decay_steps"])
        return model

    Recipe(model="nfm", config=SMALL, schedule="cosine", batch_size=80, passes=passes).fit(data, epochs=epochs)
    assert steps == [whole * 2]


def test_precision_and_xla_are_the_recipe_s():
    recipe = Recipe(model="nfm", config=SMALL, optimizer="sgd", precision="mixed_float16", jit_compile=True)
    model = recipe.build(FEATURES)
    assert model.dtype_policy.name == "mixed_float16"
    assert model._scored_by_xla is not None


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_recipe_trains_as_one_would_by_hand(data):
    recipe = Recipe(
        model="nfm",
        config=SMALL,
        optimizer="adagrad",
        learning_rate=4.0,  # for steps of 256 rows: 0.5 for those of 32
        schedule="cosine",
        batch_size=32,
        passes=3,
    )
    trained = recipe.fit(data, seed=5, patience=2)

    keras.utils.set_random_seed(5)
    model = NFM(data.features, embedding_dim=4, hidden_units=(4,))
    steps = 3 * math.ceil(len(data.train) / 32)
    model.compile(keras.optimizers.Adagrad(keras.optimizers.schedules.CosineDecay(0.5, steps)))
    stop = keras.callbacks.EarlyStopping("val_auc", mode="max", patience=2, restore_best_weights=True)
    rows = data.train.dataset(32, shuffle=True, seed=5)
    history = model.fit(rows, validation_data=data.valid.dataset(4096), epochs=3, callbacks=[stop], verbose=0).history

    assert trained.history == history
    for mine, theirs in zip(trained.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_training_starts_at_the_rate_of_all_its_rows(data):
    trained = Recipe(model="nfm", config=SMALL, batch_size=8).fit(data, epochs=1)  # 20 batches

    rate = data.train.labels.mean()
    assert trained.model.label_mean.numpy() == pytest.approx(np.log(rate / (1 - rate)), rel=1e-5)


def test_the_constant_is_that_of_the_training_rows_and_not_said_of_a_stream(data):
    model = NFM(data.features, embedding_dim=4)
    found = evaluate_constant(model, data.test, data.train)

    rate, labels = data.train.labels.mean(), data.test.labels
    assert found == {"log_loss": pytest.approx(-np.mean(np.log(np.where(labels == 1, rate, 1 - rate))), rel=1e-6)}
    assert evaluate_constant(model, data.test, None) == {}


def test_who_gives_a_callback_or_rows_has_them_used(data):
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, self.params["steps"]))

    recipe = Recipe(model="nfm", config=SMALL, batch_size=32, passes=1.5)
    rows = data.train.dataset(80)
    assert set(recipe.fit(data, rows=rows, callbacks=[Seen()]).history) >= {"loss", "val_auc"}
    assert seen == [(0, 2), (1, 2)]  # passes rounded up, two batches of 80 each


# --- best.json --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ({}, {"schedule": "constant", "batch_size": 256}),
        ({"batch_size": 512}, {"schedule": "constant", "batch_size": 512, "rate_rows": 256}),
        ({"batch_size": 512, "optimizer": "adam"}, {"optimizer": "adam", "schedule": "constant", "batch_size": 512}),
        (
            {"schedule": "one_cycle", "schedule_arguments": {"warm_up": 0.1}},
            {"schedule": "one_cycle", "schedule_arguments": {"warm_up": 0.1}, "batch_size": 256},
        ),
        ({"averaging": 0.99}, {"schedule": "constant", "averaging": 0.99, "batch_size": 256}),
        ({"rate_rows": None}, {"schedule": "constant", "rate_rows": None, "batch_size": 256}),
        (
            {"rate_rows": 64, "optimizer": "adam"},
            {"optimizer": "adam", "schedule": "constant", "rate_rows": 64, "batch_size": 256},
        ),
        (
            {"rate_rows": 256, "batch_size": 256, "optimizer": "adagrad"},
            {"optimizer": "adagrad", "schedule": "constant", "batch_size": 256},
        ),
    ],
)
def test_what_was_written_is_read_again(arguments, written):
    recipe = Recipe(model="nfm", config=SMALL, **arguments)
    assert recipe.training == written
    assert Recipe.of(Configuration.from_json(json.loads(json.dumps(recipe.to_json())))) == recipe


@pytest.mark.parametrize("members", [1, 3])
def test_a_best_json_tells_how_many_trainings_are_averaged(tmp_path, members):
    path = tmp_path / "best.json"
    path.write_text(json.dumps(Best(recipe=Recipe(model="fm"), members=members).to_json()))
    assert Best.from_file(path).members == members


def test_the_default_is_four_members_with_averaged_weights_for_models_of_this_package():
    default = Recipe.default()
    assert (default.model, default.config, default.averaging) == ("nfm", {"members": 4}, 0.999)
    assert Recipe.default("deepfm") == replace(default, model="deepfm")
    with pytest.raises(LookupError):
        Recipe.default("nmf")


@pytest.mark.parametrize(
    ("told", "given", "lasting"),
    [
        ({}, {}, (50, 4)),
        ({}, {"epochs": 3, "patience": 1}, (3, 1)),
        ({"schedule": "plateau"}, {}, (50, 4)),
        ({"schedule": "cosine"}, {}, (20, 20)),  # to its end
        ({"schedule": "one_cycle", "passes": 2.5}, {}, (2.5, 3)),
        ({"schedule": "one_cycle"}, {"epochs": 7, "patience": 2}, (7, 2)),
    ],
)
def test_a_rate_that_falls_to_an_end_is_not_stopped_unless_told(told, given, lasting):
    assert Recipe(model="nfm", **told).lasting(**given) == lasting


@pytest.mark.parametrize("optimizer", [None, "lazyadagrad", "adagrad", "lazyadam"])
def test_a_file_of_before_has_its_rate_as_it_is(optimizer):
    training = {"learning_rate": 0.1, "batch_size": 1024} | ({} if optimizer is None else {"optimizer": optimizer})
    recipe = Recipe.of(Configuration.from_json({"model": "nfm", "training": training, "config": SMALL}))
    assert (recipe.rate, recipe.training) == (0.1, {"schedule": "constant", **training})
    expected = 0.1 if optimizer == "lazyadam" else 0.05  # with half its rows
    assert replace(recipe, batch_size=512).rate == expected


def test_a_best_json_of_version_010_opens_and_builds_its_model():
    written = json.loads(YESTERDAY.read_text())
    best = Best.from_file(YESTERDAY)
    recipe = best.recipe
    assert (best.winner, best.slices, best.fingerprint) == (None, None, None)
    assert recipe.to_json() == written
    assert recipe.precision == "float32"
    model = recipe.build(steps=100)
    config = {name: value for name, value in written["config"].items() if name != "features"}
    assert model.features == FeatureSpec.from_dict(written["config"]["features"])
    assert type(model.optimizer).__name__.lower() == written["training"]["optimizer"]
    again = get_model(written["model"], **written["config"])  # as README has it
    assert [weight.shape for weight in model.weights if "optimizer" not in weight.name] == [
        weight.shape for weight in again.weights
    ]
    assert {name: again.get_config()[name] for name in ("structure", "dropout", "embedding_l2")} == {
        name: config[name] for name in ("structure", "dropout", "embedding_l2")
    }


def test_a_best_json_of_version_010_is_not_repeated(data):
    with pytest.raises(
        ValueError, match=r"^This best\.json does not say how .* 0\.1\.0 wrote it\. Leave out --repeat\."
    ):
        train_again(Best.from_file(YESTERDAY), data)


def test_a_recipe_is_one_of_any_features_without_its_own():
    recipe = Best.from_file(YESTERDAY).recipe
    assert recipe.features == FeatureSpec.from_dict(recipe.config["features"])
    bare = recipe.without_features()
    assert bare.features is None
    assert replace(bare, config={**bare.config, "features": recipe.config["features"]}) == recipe
    assert Recipe.of(Configuration(model="fm", batch_size=7)) == Recipe(model="fm", batch_size=7)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("\udcff", "codec can't decode"),
        ("[]", "an object is needed; received list"),
        ('{"format": 99}', "has format 99"),
        ('{"model": "nfm"}', "it has no 'training'"),
        ('{"model": "nfm", "config": {}, "training": {"schedule": "linear"}}', "'schedule' is 'linear'"),
        ('{"model": "nfm", "config": {}, "training": {"optimizer": "sgdd"}}', "optimizer must be one of"),
        ('{"model": "nfm", "config": {}, "training": {}, "winner": {"seed": 1}}', "it has no "),
    ],
)
def test_what_is_no_best_json_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "best.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the line is compared below
        Best.from_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no best.json of a search: ")
    assert reason in message
    assert message.endswith("Pass the one that tune wrote.")
    assert "\n" not in message


def test_a_best_json_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "best.json"
    with pytest.raises(FileNotFoundError, match=f"There is no {path}. Give the best.json that tune wrote"):
        Best.from_file(path)
