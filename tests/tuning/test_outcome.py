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
from nfm_tfrs.tuning.outcome import FILES, write_found, write_logs

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
    assert sorted(logs) == sorted(trial.id for trial in evidence.trials)
    assert len(list((tmp_path / "tensorboard").rglob("events*"))) == len(logs)  # those of the first time are gone


def sessions(folder):
    """The id and the status of each session of TensorBoard's HParams, by the trial."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = {}
    for path in folder.rglob("events*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    entry = found.setdefault(path.parent.name, {})
                    if data.HasField("session_start_info"):
                        entry["id"] = data.session_start_info.group_name
                    if data.HasField("session_end_info"):
                        entry["status"] = data.session_end_info.status
    return found


def test_ids_of_trials_differ_between_searches_and_failed_trials_are_shown(evidence, tmp_path):
    failed = replace(evidence.trials[0], id="0099", status="FAILED", message="It diverged.", scores=())
    evidence = replace(evidence, trials=(*evidence.trials, failed))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_logs(evidence, tmp_path / name / "tensorboard")
    first, second = (sessions(tmp_path / name) for name in ("one", "other"))
    assert set(first) == {trial.id for trial in evidence.trials}
    ids = [entry["id"] for entry in (*first.values(), *second.values())]
    assert len(set(ids)) == len(ids)
    for trial in evidence.trials:
        assert first[trial.id]["status"] == (1 if trial.status == "COMPLETED" else 2)


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
