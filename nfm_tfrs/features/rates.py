"""How many of a feature's values are missing or unknown."""

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
