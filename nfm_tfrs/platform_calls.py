"""Calls that not every operating system knows; where one is missing, a warning says what is lost."""

import ctypes
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

_HUGE_PAGE = 2**21  # bytes
_HUGE_PAGES_NOW = (14, 25)  # MADV_HUGEPAGE, without which Linux may refuse the other, MADV_COLLAPSE


def is_posix() -> bool:
    """Returns whether this system is Linux, macOS or another POSIX system, not Windows."""
    return sys.platform != "win32"


def write_through(file: IO[Any]) -> None:
    """Waits until what was written to a file is on its disk, for a power cut to leave the whole of it."""
    if hasattr(os, "fsync"):
        os.fsync(file.fileno())
    else:
        warnings.warn("This system has no fsync: after a power cut files may be cut short.", stacklevel=2)


def write_folder_through(folder: Path) -> None:
    """Waits until the names in a folder are on its disk, where the system can: Windows keeps a journal of them."""
    if is_posix() and hasattr(os, "fsync"):
        opened = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # of some file systems of networks, which know no such call
                os.fsync(opened)
        finally:
            os.close(opened)


def file_state(path: Path) -> list[int]:
    """Returns what differs once a file has changed: its size, inode, and times of the last changes in nanoseconds.

    The last one is that of its inode, which no program can set. Windows keeps none.
    """
    found = path.stat()
    state = [found.st_size, found.st_ino, found.st_mtime_ns]
    if is_posix():
        return [*state, found.st_ctime_ns]
    warnings.warn(
        "Windows keeps no time of a change that programs cannot set: a file that is replaced by one of the same size "
        "and time counts as unchanged.",
        stacklevel=2,
    )
    return state


def use_huge_pages(memory: memoryview) -> bool:
    """Asks Linux to keep memory on pages of 2 MB, at once; returns whether it does.

    Rows read at random then miss the processor's list of pages less often. Kernels before 6.1 do it in their own time,
    and are answered for with False; so are other systems, and memory without a whole such page.

    Args:
        memory: What is read and written in place from here on.
    """
    if not sys.platform.startswith("linux"):
        return False
    address = np.frombuffer(memory, np.uint8).ctypes.data
    first = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    size = (address + memory.nbytes) // _HUGE_PAGE * _HUGE_PAGE - first
    advise = ctypes.CDLL(None).madvise
    return size > 0 and all(
        advise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice) == 0 for advice in _HUGE_PAGES_NOW
    )


def multiplies_bfloat16() -> bool:
    """Returns whether Linux says that this processor multiplies bfloat16 (AVX512-BF16 or AMX); False elsewhere."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags[1].split())


def memory_bytes() -> int | None:
    """Returns the bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def renames_open_files() -> bool:
    """Returns whether a file that is open, or mapped into memory, can be renamed, and its folder with it."""
    return is_posix()


def parent_watch(parent: int) -> Callable[[], None] | None:
    """Returns what waits until the process that started this one has ended; None where that cannot be told.

    A POSIX system gives the process another parent then. Windows keeps the number of the old one.
    """
    if not is_posix():
        warnings.warn("Windows does not tell a worker that its chief has ended: end it by hand.", stacklevel=2)
        return None

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)

    return wait
