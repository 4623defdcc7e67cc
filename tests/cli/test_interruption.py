"""Ctrl-C and SIGTERM while `nfm-tfrs train` trains: the best weights until then are kept, as a run that says so."""

import json
import signal
import sys

import pytest

from nfm_tfrs.cli.interruption import Interruption
from nfm_tfrs.cli.terminal import TrainingProgress
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import repeat_run

SMALL = ("--columns", "user_id,film", "--set", "embedding_dim=4", "--epochs", 3, "--label", "rating>=4")


@pytest.fixture(autouse=True)
def heard():
    """Python's own handlers, also where the tests were started to ignore a signal."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def interrupt(monkeypatch):
    """Sends a signal to this process in the second epoch of the trainings to come."""

    def interrupt(number):
        class Send(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    signal.raise_signal(number)

        monkeypatch.setattr(TrainingProgress, "callback", lambda self: Send())

    return interrupt


def read_json(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_keeps_its_best_weights_and_the_same_command_replaces_them(
    ratings, run, done, refused, interrupt, monkeypatch, tmp_path, number, status
):
    command = ("train", "--data", ratings, *SMALL, "--out", tmp_path / "run")
    before = signal.getsignal(number)
    interrupt(number)
    result = run(*command)
    assert signal.getsignal(number) is before
    assert result.exit_code == status
    where = f"{tmp_path / 'run'}, which the same command replaces."
    assert result.stderr == f"nfm-tfrs: Interrupted in epoch 2: the best weights until then are in {where}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert set(metrics) == {"valid", "history", "intervals"}  # the rows to judge on are looked at once
    assert metrics["valid"]["auc"] == pytest.approx(max(metrics["history"]["val_auc"]), abs=0.01)
    assert read_json(tmp_path / "run" / "run.json")["interrupted"] is True
    load_model(tmp_path / "run" / "model.keras")
    with pytest.raises(ValueError, match=r"holds a run that was interrupted, which no training repeats\. Run its comm"):
        repeat_run(tmp_path / "run")

    monkeypatch.undo()
    with monkeypatch.context() as other:
        other.setattr(sys, "argv", ["nfm-tfrs", "train", "--seed", "1"])
        assert "exists already" in refused(*command)
    done(*command)
    assert read_json(tmp_path / "run" / "run.json")["interrupted"] is False
    assert "exists already" in refused(*command)


def test_a_whole_run_is_not_replaced_by_an_interrupted_one(ratings, run, trained, interrupt, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for path in trained.folder.iterdir():
        if path.is_file():
            (out / path.name).write_bytes(path.read_bytes())
    interrupt(signal.SIGTERM)
    result = run("train", "--data", ratings, *SMALL, "--out", out, "--overwrite")
    assert result.exit_code == 143
    (aside,) = (path for path in tmp_path.iterdir() if path != out)
    assert f"are in {aside}; {out} is as it was." in result.stderr
    assert read_json(aside / "run.json")["interrupted"] is True
    assert (out / "model.keras").read_bytes() == (trained.folder / "model.keras").read_bytes()


def test_a_second_signal_does_as_ever():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_was_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.number is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
