"""Exports of models are answered by other runtimes, and their tables measured in fewer bytes."""

import json

import pytest
import tables
from lib.places import RESULTS
from quality import quantized
from trust import exports


@pytest.mark.slow
def test_quick_exports_two_models_and_writes_nothing():
    before = sorted(RESULTS.iterdir())

    found = exports.main(["--quick"])

    assert set(found["exports"]) == {"nfm", "dcnv2"}
    assert len(found["differences"]) == 2  # this TensorFlow, and onnxruntime
    assert all(0 <= value < 1e-5 for of in found["differences"].values() for value in of.values())
    assert sorted(RESULTS.iterdir()) == before


def test_a_runtime_that_answers_otherwise_ends_it(monkeypatch):
    monkeypatch.setattr(exports, "written", lambda *_: iter([("nfm", {"difference": 0.0})]))
    monkeypatch.setattr(exports, "answered", lambda *_: {"nfm": 0.5})

    with pytest.raises(SystemExit, match="A runtime does not answer as the models do"):
        exports.main(["--quick"])


@pytest.mark.slow
def test_quick_quantizes_both_forms_and_writes_nothing():
    before = sorted(RESULTS.iterdir())

    results = quantized.main(["--quick"])
    found = results["data"]["click log"]["tables"]

    assert 0 < results["shares"]["tables"]["int8"]["onnx share"] < 1
    assert 0.2 < found["int8"]["onnx share"]["mean"] < 1
    assert found["int8"]["onnx bytes"]["mean"] < found["float16"]["onnx bytes"]["mean"]
    assert sorted(RESULTS.iterdir()) == before


def test_tables_show_each_model_and_runtime(tmp_path):
    assert tables.exports(tmp_path) == tables.quantized(tmp_path) == "not measured\n"
    forms = {"savedmodel": {"bytes": 2000, "seconds": 1.0}, "onnx": {"bytes": 1000, "seconds": 2.0}}
    of = {"machine": {"cpu": "A", "cores": 2}, "versions": {"numpy": "2"}}
    results = {**of, "exports": {"nfm": forms}, "differences": {"tensorflow 2": {"nfm": 1e-7}}}
    (tmp_path / "exports.json").write_text(json.dumps(results))
    assert tables.exports(tmp_path).splitlines()[-1] == "| `nfm` | 1.0e-07 | 2 | 1.0 | 1 | 2.0 |"
    one = {name: {"mean": 0.25} for name in ("auc less", "log_loss less", "savedmodel share", "onnx share")}
    data = {"clicks": {"rows of the table": 1000, "tables": {"int8": one}}}
    shares = {"rows": 10**6, "tables": {"int8": {"savedmodel share": 0.5, "onnx share": 0.5}}}
    (tmp_path / "quantized.json").write_text(json.dumps({**of, "seeds": 3, "data": data, "shares": shares}))
    assert tables.quantized(tmp_path).splitlines()[-2:] == [
        "| clicks, 1,000 rows | int8 | +0.250000 | +0.250000 | 0.25 of its size | 0.25 of its size |",
        "| 1,000,000 rows, not trained | int8 |  |  | 0.50 of its size | 0.50 of its size |",
    ]
