"""How sure one may be that one model ranks better than another: a paired bootstrap over rows and seeds."""

from collections.abc import Callable, Sequence

import numpy as np

from nfm_tfrs.evidence import Difference
from nfm_tfrs.metrics.exact import auc_of

RESAMPLES = 1000


def paired_bootstrap(
    metric: str,
    labels: np.ndarray,
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray] | None = None,
    *,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> Difference:
    """Returns how much higher a metric of some predictions is than that of others, with its 95 % interval.

    Each resample draws rows with replacement and, of a side with several runs, as many runs: of both sides the same
    ones where these are as many, so that what a seed does to both cancels. Runs that are drawn with replacement lie
    closer together than runs of new seeds would, so that their mean is moved away from that of all:

        m* = m̄ + sqrt(k / (k - 1)) (1/k Σ_j m_{d_j} - m̄)    for the metrics m_1 … m_k of a side on the rows drawn,
                                                             their mean m̄, and the runs d_1 … d_k drawn

    For E Var(1/k Σ_j m_{d_j} | runs) = 1/k E[1/k Σ_j (m_j - m̄)²] = (k - 1)/k · σ²/k of runs of variance σ², so that
    Var(m*) is σ²/k on average. The interval counts Var_rows + σ²/k. Of few runs σ² itself is known roughly: where their
    spread is most of it, 0.9 of the intervals of five runs a side cover and 0.8 of those of two or three, of those over
    rows alone a quarter. With one run a side it is over rows alone.

    Args:
        metric: `"auc"`, `"log_loss"`, `"rmse"` or `"mae"`.
        labels: Labels of the rows, `[n]`.
        ours: Predictions of each seed (logits of a binary model), `[n]`; the metric is the mean over seeds.
        theirs: Predictions of each seed of the others, `[n]`; None for the metric of `ours` itself.
        weights: Weights of the rows, `[n]`, 0 or more; all 1 if not given.
        seed: Seed of the resamples, whose rows are drawn once for all predictions.

    Reference:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8 (hierarchical data); Rao and
        Wu, Resampling Inference with Complex Survey Data, JASA 1988 (the factor for few units).

    Example:
        >>> labels, better = np.array([0, 1, 0, 1]), np.array([-1.0, 1.0, -2.0, 2.0])
        >>> paired_bootstrap("auc", labels, [better], [-better]).mean
        1.0
    """
    measures = [[_measure(metric, labels, one, weights) for one in side] for side in (ours, theirs or ())]
    rng, rows, gaps = np.random.default_rng(seed), len(labels), []
    sizes = [len(side) for side in measures]
    runs_rng = np.random.default_rng([seed, 1])  # its own: the rows drawn are the same however many runs there are
    for resample in range(RESAMPLES + 1):  # the first is the rows and runs themselves
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows) if resample else np.ones(rows)
        drawn = [runs_rng.integers(0, size, size) if resample and size > 1 else None for size in sizes]
        if sizes[0] == sizes[1]:
            drawn[1] = drawn[0]
        means = [_mean([measure(counts) for measure in side], runs) for side, runs in zip(measures, drawn, strict=True)]
        gaps.append(means[0] - means[1])
    known = [gap for gap in gaps[1:] if not np.isnan(gap)]  # a resample may lack a class, or all weight
    low, high = np.quantile(known, [0.025, 0.975]) if known else (np.nan, np.nan)
    return Difference(mean=float(gaps[0]), low=float(low), high=float(high), over_seeds=max(sizes) > 1)


def _mean(values: Sequence[float], runs: np.ndarray | None) -> float:
    """The mean over runs; where some are drawn, as far from that of all as means of new runs are."""
    if not values:
        return 0.0
    mean = np.mean(values)
    if runs is None:
        return float(mean)
    stretch = (len(values) / (len(values) - 1)) ** 0.5
    return float(mean + stretch * (np.mean(np.take(values, runs)) - mean))


def _measure(
    metric: str, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None
) -> Callable[[np.ndarray], float]:
    """The metric as a function of how often each row counts."""
    labels, predictions = np.asarray(labels, np.float64), predictions.astype(np.float64)
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    if metric == "auc":
        area, positives, negatives = auc_of(predictions), weights * labels, weights * (1 - labels)
        return lambda counts: area(counts * positives, counts * negatives)
    gaps = predictions - labels
    losses = {
        "log_loss": lambda: np.logaddexp(0, predictions) - labels * predictions,
        "rmse": lambda: gaps**2,
        "mae": lambda: np.abs(gaps),
    }[metric]()

    def mean(counts: np.ndarray) -> float:
        counted = counts * weights
        value = float(np.average(losses, weights=counted)) if counted.any() else float("nan")
        return value**0.5 if metric == "rmse" else value

    return mean
