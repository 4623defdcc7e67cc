"""Intervals of metrics over rows, without resampling: DeLong's of the area under the curve, the normal one of means."""

import numpy as np

_SIDES = 1.959964  # standard errors to each side of 95 %


def intervals(
    labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None, *, binary: bool
) -> dict[str, tuple[float, float]]:
    """Returns the 95 % intervals of a model's metrics.

    Args:
        labels: Labels of the rows, `[n]`; of a binary model 0 or 1.
        predictions: Logits of a binary model, or predictions, `[n]`.
        weights: Weights of the rows, `[n]`, 0 or more; all 1 if not given.
        binary: Whether the metrics are `auc` and `log_loss`, or else `rmse` and `mae`.

    Returns:
        The low and the high end by the metric's name; NaN where they are undefined.

    Example:
        >>> found = intervals(np.array([0, 1] * 50), np.arange(100.0), binary=True)
        >>> [round(end, 2) for end in found["auc"]]
        [0.4, 0.62]

    Reference:
        DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves,
        Biometrics 1988, equation 4.
    """
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    if binary:
        losses = np.logaddexp(0, predictions) - labels * predictions
        return {"auc": _auc(labels, predictions, weights), "log_loss": _around(*_mean(losses, weights))}
    errors = predictions - labels
    low, high = _around(*_mean(errors**2, weights))
    return {"rmse": (max(low, 0.0) ** 0.5, high**0.5), "mae": _around(*_mean(np.abs(errors), weights))}


def _mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The mean, and the variance of it."""
    total, count = weights.sum(), (weights > 0).sum()
    if count < 2:
        return float("nan"), float("nan")
    mean = (weights * values).sum() / total
    variance = (weights**2 * (values - mean) ** 2).sum() / total**2 * count / (count - 1)
    return float(mean), float(variance)


def _auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    positive = labels > 0.5
    sides = [(scores[side], weights[side]) for side in (positive, ~positive)]
    above = _share_below(sides[0][0], *sides[1])
    below: np.ndarray = 1 - _share_below(sides[1][0], *sides[0])
    mean, one = _mean(above, sides[0][1])
    _, other = _mean(below, sides[1][1])
    low, high = _around(mean, one + other)
    return max(low, 0.0), min(high, 1.0)


def _share_below(scores: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each score the share of the others' weight that is below it, of equal ones half."""
    order = np.argsort(others)
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    places = [sums[np.searchsorted(others[order], scores, side)] for side in ("left", "right")]
    total = sums[-1] if sums[-1] > 0 else float("nan")
    return (places[0] + places[1]) / 2 / total


def _around(mean: float, variance: float) -> tuple[float, float]:
    error = _SIDES * variance**0.5
    return float(mean - error), float(mean + error)
