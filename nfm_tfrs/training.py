"""Trains a model with early stopping, judges it exactly, and draws its learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nfm_tfrs import metrics
from nfm_tfrs.data.dataset import plain_errors
from nfm_tfrs.data.encoded import EncodedPart
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


def judge(model: Any, part: EncodedPart, *, batch_size: int = 4096, groups: Any = None) -> dict[str, float]:
    """Returns the exact metrics of a model on labelled rows: `evaluate_binary`'s or `evaluate_regression`'s.

    Args:
        model: A `RankingModel`.
        part: The rows.
        batch_size: Rows a prediction step.
        groups: `[n]`, users for the grouped AUC.
    """
    predictions = predict(model, part, batch_size=batch_size)
    if model.is_binary:
        return metrics.evaluate_binary(part.labels, predictions, groups, part.weights)
    return metrics.evaluate_regression(part.labels, predictions, part.weights)


def predict(model: Any, part: EncodedPart, *, batch_size: int = 4096) -> np.ndarray:
    """Returns the model's logits (binary) or predictions, `[n]` float32."""
    unlabelled = EncodedPart(part.columns)
    return model.predict(unlabelled.dataset(batch_size), verbose=0)[:, 0]


def draw_curves(history: dict[str, list[float]], path: Path, names: Sequence[str]) -> None:
    """Draws the training and validation curves of some metrics, side by side, to a PNG file."""
    # Here, since no other function needs matplotlib; the Agg canvas needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        epochs = np.arange(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], marker=".", label="training")
        axes.plot(epochs, history[f"val_{name}"], marker=".", label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


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
