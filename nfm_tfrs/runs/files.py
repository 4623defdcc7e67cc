"""Files and folders that are written whole or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = ("model.keras", "features.json", "metrics.json", "run.json", "curves.png")  # of a run


def check_output(out: Path, overwrite: bool, *, folder: bool) -> None:
    """Checks that `out` may be written, as a run's folder or as a file.

    Raises:
        FileExistsError: It exists, and replacing was not asked for; or it is not what would replace it: a file where a
            folder goes, a folder where a file goes, or a folder that holds anything but a run.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")
    if out.exists() and out.is_dir() != folder:
        raise FileExistsError(f"{out} is a {'file' if folder else 'folder'}. Choose another --out.")
    others = {path.name for path in out.iterdir()} - {*FILES, "tensorboard"} if folder and out.is_dir() else set()
    if others:
        raise FileExistsError(f"{out} holds {min(others)}, which is not of a run. Move it, or choose another --out.")


@contextmanager
def writing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a path to write to, and puts what was written there in the place of `out` if nothing went wrong.

    It lies beside `out` and ends like it, so that the last step is a rename; what a failure leaves is removed.

    Raises:
        FileExistsError: `out` has come into being meanwhile, and replacing was not asked for; what was written is kept
            under the name that the message gives.
    """
    out = out.resolve()  # of a link, what it leads to
    out.parent.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex  # a process's number may be another machine's too
    written = out.with_name(f".{out.name}.unfinished-{name}{out.suffix}")
    replaced = out.with_name(f".{out.name}.replaced-{name}")
    try:
        yield written
        if out.exists() and not overwrite:
            kept = out.with_name(f"{out.stem}-{name}{out.suffix}")
            written.rename(kept)
            raise FileExistsError(f"{out} was written by somebody else meanwhile. This result is in {kept}.")
        if out.is_dir():
            out.rename(replaced)
        try:
            written.replace(out)
        except BaseException:
            if replaced.exists():
                replaced.rename(out)
            raise
    finally:
        for path in (written, replaced):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it, after whatever happened, finds the old text or the new one."""
    with writing(path, overwrite=True) as file:
        file.write_text(text, encoding="utf-8")
