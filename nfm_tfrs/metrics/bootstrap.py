"""How sure one may be that one model ranks better than another: a paired bootstrap over rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart

RESAMPLES = 1000


def paired_bootstrap(
    metric: str,
    part: EncodedPart,
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns how much higher a metric of some predictions is than that of others, with its 95 % interval over rows.

    Args:
        metric: `"auc"`, `"log_loss"`, `"rmse"` or `"mae"`.
        part: The rows, with labels.
        ours: Predictions of each seed (logits of a binary model), `[n]`; the metric is the mean over seeds.
        theirs: The same of the others; None for the metric itself.
        seed: Of the resamples, each of which is drawn once for all.
    """
    measures = [[_measure(metric, part, one) for one in side] for side in (ours, theirs or ())]
    rng, rows, gaps = np.random.default_rng(seed), len(part), []
    for resample in range(RESAMPLES + 1):  # the first is the rows themselves
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows) if resample else np.ones(rows)
        means = [np.mean([measure(counts) for measure in side]) if side else 0.0 for side in measures]
        gaps.append(means[0] - means[1])
    known = [gap for gap in gaps[1:] if not np.isnan(gap)]  # a resample may lack a class, or all weight
    interval = np.quantile(known, [0.025, 0.975]) if known else [np.nan, np.nan]
    return {"mean": float(gaps[0]), "interval": [float(end) for end in interval]}


def _measure(metric: str, part: EncodedPart, predictions: np.ndarray) -> Callable[[np.ndarray], float]:
    """The metric as a function of how often each row counts."""
    labels: np.ndarray = np.asarray(part.labels, np.float64)
    weights = np.ones(len(part)) if part.weights is None else part.weights.astype(np.float64)
    predictions = predictions.astype(np.float64)
    if metric == "auc":
        order = np.argsort(predictions, kind="stable")  # once, for all resamples
        starts = np.flatnonzero(np.r_[True, np.diff(predictions[order]) > 0])  # ties are one step
        labels, weights = labels[order], weights[order]

        def auc(counts: np.ndarray) -> float:
            counted = counts[order] * weights
            positives = np.add.reduceat(counted * labels, starts)
            negatives = np.add.reduceat(counted * (1 - labels), starts)
            pairs = positives.sum() * negatives.sum()
            below = np.cumsum(negatives) - negatives / 2
            return float(positives @ below / pairs) if pairs > 0 else float("nan")

        return auc
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
