"""What was written as JSON, read again with the type of each value checked."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 1  # of what this version writes; files of version 0.1.0 say none, and are read as this one
_NEEDED = object()  # instead of a default
_SAID = 300  # characters of what another package says of a file, which may hold any bytes of it


def check_format(written: Any, what: str) -> None:
    """Checks that something was written by this version or an earlier one.

    Args:
        written: What was read, as plain JSON types.
        what: What it should be, for the message.

    Raises:
        ValueError: It is no object, or a newer version wrote it.
    """
    if not isinstance(written, Mapping):
        raise ValueError(f"This is no {what}: an object is needed; received {type(written).__name__}.")
    number = written.get("format", FORMAT)
    if not isinstance(number, int) or number > FORMAT:
        raise ValueError(
            f"This {what} has format {number!r:.60}, and this version of nfm-tfrs reads up to {FORMAT}. "
            "Install a newer nfm-tfrs."
        )


def reason(error: Exception) -> str:
    """Returns in words, shortened, without a full stop, why something that was written could not be read."""
    return f"it has no {error.args[0]!r:.{_SAID}}" if isinstance(error, KeyError) else first_line(error)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, shortened, without its full stop; its type where it says nothing."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.removesuffix(".") if len(line) <= _SAID else f"{line[:_SAID]}…"


def read(written: Any, name: str, kind: Any, default: Any = _NEEDED) -> Any:
    """Returns a value of what was read, of a type or union of types.

    Args:
        written: What was read, an object of JSON.
        name: The value's name.
        kind: A type, or a union of types.
        default: What a missing value is; it is an error if not given.

    Raises:
        KeyError: It is not there, and has no default.
        TypeError: It has another type, or what was read is no object.
    """
    found = read_object(written)
    value = found[name] if default is _NEEDED else found.get(name, default)
    if not isinstance(value, kind):
        raise TypeError(f"{name!r} is {type(value).__name__}")
    return value


def read_object(written: Any) -> Mapping[str, Any]:
    """Returns what was read, an object; raises TypeError for anything else."""
    if not isinstance(written, Mapping):
        raise TypeError(f"{written!r:.60} is no object")
    return written


def read_texts(written: Any, name: str, default: Any = _NEEDED) -> tuple[str, ...]:
    """Returns a list of texts of what was read; see `read` for the arguments.

    Raises:
        KeyError: It is not there, and has no default.
        TypeError: It is no list of texts, or what was read is no object.
    """
    texts = read(written, name, list | tuple, default)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name!r} holds {text!r:.60}")
    return tuple(texts)


def read_file(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_choice(written: Any, name: str, options: Sequence[str], default: Any = _NEEDED) -> Any:
    """Returns a value of what was read, one of the options.

    Args:
        written: What was read, an object of JSON.
        name: The value's name.
        options: The values that it may have.
        default: What a missing value is; it is an error if not given.

    Raises:
        KeyError: It is not there, and has no default.
        TypeError: It is none of the options.
    """
    value = read(written, name, str, default)
    if value not in options:
        raise TypeError(f"{name!r} is {value!r:.60}")
    return value


def finite(value: float | None) -> float | None:
    """Returns the value, None for NaN, which JSON does not know."""
    return None if value is None or math.isnan(value) else value


def number(value: float | None) -> float:
    """Returns what `finite` wrote."""
    return math.nan if value is None else value
