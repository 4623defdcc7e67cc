"""Losses that regularise: smoothed labels, and two passes of dropout that each learn from their mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from nfm_tfrs import arguments
from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import random_layers

_ERRORS = (keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError)

# The model whose dense part runs twice. Neither an argument of `call`, which would be part of what is saved, nor an
# attribute, which the threads of replicas share.
_TWICE: ContextVar[Any] = ContextVar("twice", default=None)


class Losses(NamedTuple):
    """How a model learns from its labels.

        ε = label_smoothing,  λ = self_ensemble,  P = 2 passes where λ > 0 and else 1,  ℓ the task's loss
        L = Σ_m [1/P Σ_p ℓ(z_mp, y') + λ 1/P Σ_p ℓ(z_mp, q_m)]
        y' = (1 - ε) y + ε / 2
        q_m = σ(z̄_m) (binary) or z̄_m (regression),  z̄_m = 1/P Σ_p z_mp,  without a gradient

    The columns z_m are the members of a model, which most have one of. Each term is a mean over the rows of the batch,
    weighed by their weights, and one term at weight one has the gradients of the plain loss: with ε = 0 the first term
    is what P trainings side by side have on average, and the second has λ times the gradients of a plain loss whose
    label is q_m.

    Attributes:
        label_smoothing: ε, from 0 to below 1; 0 leaves labels as they are.
        self_ensemble: λ, 0 or more; at 0 there is one pass.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7, with two
        classes. Liang et al., R-Drop: Regularized Dropout for Neural Networks, NeurIPS 2021, eq. 2 to 4, whose second
        term is the divergence of the passes from each other, both ways, with gradients through both; here it is that
        of each pass from their mean, which gives no gradient, up to a constant, as the branches of Lan et al.,
        Knowledge Distillation by On-the-Fly Native Ensemble, NeurIPS 2018, learn from their ensemble. And losses are
        means over the passes, where R-Drop's eq. 3 adds them up.
    """

    label_smoothing: float = 0.0
    self_ensemble: float = 0.0

    @classmethod
    def checked(cls, label_smoothing: Any, self_ensemble: Any, loss: Any) -> "Losses":
        """Returns the losses of these arguments of a model.

        Args:
            label_smoothing: ε.
            self_ensemble: λ.
            loss: The task's loss.

        Raises:
            ValueError: One is out of its range, or the task's loss has no such form.
        """
        smoothing = arguments.share("label_smoothing", label_smoothing)
        weight = arguments.not_negative("self_ensemble", self_ensemble)
        binary = isinstance(loss, keras.losses.BinaryCrossentropy)
        name = type(loss).__name__
        if smoothing and not binary:
            raise ValueError(
                f"label_smoothing is of binary labels; received {smoothing} with the loss {name}. Leave it out."
            )
        if weight and not binary and not isinstance(loss, _ERRORS):
            raise ValueError(
                "self_ensemble needs a loss of probabilities, or squared or absolute errors; received the loss "
                f"{name}. Leave it out."
            )
        return cls(smoothing, weight)

    def objective(self, loss: Any, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        """Returns what gradients are of, float32 scalar; of no rows 0.

        Args:
            loss: The task's loss, which returns one number a row.
            labels: float32 `[passes · batch, 1]`, pass behind pass.
            predictions: Logits (binary) or predictions, float32 `[passes · batch, columns]`.
            weights: Weights of the rows, shaped as the labels; None without.
        """
        count = predictions.shape[1] or 1
        if count > 1:
            labels = _by_row(tf.repeat(labels, count, axis=1))
            weights = None if weights is None else _by_row(tf.repeat(weights, count, axis=1))
        if self.label_smoothing:
            labels = (1.0 - self.label_smoothing) * labels + self.label_smoothing / 2.0
        flat = _by_row(predictions)
        objective = mean(loss(labels, flat, sample_weight=weights))
        if self.self_ensemble:
            target = _by_row(_agreed(loss, predictions))
            objective += self.self_ensemble * mean(loss(target, flat, sample_weight=weights))
        return count * objective


def _by_row(columns: tf.Tensor) -> tf.Tensor:
    """Several columns as rows, [rows · columns, 1]: the loss of a row is one number."""
    return tf.reshape(columns, [-1, 1])


def mean(losses: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the losses of rows, float32 scalar: 0, not NaN, of no rows, as one of several replicas has.

    Args:
        losses: One number a row.
    """
    losses = tf.cast(losses, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32))


def _agreed(loss: Any, predictions: tf.Tensor) -> tf.Tensor:
    """What two passes say together, [2 · batch, columns], pass behind pass; without a gradient."""
    first, second = tf.split(predictions, 2)
    together = (first + second) / 2.0
    if isinstance(loss, keras.losses.BinaryCrossentropy):
        together = tf.sigmoid(together)
    return twice(tf.stop_gradient(together))


def twice(rows: tf.Tensor) -> tf.Tensor:
    """Returns rows, and the same behind them, `[2 · batch, …]`.

    Args:
        rows: `[batch, …]`.
    """
    return tf.concat([rows, rows], axis=0)


@contextmanager
def run_twice(model: Any) -> Iterator[None]:
    """Has a model that knows how run its dense part twice inside, on one look-up; see `runs_twice`.

    Args:
        model: The model.
    """
    before = _TWICE.set(model)
    try:
        yield
    finally:
        _TWICE.reset(before)


def runs_twice(model: Any) -> bool:
    """Returns whether a model's call is to return two passes, one behind the other.

    Args:
        model: The model.
    """
    return _TWICE.get() is model


def check_draws(model: Any) -> None:
    """Checks that two passes of a model differ.

    Args:
        model: The model, its layers made.

    Raises:
        ValueError: It has no dropout.
    """
    if not random_layers(model) and not any(isinstance(part, Dropout) for part in model.submodules):
        raise ValueError(
            f"self_ensemble compares two draws of dropout; received self_ensemble={model.self_ensemble} for a model "
            "without any. Give it dropout too, or leave self_ensemble out."
        )
