"""The published models by name: each passes the conformance suite, and is what its paper says."""

from functools import partial
from inspect import signature

import numpy as np
import pytest

from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.testing import MODEL_CHECKS, example_features, example_rows, parametrize_with_checks
from tfrs_registry import get_model, list_models, models

NAMES = {
    *("ranking", "nfm", "fm", "afm", "deepfm", "wide_deep", "dcn", "dcnv2", "gdcn", "pnn", "xdeepfm", "autoint"),
    *("fibinet", "dlrm", "fwfm", "fmfm", "masknet", "finalmlp", "afn"),
}


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


def test_its_defaults_can_be_read():
    parameters = signature(models.load("deepfm")).parameters
    assert parameters["structure"].default == "parallel"
    assert parameters["embedding_l2"].default == signature(RankingModel).parameters["embedding_l2"].default


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="embeding_dim"):
        get_model("deepfm", features=example_features(), embeding_dim=4)


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
