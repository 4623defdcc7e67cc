"""A search from end to end, trained once and looked at from all sides, on rows so few that its scores say nothing."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs import metrics
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.evidence import DEFAULT, Evidence, Objective
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.target import Target
from nfm_tfrs.training.evaluate import predict
from nfm_tfrs.training.recipe import Best
from nfm_tfrs.training.schedules import OVER_STEPS
from nfm_tfrs.tuning import Budget, Finals
from nfm_tfrs.tuning.outcome import FILES
from nfm_tfrs.tuning.winner import train_again
from tfrs_registry import get_model

FEW = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=2, members=1)}


@pytest.fixture(scope="module")
def found(clicks, run, eagerly, tmp_path_factory):
    """One configuration, trained as a whole with two seeds."""
    out = tmp_path_factory.mktemp("searches") / "first"
    with eagerly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("nfm_tfrs.training.recipe.EPOCHS", 2)
        patch.setattr("nfm_tfrs.tuning.default.evaluate", lambda model, part: {"auc": 0.1, "log_loss": 9.0})
        return run(clicks, out, **FEW)


@pytest.fixture(scope="module")
def folder(found):
    return folder_of(found)


@pytest.fixture(scope="module")
def trained(clicks, run, tmp_path_factory):
    """Four configurations and two finalists, trained in graphs."""
    return run(clicks, tmp_path_factory.mktemp("searches") / "whole")


@pytest.fixture(params=["counted", pytest.param("trained", marks=pytest.mark.slow)])
def whole(request, clicks, run, tmp_path):
    """The same search, decided on models that only count, and on models that learn."""
    given = request.getfixturevalue(request.param)
    return run(clicks, tmp_path) if given is None else given


def folder_of(found):
    return Path(found.evidence.finalists[0].runs[0].file).parent.parent


def test_configurations_are_tried_and_the_best_go_on(whole):
    trials, folder = {trial.id: trial for trial in whole.evidence.trials}, folder_of(whole) / "trials"
    assert {trial.status for trial in trials.values()} == {"COMPLETED"}
    assert not list(folder.rglob("starts"))
    assert sum(trial.parent is None for trial in trials.values()) == 4
    promoted = [trial for trial in trials.values() if trial.parent is not None]
    assert promoted
    for trial in promoted:
        parent = trials[trial.parent]
        assert parent.values == trial.values
        anew = trial.candidate.schedule in OVER_STEPS
        assert anew or trial.scores[: len(parent.scores)] == parent.scores
        assert len(trial.scores) > len(parent.scores)
        assert trial.score == max(score["auc"] for score in trial.scores)
        assert (trial.start, trial.end) == (0 if anew else 1, 3)
    parents = {trial.parent for trial in promoted}
    for trial in trials.values():  # weights are kept as long as a trial may go on from them
        kept = list((folder / f"trial_{trial.id}").glob("weights*"))
        goes_on = trial.candidate.schedule not in OVER_STEPS
        assert bool(kept) == (trial.end == 1 and trial.id not in parents and goes_on)


def test_finalists_have_a_run_a_seed_and_the_best_mean_wins(whole, clicks):
    first, second, third = whole.evidence.finalists
    assert sum(entry.trial == DEFAULT for entry in (first, second, third)) == 1
    assert [[run.seed for run in entry.runs] for entry in (first, second)] == [[1, 2]] * 2
    means = [np.mean([run.metrics["auc"] for run in entry.runs]) for entry in (first, second)]
    assert [first.mean, second.mean] == pytest.approx(means)
    assert means == sorted(means, reverse=True)
    recipe = whole.best.recipe
    passes = {} if first.trial == DEFAULT else {"passes": recipe.passes}
    assert recipe.training == {**first.candidate.training, **passes}
    assert recipe.model == first.candidate.model
    assert recipe.config == {**first.candidate.config, "features": clicks.features.to_dict()}
    assert first.difference is None
    gap, labels = second.difference, clicks.valid.labels
    areas = [np.mean([metrics.auc(labels, np.load(run.file)) for run in entry.runs]) for entry in (first, second)]
    assert gap.mean == pytest.approx(areas[1] - areas[0], abs=1e-9)
    assert gap.low <= gap.mean <= gap.high


@pytest.mark.slow
def test_finalists_are_judged_by_their_own_predictions(trained, clicks):
    for run in (run for entry in trained.evidence.finalists for run in entry.runs):
        assert run.metrics["auc"] == pytest.approx(metrics.auc(clicks.valid.labels, np.load(run.file)), abs=1e-9)


def test_the_model_is_the_best_run_of_the_winner_and_is_judged_on_test(found, clicks):
    logits = predict(found.model, clicks.valid)
    best = max(found.evidence.finalists[0].runs, key=lambda run: run.metrics["auc"])
    assert metrics.auc(clicks.valid.labels, logits) == pytest.approx(best.metrics["auc"], abs=1e-9)
    assert (found.best.winner.seed, found.best.winner.slices) == (best.seed, best.slice)
    assert found.model.optimizer.iterations > 0  # its training can go on
    test = found.evidence.test
    assert test.metrics["auc"] == pytest.approx(metrics.auc(clicks.test.labels, predict(found.model, clicks.test)))
    assert test.low < test.metrics["auc"] < test.high


def test_what_comes_out_makes_the_model_again(found, clicks):
    best = json.loads(json.dumps(found.best.to_json()))
    again = get_model(best["model"], **best["config"])
    assert again.features == clicks.features
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in found.model.weights]


def test_what_comes_out_is_in_the_folder(found, folder):
    assert {*FILES, "settings.json", "trials", "finalists", "tensorboard"} <= {path.name for path in folder.iterdir()}
    assert Best.from_file(folder / "best.json") == found.best


def test_the_model_is_trained_again_to_the_same_bits(found, folder, clicks, eagerly):
    with eagerly():
        again = train_again(Best.from_file(folder / "best.json"), clicks.without("test"))
    for mine, theirs in zip(again.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(again.history["val_auc"]) == found.best.winner.slices
    best = max(found.evidence.finalists[0].runs, key=lambda run: run.metrics["auc"])
    assert again.history["val_auc"][-1] == best.metrics["auc"]


def test_a_search_that_is_through_runs_nothing_again(found, folder, clicks, run, monkeypatch):
    def fit(*_, **__):
        raise AssertionError("it trained")

    monkeypatch.setattr(keras.Model, "fit", fit)
    again = run(clicks, folder, **FEW)
    assert replace(again.evidence, seconds=found.evidence.seconds) == found.evidence


def test_another_search_in_the_folder_is_refused(folder, clicks, run):
    with pytest.raises(ValueError, match=r"holds a search with other seed\. Choose another folder\."):
        run(clicks, folder, seed=1)
    swapped = replace(clicks, encoded={**clicks.encoded, "train": clicks.valid, "valid": clicks.train})
    with pytest.raises(ValueError, match=r"holds a search with other rows, space\.fixed\. Choose another folder\."):
        run(swapped, folder, space={"fixed": {}})


def test_a_regression_is_searched_by_its_own_metric(run, eagerly, tmp_path):
    target = Target.parse("click", task="regression")
    data = prepare(click_log(300, seed=0).table, target, "time:timestamp", columns=["user_id", "site"])
    with eagerly():
        found = run(data, tmp_path, one=True)
    evidence = found.evidence
    assert evidence.objective == Objective(name="val_rmse", direction="min")
    assert evidence.trials[0].score == min(score["rmse"] for score in evidence.trials[0].scores)
    scores = predict(found.model, data.valid)
    expected = np.sqrt(np.mean((scores.astype(np.float64) - data.valid.labels) ** 2))
    assert evidence.finalists[0].mean == pytest.approx(expected, rel=1e-6)
    assert found.best.recipe.config["task"] == "regression"


# --- as it is run: in graphs, and killed and started again ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("refit", [False, True])
def test_nothing_that_was_traced_stays_and_the_model_is_trained_again_to_the_same_bits(
    clicks, run, tmp_path, num_graphs, refit
):
    before = num_graphs()
    data = clicks.without("test")
    found = run(data, tmp_path, one=True, finals=Finals(finalists=1, seeds=1, members=1, refit=refit))
    assert found.best.winner.rows == ("train and validation" if refit else "train")
    best, expected = found.best, found.model.get_weights()
    assert found.model.statistics.rows == len(data.train) + (len(data.valid) if refit else 0)
    del found
    assert refit or num_graphs() == before  # what was trained last may be trained further
    again = train_again(best, data)
    assert bool(again.history) == (not refit)
    for mine, theirs in zip(again.model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


SCRIPT = """
import json, sys
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.tuning import Budget, Finals, Schedule, Space, search
data = prepare(click_log(300, seed=0).table, "click", "time:timestamp", columns=["user_id", "interests", "price"])
found = search(data, out=sys.argv[1], budget=Budget(trials=4), finals=Finals(finalists=2, seeds=2),
    space=Space(blocks=["fm", "bi_interaction", "inner_product"], batch_sizes=[64],
        fixed={"embedding_dim": 4, "hidden_units": [4]}),
    schedule=Schedule(passes=2, slices=3, patience=3),
    watch=lambda oracle, trial, scores: trial and print("slice", trial.trial_id, len(scores), flush=True))
print("found", json.dumps(found.evidence.to_json()), flush=True)
"""


def started(out):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=out.parent, env=environment)


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_ends_as_one_that_is_not(trained, tmp_path):
    out, ran = tmp_path / "killed", []
    for stop in ("slice 0001 1", "slice 0004 3"):  # in the second trial; in the promotion
        process = started(out)
        for line in process.stdout:
            if line.startswith("slice"):
                ran.append(line)
            if line.strip() == stop:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = started(out)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0
    line = next(line for line in output.splitlines() if line.startswith("found"))
    again, expected = Evidence.from_json(json.loads(line.removeprefix("found "))), trained.evidence
    assert again.trials == expected.trials
    assert again.test == expected.test
    finished = [line.split()[1] for line in ran]
    assert [finished[-1], "0003" in finished, "0000" in finished] == ["0004", True, True]
    # What was finished before a kill is not among what ran after it.
    later = {line.split()[1] for line in output.splitlines() if line.startswith("slice")}
    assert not later & (set(finished) - {finished[-1]})
    assert "0000" not in later
