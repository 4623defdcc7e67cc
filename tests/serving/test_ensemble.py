"""An ensemble's exports against the mean of its models' predictions."""

from dataclasses import replace

import numpy as np
import pytest

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.models.ensemble import ensemble_of
from nfm_tfrs.serving import load
from nfm_tfrs.serving.export import export
from nfm_tfrs.serving.parity import float32_twin, outputs_of
from nfm_tfrs.serving.quantized import quantized


@pytest.fixture(scope="module")
def models(make):
    """A model of sums and one of embeddings, of one table and of two, in float32 and in half precision."""
    one = make(embedding_dim=3, hidden_units=(3,))
    two = one.features.replace(replace(one.features["zone"], embedding_dim=5))
    other = make("dcnv2", features=two.features, embedding_dim=2, dtype="mixed_bfloat16", hidden_units=(3,))
    assert [len(model.embedding.tables) for model in (one, other)] == [1, 2]
    return [one, other]


def mean_of(models, rows, quantize=None):
    """The mean of the models in float32, with tables as an export rounds them."""
    found = []
    for model in models:
        twin = type(model).from_config({**model.get_config(), "dtype": "float32"})
        twin.set_weights(model.get_weights())
        for table, layout in zip(twin.embedding.tables, twin.embedding.layouts, strict=True):
            table.assign(quantized(table.numpy(), quantize, embedding_dim=layout.dim).dense())
        found.append(outputs_of(twin, rows))
    return np.mean(found, axis=0)


def test_a_saved_model_answers_by_all_signatures(models, rows, tmp_path):
    ensemble = ensemble_of(models)
    written = export(ensemble, tmp_path / "served", user=["in", "tags", "age"])
    assert {name.partition(" of ")[0] for name in written.parity.differences} == {"serving_default", "examples", "rank"}
    np.testing.assert_allclose(load(tmp_path / "served").predict(rows), mean_of(models, rows), rtol=1e-6, atol=1e-6)
    card = (tmp_path / "served" / "README.md").read_text()
    assert "# EnsembleModel" in card
    assert f"{ensemble.count_params():,} parameters" in card
    weights = sum(weight.shape.num_elements() for model in models for weight in model.weights)
    variables = tmp_path / "served" / "variables" / "variables.data-00000-of-00001"
    assert 4 * weights <= variables.stat().st_size < 4 * weights + 20_000  # no optimizer, no metrics


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_an_onnx_file_holds_every_model_with_its_table(models, rows, tmp_path, quantize):
    told = {}
    if quantize:
        labels = np.float32([0, 1] * (rows.num_rows // 2))
        told = {"quantize": quantize, "valid": replace(encode_part(rows, models[0].encoder), labels=labels)}
    export(ensemble_of(models), tmp_path / "served", format="onnx", **told)
    wanted = mean_of(models, rows, quantize)
    np.testing.assert_allclose(load(tmp_path / "served").predict(rows), wanted, rtol=1e-6, atol=1e-6)


def test_the_twin_of_an_ensemble_has_float32_twins(models):
    ensemble = ensemble_of(models)
    assert [model.compute_dtype for model in float32_twin(ensemble).models] == ["float32", "float32"]
    both = ensemble_of(models[:1])
    assert float32_twin(both) is both
