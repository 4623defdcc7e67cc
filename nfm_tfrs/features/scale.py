"""Numbers of a size that tells that their mean and standard deviation were never given."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from nfm_tfrs.features.spec import FeatureSpec

_LARGE = 1e6  # seconds since 1970 are 1e9; what is standardised is 1


def warn_of_raw_numbers(spec: FeatureSpec, columns: Mapping[str, Any]) -> None:
    """Warns of each number that is used as it is, neither standardised nor logged, and is in the middle 10⁶ or more.

    Args:
        spec: The features.
        columns: Values by column; those that are not there, or are no dense numbers, are passed over.
    """
    for feature in spec.numbers:
        if feature.log or (feature.mean, feature.std) != (0.0, 1.0) or feature.name not in columns:
            continue
        values = np.asarray(columns[feature.name])
        if values.dtype.kind not in "iuf":
            continue
        sizes = np.abs(values.astype(np.float64))
        sizes = sizes[np.isfinite(sizes)]
        if len(sizes) and (middle := float(np.median(sizes))) >= _LARGE:
            warnings.warn(
                f"Feature {feature.name!r} is not standardised: its numbers are around {middle:.3g}, with mean 0 and "
                "std 1. Give it the column's mean and std, or infer the features.",
                stacklevel=3,
            )
