"""A command's output is claimed before the work begins, and put in order after a process that was killed."""

import os
import subprocess
import sys
import tempfile

import pytest

from nfm_tfrs.runs.claim import claimed, made

# Replaces a run, and dies where neither the old one nor the new one is in its place.
KILLED = """
import os, signal, sys
from pathlib import Path
from nfm_tfrs.runs.claim import claimed

Path.replace = lambda path, target: os.kill(os.getpid(), signal.SIGKILL)
with claimed(Path(sys.argv[1]), overwrite=True, folder=True) as folder:
    folder.mkdir()
    (folder / "model.keras").write_text("new")
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_run(folder, text):
    folder.mkdir()
    (folder / "model.keras").write_text(text)


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run", "old")
    return tmp_path / "run"


def test_an_output_is_written_whole_and_nothing_stays_beside_it(tmp_path):
    out = tmp_path / "new" / "table.csv"
    with claimed(out, overwrite=False, folder=False) as file:
        file.write_text("text")
    assert out.read_text() == "text"
    assert names(out.parent) == ["table.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_run_whose_replacing_was_killed_comes_back(run, tmp_path):
    ran = subprocess.run([sys.executable, "-c", KILLED, run], check=False, timeout=60)
    assert ran.returncode == -9
    assert not run.exists()
    back = pytest.warns(UserWarning, match=r"run is what it was before: what was to replace it was interrupted\.$")
    refused = pytest.raises(FileExistsError, match="exists already")
    with back, refused:
        claimed(run, overwrite=False, folder=True).__enter__()
    assert (run / "model.keras").read_text() == "old"


@pytest.mark.parametrize("stands", ["nothing", "an empty folder"])
def test_a_run_that_was_being_replaced_outlives_the_next_training_where_that_fails(run, tmp_path, stands):
    run.rename(tmp_path / ".run.replaced-7")  # by version 0.1.0, in a container, where each process has this number
    if stands == "an empty folder":
        run.mkdir()

    def fail():
        with claimed(run, overwrite=True, folder=True):
            raise ValueError("Training diverged")

    with pytest.warns(UserWarning, match="is what it was before"), pytest.raises(ValueError, match="diverged"):
        fail()
    assert (run / "model.keras").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_the_newest_of_several_runs_comes_back(run, tmp_path):
    run.rename(tmp_path / ".run.replaced-9")
    make_run(tmp_path / ".run.replaced-a", "older")
    os.utime(tmp_path / ".run.replaced-a", (0, 0))
    with pytest.warns(UserWarning, match="is what it was before"), pytest.raises(FileExistsError):
        claimed(run, overwrite=False, folder=True).__enter__()
    assert (run / "model.keras").read_text() == "old"


def test_what_killed_processes_left_is_removed(run, tmp_path):
    make_run(tmp_path / ".run.replaced-7", "older")
    make_run(tmp_path / ".run.unfinished-0a", "half")
    others = [".run.unfinished-mine", ".run2.unfinished-0a", ".trun.unfinished-0a"]
    for name in others:
        make_run(tmp_path / name, "of others")
    with claimed(run, overwrite=True, folder=True) as folder:
        make_run(folder, "new")
    assert names(tmp_path) == sorted([*others, "run"])
    assert (run / "model.keras").read_text() == "new"


def test_what_was_half_written_as_a_file_is_removed(tmp_path):
    (tmp_path / ".table.csv.unfinished-0a.csv").write_text("half")
    with claimed(tmp_path / "table.csv", overwrite=False, folder=False) as file:
        file.write_text("whole")
    assert names(tmp_path) == ["table.csv"]


def test_a_folder_with_checkpoints_is_no_leftover(tmp_path):
    (tmp_path / ".run.unfinished-0a" / "checkpoints").mkdir(parents=True)
    with claimed(tmp_path / "run", overwrite=False, folder=True) as folder:
        make_run(folder, "new")
    assert names(tmp_path) == [".run.unfinished-0a", "run"]


def test_a_run_is_not_removed_for_one_that_is_not_there(tmp_path):
    make_run(tmp_path / ".run.replaced-7", "old")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")  # no model

    def fail():
        with claimed(tmp_path / "run", overwrite=True, folder=True):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == [".run.replaced-7", "run"]


def test_an_output_is_written_by_one_process_at_a_time(tmp_path):
    out = tmp_path / "run"
    with claimed(out, overwrite=False, folder=True) as folder:
        make_run(folder, "new")
        with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole line is compared
            claimed(out, overwrite=True, folder=True).__enter__()
        assert names(folder) == ["model.keras"]
    lock = tmp_path / ".run.lock"
    assert str(refused.value) == (
        f"Another process writes {out}. Wait for it, or choose another --out; if there is none, remove {lock}."
    )
    assert names(tmp_path) == ["run"]


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    make_run(tmp_path / ".run.unfinished-0a", "half")
    with (
        pytest.warns(UserWarning, match=r"knows no locks: write .*run by one process at a time\."),
        claimed(tmp_path / "run", overwrite=False, folder=True) as folder,
    ):
        make_run(folder, "new")
    assert names(tmp_path) == [".run.unfinished-0a", "run"]


def test_a_parent_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "run"
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the whole line is compared
        claimed(out, overwrite=False, folder=True).__enter__()
    assert str(refused.value) == f"{out} cannot be written: Not a directory. Choose another --out."


def test_a_parent_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    out = tmp_path / "new" / "run"
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the whole line is compared
        claimed(out, overwrite=False, folder=True).__enter__()
    assert str(refused.value) == f"{out} cannot be written: Permission denied. Choose another --out."
    assert names(tmp_path) == []


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    (tmp_path / "there").mkdir()
    folder = tmp_path / "there" / "new" / "newer"
    with made(folder, out=folder):
        assert folder.is_dir()
    assert names(tmp_path / "there") == []
    with made(folder, out=folder):
        (folder / "file").write_text("text")
    assert names(folder) == ["file"]
