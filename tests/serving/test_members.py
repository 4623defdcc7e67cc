"""A model of several members in an export: it answers with their mean."""

import numpy as np
import pytest

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.serving import load
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.target import Target
from nfm_tfrs.training.evaluate import predict

MODELS = [("nfm", {}), ("ranking", {"structure": "concat", "interaction": "cross", "numeric": "bottom_mlp"})]


@pytest.mark.parametrize(("name", "config"), MODELS, ids=["nfm", "ranking"])
def test_an_onnx_file_answers_as_the_model(make, name, config, tmp_path):
    pytest.importorskip("onnxruntime")
    model = make(name, members=3, member_dim=2, **config)
    rows = drawn_rows(model.features, 200)
    valid = encode_part(rows.append_column("y", [np.arange(200) % 2]), model.encoder, Target.parse("y"))
    for quantize in (None, "int8"):
        found = model.export(tmp_path / str(quantize), format="onnx", quantize=quantize, valid=valid)
        assert found.parity.largest < 1e-5


@pytest.mark.parametrize(("name", "config"), MODELS, ids=["nfm", "ranking"])
def test_a_saved_model_answers_as_the_model_and_ranks(make, name, config, tmp_path):
    model = make(name, members=3, **config)
    user = ["in", "hist", "price"]
    assert model.export(tmp_path / "e", user=user).parity.largest < 1e-5
    rows = drawn_rows(model.features, 6, seed=3)
    asked = {column: rows[column][0].as_py() for column in (*user, "w")}
    candidates = [{**row, **asked} for row in rows.to_pylist()]
    others = [{name: value for name, value in row.items() if name not in asked} for row in candidates]
    logits = [predict(model, rows.from_pylist([row], schema=rows.schema)).item() for row in candidates]
    np.testing.assert_allclose(load(tmp_path / "e").rank(asked, others), 1 / (1 + np.exp(-np.array(logits))), rtol=1e-4)
