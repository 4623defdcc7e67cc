"""What an export does to a logit behind the model: calibration, and the correction for negatives that were left out."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nfm_tfrs.written import read

if TYPE_CHECKING:
    from nfm_tfrs.keras_compat import tf

Method = Literal["platt", "isotonic"]
METHODS = get_args(Method)
_LEAST = 1e-6  # of an isotonic probability, whose logit is to be finite
_LEAST_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """From a model's logit z to the one that an export gives.

        platt:     z' = slope z + intercept
        isotonic:  z' = logit(p(z)),  p linear between the thresholds, whose probabilities never fall
        negatives: z' + ln(negatives_kept)

    Args:
        slope: Factor of the logit in a Platt fit.
        intercept: Number that a Platt fit adds to the logit.
        thresholds: Logits of an isotonic fit, rising; without any it is a Platt fit.
        probabilities: The probability at each threshold.
        negatives_kept: Share of the rows labelled 0 that were kept for training and validation, above 0, at most 1.

    Reference:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999; Zadrozny and Elkan, Transforming Classifier
        Scores into Accurate Multiclass Probability Estimates, KDD 2002; King and Zeng, Logistic Regression in Rare
        Events Data, Political Analysis 2001, equation 7 (the correction of the intercept).
    """

    slope: float = 1.0
    intercept: float = 0.0
    thresholds: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    negatives_kept: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self != Adjustment()

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted to rows."""
        return bool(self.thresholds) or (self.slope, self.intercept) != (1.0, 0.0)

    def of_tensor(self, logits: "tf.Tensor") -> "tf.Tensor":
        """Returns the logits that an export gives of a model's, float32 `[rows]`, by operations that ONNX has too."""
        from nfm_tfrs.keras_compat import tf

        if self.thresholds:
            logits = _interpolated(tf, logits, self.thresholds, self.probabilities)
        elif (self.slope, self.intercept) != (1.0, 0.0):
            logits = logits * self.slope + self.intercept
        return logits if self.negatives_kept == 1.0 else logits + math.log(self.negatives_kept)

    def of_array(self, logits: np.ndarray) -> np.ndarray:
        """Returns the same of an array, float64 `[rows]`."""
        logits = logits.astype(np.float64)
        if self.thresholds:
            probability = np.interp(logits, self.thresholds, self.probabilities)
            logits = np.log(probability) - np.log1p(-probability)
        else:
            logits = logits * self.slope + self.intercept
        return logits + math.log(self.negatives_kept)

    @classmethod
    def from_json(cls, written: Any) -> "Adjustment":
        """Returns what was written of one, as a dict of its attributes.

        Raises:
            TypeError: A value is not of its type.
        """
        return cls(
            slope=float(read(written, "slope", float | int, 1.0)),
            intercept=float(read(written, "intercept", float | int, 0.0)),
            thresholds=tuple(map(float, read(written, "thresholds", list, ()) or ())),
            probabilities=tuple(map(float, read(written, "probabilities", list, ()) or ())),
            negatives_kept=float(read(written, "negatives_kept", float | int, 1.0)),
        )

    def __str__(self) -> str:
        said = []
        if self.thresholds:
            said.append(f"isotonic, {len(self.thresholds)} thresholds")
        elif (self.slope, self.intercept) != (1.0, 0.0):
            said.append(f"Platt, {self.slope:.4g} z {self.intercept:+.4g}")
        if self.negatives_kept != 1.0:
            said.append(f"for {self.negatives_kept:g} of the negatives kept")
        return "; ".join(said) or "none"


def fitted(
    method: Method | None,
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    negatives_kept: float = 1.0,
) -> Adjustment:
    """Fits a calibration on validation rows.

    Args:
        method: `"platt"` or `"isotonic"`; None for no calibration.
        logits: The model's, `[rows]`.
        labels: From 0 to 1, `[rows]`; one between them counts as rows of both.
        weights: Weights of the rows, `[rows]`; None where all count alike.
        negatives_kept: As in `Adjustment`.

    Raises:
        ValueError: There are too few rows, or rows of one label alone; or an unknown method.
    """
    check_negatives_kept(negatives_kept)
    if method is None:
        return Adjustment(negatives_kept=negatives_kept)
    if method not in METHODS:
        raise ValueError(f"A calibration is {' or '.join(METHODS)}; received {method!r}.")
    counted = np.ones(len(labels)) if weights is None else weights
    if len(labels) < _LEAST_ROWS or not ((counted * labels).sum() > 0 and (counted * (1 - labels)).sum() > 0):
        raise ValueError(
            f"A calibration is fitted on {_LEAST_ROWS} validation rows or more, of both labels; received {len(labels)} "
            f"rows, labelled 1 of weight {(counted * labels).sum():g}, labelled 0 {(counted * (1 - labels)).sum():g}. "
            "Give more rows, or leave the calibration out."
        )
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    logits = logits.astype(np.float64)
    if method == "platt":
        from sklearn.linear_model import LogisticRegression

        both = np.concatenate([logits, logits])[:, None]
        classes: np.ndarray = np.repeat([1, 0], len(labels))
        shares = np.concatenate([weights * labels, weights * (1 - labels)])
        there = shares > 0
        fit = LogisticRegression(C=1e12, tol=1e-8, max_iter=1000)
        fit.fit(both[there], classes[there], shares[there])
        return Adjustment(
            slope=float(fit.coef_[0, 0]), intercept=float(fit.intercept_[0]), negatives_kept=negatives_kept
        )
    from sklearn.isotonic import IsotonicRegression

    isotonic = IsotonicRegression(y_min=_LEAST, y_max=1 - _LEAST).fit(logits, labels, weights)
    return Adjustment(
        thresholds=tuple(map(float, isotonic.X_thresholds_)),
        probabilities=tuple(map(float, isotonic.y_thresholds_)),
        negatives_kept=negatives_kept,
    )


def check_negatives_kept(share: Any) -> float:
    """Returns the share of negatives that was kept; refuses what is not above 0 and at most 1."""
    if not isinstance(share, numbers.Real) or not 0 < float(share) <= 1:
        raise ValueError(
            "negatives_kept is the share of the rows labelled 0 that were kept, above 0 and at most 1; received "
            f"{share!r:.60}."
        )
    return float(share)


def _interpolated(tf: Any, logits: Any, thresholds: Sequence[float], probabilities: Sequence[float]) -> Any:
    """The logit of the probability between the thresholds."""
    levels = np.array(thresholds, np.float32)
    # Of both labels: float32 has no digits left of 1 - p where p is near 1.
    both = [np.array(values, np.float32) for values in (probabilities, 1 - np.array(probabilities))]
    if len(levels) == 1:
        found = [tf.zeros_like(logits) + one[0] for one in both]
    else:
        above = tf.reduce_sum(tf.cast(logits[:, None] >= levels[None, :], tf.int32), axis=1)
        low = tf.minimum(tf.maximum(above - 1, 0), len(levels) - 2)
        left, right = tf.gather(levels, low), tf.gather(levels, low + 1)
        share = tf.minimum(tf.maximum((logits - left) / (right - left), 0.0), 1.0)
        found = [tf.gather(one, low) * (1.0 - share) + tf.gather(one, low + 1) * share for one in both]
    return tf.math.log(found[0]) - tf.math.log(found[1])
