"""`nfm-tfrs quickstart`: a model on a generated click log."""

import json

import pytest


@pytest.mark.slow
def test_quickstart_beats_chance_and_names_the_best_possible(done, tmp_path):
    assert "Best possible AUC" in done("quickstart", "--rows", 10_000, "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["auc"] > 0.55
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["recipe"]["model"] == "nfm"
    assert written["data"] is None
