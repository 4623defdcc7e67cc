"""Searches from end to end, on data so small that they say nothing but whether they run, resume and end the same."""

import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs import metrics
from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.data import parse_split
from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.training.evaluate import predict
from nfm_tfrs.tuning import Budget, keras_tuner, search
from nfm_tfrs.tuning.finalists import _verdict
from nfm_tfrs.tuning.search import checked_objective, held
from nfm_tfrs.tuning.tuner import Diverged, SliceTuner
from tfrs_registry import get_model

COLUMNS = ["user_id", "site", "category", "interests", "price"]
BLOCKS = ["fm", "bi_interaction", "inner_product"]
FEW = {"passes": 2, "slices": 3, "finalists": 2, "seeds": 2, "budget": Budget(trials=4), "patience": 3}


@pytest.fixture(scope="module")
def data():
    table = click_log(900, seed=0).table
    return prepare(table, "click", parse_split("time:timestamp"), columns=COLUMNS)


def run(data, out, **arguments):
    fixed = {"embedding_dim": 4, "hidden_units": [4], "batch_size": 64}
    arguments = {"blocks": BLOCKS, "fixed": fixed, **FEW, **arguments}
    return search(data.train, data.valid, features=data.features, out=out, **arguments)


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    return run(data, tmp_path_factory.mktemp("searches") / "first", test=data.test)


def folder_of(found):
    return Path(found.evidence["finalists"][0]["runs"][0]["file"]).parent.parent


def without_times(evidence):
    return {
        name: value for name, value in json.loads(json.dumps(evidence)).items() if name not in ("seconds", "settings")
    }


def scores_of(evidence):
    return [(trial["id"], trial["values"], trial["score"], trial["scores"]) for trial in evidence["trials"]]


def test_configurations_are_tried_and_the_best_go_on(found):
    trials = found.evidence["trials"]
    assert [trial["status"] for trial in trials] == ["COMPLETED"] * len(trials)
    folder = folder_of(found) / "trials"
    assert not list(folder.rglob("starts"))
    assert sum(trial["parent"] is None for trial in trials) == 4
    promoted = [trial for trial in trials if trial["parent"] is not None]
    assert promoted
    for trial in promoted:
        parent = next(other for other in trials if other["id"] == trial["parent"])
        assert parent["values"] == trial["values"]
        assert trial["scores"][: len(parent["scores"])] == parent["scores"]
        assert len(trial["scores"]) > len(parent["scores"])
        assert trial["score"] == max(score["auc"] for score in trial["scores"])
        assert (trial["start"], trial["end"]) == (1, 3)
    parents = {trial["parent"] for trial in promoted}
    for trial in trials:  # weights are kept as long as a trial may go on from them
        kept = list((folder / f"trial_{trial['id']}").glob("weights*"))
        assert bool(kept) == (trial["end"] == 1 and trial["id"] not in parents)


def test_finalists_have_a_run_a_seed_and_the_best_mean_wins(found, data):
    finalists = found.evidence["finalists"]
    assert [len(entry["runs"]) for entry in finalists] == [2, 2]
    means = [np.mean([run["metrics"]["auc"] for run in entry["runs"]]) for entry in finalists]
    assert [entry["mean"] for entry in finalists] == pytest.approx(means)
    assert means == sorted(means, reverse=True)
    training = {**finalists[0]["candidate"]["training"], "passes": 2}
    candidate = finalists[0]["candidate"]
    assert found.best["training"] == training
    assert found.best["model"] == candidate["model"]
    assert found.best["config"] == {**candidate["config"], "features": data.features.to_dict()}
    assert finalists[0]["difference"] is None
    assert finalists[1]["difference"]["mean"] == pytest.approx(means[1] - means[0], abs=1e-9)
    low, high = finalists[1]["difference"]["interval"]
    assert low <= finalists[1]["difference"]["mean"] <= high
    assert found.evidence["verdict"].startswith("There is no clear winner" if low <= 0 <= high else "The first")


def test_the_model_is_the_best_run_of_the_winner_and_is_judged_on_test(found, data):
    logits = predict(found.model, data.valid)
    best = max(run["metrics"]["auc"] for run in found.evidence["finalists"][0]["runs"])
    assert metrics.auc(data.valid.labels, logits) == pytest.approx(best, abs=1e-9)
    assert found.model.optimizer.iterations > 0  # its training can go on
    test = found.evidence["test"]
    assert test["metrics"]["auc"] == pytest.approx(metrics.auc(data.test.labels, predict(found.model, data.test)))
    assert test["interval"][0] < test["metrics"]["auc"] < test["interval"][1]


def test_what_comes_out_makes_the_model_again(found, data):
    best = json.loads(json.dumps(found.best))
    again = get_model(best["model"], **best["config"])
    assert again.features == data.features
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in found.model.weights]


def test_nothing_that_was_traced_stays_of_a_search(data, tmp_path, num_graphs):
    before = num_graphs()
    run(data, tmp_path / "again")
    assert num_graphs() == before


def test_a_search_that_is_through_runs_nothing_again(found, data, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise AssertionError("it trained")

    folder = folder_of(found)
    monkeypatch.setattr(keras.Model, "fit", fit)
    again = run(data, folder, test=data.test)
    assert without_times(again.evidence) == without_times(found.evidence)


def test_another_search_in_the_folder_is_refused(found, data):
    folder = folder_of(found)
    with pytest.raises(ValueError, match=r"holds a search with other seed\. Choose another folder\."):
        run(data, folder, seed=1)
    with pytest.raises(ValueError, match=r"holds a search with other data, space\. Choose another folder\."):
        search(data.valid, data.train, features=data.features, out=folder, blocks=BLOCKS, **FEW)


def test_one_process_at_a_time_searches_in_a_folder(found, data):
    folder = folder_of(found)
    with (
        held(folder),
        pytest.raises(ValueError, match=r"Another process searches in .* Wait for it, or choose another"),
    ):
        run(data, folder)
    run(data, folder)  # it was let go of


def test_a_folder_that_cannot_be_locked_is_searched_in_with_a_warning(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.warns(UserWarning, match="cannot be locked: start one search in it at a time"), held(tmp_path):
        pass


@pytest.mark.parametrize(("strategy", "balanced"), [("halving", "interaction"), ("random", "")])
def test_blocks_take_turns_where_a_search_is_not_at_random(data, tmp_path, strategy, balanced):
    seen = []
    few = {"budget": Budget(trials=1), "finalists": 1, "seeds": 1, "strategy": strategy}
    run(data, tmp_path, watch=lambda oracle, trial, scores: seen.append((oracle.balanced, oracle.get_space())), **few)
    assert seen[0][0] == balanced
    assert [hp.values for hp in seen[0][1].space if hp.name == "interaction"] == [
        ["bi_interaction", "fm", "inner_product"]
    ]


def test_a_search_that_is_through_is_let_go_of(data, tmp_path):
    oracles = set()
    few = {"budget": Budget(trials=1), "finalists": 1, "seeds": 1}
    run(data, tmp_path / "search", watch=lambda oracle, trial, scores: oracles.add(weakref.ref(oracle)), **few)
    gc.collect()
    assert [oracle() for oracle in oracles] == [None]


def test_an_error_of_the_one_who_watches_comes_through_and_a_trial_that_ends_its_process_fails(data, tmp_path):
    def watch(oracle, trial, scores):
        if trial and trial.trial_id == "0001":
            raise KeyError("theirs")

    out = tmp_path / "search"
    with pytest.raises(KeyError, match="theirs"):
        run(data, out, watch=watch)
    starts = out / "trials" / "trial_0001" / "starts"
    assert not starts.exists()  # its process lives
    starts.write_text("...")  # as if it had not, three times
    trials = {trial["id"]: trial for trial in run(data, out).evidence["trials"]}
    assert trials["0001"]["message"] == "Its process ended 3 times before it was through."
    assert {trial["status"] for name, trial in trials.items() if name != "0001"} == {"COMPLETED"}


def test_what_a_search_space_cannot_draw_is_not_tried(data, tmp_path, monkeypatch):
    monkeypatch.setattr(FM, "search_space", lambda hp: {} if hp.Choice("odd", [0, 1], default=0) == 0 else {}["odd"])
    trials = run(data, tmp_path / "search", blocks=["fm"], strategy="random").evidence["trials"]
    assert [(trial["status"], trial["values"]["fm/odd"]) for trial in trials] == [("COMPLETED", 0)] * 4


def test_several_blocks_at_once_may_be_fixed(data, tmp_path):
    fixed = {"interaction": ["fm", "bi_interaction"], "embedding_dim": 4, "hidden_units": [4], "batch_size": 64}
    few = {"budget": Budget(trials=1), "finalists": 1, "seeds": 1}
    found = run(data, tmp_path / "search", blocks=None, fixed=fixed, **few)
    assert found.best["config"]["interaction"] == ["fm", "bi_interaction"]
    assert "fm + bi_interaction, " in (tmp_path / "search" / "report.html").read_text()


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds something that is no search\. Choose another folder\."):
        run(data, tmp_path)


def test_a_trial_that_diverges_or_is_too_large_fails_and_the_search_goes_on(data, tmp_path, monkeypatch):
    fixed = {"embedding_dim": 4, "batch_size": 64, "optimizer": "lazyadagrad", "learning_rate": 0.1}
    hidden = {"hidden_units": [4]}
    none = run(
        data, tmp_path / "none", fixed={**fixed, **hidden}, strategy="random", budget=Budget(trials=2), refit=True
    )
    assert none.evidence["test"] is None
    winner = none.evidence["finalists"][0]
    slices = round(np.mean([run["slice"] for run in winner["runs"]]))
    assert none.evidence["model"] == {"seed": 0, "slices": slices, "rows": "train and validation"}
    card = (tmp_path / "none" / "card.md").read_text()
    assert f"- the model: {slices} slices of the train and validation rows, seed 0" in card
    ceiling = none.model.count_params() + 1000
    some = run(data, tmp_path / "some", fixed=fixed, budget=Budget(trials=5), max_parameters=ceiling)
    failed = [trial for trial in some.evidence["trials"] if trial["status"] == "FAILED"]
    assert failed
    assert all("parameters are more than" in trial["message"] for trial in failed)
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "MAX_FAILURES", 3)
    with (
        pytest.warns(UserWarning, match="The search ends early: its last 3 trials failed."),
        pytest.raises(ValueError, match=r"No trial .* was finished. The last one: It diverged: its loss was nan after"),
    ):
        run(data, tmp_path / "all", fixed={**fixed, "learning_rate": 1e30}, budget=Budget(trials=30))


def test_a_promoted_trial_may_have_ended_already(data, tmp_path, monkeypatch):
    falling = iter(np.linspace(0.9, 0.5, 100))
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.judge", lambda model, part: {"auc": float(next(falling))})
    found = run(data, tmp_path / "search", budget=Budget(trials=4), slices=9, patience=1, finalists=1, seeds=1)
    promoted = [trial for trial in found.evidence["trials"] if trial["parent"]]
    ended = [trial for trial in promoted if len(trial["scores"]) <= trial["start"]]
    assert ended  # or there was nothing to test
    trials = {trial["id"]: trial for trial in found.evidence["trials"]}
    assert all(trial["scores"] == trials[trial["parent"]]["scores"] for trial in ended)


def test_where_no_block_can_be_made_the_search_says_why(data, tmp_path):
    block = {"name": "cross", "config": {"bogus": 1}}
    with pytest.raises(ValueError, match=r"No trial of the search was finished. The last one: .*bogus"):
        run(data, tmp_path / "search", blocks=None, fixed={"interaction": block, "batch_size": 64})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0, below 4294967294; received -1"),
        ({"seed": 2**32 - 2}, "seed must be a whole number from 0, below 4294967294; received 4294967294"),
        ({"task": "clicks"}, 'task must be "binary" or "regression"; received'),
        ({"finalists": 0}, "finalists must be a whole number of 1 or more; received 0"),
        ({"seeds": 0}, "seeds must be a whole number of 1 or more; received 0"),
        ({"patience": 0}, "patience must be a whole number of 1 or more; received 0"),
        ({"fixed": {}, "batch_sizes": ()}, "batch_sizes must hold one or more"),
        ({"fixed": {"batch_size": 0}}, "batch_sizes must be"),
        ({"fixed": {"schedule": "cosin"}}, 'schedule must be "constant" or "cosine"; received \'cosin\''),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_runs(data, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path / "search", **arguments)
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (None, None, "Validation rows need labels; received none. Prepare them with a label."),
        ([0, 1, 1], [0, 0, 0], "No validation row counts; received 90 rows. Give some of a weight above 0."),
        ([1, 1, 1], None, "The AUC needs validation rows of both classes; received 3 labels of 1. Split otherwise, or"),
        ([0, 1, 1], [0, 1, 1], "The AUC needs validation rows of both classes; received 2 labels of 1."),
    ],
)
def test_rows_that_nothing_can_be_chosen_on_are_refused_before_anything_runs(data, tmp_path, labels, weights, message):
    labels, weights = (None if given is None else np.float32(given) for given in (labels, weights))
    valid = EncodedPart(data.valid.columns, labels, weights)
    with pytest.raises(ValueError, match=message):
        search(data.train, valid, features=data.features, out=tmp_path / "search", **FEW)
    assert not (tmp_path / "search").exists()


def test_trials_over_a_latency_fail(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "MAX_FAILURES", 1)
    with pytest.warns(UserWarning, match="ends early"), pytest.raises(ValueError, match="for 100 rows are more than"):
        run(data, tmp_path, max_latency=1e-9, budget=Budget(trials=30))


@pytest.mark.parametrize("slices", [6, 4])  # rungs of two slices and six, of one and four
def test_a_configuration_is_timed_once(data, tmp_path, monkeypatch, slices):
    timed = []
    monkeypatch.setattr(SliceTuner, "_check_seconds", lambda self, seconds: timed.append(seconds))
    trials = run(data, tmp_path, budget=Budget(trials=4), finalists=1, seeds=1, slices=slices).evidence["trials"]
    promoted = sum(trial["parent"] is not None for trial in trials)
    assert promoted == 1
    assert len(timed) == (3 if slices == 6 else promoted)  # never the first trial
    assert list((tmp_path / "trials").rglob("weights*"))


def test_what_would_take_too_much_of_the_minutes_fails_but_for_the_defaults(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "SHARE", 1e-9)
    budget, stages = Budget(trials=3, minutes=10), []
    few = {"budget": budget, "strategy": "random", "finalists": 1, "seeds": 1}
    found = run(data, tmp_path, watch=lambda oracle, trial, scores: stages.append(oracle.stage), **few)
    assert not list((tmp_path / "trials").rglob("weights*"))  # which nobody would read
    assert (stages[0], stages[-1]) == ("", "finalist 1 of 1")
    first, *others = found.evidence["trials"]
    assert (first["status"], len(others)) == ("COMPLETED", 2)
    for trial in others:
        assert trial["status"] == "FAILED"
        assert "s of a whole training are more than 6e-07 s, a share of the minutes." in trial["message"]
    assert found.evidence["finalists"][0]["candidate"] == first["candidate"]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            "val_accuracy",
            "objective must be one of val_auc, val_log_loss; received 'val_accuracy'.",
        ),
        (
            keras_tuner.Objective("val_auc", "min"),
            "The direction of val_auc is max; received 'min'. Give the name alone.",
        ),
        (
            keras_tuner.Objective("val_auc", None),
            "The direction of val_auc is max; received None. Give the name alone.",
        ),
    ],
)
def test_an_objective_that_there_is_not_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        checked_objective(objective, "binary")


@pytest.mark.parametrize("arguments", [{}, {"trials": 0}, {"minutes": -1.0}])
def test_a_budget_of_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match=r"A budget needs trials or minutes above 0; received .* Give one or both\."):
        Budget(**arguments)


def test_where_no_worker_ends_by_itself_the_search_says_so(data, tmp_path):
    workers = {"workers": lambda name, port: subprocess.Popen(["false"]), "num_workers": 1}
    with (
        pytest.warns(UserWarning, match="No worker ended by itself"),
        pytest.raises(ValueError, match="None was begun"),
    ):
        run(data, tmp_path / "search", **workers)


def finalist(mean, interval, diverged=()):
    return {"difference": {"mean": mean, "interval": interval}, "diverged": list(diverged)}


@pytest.mark.parametrize(
    ("metric", "better", "second", "verdict"),
    [
        ("auc", 1, finalist(-0.02, [-0.03, -0.01]), "The first finalist is better than the second: .* +0.0200"),
        ("log_loss", -1, finalist(0.02, [0.01, 0.03]), "The first finalist is better than the second: .* -0.0200"),
        ("auc", 1, finalist(-0.01, [-0.03, 0.01]), "There is no clear winner: "),
        ("auc", 1, finalist(0.02, [0.01, 0.03], [7]), "The first finalist is the steadier one: .* with 1 of its seeds"),
        ("log_loss", -1, finalist(-0.02, [-0.03, -0.01], [7]), "The first finalist is the steadier one: "),
    ],
)
def test_the_verdict_says_which_way_the_difference_goes(metric, better, second, verdict):
    assert re.match(verdict.replace("+", r"\+"), _verdict([{}, second], metric, better))


def test_a_training_whose_metric_is_nan_has_diverged(data, tmp_path, monkeypatch):
    values = itertools.chain([0.5] * 3, itertools.repeat(float("nan")))  # the trial's slices, then the finalist's
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.judge", lambda model, part: {"auc": next(values)})
    with pytest.raises(ValueError, match="All finalists diverged when they were trained again"):
        run(data, tmp_path / "search", budget=Budget(trials=1), finalists=1, seeds=1)


def test_a_finalist_that_always_diverges_is_named_and_so_is_a_refit(data, tmp_path, monkeypatch):
    def refitted(*_):
        raise Diverged("It diverged.")

    values = itertools.chain([0.9] * 3, [0.8] * 3, [0.9] * 3, itertools.repeat(float("nan")))  # two trials, a finalist
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.judge", lambda model, part: {"auc": next(values)})
    monkeypatch.setattr("nfm_tfrs.tuning.finalists._refitted", refitted)
    few = {"strategy": "random", "budget": Budget(trials=2), "seeds": 1, "patience": 4, "refit": True}
    with pytest.warns(UserWarning, match="The model is not trained on all rows: It diverged."):
        found = run(data, tmp_path / "search", **few)
    assert found.evidence["diverged"] == ["0001"]
    assert found.evidence["verdict"] == "One finalist is left: 1 diverged with all their seeds."
    assert found.evidence["model"]["rows"] == "train"
    assert "Diverged with every seed: trial 0001." in (tmp_path / "search" / "card.md").read_text()


# --- the bootstrap ----------------------------------------------------------------------------------------------------


# --- killed and started again -----------------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from nfm_tfrs.data import parse_split
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.tuning import Budget, search
table = click_log(900, seed=0).table
columns = ["user_id", "site", "category", "interests", "price"]
data = prepare(table, "click", parse_split("time:timestamp"), columns=columns)
found = search(data.train, data.valid, features=data.features, out=sys.argv[1], test=data.test,
    blocks=["fm", "bi_interaction", "inner_product"], fixed={"embedding_dim": 4, "hidden_units": [4], "batch_size": 64},
    passes=2, slices=3, finalists=2, seeds=2, budget=Budget(trials=4), patience=3,
    watch=lambda oracle, trial, scores: trial and print("slice", trial.trial_id, len(scores), flush=True))
print("found", json.dumps(found.evidence["trials"]), json.dumps(found.evidence["test"]["metrics"]), flush=True)
"""


def started(out, folder):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_ends_as_one_that_is_not(found, data, tmp_path):
    out, ran = tmp_path / "killed", []
    for stop in (1, 3):  # in the second trial; in the promotion
        process = started(out, tmp_path)
        seen = 0
        for line in process.stdout:
            if line.startswith("slice"):
                ran.append(line)
                seen += 1
            if seen == stop + 1:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = started(out, tmp_path)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0
    line = next(line for line in output.splitlines() if line.startswith("found"))
    trials, test = json.JSONDecoder().raw_decode(line.removeprefix("found "))[0], line
    assert scores_of({"trials": trials}) == scores_of(found.evidence)
    assert json.dumps(found.evidence["test"]["metrics"]) in test
    finished = [line.split()[1] for line in ran]
    assert len(set(finished)) >= 2
    # What was finished before a kill is not among what ran after it.
    again = {line.split()[1] for line in output.splitlines() if line.startswith("slice")}
    assert not again & (set(finished) - {finished[-1]})
    assert "0000" not in again
