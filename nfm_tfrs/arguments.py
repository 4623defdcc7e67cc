"""Checks of arguments and of column names, the same wherever they are given."""

import difflib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, getattr_static, signature
from numbers import Real
from typing import Any, TypeVar

MOST_MODELS = 50  # of an ensemble: each is made anew where it is opened, whatever its weights
_LISTED = 20  # columns that a message names
_Class = TypeVar("_Class", bound=type)


def count(argument: str, value: Any, most: int | None = None) -> int:
    """Returns a whole number of 1 or more, up to `most` where it is given; raises ValueError for anything else."""
    if not _is_whole(value) or value < 1 or (most is not None and value > most):
        said = "of 1 or more" if most is None else f"from 1 to {most}"
        raise ValueError(f"{argument} must be a whole number {said}; received {value!r:.60}.")
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
    """Returns a finite number above 0, as Python's also NumPy's; raises ValueError for anything else."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    number = value if isinstance(value, int) or not is_real else float(value)
    if not is_real or not 0 < number <= sys.float_info.max:
        raise ValueError(f"{argument} must be a number above 0; received {value!r:.60}.")
    return number


def not_negative(argument: str, value: Any) -> float:
    """Returns a finite number of 0 or more, also NumPy's; raises ValueError for anything else."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
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


def named_values(argument: str, values: Any) -> Mapping[str, Any]:
    """Returns a mapping whose names are strings; raises ValueError for anything else."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{argument} must be an object of names and values; received {values!r:.60}.")
    return values


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
    who = f", which {reader} reads" if reader else ""
    hint = nearest(name, present)
    listed = ", ".join(map(repr, present[:_LISTED])) + (
        f" and {len(present) - _LISTED} more" if len(present) > _LISTED else ""
    )
    return ValueError(f"There is no column {name!r}{who}{hint} The data has {listed or 'no columns'}.")


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a name that is none of those known, with the one that was probably meant.

    Example:
        >>> str(unknown_name("optimizer", "adm", ["adam", "sgd"]))
        "There is no optimizer 'adm'; did you mean 'adam'? There are adam, sgd."
    """
    known = list(known)
    return ValueError(f"There is no {what} {name!r}{nearest(name.lower(), known)} There are {', '.join(known)}.")


def unknown_argument(owner: str, name: str, known: Iterable[str]) -> TypeError:
    """Returns the error for an argument that a class does not take, with the one that was probably meant.

    Example:
        >>> str(unknown_argument("NFM", "embeding_dim", ["features", "embedding_dim"]))
        "NFM has no argument 'embeding_dim'; did you mean 'embedding_dim'?"
    """
    known = list(known)
    hint = nearest(name, known)
    taken = f" It takes {', '.join(known) or 'no arguments of its own'}." if hint == "." else ""
    return TypeError(f"{owner} has no argument {name!r}{hint}{taken}")


def check_arguments(cls: type, given: Iterable[str], base: type, others: Iterable[str]) -> None:
    """Checks what is left of a constructor's keyword arguments where they have come to its last base of ours.

    Args:
        cls: The class that is made.
        given: The names of the arguments that no constructor of ours has taken.
        base: That last base.
        others: What the classes below it take.

    Raises:
        TypeError: One is none of these.
    """
    unknown = [name for name in given if name not in others]
    if not unknown:
        return
    ours = [one for one in cls.__mro__ if issubclass(one, base) and "__init__" in vars(one)]
    parameters = [p for one in ours for p in list(signature(getattr_static(one, "__init__")).parameters.values())[1:]]
    named = [p.name for p in parameters if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    raise unknown_argument(cls.__name__, unknown[0], dict.fromkeys(named))


def naming_the_nearest(cls: _Class) -> _Class:
    """Lets a dataclass name the argument that was probably meant, in the place of one that it does not take."""
    made = getattr_static(cls, "__init__")
    known = list(signature(made).parameters)[1:]

    @wraps(made)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                raise unknown_argument(type(self).__name__, name, known)
        made(self, *args, **kwargs)

    cls.__init__ = __init__  # type: ignore[misc]
    return cls


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns the end of a message: what was probably meant, where something is near, and a full stop.

    Args:
        name: What was received.
        known: What there is.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_numbers(argument: str, values: Any, least: int, expected: str) -> tuple[int, ...]:
    listed = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    numbers = tuple(values) if listed else values
    if not listed or any(not _is_whole(number) or number < least for number in numbers):
        raise ValueError(f"{argument} must be {expected}; received {numbers!r}.")
    return numbers
