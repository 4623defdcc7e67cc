"""`nfm-tfrs tune`: from a file to a folder that holds the model and the evidence; also by several processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.train import _say_what_differs
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.evidence import Member, Winner
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import repeat_run
from nfm_tfrs.training.recipe import Best, Recipe
from nfm_tfrs.tuning import keras_tuner, tuner
from nfm_tfrs.tuning import winner as made
from nfm_tfrs.tuning.oracle import HalvingOracle
from nfm_tfrs.tuning.outcome import FILES
from nfm_tfrs.tuning.workers import Workers, serve
from tfrs_registry import get_model

SMALL = [
    *("--label", "click", "--split", "time:timestamp", "--columns", "user_id,site,category,price"),
    *("--blocks", "fm,bi_interaction", "--set", "embedding_dim=4", "--set", "hidden_units=[4]"),
    *("--set", "batch_size=64", "--passes", "2", "--finalists", "2", "--seeds", "2"),
]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "clicks.parquet"
    pq.write_table(click_log(900, seed=0).table, path)
    return path


@pytest.fixture(scope="module")
def tuned(clicks, done, tmp_path_factory):
    out = tmp_path_factory.mktemp("searches") / "search"
    output = done("tune", "--data", clicks, "--out", out, "--max-trials", 3, *SMALL)
    return SimpleNamespace(folder=out, output=output)


@pytest.mark.slow
def test_tune_leaves_the_model_and_the_evidence(tuned):
    out = tuned.folder
    assert {*FILES, "settings.json", "trials", "finalists", "tensorboard"} <= {path.name for path in out.iterdir()}
    best = json.loads((out / "best.json").read_text())
    model = load_model(out / "model.keras")
    again = get_model(best["model"], **best["config"])
    assert again.features == model.features
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]
    evidence = json.loads((out / "search.json").read_text())
    assert len([trial for trial in evidence["trials"] if trial["parent"] is None]) == 3
    assert evidence["verdict"] in " ".join(tuned.output.split())  # which breaks lines
    card = (out / "card.md").read_text()
    assert evidence["verdict"] in card
    assert evidence["data"]["fingerprint"] in card
    assert f"{evidence['test']['metrics']['auc']:.4f}" in card
    assert "vocabulary" not in card
    assert list((out / "tensorboard").glob("*/events*"))
    assert "<html" in (out / "report.html").read_text()


def nameless(config):
    """The config without the names that Keras makes up by counting."""
    block = {**config["interaction"], "config": {**config["interaction"]["config"], "name": None}}
    return {**config, "name": None, "interaction": block}


def again(tuned, clicks):
    """The arguments of train that give it the rows and the recipe of the search."""
    rows = ("--data", clicks, "--label", "click", "--split", "time:timestamp")
    return ("train", *rows, "--config", tuned.folder / "best.json")


@pytest.mark.slow
def test_what_tune_leaves_can_be_judged_and_trained_again(tuned, clicks, done, tmp_path):
    done("evaluate", "--model", tuned.folder / "model.keras", "--data", clicks, "--label", "click")
    output = done(*again(tuned, clicks), "--epochs", 1, "--out", tmp_path / "run")
    best = json.loads((tuned.folder / "best.json").read_text())
    winner = best["winner"]
    said = " ".join(output.split())
    assert "This training has seed 0 and stops after 4 epochs without a better score; the search's own model" in said
    assert f"the search's own model is {Winner.from_json(winner).made}. Pass" in said
    assert "Pass --repeat for exactly that one." in said
    model, new = load_model(tuned.folder / "model.keras"), load_model(tmp_path / "run" / "model.keras")
    assert nameless(new.get_config()) == nameless(model.get_config())
    assert type(new.optimizer).__name__.lower() == best["training"]["optimizer"]


@pytest.mark.parametrize("members", [0, 2])
def test_a_training_by_a_best_json_says_how_the_search_made_its_own(capsys, members):
    member = Member(trial="0003", candidate=Configuration(model="fm"), seed=2, slices=5)
    winner = Winner(seed=2, slices=None if not members else 5, members=(member,) * members)
    _say_what_differs(Best(recipe=Recipe(model="fm"), winner=winner, slices=27), 4, 0)
    said = " ".join(capsys.readouterr().out.split())
    alone = ", of the winner's configuration alone," if members else ""
    assert said == (
        f"This training{alone} has seed 0 and stops after 4 epochs without a better score; the search's own model is "
        f"{winner.made}. Pass --repeat for exactly that one."
    )


@pytest.mark.slow
def test_repeat_trains_the_model_of_the_search_again_to_the_bit(tuned, clicks, done, refused, tmp_path):
    output = done(*again(tuned, clicks), "--repeat", "--out", tmp_path / "run")
    assert "Pass --repeat" not in output
    told = ("--config", tmp_path / "run" / "run.json")  # a run that repeated a search can be repeated like it
    done(*again(tuned, clicks)[:-2], *told, "--repeat", "--out", tmp_path / "twice")
    expected = load_model(tuned.folder / "model.keras").get_weights()
    for name in ("run", "twice"):
        for one, other in zip(load_model(tmp_path / name / "model.keras").get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="holds a run that repeated a search; only the command line does that"):
        repeat_run(tmp_path / "run")
    other_rows = ("--split", "time:timestamp:0.7,0.2,0.1")
    line = refused(*again(tuned, clicks), *other_rows, "--repeat", "--out", tmp_path / "other")
    assert "The search had other rows: their fingerprint was" in line


@pytest.mark.slow
def test_an_interrupted_repeat_keeps_what_was_trained(tuned, clicks, run, monkeypatch, tmp_path):
    trained = []

    def train_slice(model, *arguments):
        trained.append(model)
        if len(trained) == 1:  # a second one would end the tests
            signal.raise_signal(signal.SIGTERM)
        return tuner.train_slice(model, *arguments)

    monkeypatch.setattr(made, "train_slice", train_slice)
    result = run(*again(tuned, clicks), "--repeat", "--out", tmp_path / "run")
    assert result.exit_code == 143
    where = f"{tmp_path / 'run'}, which the same command replaces."
    assert f"nfm-tfrs: Interrupted: the weights of then are in {where}\n" in result.stderr
    assert len(trained) == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["interrupted"] is True
    for one, other in zip(
        load_model(tmp_path / "run" / "model.keras").get_weights(), trained[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "val_accuracy"], "objective must be one of val_auc, val_log_loss"),
        (["--task", "regression", "--objective", "val_auc"], "objective must be one of val_rmse, val_mae"),
    ],
)
def test_an_objective_that_there_is_not_is_refused_before_rows_are_read(
    header_alone, refused, tmp_path, arguments, message
):
    rows = ("--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "search", "--max-trials", 1)
    assert message in refused("tune", *rows, *arguments)


@pytest.mark.parametrize(
    ("fixed", "line"),
    [
        (["members=0"], "members must be a whole number of 1 or more; received 0."),
        (["rate_rows=0"], "rate_rows must be a whole number of 1 or more; received 0."),
        (["optimizer=adam", 'optimizer_arguments={"beta_1": "x"}'], "beta_1 must be at least 0 and below 1; received "),
        (["schedule=plateau", "schedule_arguments=3"], "schedule_arguments must be an object of names and values; rec"),
    ],
)
def test_what_is_fixed_wrongly_is_refused_before_rows_are_read(header_alone, refused, tmp_path, fixed, line):
    out = tmp_path / "search"
    told = [word for setting in fixed for word in ("--set", setting)]
    rows = ("--data", header_alone, "--label", "rating>=4", "--out", out, "--max-trials", 1)
    assert line in refused("tune", *rows, *told)
    assert not out.exists()


@pytest.mark.slow
def test_another_search_in_the_folder_is_refused(tuned, clicks, refused):
    line = refused("tune", "--data", clicks, "--out", tuned.folder, "--max-trials", 3, *SMALL, "--seed", 1)
    assert "Choose another folder." in line


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"settings.json": '{"seed": 0, "objective": "val_auc"}'}, "holds a search with other seed, "),
        ({"notes.txt": "mine"}, "holds something that is no search"),
    ],
)
def test_a_folder_of_anything_else_is_refused_before_rows_are_read(header_alone, refused, tmp_path, held, message):
    for name, text in held.items():
        (tmp_path / name).write_text(text)
    rows = ("--data", header_alone, "--label", "rating>=4", "--out", tmp_path, "--max-trials", 1, "--seed", 1)
    assert message in refused("tune", *rows)


def test_categories_and_numbers_that_options_name_are_those_of_the_search(clicks, refused, tmp_path):
    """Refused, so that nothing is searched."""
    kinds = ("--label", "click", "--columns", "site,price", "--category", "price", "--number", "site")
    line = refused("tune", "--data", clicks, "--out", tmp_path / "search", "--max-trials", 1, *kinds)
    assert "Column 'site' is" in line
    assert "but --number calls it a number." in line


@pytest.mark.parametrize("command", [["true"], ["false"]])
def test_serving_says_whether_a_worker_ended_well(command, tmp_path):
    oracle = HalvingOracle(keras_tuner.Objective("val_auc", "max"), rungs=[1], max_configurations=1)
    oracle._set_project_dir(str(tmp_path), "trials")
    said = []
    well = serve(oracle, Workers(lambda name, port: subprocess.Popen(command), 2), warn=said.append)
    assert well == (command == ["true"])
    assert len(said) == (0 if well else 4)


def test_a_worker_that_leaves_in_a_trial_has_died_whatever_its_status(tmp_path):
    oracle = HalvingOracle(keras_tuner.Objective("val_auc", "max"), rungs=[1], max_configurations=1)
    oracle._set_project_dir(str(tmp_path), "trials")
    said = []

    def start(name, port):
        if not oracle.trials:
            oracle.create_trial(name)
        return subprocess.Popen(["true"])

    serve(oracle, Workers(start, 1), warn=said.append)
    assert said[0] == "worker0 ended with status 0 in trial 0000; it is started again."
    assert [trial.status for trial in oracle.trials.values()] == ["FAILED"]


# --- several processes ------------------------------------------------------------------------------------------------


def start(clicks, out, *arguments, **variables):
    command = [sys.executable, "-m", "nfm_tfrs.cli", "tune", "--data", str(clicks), "--out", str(out), *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def worker_of(chief, name, but, seconds=120):
    """The process of a worker, but for one that is dying."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for folder in os.listdir("/proc"):
            if folder.isdigit() and int(folder) not in (chief, but):
                try:
                    with open(f"/proc/{folder}/environ", "rb") as file:
                        variables = file.read().split(b"\0")
                    with open(f"/proc/{folder}/stat") as file:
                        parent = int(file.read().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                named = {f"KERASTUNER_TUNER_ID={name}".encode(), f"NFM_TFRS_CHIEF={chief}".encode()}
                if parent == chief and named <= set(variables):  # not the process beside it, which has them too
                    return int(folder)
        time.sleep(0.1)
    raise AssertionError(f"{name} never began")


def killed_in_a_trial(chief, out, name, but=0):
    """Kills a worker with -9 while a trial is its own; returns the trial and the process."""
    path = out / "trials" / "oracle.json"
    for _ in range(1200):
        trial = json.loads(path.read_text())["ongoing_trials"].get(name) if path.exists() else None
        if trial is not None:
            process = worker_of(chief.pid, name, but)
            os.kill(process, signal.SIGKILL)
            return trial, process
        assert chief.poll() is None, chief.stdout.read()
        time.sleep(0.1)
    raise AssertionError(f"{name} runs no trial")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds processes in /proc")
def test_a_worker_that_is_killed_gets_its_trial_back_and_after_two_deaths_it_fails(clicks, tmp_path):
    out = tmp_path / "search"
    chief = start(clicks, out, "--max-trials", "4", "--workers", "2", *SMALL)
    first, process = killed_in_a_trial(chief, out, "worker0")
    second, _ = killed_in_a_trial(chief, out, "worker0", but=process)
    output, _ = chief.communicate(timeout=500)
    assert chief.returncode == 0, output
    assert first == second  # it was its own while it was away
    trials = {trial["id"]: trial for trial in json.loads((out / "search.json").read_text())["trials"]}
    assert trials[first]["status"] == "FAILED"
    assert "status -9, 2 times" in trials[first]["message"]
    said = " ".join(output.split())
    assert f"worker0 ended with status -9 in trial {first}; it is started again." in said
    assert "worker0 is closed." in said
    others = [trial for trial in trials.values() if trial["id"] != first]
    assert others
    assert {trial["status"] for trial in others} == {"COMPLETED"}
    assert (out / "model.keras").exists()
    again = start(clicks, out, "--max-trials", "4", *SMALL)  # in one process, there is nothing left to do
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert {trial["id"] for trial in json.loads((out / "search.json").read_text())["trials"]} == set(trials)


@pytest.mark.slow
def test_kerastuners_three_variables_make_a_chief_and_its_workers(clicks, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chief = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free.getsockname()[1])}
    out, found = tmp_path / "search", {}
    processes = {
        name: start(clicks, out, "--max-trials", "3", *SMALL, KERASTUNER_TUNER_ID=name, **chief)
        for name in ("chief", "worker")
    }
    for name, process in processes.items():
        found[name], _ = process.communicate(timeout=500)
        assert process.returncode == 0, found[name]
    assert "Wrote model.keras" in found["chief"]
    assert "Wrote" not in found["worker"]
    assert "lazyadagrad" not in found["worker"]  # KerasTuner prints its conditions
    trials = json.loads((out / "search.json").read_text())["trials"]
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    assert sum(trial["parent"] is None for trial in trials) == 3
