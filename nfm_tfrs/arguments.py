"""Checks of arguments and of column names, the same wherever they are given."""

import difflib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

_LISTED = 20  # columns that a message names


def count(argument: str, value: Any) -> int:
    """Returns a whole number of 1 or more; raises ValueError for anything else."""
    if not _is_whole(value) or value < 1:
        raise ValueError(f"{argument} must be a whole number of 1 or more; received {value!r:.60}.")
    return value


def widths(argument: str, units: Any) -> tuple[int, ...]:
    """Returns the widths of layers as a tuple, none included; raises ValueError for anything else."""
    return _whole_numbers(argument, units, 1, "a list of widths of 1 or more")


def layers(argument: str, units: Any) -> tuple[int, ...]:
    """Returns the widths of one layer or more as a tuple; raises ValueError for anything else."""
    found = widths(argument, units)
    if not found:
        raise ValueError(f"{argument} must name one layer or more; received ().")
    return found


def positions(argument: str, numbers: Any) -> tuple[int, ...]:
    """Returns the numbers of fields as a tuple, none included; raises ValueError for anything else."""
    return _whole_numbers(argument, numbers, 0, "a list of numbers of fields, from 0")


def choice(argument: str, value: Any, options: Sequence[str]) -> Any:
    """Returns one of the options; raises ValueError for anything else."""
    if value not in options:
        *others, last = (f'"{option}"' for option in options)
        raise ValueError(f"{argument} must be {', '.join(others)} or {last}; received {value!r:.60}.")
    return value


def share(argument: str, value: Any) -> float:
    """Returns a number of at least 0 and below 1; raises ValueError for anything else."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{argument} must be at least 0 and below 1; received {value!r:.60}.")
    return value


def positive(argument: str, value: Any) -> float:
    """Returns a finite number above 0; raises ValueError for anything else."""
    if not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"{argument} must be a number above 0; received {value!r:.60}.")
    return value


def not_negative(argument: str, value: Any) -> float:
    """Returns a finite number of 0 or more, also NumPy's; raises ValueError for anything else."""
    is_real = isinstance(value, Real)
    if not is_real or not 0 <= value <= sys.float_info.max:  # an integer may be beyond
        raise ValueError(f"{argument} must be a number of 0 or more; received {value!r:.60}.")
    return float(value)


def switch(argument: str, value: Any) -> bool:
    """Returns a bool; raises ValueError for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{argument} must be True or False; received {value!r:.60}.")
    return value


def activation(argument: str, value: Any) -> str:
    """Returns the name of an activation; raises ValueError for anything but a string."""
    if not isinstance(value, str):
        raise ValueError(f'{argument} must be the name of a Keras activation, such as "relu"; received {value!r}.')
    return value


def listed(argument: str, values: Any) -> tuple[Any, ...]:
    """Returns one value or more as a tuple, each once; raises ValueError for a string, or none."""
    if isinstance(values, str) or not values:
        raise ValueError(f"{argument} must list one or more; received {values!r}. Leave it out for the default.")
    return tuple(dict.fromkeys(values))


def plain(argument: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a dict as plain JSON types; raises ValueError for what JSON does not know."""
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(values)))
    except TypeError as error:
        raise ValueError(
            f"{argument} holds plain numbers, strings, lists and dicts; received {dict(values)!r}. "
            'Write a block as {"name": …, "config": {…}}.'
        ) from error
    return found


def check_names(where: Any, names: Iterable[str], *, shown: Sequence[Any] | None = None) -> None:
    """Checks that no two columns have one name.

    Args:
        where: The file, or what the columns are of.
        names: Their names.
        shown: What the names were before they became text, for the message; the names if not given.

    Raises:
        ValueError: Two have.
    """
    names = list(names)
    counts = Counter(names)
    repeated = [repr(one) for name, one in zip(names, shown or names, strict=True) if counts[name] > 1]
    if repeated:
        listed = ", ".join(sorted(dict.fromkeys(repeated)))
        raise ValueError(f"{where} has two columns {listed}. Give each a name of its own.")


def missing_column(name: str, columns: Iterable[Any], *, reader: str | None = None) -> ValueError:
    """Returns the error for a column that is not there, with the name that was probably meant.

    Args:
        name: The column that was asked for.
        columns: The names of the columns that there are; the first 20 are listed.
        reader: Who asked for it, such as `"the model"` or `"--groups"`, where the line alone does not tell.

    Example:
        >>> str(missing_column("genre", ["film", "genres"], reader="the label"))
        "There is no column 'genre', which the label reads; did you mean 'genres'? The data has 'film', 'genres'."
    """
    present = [str(column) for column in columns]
    near = difflib.get_close_matches(name, present, n=1)
    who = f", which {reader} reads" if reader else ""
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(map(repr, present[:_LISTED])) + (
        f" and {len(present) - _LISTED} more" if len(present) > _LISTED else ""
    )
    return ValueError(f"There is no column {name!r}{who}{hint} The data has {listed or 'no columns'}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_numbers(argument: str, values: Any, least: int, expected: str) -> tuple[int, ...]:
    listed = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    numbers = tuple(values) if listed else values
    if not listed or any(not _is_whole(number) or number < least for number in numbers):
        raise ValueError(f"{argument} must be {expected}; received {numbers!r}.")
    return numbers
