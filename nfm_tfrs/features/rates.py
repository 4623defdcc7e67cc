"""How many of a feature's values are missing or unknown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """How many of a feature's values are missing (null, NaN, "", negative) and how many unknown.

    Args:
        name: The feature.
        values: Number of values; of a bag, those that are there.
        missing: Share of missing values; of a bag, of examples whose bag is empty.
        unknown: Share of values that are there but were not in the vocabulary.
    """

    name: str
    values: int
    missing: float
    unknown: float


def merged_rates(windows: Sequence[tuple[int, Sequence[Rates]]]) -> list[Rates]:
    """Returns the rates of several windows of rows together.

    Args:
        windows: The number of rows of each window, and its rates, of the same features in the same order.

    Example:
        >>> merged_rates([(3, [Rates("user", 3, missing=1 / 3, unknown=0.0)]), (1, [Rates("user", 1, 0.0, 1.0)])])
        [Rates(name='user', values=4, missing=0.25, unknown=0.25)]
    """
    rows = max(sum(count for count, _ in windows), 1)
    merged = []
    for of_feature in zip(*(rates for _, rates in windows), strict=True):
        values = sum(rates.values for rates in of_feature)
        missing = sum(count * rates.missing for (count, _), rates in zip(windows, of_feature, strict=True))
        unknown = sum(rates.values * rates.unknown for rates in of_feature)
        merged.append(Rates(of_feature[0].name, values, missing / rows, unknown / max(values, 1)))
    return merged
