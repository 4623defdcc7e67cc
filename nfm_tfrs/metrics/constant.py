"""The one prediction for every row that fits labels best, and what it would have scored: the least to be beaten."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from nfm_tfrs.metrics.exact import evaluate_regression, log_loss


def constant_prediction(labels: ArrayLike, weights: ArrayLike | None = None, *, binary: bool) -> float:
    """Returns the labels' weighted mean, of clicks as a logit; 0 without rows or weight.

    A rate of 0 or 1 is taken for half a row of the other class.

    Args:
        labels: Labels of the rows, of any shape.
        weights: Weights of the rows, as many.
        binary: Whether the labels are 0 and 1.

    Example:
        >>> constant_prediction([1.0, 0.0, 0.0, 1.0], binary=True)
        0.0
    """
    values = np.asarray(labels, np.float64).ravel()
    counts = np.ones_like(values) if weights is None else np.asarray(weights, np.float64).ravel()
    total = counts.sum()
    if not total > 0:
        return 0.0
    mean = float(counts @ values / total)
    if not binary:
        return mean
    least = 0.5 / len(values)
    rate = min(max(mean, least), 1.0 - least)
    return float(np.log(rate / (1.0 - rate)))


def constant_report(
    prediction: float, labels: ArrayLike, weights: ArrayLike | None = None, *, binary: bool
) -> dict[str, float]:
    """Returns what one prediction for all rows scores: `log_loss` of a logit, `rmse` of a number.

    Args:
        prediction: The prediction, of the training rows: see `constant_prediction`.
        labels: Labels of the rows to judge on, `[n]`.
        weights: Weights of the rows, `[n]`.
        binary: Whether the labels are 0 and 1.

    Example:
        >>> constant_report(2.0, [1.0, 3.0], binary=False)
        {'rmse': 1.0}
    """
    predictions = np.full(np.size(labels), prediction)
    if binary:
        return {"log_loss": log_loss(labels, predictions, weights)}
    return {"rmse": evaluate_regression(labels, predictions, weights)["rmse"]}


def no_better(report: Mapping[str, float], constant: Mapping[str, float]) -> str | None:
    """Returns, in a sentence, that a model is no better than the constant prediction; None where it is.

    Args:
        report: The model's metrics.
        constant: Those of `constant_report` on the same rows.

    Example:
        >>> no_better({"rmse": 1.2}, {"rmse": 1.0})
        'The model is no better than the mean of the training rows for every row: rmse 1.2000 against 1.0000.'
    """
    for name, score in constant.items():
        if name in report and not report[name] < score:
            return (
                "The model is no better than the mean of the training rows for every row: "
                f"{name} {report[name]:.4f} against {score:.4f}."
            )
    return None
