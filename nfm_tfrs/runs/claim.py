"""The place of a command's output: claimed before the work begins, and put in order after a process that was killed."""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nfm_tfrs.runs.files import REPLACED, UNFINISHED, check_output, leftovers, remove, writing


@contextmanager
def claimed(
    out: Path,
    *,
    overwrite: bool | Callable[[], bool],
    folder: bool,
    exported: bool = False,
    spent: Sequence[Path] = (),
) -> Iterator[Path]:
    """Holds `out` for this process, and gives a path to write to, as `writing` does.

    What a killed process left is put in order first: the run that it was replacing comes back, with a warning, and
    what it had not finished is removed, but for a folder with checkpoints.

    Args:
        out: A folder, or a file.
        overwrite: Whether what is there may be replaced; a function is asked once things are in order.
        folder: Whether it is a folder.
        exported: Whether the folder is an export's, not a run's.
        spent: What goes once the output stands; it may be filled until then.

    Raises:
        FileExistsError: `out` may not be written; see `check_output`.
        OSError: It cannot be written.
        ValueError: Another process writes it.
    """
    place = out.resolve()
    with made(place.parent, out=out), being_written(out) as alone:
        _put_back(out, place)
        overwrite = overwrite() if callable(overwrite) else overwrite
        check_output(out, overwrite, folder=folder, exported=exported)
        if alone:
            _clean(place)
        else:
            warnings.warn(f"{place.parent} knows no locks: write {out} by one process at a time.", stacklevel=3)
        with writing(out, overwrite=overwrite) as written:
            yield written
        for path in spent:
            remove(path)


@contextmanager
def being_written(out: Path) -> Iterator[bool]:
    """Holds an output for this process; gives whether its file system knows locks at all.

    Args:
        out: The output.

    Raises:
        ValueError: Another process holds it.
    """
    place = out.resolve()
    lock = place.parent / f".{place.name}.lock"
    busy = f"Another process writes {out}. Wait for it, or choose another --out; if there is none, remove {lock}."
    with locked(lock, busy=busy, keep=False) as alone:
        yield alone


@contextmanager
def made(folder: Path, *, out: Path) -> Iterator[None]:
    """Makes a folder that can be written, with its parents; those that were made go again if they stay empty.

    Args:
        folder: The folder.
        out: The output that it is made for, as a person named it.

    Raises:
        OSError: It cannot be made, or nothing can be written into it.
    """
    new: list[Path] = []
    try:
        try:
            new += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            # A file where a folder goes: mkdir says that it exists.
            why = "Not a directory" if isinstance(error, FileExistsError) else error.strerror or error
            raise OSError(f"{out} cannot be written: {why}. Choose another --out.") from error
        yield
    finally:
        for path in new:
            with suppress(OSError):  # it is not empty, or not there
                path.rmdir()


@contextmanager
def locked(path: Path, *, busy: str, keep: bool) -> Iterator[bool]:
    """Holds a lock, which the system takes from a process however it ends; gives whether there are locks there at all.

    Args:
        path: The file that is locked.
        busy: What to say where another process holds it.
        keep: Whether the file stays when the lock goes.

    Raises:
        ValueError: Another process holds it.
    """
    from filelock import FileLock, Timeout  # here: it takes a tenth of a second, which --help should not wait for

    lock = FileLock(path)
    alone = True
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(busy) from error
    except NotImplementedError:  # by some file systems of clusters
        alone = False
    try:
        yield alone
    finally:
        if not keep:
            with suppress(OSError):  # Windows removes no open file; the lock does, when it goes
                path.unlink()
        lock.release()


def _put_back(out: Path, place: Path) -> None:
    """Puts the run back that a process was replacing when it was killed, where nothing stands in its place."""
    replaced = leftovers(place, REPLACED)
    if not replaced:
        return
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    if not place.exists():
        replaced[-1].rename(place)
        warnings.warn(f"{out} is what it was before: what was to replace it was interrupted.", stacklevel=4)


def _clean(place: Path) -> None:
    """Removes what killed processes left beside an output."""
    stands = any((place / name).exists() for name in ("model.keras", "signature.json"))
    for path in [*leftovers(place, UNFINISHED), *(leftovers(place, REPLACED) if stands else ())]:
        if not any(path.rglob("checkpoint*")):  # from which a training goes on
            remove(path)
