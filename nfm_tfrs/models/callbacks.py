"""Keras' callbacks beside this package's metrics: which value is better, and which callbacks look at single steps."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.metrics.streaming import AUC, LogLoss

Direction = Literal["max", "min"]
_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_OTHERS = ("tf_keras", "keras", "keras_tuner", "nfm_tfrs", "tensorboard")  # whose callbacks are not a user's own


def directions(losses: list[Any], task: Any, name: str | None) -> dict[str, Direction]:
    """Returns whether more or less is better, by the names of the metrics that are this package's own.

    Args:
        losses: The model's losses, as metrics.
        task: The ranking task.
        name: The task's name; None for a user's own, of whose metrics only those of this package are known.
    """
    found: dict[str, Direction] = {metric.name: "min" for metric in losses}
    for metric in task.metrics:
        if isinstance(metric, AUC):
            found[metric.name] = "max"
        elif isinstance(metric, LogLoss) or name == "regression":
            found[metric.name] = "min"
    return found


def set_directions(callbacks: Any, better: Mapping[str, Direction]) -> None:
    """Lets callbacks that look for the best value take the right one, with a warning where they would not have.

    Keras goes by the names of metrics, and two of its callbacks take the smallest `auc` for the best.

    Args:
        callbacks: What `fit` was given.
        better: Whether more or less is better, by the name of a metric; of other metrics callbacks stay as they are.
    """
    for callback in _listed(callbacks):
        monitor = getattr(callback, "monitor", None)
        wanted = better.get(monitor.removeprefix("val_")) if isinstance(monitor, str) else None
        if wanted is None or _direction(callback) in (wanted, None):
            continue
        _turn(callback, wanted)
        largest = {"max": "largest", "min": "smallest"}
        warnings.warn(
            f"{type(callback).__name__} took the {largest['min' if wanted == 'max' else 'max']} {monitor!r} for the "
            f'best; it takes the {largest[wanted]} from now on. Write mode="{wanted}".',
            stacklevel=4,  # of the caller of a `RankingModel`'s `fit`
        )


def look_at_steps(callbacks: Any) -> bool:
    """Whether a callback of the user's own does something before or after a step, or one of Keras' counts steps."""
    for callback in _listed(callbacks):
        # TensorBoard's "batch" is 1 by now.
        if any(isinstance(getattr(callback, counts, None), int) for counts in ("save_freq", "update_freq")):
            return True
        for hook in _HOOKS:
            function = getattr(callback, hook, None)
            function = getattr(function, "__func__", function)
            if function is not None and str(function.__module__).partition(".")[0] not in _OTHERS:
                return True
    return False


def _listed(callbacks: Any) -> Iterator[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    yield from (callback for callback in tf.nest.flatten(callbacks) if callback is not None)  # as Keras does


def _direction(callback: Any) -> Direction | None:
    """What the callback takes for better; None where it looks for no best, or by an operation of its own."""
    if isinstance(callback, keras.callbacks.ReduceLROnPlateau):  # it makes its operation anew when training begins
        more = callback.mode == "max" or (callback.mode != "min" and "acc" in callback.monitor)
        return "max" if more else "min"
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.EarlyStopping):
        return {np.greater: "max", np.less: "min"}.get(callback.monitor_op)  # type: ignore[return-value]
    return None


def _turn(callback: Any, wanted: Direction) -> None:
    if isinstance(callback, keras.callbacks.ReduceLROnPlateau):
        callback.mode = wanted
        return
    callback.monitor_op = np.greater if wanted == "max" else np.less
    if isinstance(callback, keras.callbacks.EarlyStopping):
        callback.min_delta = -callback.min_delta
    elif callback.best is not None and np.isinf(callback.best):  # else a threshold of the user's
        callback.best = -callback.best
