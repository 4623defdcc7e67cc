"""Whether what a file names may be imported and run: not unless a person said that the file is trusted."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Lets what is inside import and run whatever a file names, if `trust`."""
    token = _trusted.set(trust)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Returns whether this is inside `trusting(True)`."""
    return _trusted.get()
