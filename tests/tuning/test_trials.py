"""What becomes of a trial, and of a search by its trials, on models that only count the slices of their training."""

import gc
import itertools
import json
import re
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.evidence import Objective
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.report.page import write_report
from nfm_tfrs.training.recipe import MEMBERS, Recipe
from nfm_tfrs.tuning import Budget, Finals
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import Diverged, SliceTuner, judge_slice, train_slice
from nfm_tfrs.tuning.workers import Workers

pytestmark = pytest.mark.usefixtures("counted")
RANDOM = {"search": "random"}
SHORT = {"finals": Finals(finalists=1, seeds=1)}


@pytest.mark.parametrize(("schedule", "balanced"), [({}, "interaction"), (RANDOM, "")])
def test_blocks_take_turns_where_a_search_is_not_at_random(clicks, run, tmp_path, schedule, balanced):
    seen = []

    def watch(oracle, trial, scores):
        seen.append((oracle.balanced, [hp.values for hp in oracle.get_space().space if hp.name == "interaction"]))

    run(clicks, tmp_path, watch=watch, schedule=schedule, one=True)
    assert seen[0] == (balanced, [["bi_interaction", "fm", "inner_product"]])


def test_a_search_that_is_through_is_let_go_of(clicks, run, tmp_path):
    oracles = set()
    run(clicks, tmp_path, watch=lambda oracle, trial, scores: oracles.add(weakref.ref(oracle)), one=True)
    gc.collect()
    assert [oracle() for oracle in oracles] == [None]


def test_who_watches_sees_each_slice_and_each_finalist(clicks, run, tmp_path):
    seen = []
    run(clicks, tmp_path, watch=lambda oracle, trial, scores: seen.append((trial and trial.trial_id, len(scores))))
    assert seen[:3] == [("0000", 1), ("0000", 2), ("0000", 3)]
    assert seen[-3:] == [(None, 0)] * 3
    assert seen[-4] != (None, 0)


def test_an_error_of_the_one_who_watches_comes_through_and_a_trial_that_ends_its_process_fails(clicks, run, tmp_path):
    def watch(oracle, trial, scores):
        if trial and trial.trial_id == "0001":
            raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        run(clicks, tmp_path, watch=watch)
    starts = tmp_path / "trials" / "trial_0001" / "starts"
    assert not starts.exists()  # its process lives
    starts.write_text("...")  # as if it had not, three times
    trials = {trial.id: trial for trial in run(clicks, tmp_path).evidence.trials}
    assert trials["0001"].message == "Its process ended 3 times before it was through."
    assert {trial.status for name, trial in trials.items() if name != "0001"} == {"COMPLETED"}


def test_what_a_search_space_cannot_draw_is_not_tried(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(FM, "search_space", lambda hp: {} if hp.Choice("odd", [0, 1], default=0) == 0 else {}["odd"])
    trials = run(clicks, tmp_path, space={"blocks": ["fm"]}, schedule=RANDOM).evidence.trials
    assert [(trial.status, trial.values["fm/odd"]) for trial in trials] == [("COMPLETED", 0)] * 4


def test_several_blocks_at_once_may_be_fixed(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr("nfm_tfrs.tuning.outcome.write_report", write_report)
    fixed = {"interaction": ["fm", "bi_interaction"], "embedding_dim": 4, "hidden_units": [4]}
    found = run(clicks, tmp_path, space={"blocks": None, "fixed": fixed}, one=True)
    assert found.best.recipe.config["interaction"] == ["fm", "bi_interaction"]
    assert "fm + bi_interaction, " in (tmp_path / "report.html").read_text()


def test_where_no_block_can_be_made_no_search_is_begun(clicks, run, tmp_path):
    fixed = {"interaction": {"name": "cross", "config": {"bogus": 1}}}
    with pytest.raises(ValueError, match=r"^ranking cannot be made with .*bogus"):
        run(clicks, tmp_path, space={"blocks": None, "fixed": fixed})
    assert not list(tmp_path.iterdir())


def test_a_trial_that_is_too_large_fails_and_the_search_goes_on(clicks, run, tmp_path):
    space = {"fixed": {"embedding_dim": 4}, "max_parameters": 3000}
    trials = run(clicks, tmp_path, space=space, budget=Budget(trials=8)).evidence.trials
    failed = [trial for trial in trials if trial.status == "FAILED"]
    assert failed
    assert len(failed) < len(trials)
    for trial in failed:
        assert re.fullmatch(r"[\d,]+ parameters are more than 3,000\.", trial.message)
        units = trial.candidate.config["hidden_units"]
        assert sum(before * after for before, after in itertools.pairwise([4, *units, 1])) > 2000


def test_trials_over_a_latency_fail(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "MAX_FAILURES", 1)
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.latency", lambda model, part: 0.25)
    with (
        pytest.warns(UserWarning, match="ends early: its last 1 trials failed"),
        pytest.raises(ValueError, match=r"The last one: 0\.2500 s for 100 rows are more than 0\.2 s\."),
    ):
        run(clicks, tmp_path, space={"max_latency": 0.2}, budget=Budget(trials=30))


def test_a_search_whose_trials_all_fail_ends_early(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "MAX_FAILURES", 3)
    fixed = {"embedding_dim": 4, "hidden_units": [4], "optimizer": "adam", "learning_rate": 1e30}
    with (
        pytest.warns(UserWarning, match="The search ends early: its last 3 trials failed."),
        pytest.raises(
            ValueError, match=r"No trial .* was finished\. The last one: It diverged: its loss was nan after"
        ),
    ):
        run(clicks, tmp_path, space={"fixed": fixed}, budget=Budget(trials=30))
    assert len(list((tmp_path / "trials").glob("trial_*"))) == 3


def test_a_loss_that_is_not_finite_is_a_divergence(clicks, monkeypatch, eagerly):
    monkeypatch.undo()  # a model that learns
    model = NFM(clicks.features, embedding_dim=4, hidden_units=(4,))
    model.compile(keras.optimizers.SGD(1e30))
    with (
        eagerly(),
        pytest.raises(Diverged, match=r"It diverged in slice 1\. The .* in batch \d+ of epoch 1"),
    ):
        train_slice(model, Slices(clicks.train, passes=1, count=1, seed=0), 0, 16)


def test_a_metric_that_is_not_finite_is_a_divergence(clicks, monkeypatch):
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": float("nan")})
    cut, goal = Slices(clicks.train, passes=1, count=3, seed=0), Objective(name="val_auc", direction="max")
    with pytest.raises(Diverged, match=r"It diverged: its val_auc was nan after slice 2\. Lower its rate\."):
        judge_slice(SimpleNamespace(), cut, 1, 16, clicks.valid, goal)


def test_a_promoted_trial_may_have_ended_already(clicks, run, tmp_path, monkeypatch):
    falling = iter(np.linspace(0.9, 0.5, 100))
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": float(next(falling))})
    evidence = run(clicks, tmp_path, schedule={"slices": 9, "patience": 1}, **SHORT).evidence
    promoted = [trial for trial in evidence.trials if trial.parent]
    ended = [trial for trial in promoted if len(trial.scores) <= trial.start]
    assert ended  # or there was nothing to test
    trials = {trial.id: trial for trial in evidence.trials}
    assert all(trial.scores == trials[trial.parent].scores for trial in ended)


@pytest.mark.parametrize("slices", [6, 4])  # rungs of two slices and six, of one and four
def test_a_configuration_is_timed_once(clicks, run, tmp_path, monkeypatch, slices):
    timed = []
    monkeypatch.setattr(SliceTuner, "_check_seconds", lambda self, seconds: timed.append(seconds))
    trials = run(clicks, tmp_path, schedule={"slices": slices}, **SHORT).evidence.trials
    promoted = sum(trial.parent is not None for trial in trials)
    assert promoted == 1
    assert len(timed) == (3 if slices == 6 else promoted)  # never the first trial
    assert list((tmp_path / "trials").rglob("weights*"))


def test_what_would_take_too_much_of_the_minutes_fails_but_for_the_defaults(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "SHARE", 1e-9)
    budget, stages = Budget(trials=3, minutes=10), []

    def watch(oracle, trial, scores):
        stages.append(oracle.stage)

    evidence = run(clicks, tmp_path, budget=budget, schedule=RANDOM, watch=watch, **SHORT).evidence
    assert not list((tmp_path / "trials").rglob("weights*"))  # which nobody would read
    assert (stages[0], *stages[-2:]) == ("", "finalist 1 of 2, as without a search", "finalist 2 of 2")
    first, *others = evidence.trials
    assert (first.status, len(others)) == ("COMPLETED", 2)
    for trial in others:
        assert trial.status == "FAILED"
        assert "s of a whole training are more than 6e-07 s, a share of the minutes." in trial.message
    whole = evidence.finalists[0].candidate
    assert replace(whole, config={**first.candidate.config, "members": MEMBERS}) == whole
    assert replace(whole, config=first.candidate.config) == first.candidate


FIXED = {"embedding_dim": 4, "hidden_units": [4]}
ONCE = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=1)}


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 7), ("cosine", 3), ("one_cycle", 3)])
def test_a_whole_training_goes_on_until_nothing_improves_where_its_rate_has_no_end(
    clicks, run, tmp_path, monkeypatch, schedule, expected
):
    def evaluate(model, part):
        return {"auc": 0.6 + 0.01 * min(model.slices, 5)}  # rises for five slices

    for name in ("tuner", "finalists"):
        monkeypatch.setattr(f"nfm_tfrs.tuning.{name}.EPOCHS", 50)
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", evaluate)
    fixed = {**FIXED, "schedule": schedule, "learning_rate": 0.1}
    told = []

    def watch(oracle, trial, scores):
        if trial is None:
            told.append(oracle.trained(oracle.trials["0000"]))

    evidence = run(clicks, tmp_path, space={"fixed": fixed}, schedule={"patience": 2}, watch=watch, **ONCE).evidence
    trial, (first, _) = evidence.trials[0], evidence.finalists
    assert told[-1] == expected
    assert len(trial.scores) == expected
    assert (first.runs[0].trained, first.runs[0].slice) == (expected, min(5, expected))
    assert "more passes may be better" not in evidence.verdict  # a rate that falls to its end is best there
    passes = json.loads((tmp_path / "best.json").read_text())
    assert passes["training"]["passes"] == (5 if expected == 7 else 2)
    assert passes["winner"].get("passes") == (2 if expected == 7 else None)


def test_behind_its_passes_a_training_ends_with_its_share_of_the_minutes(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.EPOCHS", 50)
    now = itertools.count(0.0, 0.5)
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.time", SimpleNamespace(monotonic=lambda: next(now), sleep=time.sleep))
    share = {"budget": Budget(trials=1, minutes=10 / 60), **SHORT}  # two seconds, of half a second a slice
    evidence = run(clicks, tmp_path, space={"fixed": {**FIXED, "schedule": "constant"}}, **share).evidence
    assert len(evidence.trials[0].scores) == 5


def test_what_falls_to_its_end_at_a_rung_falls_anew_over_the_whole(clicks, run, tmp_path, monkeypatch):
    told, build = [], Recipe.build

    def noted(recipe, features, *, steps):
        told.append(steps)
        return build(recipe, features, steps=steps)

    monkeypatch.setattr(Recipe, "build", noted)
    fixed = {**FIXED, "schedule": "cosine"}
    evidence = run(clicks, tmp_path, space={"fixed": fixed}, **SHORT).evidence
    assert {len(trial.scores) for trial in evidence.trials if trial.parent} == {3}
    assert {(trial.start, trial.end) for trial in evidence.trials if trial.parent} == {(0, 3)}
    cut = Slices(clicks.train, passes=2, count=3, seed=0)
    part, whole = cut.steps(64, 1), cut.steps(64)
    assert told[: len(evidence.trials)] == [whole if trial.end == 3 else part for trial in evidence.trials]
    assert not list((tmp_path / "trials").rglob("weights*"))  # nothing goes on from there


def test_where_no_worker_ends_by_itself_the_search_says_so(clicks, run, tmp_path):
    workers = Workers(start=lambda name, port: subprocess.Popen(["false"]), count=1)
    with (
        pytest.warns(UserWarning, match="No worker ended by itself"),
        pytest.raises(ValueError, match="None was begun"),
    ):
        run(clicks, tmp_path, workers=workers)


def test_a_worker_ends_its_process_when_there_are_no_trials_left(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "is_worker", lambda: True)
    with pytest.raises(SystemExit) as ended:
        run(clicks, tmp_path, one=True)
    assert ended.value.code == 0
    assert not (tmp_path / ".lock").exists()  # the chief holds the folder
    assert not (tmp_path / "best.json").exists()
