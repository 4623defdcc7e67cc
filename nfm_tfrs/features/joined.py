"""Categories whose text joins several values, such as "drama|comedy": they could be a bag."""

import warnings
from collections.abc import Iterable

from nfm_tfrs.features.feature import CategoricalFeature, Feature

_DELIMITERS = "|;,"
_LOOKED_AT = 10_000  # values of a vocabulary
_SHARE = 0.3  # of the values that are joined, at least
_REPEATS = 2  # how often a part comes in them on average, at least: those of sentences hardly do


def warn_of_joined_values(features: Iterable[Feature]) -> None:
    """Warns of categories whose values look like several values with a delimiter between, and says how to split them.

    Args:
        features: The features that were inferred.
    """
    for feature in features:
        if isinstance(feature, CategoricalFeature) and feature.dtype == "string" and feature.vocabulary:
            values = [str(value) for value in feature.vocabulary[:_LOOKED_AT]]
            for delimiter in _DELIMITERS:
                if _joined(values, delimiter):
                    example = repr(next(value for value in values if delimiter in value))[:60]
                    warnings.warn(
                        f"Column {feature.name!r} joins values with {delimiter!r}, such as {example}, "
                        "and is a category of each whole text. If they are values of their own, make it a column of "
                        f"lists, as str.split({delimiter!r}) does, in a Parquet file: it then is a bag.",
                        stacklevel=4,
                    )
                    break


def _joined(values: list[str], delimiter: str) -> bool:
    joined = [value.split(delimiter) for value in values if delimiter in value]
    if not joined or len(joined) < _SHARE * len(values):
        return False
    parts = [part for value in joined for part in value]
    no_spaces = all(part and part == part.strip() for part in parts)
    return no_spaces and len(parts) >= _REPEATS * len(set(parts))
