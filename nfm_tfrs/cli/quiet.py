"""What TensorFlow writes to the terminal by itself: kept aside, and given back whole where the process fails."""

import atexit
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

_BLOCK = 1 << 16


@contextmanager
def aside() -> Iterator[None]:
    """Keeps in a temporary file what libraries write to descriptor 2, and what they log.

    TensorFlow writes lines there while it is imported, before any log level counts. Python's own `sys.stderr` goes on
    to where it went. A traceback, and a death by a signal, give the lines back: they may say why. Where the descriptor
    or the file cannot be had, nothing is kept aside.
    """
    try:
        terminal, kept = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends
    except OSError:
        yield
        return
    told = _watched(kept, terminal)
    before = sys.stderr
    sys.stderr = open(terminal, "w", 1, before.encoding, before.errors, closefd=False)  # noqa: SIM115
    os.dup2(kept.fileno(), 2)
    logging.basicConfig(stream=open(2, "w", 1, "utf-8", closefd=False))  # noqa: SIM115 - TensorFlow's logger takes it
    try:
        yield
    except SystemExit:  # with whatever status: what was to say was said. TensorFlow writes on until the very end.
        raise
    except BaseException:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(terminal, 2)
        _give_back(kept, terminal)
        _tell(told)
        raise


def _watched(kept: IO[bytes], terminal: int) -> int | None:
    """Forks a process that gives the lines back if this one dies; returns the pipe to tell it that all is well.

    No handler of this process could do that: memory that runs out ends it at once, and so does a check of TensorFlow's.
    """
    if not hasattr(os, "fork"):
        return None
    ends, told = os.pipe()
    if os.fork():
        os.close(ends)
        atexit.register(_tell, told)  # the first one, which is the last that is called
        return told
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which go to all processes of a terminal
            signal.signal(number, signal.SIG_IGN)
        for descriptor in (0, 1, 2, told):
            with suppress(OSError):
                os.close(descriptor)
        if not os.read(ends, 1):  # it has ended without a word
            _give_back(kept, terminal)
    finally:
        os._exit(0)


def _tell(told: int | None) -> None:
    if told is not None:
        with suppress(OSError):
            os.write(told, b".")


def _give_back(kept: IO[bytes], terminal: int) -> None:
    at = 0
    while block := os.pread(kept.fileno(), _BLOCK, at):
        at += os.write(terminal, block)
