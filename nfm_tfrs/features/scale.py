"""Numbers of a size that tells that their mean and standard deviation were never given."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import in_xla, tf

_LARGE = 1e6  # seconds since 1970 are 1e9; what is standardised is 1


class FirstLook:
    """Warns of raw numbers in the first batch that a model is trained on, and never again."""

    def __init__(self) -> None:
        self._looked = False

    def watch(self, spec: FeatureSpec, columns: Mapping[str, Any], steps: Any) -> None:
        """Looks at a batch, eager or in the graph, where it is the first; in what XLA compiles it cannot.

        Args:
            spec: The features.
            columns: The batch; in an encoded one there are no raw numbers.
            steps: How many steps were taken before, a scalar.
        """
        names = raw_numbers(spec, columns)
        names = [name for name in names if not isinstance(columns[name], tf.RaggedTensor | tf.SparseTensor)]
        if in_xla() or not names:
            return

        def look(*values: np.ndarray) -> np.ndarray:
            if not self._looked:
                self._looked = True
                warn_of_raw_numbers(spec, dict(zip(names, values, strict=True)))
            return np.array(True)

        values = [tf.convert_to_tensor(columns[name]) for name in names]
        tf.cond(tf.equal(steps, 0), lambda: tf.numpy_function(look, values, tf.bool), lambda: tf.constant(True))


def raw_numbers(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[str]:
    """Returns the names of the numbers among these columns that are used as they are."""
    if not isinstance(columns, Mapping):  # which the encoder refuses
        return []
    numbers = (feature for feature in spec.numbers if not feature.log and (feature.mean, feature.std) == (0.0, 1.0))
    return [feature.name for feature in numbers if feature.name in columns]


def warn_of_raw_numbers(spec: FeatureSpec, columns: Mapping[str, Any]) -> None:
    """Warns of each number that is used as it is, neither standardised nor logged, and is in the middle 10⁶ or more.

    Args:
        spec: The features.
        columns: Values by column; those that are not there, or are no dense numbers, are passed over.
    """
    for name in raw_numbers(spec, columns):
        values = np.asarray(columns[name])
        if values.dtype.kind not in "iuf":
            continue
        sizes = np.abs(values.astype(np.float64))
        sizes = sizes[np.isfinite(sizes)]
        if len(sizes) and (middle := float(np.median(sizes))) >= _LARGE:
            warnings.warn(
                f"Feature {name!r} is not standardised: its numbers are around {middle:.3g}, with mean 0 and "
                "std 1. Give it the column's mean and std, or infer the features.",
                stacklevel=3,
            )
