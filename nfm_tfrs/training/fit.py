"""Trains a model with early stopping, and leaves it with its best weights."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nfm_tfrs.data.pipeline.batches import plain_errors
from nfm_tfrs.keras_compat import keras, tf


def train(
    model: Any,
    train_data: tf.data.Dataset,
    valid_data: tf.data.Dataset,
    *,
    epochs: int,
    patience: int,
    console: Console,
    tensorboard: Path | None = None,
) -> dict[str, list[float]]:
    """Fits a compiled model and leaves it with the weights of its best epoch on the validation data.

    Best is what the model's `objective` says: the highest validation AUC of a binary model, for instance.

    Args:
        model: A compiled `RankingModel`.
        train_data: Batches of (columns, label[, weight]).
        valid_data: Batches of the same.
        epochs: Passes over the training data at most.
        patience: Epochs without a better validation score before it stops.
        console: Where progress goes.
        tensorboard: Folder for TensorBoard logs; none are written without it.

    Returns:
        The value of each metric, epoch by epoch.

    Raises:
        ValueError: The loss became infinite or NaN; or what a reader found wrong with the data, in its own line.
    """
    monitor, mode = model.objective
    callbacks = [
        keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True),
        keras.callbacks.TerminateOnNaN(),
    ]
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(tensorboard)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with plain_errors(), Progress(*columns, console=console, transient=True) as progress:
        callbacks.append(_ProgressBar(progress, monitor))
        history = model.fit(train_data, validation_data=valid_data, epochs=epochs, callbacks=callbacks, verbose=0)
    if not np.isfinite(history.history["loss"][-1]):
        raise ValueError(
            f"Training diverged: the loss was {history.history['loss'][-1]} after epoch {len(history.epoch)}. "
            "Lower the learning rate."
        )
    return history.history


class _ProgressBar(keras.callbacks.Callback):
    """A rich bar of the epoch's steps and the best validation score so far."""

    def __init__(self, progress: Progress, monitor: str) -> None:
        super().__init__()
        self.progress = progress
        self.monitor = monitor
        self.scores: list[float] = []
        self.bar = progress.add_task("epoch 1")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        best = f"  {self.monitor} {self.scores[-1]:.4f}" if self.scores else ""
        self.progress.reset(self.bar, total=self.params["steps"], description=f"epoch {epoch + 1}{best}")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.progress.update(self.bar, completed=batch + 1)  # an execution is several batches

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.scores.append((logs or {})[self.monitor])
