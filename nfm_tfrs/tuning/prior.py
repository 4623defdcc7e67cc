"""What won on other sets: configurations that a search tries before any other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from nfm_tfrs.written import check_format, read

FILE = "prior.json"  # beside this module; benchmarks/quality/prior.py writes it


@dataclass(frozen=True, kw_only=True)
class Known:
    """A configuration that won on a set.

    Args:
        values: The values of its hyperparameters, by their names in a search; all others are at their defaults.
        gain: How much better its score was than that of the model that is trained without a search.
    """

    values: Mapping[str, Any]
    gain: float


def known_sets() -> dict[str, list[Known]]:
    """Returns the configurations that won, the best first, by the name of the set.

    Example:
        >>> "movielens-small" in known_sets()
        True
    """
    return read_sets(json.loads((resources.files("nfm_tfrs.tuning") / FILE).read_text(encoding="utf-8")))


def read_sets(written: Mapping[str, Any]) -> dict[str, list[Known]]:
    """Returns the sets that a prior.json holds, as `known_sets` does.

    Args:
        written: What the file holds, plain JSON types.

    Raises:
        ValueError: A newer version wrote it.
    """
    check_format(written, "prior")
    found = {}
    for name, kept in read(written, "sets", Mapping).items():
        winners = [
            Known(values=read(one, "values", Mapping), gain=read(one, "gain", float | int))
            for one in read(kept, "winners", list)
        ]
        found[name] = sorted(winners, key=lambda one: -one.gain)
    return found


def proposals(sets: Mapping[str, Sequence[Known]], without: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    """Returns the values to try, the best of each set before the second of any.

    Args:
        sets: Configurations by the name of their set, the best first.
        without: Sets whose configurations are left out.

    Raises:
        ValueError: There is no such set.

    Example:
        >>> sets = {"one": [Known(values={"x": 1}, gain=0.2), Known(values={"x": 2}, gain=0.1)]}
        >>> proposals(sets | {"two": [Known(values={"x": 3}, gain=0.3)]})
        [{'x': 1}, {'x': 3}, {'x': 2}]
    """
    for name in without:
        if name not in sets:
            raise ValueError(f"prior_without may hold {', '.join(sets)}; received {name!r}. Correct or remove it.")
    kept = [winners for name, winners in sets.items() if name not in without]
    most = max(map(len, kept), default=0)
    return [winners[place].values for place in range(most) for winners in kept if place < len(winners)]
