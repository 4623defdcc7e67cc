"""Trains a model with early stopping, and leaves it with its best weights."""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.pipeline.batches import plain_errors
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.training.resume import Course
from nfm_tfrs.training.schedules import Plateau
from nfm_tfrs.training.stopping import EarlyStopping, check_rate


def adapt_labels(model: Any, train: EncodedPart) -> None:
    """Tells a model the labels of its training rows, where it is one that starts at their mean.

    Args:
        model: A model of any package; see `RankingModel.adapt_labels`.
        train: The training rows.
    """
    if hasattr(model, "adapt_labels"):
        model.adapt_labels(train.labels, train.weights)


def fit(
    model: Any,
    train_data: tf.data.Dataset,
    valid_data: tf.data.Dataset,
    *,
    epochs: int,
    patience: int,
    callbacks: Sequence[Any] = (),
    tensorboard: Path | None = None,
    course: Course | None = None,
    plateau: Plateau | None = None,
    calibration: Iterable[Any] = (),
) -> dict[str, list[float]]:
    """Fits a compiled model and leaves it with the weights of its best epoch on the validation data.

    Best is what the model's `objective` says: the highest validation AUC of a binary model, for instance. Where the
    model averages its weights, the better of the two counts, epoch by epoch.

    Args:
        model: A compiled `RankingModel`.
        train_data: Batches of (columns, label[, weight]).
        valid_data: Batches of the same.
        epochs: Passes over the training data at most.
        patience: Epochs without a better validation score before it stops.
        callbacks: Further Keras callbacks, such as one that shows progress.
        tensorboard: Folder for TensorBoard logs; none are written without it.
        course: Where a training with checkpoints begins, whose batches begin there and have no end.
        plateau: When the rate is divided, and the training goes back to its best epoch; None leaves the rate as it is.
        calibration: Training batches for the statistics of BatchNorm; see `EarlyStopping`.

    Returns:
        The value of each metric, epoch by epoch; of averaged weights too, as `averaged_val_…`, where there are such.

    Raises:
        ValueError: The loss became infinite or NaN before an epoch had a finite score; later the best epoch is kept,
            with a warning. The validation loss of no epoch is finite. A plateau is to divide a rate that follows a
            schedule. Or what is wrong with the data, in one line.
    """
    monitor, mode = model.objective
    if plateau is not None:
        check_rate(model)
    stopping = EarlyStopping(
        monitor, mode=mode, patience=patience, plateau=plateau, valid=valid_data, calibration=calibration
    )
    chosen = [stopping, keras.callbacks.TerminateOnNaN()]
    if tensorboard is not None:
        chosen.append(keras.callbacks.TensorBoard(str(tensorboard)))
    chosen += callbacks
    for callback in callbacks:
        if str(monitored := getattr(callback, "monitor", "")).startswith("averaged_"):
            warnings.warn(
                f"{monitored} is the score of averaged weights, and {type(callback).__name__} keeps the others. Let it "
                f"look at {monitored.removeprefix('averaged_')}, or take what the training ends with.",
                stacklevel=2,
            )
    entering: Any = nullcontext()
    if course is not None:
        chosen = course.followed_by(chosen, stopping)
        entering = model.entered_at(*course.start)
    try:
        with plain_errors(), entering:
            history = model.fit(
                train_data,
                validation_data=valid_data,
                epochs=epochs,
                steps_per_epoch=None if course is None else course.steps,
                callbacks=chosen,
                verbose=0,
            )
    except LossNotFinite as error:
        # Keras keeps the weights of the first epoch whatever their score.
        if stopping.best_weights is None or not np.isfinite(stopping.best):
            raise
        stopping.restore()
        warnings.warn(f"{error} Epoch {stopping.best_epoch + 1}, the best so far, is kept.", stacklevel=2)
        return model.history.history
    for what, losses in (("", history.history["loss"][-1:]), ("validation ", history.history["val_loss"])):
        if not np.isfinite(losses).any():
            raise LossNotFinite(
                f"Training diverged: the {what}loss was {losses[-1]} after epoch {len(history.epoch)}. "
                "Lower the learning rate."
            )
    return history.history
