"""What a search leaves behind, without a search."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nfm_tfrs.evidence import Evidence
from nfm_tfrs.features.feature import NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.training.recipe import Best, Recipe
from nfm_tfrs.tuning.outcome import FILES, write_found

YESTERDAY = Path(__file__).parents[1] / "yesterday"  # what version 0.1.0 wrote
FEATURES = FeatureSpec([NumericFeature("price")])


class Model:
    def save(self, path):
        assert path.suffix == ".keras"
        path.write_text("weights")


@pytest.fixture(scope="module")
def evidence():
    return Evidence.from_json(json.loads((YESTERDAY / "search.json").read_text()))


def write(evidence, folder):
    candidate = evidence.finalists[0].candidate
    config = {**candidate.config, "features": FEATURES.to_dict()}
    recipe = Recipe.of(replace(candidate, config=config, passes=evidence.passes))
    best = Best(recipe=recipe, winner=evidence.winner, slices=evidence.slices, fingerprint="9f2c")
    write_found(Model(), best, FEATURES, evidence, {"seed": 0}, folder)
    return best


def test_every_file_is_there_and_nothing_else(evidence, tmp_path):
    write(evidence, tmp_path)
    write(evidence, tmp_path)  # the same search, asked for once more
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "tensorboard"}
    assert (tmp_path / "model.keras").read_text() == "weights"
    assert FeatureSpec.from_json((tmp_path / "features.json").read_text()) == FEATURES
    logs = {path.parent.name: path for path in (tmp_path / "tensorboard").rglob("events*")}
    assert sorted(logs) == ["0000", "0002", "0004"]
    assert len(list((tmp_path / "tensorboard").rglob("events*"))) == 3  # those of the first time are gone


def test_best_json_makes_the_model_again(evidence, tmp_path):
    best = write(evidence, tmp_path)
    written = json.loads((tmp_path / "best.json").read_text())
    assert list(written) == ["model", "training", "winner", "config"]
    assert list(written["config"])[-3:] == ["dtype", "task", "features"]
    assert written["config"]["features"] == FEATURES.to_dict()
    assert written == best.to_json()
    winner = evidence.winner
    assert written["winner"] == {**winner.to_json(), "of": evidence.slices, "data": "9f2c"}
    assert Best.from_file(tmp_path / "best.json") == best


def test_search_json_is_read_as_the_evidence_and_holds_the_settings(evidence, tmp_path):
    write(evidence, tmp_path)
    written = json.loads((tmp_path / "search.json").read_text())
    assert Evidence.from_json(written) == evidence
    assert written["settings"] == {"seed": 0}


def test_without_what_draws_it_only_the_page_is_left_out(evidence, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.warns(UserWarning, match=r"^The page of the search is left out: The page needs optuna\. Install"):
        write(evidence, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "tensorboard"} - {"report.html"}
