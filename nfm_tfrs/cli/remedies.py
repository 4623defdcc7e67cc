"""What the library says of its arguments, in the words of the command that is run: `features=` is `--features`."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nfm_tfrs.cli.settings import option_of

_KINDS = {"category", "number"}  # options that stand for the argument kinds
_ARGUMENT = re.compile(r"(?<![\w-])([a-z_]+)=(?=[\s.,;:)]|$)")
_VALUE = re.compile(r"(?<![\w-])([a-z_]+)=\"(\w+)\"")
_FURTHER = re.compile(r"(?<![\w\"'.-])(schedule|optimizer)_arguments=?(?!\w)")
_SUBJECT = re.compile(r"^([a-z_]+)(?= must )")
_options: ContextVar[frozenset[str]] = ContextVar("_options", default=frozenset())


@contextmanager
def of_command(command: Callable[..., Any]) -> Iterator[None]:
    """Speaks of the options of this command, made from its parameters, while it runs."""
    token = _options.set(frozenset(inspect.signature(command).parameters))
    try:
        yield
    finally:
        _options.reset(token)


def in_options(line: str) -> str:
    """Returns a line with the option's name for each argument that the command which is run has an option for.

    Args:
        line: What the library says, such as `"Give features=."`.
    """
    options = _options.get()
    if options >= _KINDS:
        line = line.replace("with --category and --number, or kinds=", "with --category and --number")
        line = re.sub(r"\bkinds calls it a (category|number)\b", r"--\1 calls it a \1", line)
        line = re.sub(r"(?<![\w-])kinds=(?=[\s.,;:)]|$)", "--category or --number", line)

    def named(found: re.Match[str]) -> str:
        return option_of(found[1]) if found[1] in options else found[0]

    def valued(found: re.Match[str]) -> str:
        return f"{option_of(found[1])} {found[2]}" if found[1] in options else found[0]

    def further(found: re.Match[str]) -> str:
        return option_of(f"{found[1]}_set") if f"{found[1]}_set" in options else found[0]

    line = _FURTHER.sub(further, _VALUE.sub(valued, line))
    return _SUBJECT.sub(named, _ARGUMENT.sub(named, line))
