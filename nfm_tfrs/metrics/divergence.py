"""How far apart two distributions are, how sure one may be of it, and how far apart two samples of one would be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_DRAWN = 500_000  # values that are drawn for an interval, all draws together
_MOST_DRAWS, _FEWEST_DRAWS = 400, 20
_ENOUGH = 200  # draws whose quantiles are known; of fewer, which are of many values, they are a normal distribution's
_MANY = 1000  # values: of more, and of more than so few rows, each is drawn for itself, three times as fast,
_FEW = 10_000  # and the size of a sample is met to a hundredth
_MOST_DEALT = 10**9  # NumPy's limit
_AT_ONCE = 200_000  # numbers: what fits into a processor's cache
_SIDES = 1.959964  # standard deviations to each side of 95 %


@dataclass(frozen=True)
class Distance:
    """How far apart two samples are, from 0 for one distribution to 1 for two without a common value.

    Args:
        value: The Jensen-Shannon distance of the samples.
        low: Low end of its 95 % interval.
        high: High end of its 95 % interval.
        noise: What two samples of these sizes and of one distribution, that of both together, stay below 39 times of
            40.
    """

    value: float
    low: float
    high: float
    noise: float


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the Jensen-Shannon divergence of distributions in bits, from 0 to 1; its root is a distance.

        JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2    with    H(p) = -Σ_i p_i log2 p_i

    Args:
        one: Counts or shares, 0 or more, `[…, values]`; what they add up to is divided out.
        other: Those of the other distribution, of the same values.

    Returns:
        `[…]` float64.

    Example:
        >>> float(jensen_shannon(np.array([1, 0]), np.array([0, 3])))
        1.0

    Reference:
        Lin, Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 1991, equation
        4.1 with equal weights. Its root obeys the triangle inequality: Endres and Schindelin, A New Metric for
        Probability Distributions, IEEE Transactions on Information Theory 2003.
    """
    p, q = (counts / counts.sum(axis=-1, keepdims=True) for counts in (one, other))
    bits = _negative_entropy(p) / 2 + _negative_entropy(q) / 2 - _negative_entropy((p + q) / 2)
    return np.clip(bits, 0.0, 1.0)


def sample_distance(one: np.ndarray, other: np.ndarray, *, seed: int | Sequence[int] = 0) -> Distance:
    """Returns how far apart two samples are, with an interval, from their counts alone.

    For the interval each sample is drawn anew from its own shares, and for the noise the values of both are dealt out
    anew, 20 to 400 times, the fewer the more values there are. The interval is of what samples of these sizes show:
    where many values are rare, two samples of one distribution are far apart too, and the noise says how far.

    Args:
        one: How often each value came, integers `[values]`, in all at least 1.
        other: How often it came in the other sample, in all at least 1.
        seed: Seed of the draws.

    Example:
        >>> found = sample_distance(np.array([500, 500]), np.array([800, 200]))
        >>> round(found.value, 2), found.noise < found.low < found.value < found.high
        (0.27, True)
    """
    occupied = (one > 0) | (other > 0)
    one, other = one[occupied].astype(np.int64), other[occupied].astype(np.int64)
    found = float(jensen_shannon(one, other))
    drawn, alike = [], []
    rng = np.random.default_rng(seed)
    for draws in _portions(len(one)):
        drawn.append(jensen_shannon(_drawn(one, draws, rng), _drawn(other, draws, rng)))
        dealt = _dealt(one + other, other.sum(), draws, rng)
        alike.append(jensen_shannon(one + other - dealt, dealt))
    bits = np.concatenate(drawn)
    # Around what was found: draws of a sample are further apart than samples are.
    low, high = (found + end - bits.mean() for end in _ends(bits))
    low, high, noise = (float(np.sqrt(np.clip(end, 0, 1))) for end in (low, high, _ends(np.concatenate(alike))[1]))
    return Distance(found**0.5, low, high, noise)


def _negative_entropy(p: np.ndarray) -> np.ndarray:
    return (p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1)


def _portions(values: int) -> Iterator[int]:
    """How many draws to make at once, and then again, and so on."""
    left = min(max(_DRAWN // values, _FEWEST_DRAWS), _MOST_DRAWS)
    while left:
        draws = min(left, max(_AT_ONCE // values, 1))
        yield draws
        left -= draws


def _drawn(counts: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of samples as large, `[draws, values]`, of the distribution that counts show."""
    size = counts.sum()
    if len(counts) <= _MANY or size <= _FEW:
        return rng.multinomial(size, counts / size, size=draws)
    return rng.poisson(counts, size=(draws, len(counts)))


def _dealt(counts: np.ndarray, size: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of samples of a size, `[draws, values]`, of all that was counted, none of it twice."""
    total = counts.sum()
    if total < _MOST_DEALT and (len(counts) <= _MANY or size <= _FEW):
        return rng.multivariate_hypergeometric(counts, size, size=draws, method="marginals")
    return rng.binomial(counts, size / total, size=(draws, len(counts)))


def _ends(values: np.ndarray) -> tuple[float, float]:
    """What 95 % of values lie between."""
    if len(values) < _ENOUGH:
        around = _SIDES * values.std(ddof=1)
        return float(values.mean() - around), float(values.mean() + around)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
