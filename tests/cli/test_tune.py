"""`nfm-tfrs tune`: from a file to a folder that holds the model and the evidence; also by several processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from nfm_tfrs.cli import app
from nfm_tfrs.cli.terminal import SearchProgress, one_line_errors
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.tuning import keras_tuner
from nfm_tfrs.tuning.oracle import HalvingOracle
from nfm_tfrs.tuning.outcome import FILES
from nfm_tfrs.tuning.workers import serve
from tfrs_registry import get_model

SMALL = [
    *("--label", "click", "--split", "time:timestamp", "--columns", "user_id,site,category,price"),
    *(
        "--blocks",
        "fm,bi_interaction",
        "--set",
        "embedding_dim=4",
        "--set",
        "hidden_units=[4]",
        "--set",
        "batch_size=64",
    ),
    *("--passes", "2", "--finalists", "2", "--seeds", "2"),
]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "clicks.parquet"
    pq.write_table(click_log(900, seed=0).table, path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tuned(clicks, tmp_path_factory):
    out = tmp_path_factory.mktemp("searches") / "search"
    result = run("tune", "--data", clicks, "--out", out, "--max-trials", 3, *SMALL)
    assert result.exit_code == 0, result.output
    return out, result


@pytest.mark.slow
def test_tune_leaves_the_model_and_the_evidence(tuned):
    out, result = tuned
    assert {*FILES, "settings.json", "trials", "finalists", "tensorboard"} <= {path.name for path in out.iterdir()}
    best = json.loads((out / "best.json").read_text())
    model = load_model(out / "model.keras")
    again = get_model(best["model"], **best["config"])
    assert again.features == model.features
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]
    evidence = json.loads((out / "search.json").read_text())
    assert len([trial for trial in evidence["trials"] if trial["parent"] is None]) == 3
    assert evidence["verdict"] in " ".join(result.output.split())  # which breaks lines
    card = (out / "card.md").read_text()
    assert evidence["verdict"] in card
    assert evidence["data"]["fingerprint"] in card
    assert f"{evidence['test']['metrics']['auc']:.4f}" in card
    assert "vocabulary" not in card
    assert list((out / "tensorboard").glob("*/events*"))
    assert "<html" in (out / "report.html").read_text()


def test_progress_shows_the_trial_the_best_and_the_time_left_then_the_finalist():
    oracle = SimpleNamespace(progress=lambda: (4, 3, 0.75), time_spent=120.0, stage="")
    progress = SearchProgress(None, 10)
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "trial 4  best 0.7500  8 min left"
    assert progress.tasks[0].percentage == pytest.approx(20)
    oracle.time_spent = 570.0
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "trial 4  best 0.7500  30 s left"
    oracle.stage = "finalist 1 of 3"
    progress.watch(oracle, None, [])
    assert progress.tasks[0].description == "finalist 1 of 3  best 0.7500"
    assert progress.tasks[0].percentage == 100


def nameless(config):
    """The config without the names that Keras makes up by counting."""
    block = {**config["interaction"], "config": {**config["interaction"]["config"], "name": None}}
    return {**config, "name": None, "interaction": block}


@pytest.mark.slow
def test_what_tune_leaves_can_be_judged_and_trained_again(tuned, clicks, tmp_path):
    out, _ = tuned
    assert run("evaluate", "--model", out / "model.keras", "--data", clicks, "--label", "click").exit_code == 0
    arguments = ["--data", clicks, "--label", "click", "--split", "time:timestamp", "--epochs", 1]
    arguments += ["--config", out / "best.json", "--out", tmp_path / "run"]
    result = run("train", *arguments)
    assert result.exit_code == 0, result.output
    model, again = load_model(out / "model.keras"), load_model(tmp_path / "run" / "model.keras")
    assert nameless(again.get_config()) == nameless(model.get_config())
    training = json.loads((out / "best.json").read_text())["training"]
    assert type(again.optimizer).__name__.lower() == training["optimizer"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "A budget needs trials or minutes above 0"),
        (["--max-trials", "1", "--objective", "val_accuracy"], "objective must be one of val_auc, val_log_loss"),
        (["--max-trials", "1", "--blocks", "fm,crosss"], "crosss"),
        (["--max-trials", "1", "--task", "ranking"], "--task is binary or regression; received 'ranking'."),
        (["--max-trials", "1", "--set", "embeding_dim=3"], "received 'embeding_dim'"),
        (["--max-trials", "1", "--strategy", "luck"], "strategy must be"),
        (["--max-trials", "1", "--valid", "v.csv", "--split", "random"], "--valid and --split both say which rows"),
        (["--max-trials", "1", "--test", "t.csv"], "Beside --test the rows to choose on come from files of their own."),
    ],
)
def test_tune_refuses_in_one_line(clicks, tmp_path, arguments, message):
    columns = ["--label", "click", "--columns", "user_id,site"]
    result = run("tune", "--data", clicks, "--out", tmp_path / "search", *columns, *arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_another_search_in_the_folder_is_refused(tuned, clicks):
    out, _ = tuned
    result = run("tune", "--data", clicks, "--out", out, "--max-trials", 3, *SMALL, "--seed", 1)
    assert result.exit_code == 1
    assert "Choose another folder." in result.stderr


@pytest.mark.parametrize("command", [["true"], ["false"]])
def test_serving_says_whether_a_worker_ended_well(command, tmp_path):
    oracle = HalvingOracle(keras_tuner.Objective("val_auc", "max"), rungs=[1], max_configurations=1)
    oracle._set_project_dir(str(tmp_path), "trials")
    said = []
    well = serve(oracle, lambda name, port: subprocess.Popen(command), 2, warn=said.append)
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

    serve(oracle, start, 1, warn=said.append)
    assert said[0] == "worker0 ended with status 0 in trial 0000; it is started again."
    assert [trial.status for trial in oracle.trials.values()] == ["FAILED"]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("x/weights; No space left on device", "The disk is full: x/weights; No space left on device Make room, and"),
        ("OOM when allocating", "The memory does not suffice: OOM when allocating Make the model smaller."),
    ],
)
def test_what_is_used_up_is_said_in_one_line(reason, line, capsys):
    @one_line_errors
    def command():
        raise tf.errors.ResourceExhaustedError(None, None, f"{reason}\nand more")

    with pytest.raises(typer.Exit):
        command()
    assert line in capsys.readouterr().err


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
                except OSError:
                    continue
                if {f"KERASTUNER_TUNER_ID={name}".encode(), f"NFM_TFRS_CHIEF={chief}".encode()} <= set(variables):
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
