"""Exact metrics of a finished evaluation, in float64 on the host."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class GroupedAUC(NamedTuple):
    """The weighted mean AUC of the groups that have both classes, and how many these are."""

    value: float
    groups: int


class Calibration(NamedTuple):
    """Expected calibration error (0 is best) and Σ predicted ÷ Σ actual (1 is best)."""

    expected_error: float
    predicted_to_actual: float


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative) + ½ P(equal).

    Args:
        labels: Labels of the rows, [n] or [n, 1], 0 or 1.
        scores: Scores of the model, shaped as the labels; logits and probabilities give the same value unless rounding
            makes ties.
        weights: Weights of the rows, shaped as the labels, 0 or more; a row of weight 2 counts as two rows.

    Returns:
        The area, 0 to 1. `nan` if a class is absent (or weighs nothing) or a score is NaN: the area is undefined
        then, and a long run does not deserve an exception for it.

    Raises:
        ValueError: Labels other than 0 and 1, unequal lengths, or a negative weight.

    Example:
        >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
        0.875
    """
    from sklearn.metrics import roc_auc_score  # not needed to train, and half of its areas differ from ours by 1e-15

    labels, scores, weights = _binary(labels, scores, weights, "scores")
    if not _both_classes(labels, weights) or np.isnan(scores).any():
        return float("nan")
    # scikit-learn refuses infinities and subtracts neighbours, so the bound leaves room for the difference.
    return float(roc_auc_score(labels, np.clip(scores, -1e300, 1e300), sample_weight=weights))


def auc_of(scores: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """Returns the AUC of scores as a function of how much each row counts as a positive and as a negative.

    Σ p_i n_j ([i above j] + ½ [i beside j]) ÷ Σ p Σ n. The scores are sorted once, for as many counts as are asked
    for: resampled rows, weights, or labels between 0 and 1, whose rows count as p and 1 - p.

    Args:
        scores: `[n]` float64, without NaN.

    Returns:
        A function of positives and negatives, each `[n]` and 0 or more; `nan` where one of them is nothing.

    Example:
        >>> auc_of(np.array([1.0, 1.0, 2.0]))(np.array([1, 0, 0]), np.array([0, 1, 1]))
        0.25
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # ties are one step

    def area(positives: np.ndarray, negatives: np.ndarray) -> float:
        above = np.add.reduceat(np.asarray(positives, np.float64)[order], starts)
        below = np.add.reduceat(np.asarray(negatives, np.float64)[order], starts)
        pairs = above.sum() * below.sum()
        return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs > 0 else float("nan")

    return area


def grouped_auc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> GroupedAUC:
    """AUC within each group (user), averaged with the group's number of rows as its weight.

    GAUC = Σ_g rows_g · AUC_g ÷ Σ_g rows_g, over the groups with at least one positive and one negative.

    Args:
        labels: Labels of the rows, [n] or [n, 1], 0 or 1.
        scores: Scores of the model, shaped as the labels.
        groups: Groups of the rows, strings or numbers, shaped as the labels; rows whose group is None or NaN are left
            out.

    Returns:
        The mean and the number of groups in it; (`nan`, 0) if no group has both classes, and a value of `nan`
        if a score is NaN.

    Raises:
        ValueError: Labels other than 0 and 1, unequal lengths, or groups that mix types.

    Reference:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, eq. 7.
    """
    labels, scores, _ = _binary(labels, scores, None, "scores")
    codes = _group_codes(groups, len(labels))
    known = codes >= 0
    labels, scores, codes = labels[known], scores[known], codes[known]
    if not len(labels):
        return GroupedAUC(float("nan"), 0)

    order = np.lexsort((scores, codes))
    labels, scores, codes = labels[order], scores[order], codes[order]
    group_starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    tie_starts = np.flatnonzero(np.r_[True, (codes[1:] != codes[:-1]) | (scores[1:] != scores[:-1])])
    tie_groups = np.searchsorted(group_starts, tie_starts, side="right") - 1  # the group of each run of ties

    positives = np.add.reduceat(labels, group_starts)
    rows = np.diff(np.r_[group_starts, len(labels)])
    negatives = rows - positives
    tie_positives = np.add.reduceat(labels, tie_starts)
    tie_negatives = np.diff(np.r_[tie_starts, len(labels)]) - tie_positives
    negatives_so_far = np.cumsum(tie_negatives) - tie_negatives - (np.cumsum(negatives) - negatives)[tie_groups]
    concordant = np.bincount(tie_groups, weights=tie_positives * (negatives_so_far + tie_negatives / 2))

    counted = (positives > 0) & (negatives > 0)
    if not counted.any() or np.isnan(scores).any():
        return GroupedAUC(float("nan"), int(counted.sum()))
    areas = concordant[counted] / (positives[counted] * negatives[counted])
    return GroupedAUC(float(np.average(areas, weights=rows[counted])), int(counted.sum()))


def log_loss(labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean of log(1 + e^(-x)) over positives and log(1 + e^x) over negatives, x the logit, in nats.

    It is computed from the logit: a probability rounds to 0 or 1 where the loss still has its full precision.

    Args:
        labels: Labels of the rows, [n] or [n, 1], 0 or 1.
        logits: Logits of the model, shaped as the labels.
        weights: Weights of the rows, shaped as the labels, 0 or more.

    Returns:
        The mean; `nan` without rows (or weight) or with a NaN logit, infinite for a wrong infinite logit.

    Raises:
        ValueError: Labels other than 0 and 1, unequal lengths, or a negative weight.
    """
    labels, logits, weights = _binary(labels, logits, weights, "logits")
    with np.errstate(invalid="ignore"):  # NaN stays NaN; it is the answer, no warning
        losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
    return _mean(losses, weights)


def calibration(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    strategy: Literal["uniform", "quantile"] = "uniform",
) -> Calibration:
    """Expected calibration error and the predicted-to-actual ratio.

    ECE = Σ_b (weight_b ÷ weight) · |mean label_b − mean probability_b|, over bins b of the predicted probability.
    Bins of equal width are the field's standard, and the default. Where nearly all probabilities are small (a
    click rate of 1 %) they fall into one such bin and the error cancels: take `strategy="quantile"` there.

    Args:
        labels: Labels of the rows, [n] or [n, 1], 0 or 1.
        probabilities: Probabilities of label 1, from 0 to 1, shaped as the labels.
        weights: Weights of the rows, shaped as the labels, 0 or more.
        bins: Number of bins, 1 or more.
        strategy: `"uniform"` for bins of equal width, `"quantile"` for bins of (nearly) equally many rows.

    Returns:
        Both numbers. The error is `nan` without rows or with a NaN probability; the ratio also without positives.

    Raises:
        ValueError: Probabilities outside 0 to 1, labels other than 0 and 1, unequal lengths, a negative weight,
            fewer than one bin, or an unknown strategy.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3; for the binary probability of
        label 1: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    if bins < 1:
        raise ValueError(f"calibration needs 1 bin or more; received bins={bins}.")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f'calibration strategy must be "uniform" or "quantile"; received {strategy!r}.')
    labels, probabilities, weights = _binary(labels, probabilities, weights, "probabilities")
    outside = (probabilities < 0) | (probabilities > 1)
    if outside.any():
        raise ValueError(
            f"calibration needs probabilities from 0 to 1; received {probabilities[outside][0]:g}. "
            "Apply a sigmoid to logits first."
        )
    if not weights.sum() > 0 or np.isnan(probabilities).any():
        return Calibration(float("nan"), float("nan"))
    edges = (
        np.linspace(0, 1, bins + 1)
        if strategy == "uniform"
        else np.quantile(probabilities, np.linspace(0, 1, bins + 1))
    )
    bin_of = np.searchsorted(edges[1:-1], probabilities, side="left")
    gaps = np.bincount(
        bin_of, weights=weights * (labels - probabilities)
    )  # per bin: its weight × (label − probability)
    actual = (weights * labels).sum()
    ratio = (weights * probabilities).sum() / actual if actual > 0 else float("nan")
    return Calibration(float(np.abs(gaps).sum() / weights.sum()), float(ratio))


def evaluate_binary(
    labels: ArrayLike, logits: ArrayLike, groups: ArrayLike | None = None, weights: ArrayLike | None = None
) -> dict[str, float]:
    """Everything a report says about a binary model.

    Args:
        labels: Labels of the rows, [n] or [n, 1], 0 or 1.
        logits: Logits of the model, shaped as the labels.
        groups: Groups of the rows, such as users, for the grouped AUC, which leaves the weights out; shaped as the
            labels.
        weights: Weights of the rows, shaped as the labels, 0 or more.

    Returns:
        `auc`, `log_loss`, `calibration_error` and `predicted_to_actual`; with groups also `grouped_auc` and
        `groups`, the number of groups that have both classes. What is undefined is `nan`.

    Raises:
        ValueError: What `auc`, `log_loss`, `calibration` and `grouped_auc` refuse.
    """
    error, ratio = calibration(labels, _sigmoid(logits), weights)
    report = {
        "auc": auc(labels, logits, weights),
        "log_loss": log_loss(labels, logits, weights),
        "calibration_error": error,
        "predicted_to_actual": ratio,
    }
    if groups is not None:
        value, counted = grouped_auc(labels, logits, groups)
        report |= {"grouped_auc": value, "groups": float(counted)}
    return report


def evaluate_regression(
    labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, float]:
    """Root mean squared error and mean absolute error, in the label's unit.

    Args:
        labels: Labels of the rows, [n] or [n, 1].
        predictions: Predictions of the model, shaped as the labels.
        weights: Weights of the rows, shaped as the labels, 0 or more.

    Returns:
        `rmse` and `mae`; `nan` without rows (or weight) or where a value is NaN.

    Raises:
        ValueError: Unequal lengths or a negative weight.
    """
    labels, predictions, weights = _columns(labels, predictions, weights, "predictions")
    errors = predictions - labels
    return {"rmse": float(np.sqrt(_mean(errors**2, weights))), "mae": _mean(np.abs(errors), weights)}


def _columns(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as float64 [n]."""
    labels, scores = np.asarray(labels, np.float64).ravel(), np.asarray(scores, np.float64).ravel()
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64).ravel()
    if not len(labels) == len(scores) == len(weights):
        raise ValueError(
            f"labels, {name} and weights must be equally many; "
            f"received {len(labels)}, {len(scores)} and {len(weights)}."
        )
    if not (weights >= 0).all():
        raise ValueError(f"weights must be 0 or more; received {weights[~(weights >= 0)][0]:g}.")
    return labels, scores, weights


def _binary(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, scores, weights = _columns(labels, scores, weights, name)
    other = (labels != 0) & (labels != 1)
    if other.any():
        raise ValueError(
            f"labels must be 0 or 1; received {labels[other][0]:g} (rows like it: {other.sum()}). "
            "Write a condition, such as label>=1 of -1 and 1, to make a number binary."
        )
    return labels, scores, weights


def _both_classes(labels: np.ndarray, weights: np.ndarray) -> bool:
    return bool((weights * labels).sum() > 0 and (weights * (1 - labels)).sum() > 0)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    weighs = weights > 0  # a row of weight 0 is absent, even one whose value is infinite
    return float(np.average(values[weighs], weights=weights[weighs])) if weighs.any() else float("nan")


def _sigmoid(logits: ArrayLike) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / 2))  # as 1 / (1 + exp(-x)), without its overflow


def _group_codes(groups: ArrayLike, rows: int) -> np.ndarray:
    """[n] whole numbers, equal for equal groups; -1 where the group is missing."""
    groups = np.asarray(groups).ravel()
    if len(groups) != rows:
        raise ValueError(f"labels and groups must be equally many; received {rows} and {len(groups)}.")
    # NaN is the one value that differs from itself.
    known = np.array([group is not None and group == group for group in groups.tolist()], bool)
    codes = np.full(rows, -1)
    try:
        codes[known] = np.unique(groups[known], return_inverse=True)[1]
    except TypeError as error:
        types = sorted({type(group).__name__ for group in groups[known].tolist()})
        raise ValueError(f"groups must be of one type; received {', '.join(types)}.") from error
    return codes
