"""Files and folders that are written whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nfm_tfrs import full_disk, platform_calls

FILES = ("model.keras", "features.json", "metrics.json", "run.json", "curves.png")  # of a run
ROWS = "rows.parquet"  # of a run too, where its rows were at hand
LOGS = "tensorboard"  # of a run too, where it was asked for them
EXPORTED = (  # of an export
    *("saved_model.pb", "keras_metadata.pb", "fingerprint.pb", "variables", "assets"),
    *("model.onnx", "model.onnx.data", "signature.json", "parity.json", "README.md"),
)
UNFINISHED, REPLACED = "unfinished", "replaced"  # what lies beside an output while it is written


def check_output(out: Path, overwrite: bool, *, folder: bool, exported: bool = False) -> None:
    """Checks that `out` may be written, as the folder of a run or of an export, or as a file.

    Raises:
        FileExistsError: It exists, and replacing was not asked for; or it is not what would replace it: a file where a
            folder goes, a folder where a file goes, a folder that holds anything but a run, or a mount point.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")
    if out.exists() and out.is_dir() != folder:
        raise FileExistsError(f"{out} is a {'file' if folder else 'folder'}. Choose another --out.")
    known = {*EXPORTED} if exported else {*FILES, ROWS, LOGS}
    others = {path.name for path in out.iterdir()} - known if folder and out.is_dir() else set()
    if others:
        what = "an export" if exported else "a run"
        raise FileExistsError(f"{out} holds {min(others)}, which is not of {what}. Move it, or choose another --out.")
    if os.path.ismount(out):  # Path.is_mount is not for Windows
        raise FileExistsError(f"{out} is a mount point, which cannot be replaced. Pass a folder in it: {out / 'run'}.")


@contextmanager
def writing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a path to write to, and puts what was written there in the place of `out` if nothing went wrong.

    It lies beside `out` and ends like it, so that the last step is a rename; what a failure leaves is removed. What was
    there goes only when the new one stands, all of it on the disk.

    Raises:
        FileExistsError: `out` has come into being meanwhile, and replacing was not asked for; what was written is kept
            under the name that the message gives.
        FullDiskError: The disk is full.
    """
    out = out.resolve()  # of a link, what it leads to
    out.parent.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex  # a process's number may be another machine's too
    written = out.with_name(f".{out.name}.{UNFINISHED}-{name}{out.suffix}")
    replaced = out.with_name(f".{out.name}.{REPLACED}-{name}")
    try:
        with full_disk.naming(out):
            yield written
            _write_through(written)
        if out.exists() and not overwrite:
            kept = kept_aside(written, out)
            raise FileExistsError(f"{out} was written by somebody else meanwhile. This result is in {kept}.")
        try:
            if out.is_dir():
                out.rename(replaced)
            written.replace(out)
        except BaseException:
            if replaced.exists() and not out.exists():
                replaced.rename(out)
            raise
        platform_calls.write_folder_through(out.parent)
    finally:
        remove(written)
        if out.exists():  # else it is all that there is, whatever came between
            remove(replaced)


def leftovers(out: Path, kind: str) -> list[Path]:
    """Returns what lies beside an output since it was written, or was to be, the oldest first.

    Args:
        out: The output, links followed.
        kind: `UNFINISHED`, what was being written, or `REPLACED`, what was there before.
    """
    named = re.compile(rf"\.{re.escape(out.name)}\.{kind}-[0-9a-f]+({re.escape(out.suffix)})?")
    found = [path for path in out.parent.iterdir() if named.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def files_state(paths: Sequence[Path], *, contents: bool) -> str:
    """Returns a hash of files.

    Args:
        paths: The files.
        contents: Whether of what is in them; else, for files of any size, of their sizes and times of the last change.
    """
    state = hashlib.sha256()
    for path in paths:
        if contents:
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    state.update(block)
        else:
            found = path.stat()
            state.update(json.dumps([found.st_size, found.st_mtime_ns]).encode())
    return state.hexdigest()[:16]


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it, after whatever happened, finds the old text or the new one."""
    with writing(path, overwrite=True) as file:
        file.write_text(text, encoding="utf-8")


def kept_aside(written: Path, out: Path) -> Path:
    """Gives what was written a name of its own beside `out`, all of it on the disk, and returns it.

    Args:
        written: What `writing` gave.
        out: What it should have become.
    """
    _write_through(written)
    kept = out.with_name(f"{out.stem}-{uuid.uuid4().hex}{out.suffix}")
    written.rename(kept)
    platform_calls.write_folder_through(kept.parent)
    return kept


def _write_through(written: Path) -> None:
    """Waits until a file, or a folder with all that is in it, is on its disk."""
    for path in [written, *written.rglob("*")] if written.is_dir() else [written]:
        if path.is_file():
            with path.open("r+b") as file:
                platform_calls.write_through(file)
        elif path.is_dir():
            platform_calls.write_folder_through(path)
