"""When a training stops, which of its weights it keeps, and where it goes back to when its rate falls on a plateau."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.pipeline.batches import batches
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.models.averaging import BATCHES, averages_of
from nfm_tfrs.models.slots import unlisted
from nfm_tfrs.training.schedules import Plateau

Action = Literal["better", "go on", "drop", "stop"]
PASSES = 3  # of a training, before which averaged statistics of BatchNorm have not arrived


@dataclass
class Looks:
    """What follows from each look at the validation rows, one after another.

    At one rate a training stops at the first look that makes `patience` of them without a better score. With a plateau
    the rate is divided at the first look that makes `plateau.looks` of them instead, until it has been `plateau.drops`
    times, and each rate counts its own looks.

    Args:
        patience: Looks without a better score after which the training stops.
        sign: 1 where more of the score is better, else -1.
        plateau: When the rate is divided; None leaves it as it is.
        best: The best score so far; None before the first.
        wait: Looks without a better score so far, at this rate.
        drops: How often the rate has been divided so far.

    Example:
        >>> looks = Looks(patience=2, sign=1, plateau=Plateau(factor=10, looks=1, drops=1))
        >>> [looks.look(score) for score in (0.7, 0.6, 0.8, 0.8, 0.7)]
        ['better', 'drop', 'better', 'go on', 'stop']
    """

    patience: int
    sign: int
    plateau: Plateau | None = None
    best: float | None = None
    wait: int = 0
    drops: int = 0

    def look(self, score: float, *, first: bool = False) -> Action:
        """Counts a look, and returns what follows.

        Args:
            score: What was seen; NaN is never better.
            first: Whether it is the first look of a training, which never ends it.
        """
        self.wait += 1
        if not np.isnan(score) and (self.best is None or self.sign * score > self.sign * self.best):
            self.best, self.wait = score, 0
            return "better"
        if self.plateau is not None and self.drops < self.plateau.drops:
            if self.wait < self.plateau.looks:
                return "go on"
            self.wait, self.drops = 0, self.drops + 1
            return "drop"
        return "stop" if self.wait >= self.patience and not first else "go on"


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' EarlyStopping that looks at averaged weights too, and divides the rate on a plateau.

    Where the model averages its weights, each epoch is judged with both. The metrics of the averages are reported as
    `averaged_val_…`, and the better of the two counts: for the best epoch, for stopping, and as the weights that are
    restored at the end; averaging begins anew behind it. On a plateau the training goes on from where the best epoch
    ended, its weights, its averages and its optimizer's state, at a rate that is divided by the plateau's factor.

    Args:
        monitor: What is judged by, a validation metric.
        mode: `"max"` where more of it is better, else `"min"`.
        patience: Epochs without a better score after which the training stops.
        plateau: When the rate is divided; None leaves it as it is.
        valid: The validation batches, for the averages.
        calibration: Training batches that the statistics of BatchNorm are taken over anew for the averages, as long as
            fewer than three passes have been made; without any they are those averaged.
    """

    best: Any
    wait: int
    best_weights: Any

    def __init__(
        self,
        monitor: str,
        *,
        mode: str,
        patience: int,
        plateau: Plateau | None = None,
        valid: Any = None,
        calibration: Iterable[Any] = (),
    ) -> None:
        super().__init__(monitor, mode=mode, patience=patience, restore_best_weights=True)
        self.plateau = plateau
        self._valid, self._calibration = valid, calibration
        self.best_state: list[np.ndarray] = []  # what a plateau goes back to

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.drops = 0
        self.best_state = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        score, averaged = self.get_monitor_value(logs), None
        if score is None:
            return
        if (averages := averages_of(self.model)) is not None:
            with averages.in_place(self._calibration if epoch + 1 < PASSES else ()):
                found = self.model.evaluate(self._valid, verbose=0, return_dict=True)
                other = found[self.monitor.removeprefix("val_")]
                if np.isnan(score) or self.monitor_op(other, score):
                    score, averaged = other, self.model.get_weights()
            logs.update({f"averaged_val_{name}": value for name, value in found.items()})
        sign = 1 if self.monitor_op is np.greater else -1
        looks = Looks(self.patience, sign, self.plateau, best=self.best, wait=self.wait, drops=self.drops)
        action = follow(self.model, looks, score, self.best_state, first=epoch == 0)
        self.best, self.wait, self.drops = looks.best, looks.wait, looks.drops
        if action == "better" or self.best_weights is None:  # the first epoch's are kept whatever their score
            self.best_epoch = epoch
            self.best_weights = self.model.get_weights() if averaged is None else averaged
        if action == "stop":
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.best_weights is not None:
            self.restore()

    def restore(self) -> None:
        """Gives the model its best weights."""
        restore(self.model, self.best_weights)

    @property
    def kept(self) -> list[np.ndarray]:
        """All that is kept of the best epoch; empty before there is one."""
        return [*(self.best_weights or ()), *self.best_state]

    @kept.setter
    def kept(self, arrays: Sequence[np.ndarray] | None) -> None:
        count = len(self.model.weights)
        self.best_weights = arrays and list(arrays[:count])
        self.best_state = list(arrays or ())[count:]


def best_epoch(history: Mapping[str, Sequence[float]], monitor: str, mode: str) -> tuple[int, bool]:
    """Returns which epoch of a training `EarlyStopping` kept, from 0, and whether its weights are the averages.

    Args:
        history: The value of each metric, epoch by epoch.
        monitor: What it was judged by.
        mode: `"max"` where more of it is better, else `"min"`.

    Example:
        >>> best_epoch({"val_auc": [0.6, 0.7], "averaged_val_auc": [0.8, 0.5]}, "val_auc", "max")
        (0, True)
    """
    sign = 1 if mode == "max" else -1
    kinds = [history[name] for name in (monitor, f"averaged_{monitor}") if name in history]
    scores = sign * np.array(kinds, np.float64)
    scores[np.isnan(scores)] = -np.inf  # which is never better
    epoch = int(np.argmax(scores.max(axis=0)))
    return epoch, bool(np.argmax(scores[:, epoch]))


def check_rate(model: Any) -> None:
    """Raises ValueError where a model's rate cannot be divided, for it follows a schedule."""
    optimizer = inner_optimizer(model.optimizer)
    if isinstance(optimizer.get_config().get("learning_rate"), Mapping):
        raise ValueError(
            f"A plateau divides a constant rate; received a {type(optimizer).__name__} whose rate follows a schedule. "
            "Give it a number."
        )


def follow(model: Any, looks: Looks, score: float, state: list[np.ndarray], *, first: bool = False) -> Action:
    """Counts a look at a model; keeps, for a plateau, the state that it goes back to, and goes back to it.

    Args:
        model: The model, with the weights that it trains on with.
        looks: The looks before.
        score: What was seen.
        state: The state behind the best look, which this keeps; empty before there is one.
        first: Whether it is the first look of a training.

    Returns:
        What follows; a rate that is to be divided has been.
    """
    action = looks.look(score, first=first)
    if looks.plateau is None:
        return action
    if action == "better":
        state[:] = [variable.numpy() for variable in _state(model)]
    elif action == "drop":
        rate = inner_optimizer(model.optimizer).learning_rate
        divided = rate.numpy() / looks.plateau.factor
        if state:
            for variable, value in zip(_state(model), state, strict=True):
                variable.assign(value)
        rate.assign(divided)
    return action


def learned(model: Any) -> dict[str, list[Any]]:
    """Returns what a model has learned: its weights, their averages, and all variables of the optimizer.

    Args:
        model: A compiled model.
    """
    optimizer = inner_optimizer(model.optimizer)
    averages = averages_of(model)
    return {
        "weights": list(model.variables),
        "optimizer": [*optimizer.variables, *unlisted(optimizer).values()],
        "scale": list(getattr(model, "scale_state", {}).values()),
        "averages": [] if averages is None else averages.variables,
    }


def _state(model: Any) -> list[Any]:
    """What a plateau goes back to."""
    return [variable for listed in learned(model).values() for variable in listed]


def restore(model: Any, weights: Any) -> None:
    """Gives a model weights that it had; averaging begins anew with them."""
    model.set_weights(weights)
    if (averages := averages_of(model)) is not None:
        averages.reset()


def calibration(part: EncodedPart, batch_size: int, seed: int) -> tf.data.Dataset:
    """Returns training batches for the statistics of BatchNorm, the same for each seed.

    Args:
        part: The training rows.
        batch_size: Rows of a training step.
        seed: Seed of which rows.
    """
    rows = np.random.default_rng(seed).permutation(len(part))[: BATCHES * batch_size]
    return batches(part.take(rows).columns, None, None, batch_size=batch_size, shuffle=False, seed=seed)
