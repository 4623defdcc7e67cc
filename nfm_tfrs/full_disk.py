"""A full disk is an error that names what could not be written, whoever wrote it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WORDS = ("No space left on device", "Disk quota exceeded")  # of libraries that keep no number
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class FullDiskError(OSError):
    """Something could not be written for want of room; the message names it."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Names a path where what is written there finds the disk full: of Arrow, HDF5, Keras and TensorFlow none does.

    Raises:
        FullDiskError: The disk, or the share of it that a user may take, is full.
    """
    try:
        yield
    except FullDiskError:  # it names what lies nearer
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise FullDiskError(f"The disk is full: {path} cannot be written. Make room, and start again.") from error


def is_full(error: BaseException) -> bool:
    """Returns whether an error says that the disk is full, by its number or, where there is none, in its words."""
    if isinstance(error, ValueError):  # of ours: it names the path already
        return False
    return getattr(error, "errno", None) in _FULL or any(words in str(error) for words in _WORDS)
