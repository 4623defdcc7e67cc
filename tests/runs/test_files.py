"""Files and folders that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from nfm_tfrs import platform_calls
from nfm_tfrs.runs.files import check_output, write_text, writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_text_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "state.json"
    write_text(path, "[1]")
    write_text(path, '["é"]')
    assert path.read_bytes() == '["é"]'.encode()
    assert names(tmp_path) == ["state.json"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "begun \ud800")  # half a character
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_a_text_does_not_change_under_whoever_reads_it(tmp_path):
    path, kept = tmp_path / "state.json", tmp_path / "kept.json"
    path.write_text("old")
    kept.hardlink_to(path)
    write_text(path, "new")
    assert (path.read_text(), kept.read_text()) == ("new", "old")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "state.json"
    with writing(path, overwrite=True) as one, writing(path, overwrite=True) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # it ended last
    assert names(tmp_path) == ["state.json"]


def test_what_is_being_written_lies_hidden_beside_and_ends_like_the_file(tmp_path):
    with writing(tmp_path / "model.keras", overwrite=False) as file:
        file.write_text("weights")
        assert not (tmp_path / "model.keras").exists()
        assert file.parent == tmp_path
        assert file.name.startswith(".model.keras.")
        assert file.suffix == ".keras"  # by which Keras knows how to write


def test_a_folder_replaces_the_one_before(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.json").write_text("{}")
    with writing(tmp_path / "run", overwrite=True) as folder:
        folder.mkdir()
        (folder / "new.json").write_text("{}")
        assert names(tmp_path / "run") == ["old.json"]
    assert names(tmp_path / "run") == ["new.json"]
    assert names(tmp_path) == ["run"]


def test_a_folder_comes_back_where_the_new_one_is_not_there(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.json").write_text("{}")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "run", overwrite=True):
        pass  # nothing is written
    assert names(tmp_path / "run") == ["old.json"]
    assert names(tmp_path) == ["run"]


def test_what_appears_at_the_output_meanwhile_is_kept(tmp_path):
    out = tmp_path / "table.csv"

    def write():
        with writing(out, overwrite=False) as file:
            out.write_text("theirs")
            file.write_text("ours")

    with pytest.raises(FileExistsError, match=r"was written by somebody else meanwhile. This result is in (\S+)\.$"):
        write()
    assert out.read_text() == "theirs"
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["ours", "theirs"]


def test_a_link_to_a_run_is_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with writing(tmp_path / "link", overwrite=True) as folder:
        folder.mkdir()
        (folder / "run.json").write_text("{}")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "run") == ["run.json"]


def test_the_old_run_stays_where_neither_it_nor_the_new_one_can_be_put_in_its_place(tmp_path, monkeypatch):
    """As where the process is interrupted between two renames."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.json").write_text("{}")
    rename = Path.rename

    def once(path, target):
        monkeypatch.setattr(Path, "rename", no)
        return rename(path, target)

    def no(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", once)
    monkeypatch.setattr(Path, "replace", no)
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "run", overwrite=True) as folder:
        folder.mkdir()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".run.replaced-")
    assert names(left) == ["old.json"]


def test_all_that_was_written_is_on_the_disk_before_it_takes_the_place_of_the_old_run(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.json").write_text("{}")
    there = []

    def written(file):
        assert names(tmp_path / "run") == ["old.json"]
        there.append(Path(file.name).name)

    monkeypatch.setattr(platform_calls, "write_through", written)
    folders = []
    monkeypatch.setattr(platform_calls, "write_folder_through", folders.append)
    with writing(tmp_path / "run", overwrite=True) as folder:
        (folder / "logs").mkdir(parents=True)
        for name in ("model.keras", "logs/events"):
            (folder / name).write_text("new")
    assert sorted(there) == ["events", "model.keras"]
    assert folders == [folder, folder / "logs", tmp_path]


def test_a_mount_point_is_refused_with_a_folder_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(FileExistsError) as refused:
        check_output(tmp_path, True, folder=True)
    where = f"Pass a folder in it: {tmp_path / 'run'}."
    assert str(refused.value) == f"{tmp_path} is a mount point, which cannot be replaced. {where}"


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        with writing(tmp_path / "run", overwrite=False) as folder:
            folder.mkdir()
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "overwrite", "folder", "message"),
    [
        ("file", False, False, "exists already. Choose another --out, or pass --overwrite to replace it."),
        ("file", True, True, "is a file. Choose another --out."),
        ("run.json", True, False, "is a folder. Choose another --out."),
        ("thesis.tex", True, True, "holds thesis.tex, which is not of a run. Move it, or choose another --out."),
    ],
)
def test_an_output_that_may_not_be_written_is_refused(tmp_path, content, overwrite, folder, message):
    out = tmp_path / "out"
    if content == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / content).write_text("mine")
    with pytest.raises(FileExistsError) as refused:
        check_output(out, overwrite, folder=folder)
    assert str(refused.value) == f"{out} {message}"


@pytest.mark.parametrize("content", [None, "run.json", "tensorboard"])
def test_a_run_may_be_replaced(tmp_path, content):
    if content:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / content).write_text("{}")
    check_output(tmp_path / "out", True, folder=True)
