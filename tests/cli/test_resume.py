"""`nfm-tfrs train --resume`: killed at any moment, the same command goes on, and ends as if nothing had happened."""

import json
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli import interruption
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.runs.saving import load_model

TOLD = ("--columns", "user_id,film,genres", "--label", "rating>=4", "--set", "embedding_dim=4", "--set", "dropout=0.2")
TOLD = (*TOLD, "--set", "hidden_units=16,8", "--epochs", 3, "--batch-size", 32)  # 23 steps a pass
RESUME = ("--resume", "--checkpoint-steps", 4)

# Ends as a kill does, with no handler and no `finally`, once so many steps are behind it, or in the middle of a write.
KILLED = """
import os, signal, sys
from nfm_tfrs.cli.app import main
from nfm_tfrs.keras_compat import keras, private, tf
from nfm_tfrs.training import resume

step, writing, sys.argv = {step}, {writing}, ["nfm-tfrs", *{arguments}]
write, end = tf.train.Checkpoint.write, resume._Write.on_train_batch_end
taken = [0]

def on_train_batch_end(self, batch, logs=None):
    taken[0] = int(private.steps_taken(self.model).numpy())
    if not writing and taken[0] >= step:
        os.kill(os.getpid(), signal.SIGKILL)
    end(self, batch, logs)

def half(self, prefix, **options):
    write(self, prefix, **options)
    if writing and taken[0] >= step:
        os.kill(os.getpid(), signal.SIGKILL)

on_train_batch_end.__module__ = "nfm_tfrs.training.resume"  # a user's own would have one step run at a time
resume._Write.on_train_batch_end, tf.train.Checkpoint.write = on_train_batch_end, half
main()
"""


def read_json(path):
    return json.loads(path.read_text())


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_training_killed_three_times_ends_as_the_one_that_was_not(ratings, done, run_python, tmp_path):
    command = [str(one) for one in ("train", "--data", ratings, *TOLD, *RESUME, "--tensorboard", "--out", "run")]
    firsts = []
    for step, writing in ((20, False), (31, True), (50, False)):
        script = KILLED.format(step=step, writing=writing, arguments=command)
        killed = run_python(script, status=-signal.SIGKILL, folder=tmp_path)
        firsts.append(killed.stdout.splitlines()[0])
        assert hidden(tmp_path)[0] == ".run.checkpoints"
        assert not (tmp_path / "run").exists()
    # Passes have 23 steps, executions 8: twice it went on inside a pass, and once behind a validation.
    assert firsts == ["starts", "goes on at step 16 of 69", "goes on at step 23 of 69"]
    last = run_python(KILLED.format(step=10**6, writing=False, arguments=command), folder=tmp_path)
    assert last.stdout.splitlines()[0] == "goes on at step 46 of 69"
    assert hidden(tmp_path) == []
    assert read_json(tmp_path / "run" / "run.json")["resumed"] == [16, 23, 46]
    assert len(list((tmp_path / "run" / "tensorboard" / "train").iterdir())) == 4

    done("train", "--data", ratings, *TOLD, "--out", tmp_path / "whole")
    assert read_json(tmp_path / "run" / "metrics.json") == read_json(tmp_path / "whole" / "metrics.json")
    one, other = (load_model(tmp_path / name / "model.keras") for name in ("run", "whole"))
    for mine, theirs in zip(
        (*one.variables, *one.optimizer.variables), (*other.variables, *other.optimizer.variables), strict=True
    ):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.fixture
def heard():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_an_interrupted_training_goes_on_and_a_finished_one_is_left(
    ratings, run, done, refused, heard, monkeypatch, tmp_path
):
    command = ("train", "--data", ratings, *TOLD, "--resume", "--checkpoint-minutes", 60, "--out", tmp_path / "run")
    sent = []

    def callback(self):
        class Send(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if not sent and self.model.history.epoch == [0]:
                    sent.append(signal.raise_signal(signal.SIGTERM))

        Send.on_train_batch_end.__module__ = "nfm_tfrs.tests"
        monkeypatch.undo()
        Both.__name__ = "End"
        return Both([Send(), self.callback()])

    class Both(keras.callbacks.Callback):
        def __init__(self, callbacks):
            super().__init__()
            self.callbacks = callbacks

        def set_model(self, model):
            for one in self.callbacks:
                one.set_model(model)

        def set_params(self, params):
            for one in self.callbacks:
                one.set_params(params)

        @property
        def interrupted(self):
            return self.callbacks[-1].interrupted

        def on_train_batch_end(self, batch, logs=None):
            for one in self.callbacks:
                one.on_train_batch_end(batch, logs)

    Both.on_train_batch_end.__module__ = "nfm_tfrs.tests"
    monkeypatch.setattr(interruption.Interruption, "callback", callback)
    result = run(*command)
    assert result.exit_code == 143
    assert result.stdout.splitlines()[0] == "starts"
    assert result.stderr.endswith(f"are in {tmp_path / 'run'}, which the same command goes on with.\n")
    # No minute had passed: it was written because of the signal.
    assert hidden(tmp_path) == [".run.checkpoints"]
    # Interrupted once more, the later weights take the place of the earlier ones.
    monkeypatch.setattr(interruption.Interruption, "callback", callback)
    sent.clear()
    earlier = (tmp_path / "run" / "model.keras").read_bytes()
    result = run(*command)
    assert result.exit_code == 143
    assert result.stdout.splitlines()[0] == "goes on at step 31 of 69"
    assert (tmp_path / "run" / "model.keras").read_bytes() != earlier
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.checkpoints", "run"]
    monkeypatch.undo()
    # A kill between the two renames of a replacement: the interrupted run is put back, and replaced.
    (tmp_path / "run").rename(tmp_path / ".run.replaced-0a")
    with pytest.warns(UserWarning, match="is what it was before: what was to replace it was interrupted"):
        assert done(*command).splitlines()[0] == "goes on at step 39 of 69"
    assert hidden(tmp_path) == []
    written = (tmp_path / "run" / "model.keras").read_bytes()
    assert done(*command).splitlines() == [f"{tmp_path / 'run'} is finished: there is nothing left to train."]
    assert (tmp_path / "run" / "model.keras").read_bytes() == written
    line = f"{tmp_path / 'run'} is a finished run whose patience was 4; received 2. Choose another --out, or pass"
    assert line in refused(*command, "--patience", 2)
    assert "finished run whose rules.min_count was None; received 9." in refused(*command, "--min-count", 9)


def test_other_settings_go_over_checkpoints_with_overwrite_alone(
    ratings, run_python, done, refused, monkeypatch, tmp_path
):
    told = ["train", "--data", str(ratings), *map(str, TOLD), *map(str, RESUME), "--out", "run"]
    run_python(KILLED.format(step=10, writing=False, arguments=told), status=-signal.SIGKILL, folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "whose tensorboard was False; received True." in refused(*told, "--tensorboard")
    other = [*told, "--seed", "1"]
    assert "are of another training, whose seed was 0; received 1. Give what it had, or remove" in refused(*other)
    for path in (tmp_path / ".run.checkpoints").glob("step-*/*.index"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged and passed over"):
        assert "None of the checkpoints in " in refused(*told)
    with pytest.warns(UserWarning, match="damaged and passed over"):
        assert done(*other, "--overwrite").splitlines()[0] == "starts"
    # The folder of another run's checkpoints, left by a kill behind the last rename, changes nothing.
    assert done(*other).splitlines() == ["run is finished: there is nothing left to train."]


def test_a_touched_file_is_the_same_and_other_rows_are_named(ratings, done, refused, tmp_path):
    rows = tmp_path / "rows.parquet"
    table = pq.read_table(ratings)
    pq.write_table(table, rows)
    command = ("train", "--data", rows, *TOLD, "--resume", "--out", tmp_path / "run")
    done(*command)
    os.utime(rows, (1, 1))
    assert "is finished" in done(*command)
    pq.write_table(table.slice(1), rows)
    assert f"is a finished run whose files.{rows} was '" in refused(*command)


def test_checkpoints_of_other_rows_are_refused_before_a_row_is_read(
    ratings, header_alone, run_python, refused, monkeypatch, tmp_path
):
    told = ["train", "--data", str(ratings), *map(str, TOLD), *map(str, RESUME), "--out", "run"]
    run_python(KILLED.format(step=10, writing=False, arguments=told), status=-signal.SIGKILL, folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    line = refused("train", "--data", header_alone, *told[3:])
    assert "of another training, whose data.paths was " in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--resume", "--checkpoint-minutes", 1, "--checkpoint-steps", 2),
            "--checkpoint-minutes and --checkpoint-step",
        ),
        (("--resume", "--checkpoint-minutes", 0), "--checkpoint-minutes must be a number above 0; received 0.0."),
        (("--resume", "--checkpoint-steps", 0), "--checkpoint-steps must be a whole number of 1 or more; received 0."),
        (("--resume", "--keep-checkpoints", 0), "--keep-checkpoints must be a whole number of 1 or more; received 0."),
        (("--checkpoint-steps", 3), "Checkpoints are written with --resume alone. Pass it too, or leave out their op"),
    ],
)
def test_options_that_do_not_fit_are_refused(header_alone, refused, tmp_path, options, line):
    assert line in refused("train", "--data", header_alone, "--label", "rating", "--out", tmp_path / "run", *options)
