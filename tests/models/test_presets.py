"""The published models by name: each passes the conformance suite, and is what its paper says."""

from functools import partial
from inspect import signature

import numpy as np
import pytest

from nfm_tfrs import load_model
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.presets import FM, DeepFM, with_defaults
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.testing import MODEL_CHECKS, example_features, example_rows, parametrize_with_checks
from tfrs_registry import get_model, list_models, models

NAMES = {
    *("ranking", "nfm", "fm", "afm", "deepfm", "wide_deep", "dcn", "dcnv2", "gdcn", "pnn", "xdeepfm", "autoint"),
    *("fibinet", "dlrm", "fwfm", "fmfm", "masknet", "finalmlp", "afn"),
}
PRESETS = sorted(NAMES - {"ranking", "nfm"})


def test_every_model_has_its_name():
    assert {name for name in list_models() if models.provider(name).startswith("nfm-tfrs ")} == NAMES


@pytest.mark.slow
@parametrize_with_checks([partial(get_model, name, embedding_dim=4) for name in sorted(NAMES)], MODEL_CHECKS)
def test_model(make, check):
    check(make)


@pytest.mark.parametrize(
    ("name", "interaction", "structure", "linear"),
    [
        ("fm", "fm", "stacked", True),
        ("afm", "attention_fm", "stacked", True),
        ("fwfm", "field_weighted_fm", "stacked", True),
        ("fmfm", "field_matrixed_fm", "stacked", True),
        ("deepfm", "fm", "parallel", True),
        ("wide_deep", "concat", "stacked", True),
        ("dcn", "cross", "parallel", False),
        ("dcnv2", "cross", "stacked", False),
        ("gdcn", "gated_cross", "stacked", False),
        ("pnn", "inner_product", "concat", False),
        ("dlrm", "inner_product", "stacked", False),
        ("xdeepfm", "cin", "parallel", True),
        ("autoint", "self_attention", "stacked", False),
        ("fibinet", "bilinear", "stacked", True),
        ("masknet", "mask", "stacked", False),
        ("finalmlp", "two_stream", "stacked", False),
        ("afn", "logarithmic", "stacked", False),
    ],
)
def test_a_model_has_its_papers_block_and_structure(name, interaction, structure, linear):
    config = get_model(name, features=example_features(), embedding_dim=4).get_config()
    assert (config["interaction"]["name"], config["structure"], config["linear"]) == (interaction, structure, linear)


@pytest.mark.parametrize("name", ["fm", "afm", "fwfm", "fmfm", "autoint", "finalmlp"])
def test_models_without_a_tower_have_none(name):
    assert get_model(name, features=example_features(), embedding_dim=4).hidden_units == ()


def test_what_a_model_sets_is_a_default():
    model = get_model("deepfm", features=example_features(), hidden_units=(5,), dropout=0.0, interaction="cross")
    assert (model.hidden_units, model.dropout, model.structure) == ((5,), 0.0, "parallel")
    assert model.get_config()["interaction"]["name"] == "cross"


@pytest.mark.parametrize("name", PRESETS)
def test_its_arguments_are_those_of_the_open_model_with_its_defaults(name):
    open_model = signature(RankingModel).parameters
    own = signature(models.load(name)).parameters
    assert list(own) == list(open_model)
    differ = {name for name in own if own[name].default != open_model[name].default}
    assert {"interaction"} <= differ
    assert differ <= {
        "interaction",
        "structure",
        "hidden_units",
        "embedding_dim",
        "linear",
        "numeric",
        "bottom_units",
    } | {
        "batch_norm",
        "dropout",
        "interaction_dropout",
    }
    assert own["embedding_l2"].default == open_model["embedding_l2"].default


def test_its_defaults_can_be_read():
    parameters = signature(DeepFM).parameters
    assert parameters["structure"].default == "parallel"
    assert parameters["hidden_units"].default == (400, 400, 400)


@pytest.mark.parametrize("name", PRESETS)
def test_it_is_a_class_that_says_its_formula_its_paper_and_what_differs(name):
    cls = models.load(name)
    assert issubclass(cls, RankingModel)
    assert models.name_of(cls) == name
    assert keras.saving.get_registered_name(cls).startswith("nfm_tfrs>")
    for part in ("ŷ = w_0 + ", "Differs from `", "Reference:"):
        assert part in cls.__doc__


@pytest.mark.parametrize("cls", [DeepFM, FM])  # FM: a block has this name as well
def test_a_saved_model_opens_as_its_class(cls, tmp_path):
    model, (columns, _) = cls(example_features(), embedding_dim=4), example_rows(8)
    model.save(tmp_path / "model.keras")
    opened = load_model(tmp_path / "model.keras")
    assert type(opened) is cls
    np.testing.assert_array_equal(opened(columns), model(columns))


@pytest.mark.slow
def test_a_fresh_process_opens_it_from_a_file_and_from_a_folder(tmp_path, run_python):
    model = DeepFM(example_features(), embedding_dim=4, hidden_units=(8,))
    model.predict(example_rows(8)[0], verbose=0)  # a folder holds what was traced
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "folder", save_format="tf")
    script = "import nfm_tfrs; print(*(type(nfm_tfrs.load_model(name)).__name__ for name in ('folder', 'model.keras')))"
    assert run_python(script, folder=tmp_path).stdout.split() == ["DeepFM", "DeepFM"]


def test_it_can_be_subclassed_and_keeps_its_defaults():
    class Wider(DeepFM):
        def __init__(self, features=None, *, factor=2, **kwargs):
            super().__init__(features, **kwargs)
            self.factor = factor

    @with_defaults(hidden_units=(5,))
    class Smaller(DeepFM):
        pass

    assert list(signature(Wider).parameters) == ["features", "factor", "kwargs"]
    model = Wider(example_features(), hidden_units=(6,), factor=3)
    assert (model.structure, model.hidden_units, model.factor) == ("parallel", (6,), 3)
    assert isinstance(model, DeepFM)
    smaller = Smaller(dropout=0.1)
    assert (smaller.structure, smaller.hidden_units, smaller.dropout) == ("parallel", (5,), 0.1)
    assert signature(DeepFM).parameters["hidden_units"].default == (400, 400, 400)


@pytest.mark.parametrize("name", ["embeding_dim", "features", "kwargs"])
def test_a_default_of_no_keyword_argument_is_refused(name):
    class Mine(RankingModel):
        pass

    with pytest.raises(TypeError, match=f"^Mine has no keyword argument '{name}'. Correct or remove it.$"):
        with_defaults(**{name: 4})(Mine)


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="embeding_dim"):
        get_model("deepfm", features=example_features(), embeding_dim=4)
    with pytest.raises(TypeError, match=r"^DeepFM.__init__\(\) takes from 1 to 2 positional arguments"):
        DeepFM(example_features(), 4)


def test_features_may_come_later():
    model = get_model("dlrm", embedding_dim=4)
    columns, _ = example_rows(64)
    model.adapt({"user": columns["user"], "price": columns["price"]})
    assert np.isfinite(model(columns)).all()


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (["attention"], {"afm", "autoint"}),
        (["cross"], {"dcn", "dcnv2", "gdcn"}),
        (["cross", "gating"], {"gdcn"}),
        (["factorization", "deep"], {"nfm", "deepfm"}),
    ],
)
def test_tags_mean_something(tags, names):
    assert set(list_models(tags=tags)) & NAMES == names
