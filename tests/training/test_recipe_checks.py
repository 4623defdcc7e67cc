"""What recipes refuse, and whose arguments they ask for before any row is read."""

import sys
from types import ModuleType

import pyarrow as pa
import pytest

from nfm_tfrs import CategoricalFeature, FeatureSpec, MultiCategoricalFeature, RankingModel
from nfm_tfrs.data import prepare
from nfm_tfrs.training import Best, Recipe
from nfm_tfrs.tuning import Budget, search
from tfrs_registry import ComponentSpec, models

FEATURES = FeatureSpec([CategoricalFeature(name, vocabulary_size=9) for name in ("user", "film")])


class ByFeature(RankingModel):
    """A model of somebody else, with a layer as wide as its features are many."""

    def __init__(self, features, *, units=2, **config):
        super().__init__(features, hidden_units=(units * len(features),), **config)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("by_feature")
    module.ByFeature = ByFeature
    monkeypatch.setitem(sys.modules, "by_feature", module)
    monkeypatch.setattr(models, "_local", {})  # registrations stay for a whole process
    models.register(ComponentSpec(name="by_feature", target="by_feature:ByFeature", summary="Looks at its features."))
    return "by_feature"


def test_a_model_of_somebody_else_is_made_with_its_features_alone(foreign):
    recipe = Recipe(model=foreign, config={"units": 3})
    recipe.check_arguments()
    assert recipe.build(FEATURES).hidden_units == (6,)
    with pytest.raises(ValueError, match=r"^by_feature cannot be made with unit=3: .*unit"):
        Recipe(model=foreign, config={"unit": 3}).build(FEATURES)


def test_a_model_of_this_package_is_asked_before_there_are_features():
    Recipe(model="NFM", config={"embedding_dim": 2}).check_arguments()
    with pytest.raises(ValueError, match=r"^embedding_dim must be a whole number of 1 or more; received 'x'\.$"):
        Recipe(model="NFM", config={"embedding_dim": "x"}).check_arguments()
    with pytest.raises(LookupError, match=r"^Unknown model 'nmf'\. Did you mean 'nfm'\?"):
        Recipe(model="nmf").check_arguments()


def test_frozen_rows_of_a_new_model_need_vectors(tmp_path):
    features = FeatureSpec(
        [
            CategoricalFeature("film", vocabulary=["a", "b"], frozen=True),
            MultiCategoricalFeature("seen", vocabulary=["a", "b"], frozen=True, embedding_name="film"),
            CategoricalFeature("user", vocabulary_size=4),
        ]
    )
    labels = [0, 1] * 20
    rows = pa.table({"film": ["a", "b"] * 20, "seen": [["a"], []] * 20, "user": [0, 1, 2, 3] * 10, "click": labels})
    data = prepare(rows, "click", "random", features=features)
    recipe = Recipe(model="fm", config={"embedding_dim": 2})
    with pytest.raises(ValueError, match=r".") as caught:
        recipe.fit(data, epochs=1)
    assert str(caught.value) == (
        "Feature 'film' is frozen, and its rows would stay zero. Give pretrained= with vectors of 'film', or take "
        "frozen out of the features."
    )
    with pytest.raises(ValueError, match=r"Feature 'film' is frozen, .* Search without frozen, and pass"):
        search(data, out=tmp_path, budget=Budget(trials=1))
    # Features that share the rows share the vectors.
    assert recipe.fit(data, epochs=1, pretrained={"seen": (["a"], [[1.0, 2.0]])}).pretrained[0].found == 1


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"epochs": 0}, "epochs must be a whole number of 1 or more; received 0."),
        ({"epochs": -3}, "epochs must be a whole number of 1 or more; received -3."),
        ({"patience": -1}, "patience must be a number of 0 or more; received -1."),
    ],
)
def test_a_training_of_no_epochs_is_refused(told, line):
    with pytest.raises(ValueError, match=r".") as caught:
        Recipe(model="nfm").fit(None, **told)  # before the data is looked at
    assert str(caught.value) == line


@pytest.mark.parametrize("text", ["null", "[1]", "3", '"recipe"'])
def test_a_file_without_an_object_is_no_best_json(tmp_path, text):
    file = tmp_path / "best.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"best\.json is no best\.json of a search: .*an object is needed; received"):
        Best.from_file(file)


def test_features_that_are_no_object_are_refused():
    with pytest.raises(ValueError, match=r'^The features in a config are an object with a list "features"; received l'):
        Recipe(model="nfm", config={"features": [1]}).features  # noqa: B018 - a property


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"optimizer": "adam", "learning_rate": -1}, "learning_rate must be a number of 0 or more; received -1."),
        ({"learning_rate": "x"}, "learning_rate must be a number of 0 or more; received 'x'."),
        (
            {"optimizer_arguments": {"learning_rate": 0.1}},
            "optimizer_arguments are those beside the rate; received the rate 0.1. Give learning_rate= instead.",
        ),
        (
            {"schedule": "plateau", "schedule_arguments": 3},
            "schedule_arguments must be an object of names and values; received 3.",
        ),
        ({"optimizer_arguments": None}, "optimizer_arguments must be an object of names and values; received None."),
        (
            {"optimizer_arguments": {1: 2}},
            "optimizer_arguments must be an object of names and values; received {1: 2}.",
        ),
        ({"config": [4]}, "config must be an object of names and values; received [4]."),
    ],
)
def test_a_rate_that_is_none_is_refused_without_a_model(told, line):
    with pytest.raises(ValueError, match=r".") as caught:
        Recipe(model="nfm", **told)
    assert str(caught.value) == line


def test_an_optimizer_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer must be one of lazyadagrad, .*; received 3\.$"):
        Recipe(model="nfm", optimizer=3)


def test_an_optimizer_takes_a_name_of_its_own():
    recipe = Recipe(model="nfm", optimizer="adam", optimizer_arguments={"name": "mine", "beta_1": 0.5})
    optimizer = recipe.build(FEATURES).optimizer
    assert (optimizer.name, optimizer.beta_1) == ("mine", 0.5)
