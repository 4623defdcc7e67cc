"""Where numbers lie: the percentiles of a column, those of many windows together, and both in the column's unit."""

from collections.abc import Sequence

import numpy as np

from nfm_tfrs.features.feature import FLOAT32_MAX, LARGEST_UNBENT, NumericFeature

LEVELS = 101  # the smallest and the largest value among them
_WINDOW = 1 << 18  # 2 MB a column
_LARGEST = np.finfo(np.float64).max


def percentiles(values: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns the number of present values, and their percentiles `[101]`, each a value that came; NaN without any.

    Args:
        values: Numbers `[n]`, NaN where missing.

    Example:
        >>> count, found = percentiles(np.array([3.0, np.nan, 1.0]))
        >>> count, found[[0, 50, 51, 100]].tolist()
        (2, [1.0, 1.0, 3.0, 3.0])
    """
    ordered = np.sort(np.ascontiguousarray(values))  # NaN comes last
    present = int(np.searchsorted(ordered, np.nan))
    if not present:
        return 0, np.full(LEVELS, np.nan, np.float32)
    levels = np.ceil(np.arange(LEVELS) * present / (LEVELS - 1)).astype(np.int64)
    return present, ordered[np.maximum(levels - 1, 0)]


def merged_percentiles(curves: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Returns the percentiles `[101]` of several distributions together, to a percentile of rank or so.

    Each distribution is known at its percentiles alone, and taken to be even between two that differ.

    Args:
        curves: The number of values of each distribution, and its percentiles `[101]`.
    """
    curves = [(count, curve) for count, curve in curves if count > 0 and not np.isnan(curve[0])]
    if not curves:
        return np.full(LEVELS, np.nan)
    values = np.unique(np.concatenate([curve for _, curve in curves]))
    below, upto = np.zeros(len(values)), np.zeros(len(values))  # shares of smaller values; of smaller or equal ones
    total = sum(count for count, _ in curves)
    levels = np.linspace(0.0, 1.0, LEVELS)
    for count, curve in curves:
        # Where percentiles repeat, `interp` takes the last.
        upto += count / total * np.interp(values, curve, levels)
        below += count / total * (1 - np.interp(-values, -curve[::-1], 1 - levels[::-1]))
    above = np.minimum(np.searchsorted(upto, levels - 1e-9), len(values) - 1)
    under = np.maximum(above - 1, 0)
    # The nearest that came: one between two would be a value that may be of no row.
    nearer = levels - upto[under] < below[above] - levels
    return values[np.where(nearer, under, above)]


class Percentiles:
    """Percentiles of numbers that come batch by batch: the same ones however the rows are cut into batches.

    Of up to 2¹⁸ numbers they are exact; of more they are those of windows of so many, merged.

    Example:
        >>> percentiles = Percentiles()
        >>> for batch in ([3.0, 1.0], [2.0]):
        ...     percentiles.update(np.array(batch))
        >>> percentiles.found()[[0, 50, 100]].tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._curves: list[tuple[int, np.ndarray]] = []

    def update(self, numbers: np.ndarray) -> None:
        """Takes more numbers, `[n]`, none missing."""
        self._waiting.append(np.array(numbers, np.float64))
        if sum(map(len, self._waiting)) >= _WINDOW:
            together = np.concatenate(self._waiting)
            whole = len(together) // _WINDOW * _WINDOW
            self._curves += [percentiles(window) for window in np.split(together[:whole], whole // _WINDOW)]
            self._waiting = [together[whole:]]

    def found(self) -> np.ndarray:
        """Returns the percentiles `[101]`, the smallest number first; NaN without any."""
        last = percentiles(np.concatenate(self._waiting)) if self._waiting else (0, np.full(LEVELS, np.nan))
        return merged_percentiles([*self._curves, last]) if self._curves else last[1]


def raw_numbers(feature: NumericFeature, standardised: np.ndarray) -> np.ndarray:
    """Returns numbers as they are in the column, float64 `[n]`, of what the encoder makes of them.

    Of the numbers of which the encoder makes the same, which are read in float32, this returns the one that is written
    shortest; but for the largest, which are bent together.

    Args:
        feature: The number.
        standardised: What the encoder returns of it, float32 `[n]`.

    Example:
        >>> feature = NumericFeature("price", mean=3.3, std=0.7)
        >>> raw_numbers(feature, ((np.array([-13.0, 5.0]) - 3.3) / 0.7).astype(np.float32)).tolist()
        [-13.0, 5.0]
    """
    values: np.ndarray = standardised.astype(np.float64)
    size = np.abs(values)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        bent = np.sign(values) * LARGEST_UNBENT / np.maximum(2 - size / LARGEST_UNBENT, 0)
        values = np.where(size > LARGEST_UNBENT, bent, values) * feature.std + feature.mean
        apart = np.spacing(np.abs(standardised.astype(np.float32))) * feature.std  # two neighbours, in the column
        if feature.log:
            values = np.sign(values) * np.expm1(np.abs(values))
            apart *= 1 + np.abs(values)
        values = np.clip(values, -_LARGEST, _LARGEST)
    return np.array([_shortest(*pair) for pair in zip(values.tolist(), apart.tolist(), strict=True)], np.float64)


def _shortest(value: float, apart: float) -> float:
    """The number of fewest digits of which the encoder makes the same; the nearest of float32 where all have many."""
    for short in (0.0, *(float(f"{value:.{digits}e}") for digits in range(9))):
        if abs(short) <= FLOAT32_MAX and abs(float(np.float32(short)) - value) < 0.499999 * apart:
            return short
    return float(np.float32(value)) if abs(value) <= FLOAT32_MAX else value
