"""Checks of constructor arguments, the same in every block and model."""

from collections.abc import Sequence
from typing import Any


def count(argument: str, value: Any) -> int:
    """Returns a whole number of 1 or more; raises ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument} must be a whole number of 1 or more; received {value!r}.")
    return value


def widths(argument: str, units: Any) -> tuple[int, ...]:
    """Returns the widths of layers as a tuple, none included; raises ValueError for anything else."""
    numbers = units if isinstance(units, int | str) else tuple(units)
    if isinstance(numbers, int | str) or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers):
        raise ValueError(f"{argument} must be a list of widths of 1 or more; received {numbers!r}.")
    return numbers


def choice(argument: str, value: Any, options: Sequence[str]) -> Any:
    """Returns one of the options; raises ValueError for anything else."""
    if value not in options:
        *others, last = (f'"{option}"' for option in options)
        raise ValueError(f"{argument} must be {', '.join(others)} or {last}; received {value!r}.")
    return value


def share(argument: str, value: Any) -> float:
    """Returns a number of at least 0 and below 1; raises ValueError for anything else."""
    if not 0 <= value < 1:
        raise ValueError(f"{argument} must be at least 0 and below 1; received {value!r}.")
    return value


def switch(argument: str, value: Any) -> bool:
    """Returns a bool; raises ValueError for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{argument} must be True or False; received {value!r}.")
    return value


def activation(argument: str, value: Any) -> str:
    """Returns the name of an activation; raises ValueError for anything but a string."""
    if not isinstance(value, str):
        raise ValueError(f'{argument} must be the name of a Keras activation, such as "relu"; received {value!r}.')
    return value
