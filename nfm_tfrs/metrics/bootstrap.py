"""How sure one may be that one model ranks better than another: a paired bootstrap over rows."""

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
    """Returns how much higher a metric of some predictions is than that of others.

    Args:
        metric: `"auc"`, `"log_loss"`, `"rmse"` or `"mae"`.
        labels: Labels of the rows, `[n]`.
        ours: Predictions of each seed (logits of a binary model), `[n]`; the metric is the mean over seeds.
        theirs: Predictions of each seed of the others, `[n]`; None for the metric of `ours` itself.
        weights: Weights of the rows, `[n]`, 0 or more; all 1 if not given.
        seed: Seed of the resamples, each of which is drawn once for all predictions.

    Example:
        >>> labels, better = np.array([0, 1, 0, 1]), np.array([-1.0, 1.0, -2.0, 2.0])
        >>> paired_bootstrap("auc", labels, [better], [-better]).mean
        1.0
    """
    measures = [[_measure(metric, labels, one, weights) for one in side] for side in (ours, theirs or ())]
    rng, rows, gaps = np.random.default_rng(seed), len(labels), []
    for resample in range(RESAMPLES + 1):  # the first is the rows themselves
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows) if resample else np.ones(rows)
        means = [np.mean([measure(counts) for measure in side]) if side else 0.0 for side in measures]
        gaps.append(means[0] - means[1])
    known = [gap for gap in gaps[1:] if not np.isnan(gap)]  # a resample may lack a class, or all weight
    low, high = np.quantile(known, [0.025, 0.975]) if known else (np.nan, np.nan)
    return Difference(mean=float(gaps[0]), low=float(low), high=float(high))


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
