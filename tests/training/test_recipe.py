"""A recipe says what is wrong with it, builds the model that it names, and trains it as one would by hand."""

import inspect
import json
import math
from dataclasses import replace
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
from nfm_tfrs.tuning.finalists import train_again
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
        ({"schedule": "linear"}, 'schedule must be "constant" or "cosine"; received \'linear\'.'),
        ({"schedule": "cosine"}, 'schedule="cosine" needs a rate to begin at; received none. Give learning_rate too.'),
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


def test_a_cosine_falls_to_nothing_over_the_steps():
    recipe = Recipe(model="nfm", config=SMALL, optimizer="sgd", learning_rate=0.2, schedule="cosine")
    rate = keras.optimizers.schedules.deserialize(
        recipe.build(FEATURES, steps=50).optimizer.get_config()["learning_rate"]
    )
    assert [float(rate(step)) for step in (0, 25, 50)] == pytest.approx([0.2, 0.1, 0.0], abs=1e-7)


def test_precision_and_xla_are_the_recipe_s():
    recipe = Recipe(model="nfm", config=SMALL, optimizer="sgd", precision="mixed_float16", jit_compile=True)
    model = recipe.build(FEATURES)
    assert model.dtype_policy.name == "mixed_float16"
    assert model._scored_by_xla is not None


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_recipe_trains_as_one_would_by_hand(data):
    recipe = Recipe(
        model="nfm", config=SMALL, optimizer="adagrad", learning_rate=0.5, schedule="cosine", batch_size=32, passes=3
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
