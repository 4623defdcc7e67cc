"""A training that writes down where it is, and goes on from there, bit for bit, after whatever ended it."""

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.keras_compat import keras, private, tf
from nfm_tfrs.runs.checkpoint import (
    Checkpoint,
    Checkpoints,
    Progress,
    Starts,
    clear,
    last_checkpoint,
    plain,
    write_best,
    write_checkpoint,
)
from nfm_tfrs.runs.files import remove
from nfm_tfrs.training.stopping import learned
from nfm_tfrs.written import first_line

_SHARE = 50  # of the time, that writing may take one of
_BYTES_A_SECOND = 500e6  # guessed before the first is written, whose time then counts


class Course:
    """A training with checkpoints: where it begins, and what they are of.

    Args:
        checkpoints: Where and how often they are written.
        settings: What the training depends on, plain JSON types by name.
        steps: Batches of a pass.
        epochs: Passes at most.
        logs: The folder of TensorBoard's logs; None without.

    Attributes:
        start: The batch that it begins with.
        day: The day on which it was started first, in days since 1970-01-01.
        resumed: At which steps it went on, counted from the first pass on; the last one is the start, where it does.
        found: The checkpoint that it goes on from; None where it starts, and once it has gone on.

    Raises:
        OSError: Nothing can be written into the folder, or a checkpoint cannot be read.
        ValueError: The folder's checkpoints are of another training, or none of them is whole.
    """

    def __init__(
        self, checkpoints: Checkpoints, settings: Mapping[str, Any], *, steps: int, epochs: int, logs: Path | None
    ) -> None:
        self.checkpoints, self.logs = checkpoints, logs
        self.settings: Mapping[str, Any] = json.loads(
            json.dumps({**settings, **checkpoints.settings, "steps": steps}, default=plain)
        )
        self.steps, self.epochs = steps, epochs
        folder = checkpoints.folder
        self.found: Checkpoint | None = last_checkpoint(folder)
        starts = Starts.noted(checkpoints, logs=_sizes(logs, ()))
        self.start = Position()
        if self.found is not None:
            self.found.check(self.settings)
            progress = self.found.progress
            self.start = Position(progress.epoch, progress.step)
            starts = replace(starts, resumed=(*starts.resumed, progress.done))
        starts.write(folder)
        clear(folder)
        self.day, self.resumed = starts.day, starts.resumed
        _cut_logs(logs, starts.logs if self.found is None else self.found.progress.logs)

    def followed_by(self, callbacks: Sequence[Any], stopping: Any) -> list[Any]:
        """Returns the callbacks of `fit`, and behind them those that keep the history and write the checkpoints.

        Args:
            callbacks: All others.
            stopping: The one among them that stops early.

        Raises:
            ValueError: The checkpoint that it goes on from was written beside other callbacks, or one of these restores
                weights that no checkpoint holds.
        """
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.EarlyStopping) and callback is not stopping:
                raise ValueError(
                    "With checkpoints a training stops early by itself; received an EarlyStopping of your own, whose "
                    "weights no checkpoint holds. Leave it out, and give patience."
                )
        names = [type(callback).__name__ for callback in callbacks]
        if self.found is not None:
            self.found.check({"callbacks": names})
        self.settings = {**self.settings, "callbacks": names}
        history = keras.callbacks.History()
        return [*callbacks, history, _Write(self, callbacks, stopping, history)]


class _Write(keras.callbacks.Callback):
    """Restores what a checkpoint holds when a training begins, and writes checkpoints from then on.

    Args:
        course: The training.
        callbacks: Those before this one, whose numbers are kept.
        stopping: The one among them that stops early.
        history: The one that keeps the metrics of each epoch.
    """

    def __init__(self, course: Course, callbacks: Sequence[Any], stopping: Any, history: Any) -> None:
        super().__init__()
        self._course, self._checkpoints = course, course.checkpoints
        self._callbacks, self._stopping, self._history = callbacks, stopping, history
        self._epoch = course.start.epoch
        self._best: tuple[int, str] | None = None  # the best epoch that was written, and under which name
        self._began: dict[str, dict[str, Any]] = {}  # the numbers of the others when a training begins
        self._left_inside = False  # a pass
        self._written = self._done(course.start.epoch, course.start.step)
        self._at, self._wait = 0.0, 0.0
        private.leave_logs(self)

    def on_train_begin(self, logs: Any = None) -> None:
        _warn_of_hidden_states(self.model)
        self._began = {name: _numbers(callback) for name, callback in self._named()}
        if (found := self._course.found) is not None:
            found.load(_variables(self.model))
            self._history.history = {name: list(values) for name, values in found.progress.history.items()}
            self._history.epoch = list(range(self._epoch))
            for name, callback in self._named():
                numbers = found.progress.callbacks.get(name, {})
                vars(callback).update({key: value for key, value in numbers.items() if key in vars(callback)})
            if found.progress.best is not None:
                self._stopping.kept = found.best_weights()
                self._best = (self._stopping.best_epoch, found.progress.best)
        size = sum(variable.shape.num_elements() * variable.dtype.size for variable in _flat(_variables(self.model)))
        self._at, self._wait = time.monotonic(), self._interval(0.01 + size / _BYTES_A_SECOND)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._course.found is not None and epoch == self._course.start.epoch and self._course.start.step:
            self._course.found.load(_metrics(self.model))  # behind Keras, which sets them to 0
        self._course.found = None  # and let go of its files
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = batch + 1
        if step == self._course.steps:
            return  # before its validation an epoch is not to be entered behind its last step
        self._left_inside = self.model.stop_training
        if self._interrupted if self._left_inside else self._is_due(self._epoch, step):
            self._write(self._epoch, step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._left_inside or epoch + 1 == self._course.epochs:
            return
        # A training that anything but an interruption has stopped is over.
        if self._interrupted if self.model.stop_training else self._is_due(epoch + 1, 0):
            self._write(epoch + 1, 0)

    @property
    def _interrupted(self) -> bool:
        """Whether one of the callbacks says that it has stopped what is to go on."""
        return any(getattr(callback, "interrupted", False) for callback in self._callbacks)

    def _done(self, epoch: int, step: int) -> int:
        return epoch * self._course.steps + step

    def _interval(self, seconds: float) -> float:
        """Seconds from one checkpoint to the next, of which each takes so many to write."""
        minutes = self._checkpoints.minutes
        return _SHARE * seconds if minutes is None else 60 * minutes

    def _is_due(self, epoch: int, step: int) -> bool:
        if self._checkpoints.steps is not None:
            return self._done(epoch, step) - self._written >= self._checkpoints.steps
        return time.monotonic() - self._at >= self._wait

    def _write(self, epoch: int, step: int) -> None:
        begun = time.monotonic()
        try:
            write_checkpoint(
                self._checkpoints, self._progress(epoch, step), {**_variables(self.model), **_metrics(self.model)}
            )
        except (OSError, tf.errors.OpError) as error:  # a training is worth more than a checkpoint
            why = first_line(error)
            if isinstance(error, tf.errors.OpError):  # whose words name the operation and the file it began
                why = f"{self._checkpoints.folder} cannot be written: {why.rpartition('; ')[2].partition(' [Op:')[0]}"
            warnings.warn(f"No checkpoint was written, and the training goes on: {why}.", stacklevel=2)
        self._written, self._at = self._done(epoch, step), time.monotonic()
        self._wait = self._interval(self._at - begun)

    def _progress(self, epoch: int, step: int) -> Progress:
        stopping, course = self._stopping, self._course
        if stopping.best_weights is not None and (self._best is None or self._best[0] != stopping.best_epoch):
            with tf.device("CPU:0"):
                weights = [tf.Variable(values) for values in stopping.kept]
            self._best = (stopping.best_epoch, write_best(self._checkpoints, stopping.best_epoch, weights))
        return Progress(
            settings=course.settings,
            epoch=epoch,
            step=step,
            steps=course.steps,
            epochs=course.epochs,
            history=_plain(self._history.history),
            callbacks={name: self._changed(name, callback) for name, callback in self._named()},
            best=None if self._best is None else self._best[1],
            logs=_sizes(course.logs, self._callbacks),
        )

    def _changed(self, name: str, callback: Any) -> dict[str, Any]:
        """The numbers of a callback that are no settings: others than when the training began."""
        began = self._began[name]
        return {key: value for key, value in _numbers(callback).items() if began.get(key) != value}

    def _named(self) -> Iterable[tuple[str, Any]]:
        """The other callbacks, each by a name of its own."""
        return ((f"{number} {type(callback).__name__}", callback) for number, callback in enumerate(self._callbacks))


def _warn_of_hidden_states(model: Any) -> None:
    drawing = sorted({layer.name for layer in private.random_layers(model)})
    if drawing:
        warnings.warn(
            f"A training that goes on draws other random numbers in {', '.join(drawing)}: their state cannot be read. "
            "Take nfm_tfrs.blocks.dropout.Dropout in blocks of your own.",
            stacklevel=2,
        )


def _variables(model: Any) -> dict[str, list[Any]]:
    """What a training step reads and moves, but for the metrics, which an epoch begins anew."""
    return {
        **learned(model),
        "dropout": [part.dropout_state for part in model.submodules if isinstance(part, Dropout) and part.built],
        "taken": [private.steps_taken(model)],
    }


def _metrics(model: Any) -> dict[str, list[Any]]:
    return {"metrics": [variable for metric in model.metrics for variable in metric.variables]}


def _flat(variables: Mapping[str, Sequence[Any]]) -> list[Any]:
    return [variable for listed in variables.values() for variable in listed]


def _numbers(callback: Any) -> dict[str, Any]:
    """The numbers that a callback keeps: what it has counted, and the best that it has seen."""
    numbers = (bool, int, float, np.generic)
    return {name: _plain(value) for name, value in vars(callback).items() if isinstance(value, numbers)}


def _plain(value: Any) -> Any:
    """A value with Python's numbers for NumPy's, of the same bits."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _sizes(logs: Path | None, callbacks: Sequence[Any]) -> dict[str, int]:
    """Bytes of each log file, once all that was logged is in it."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            for writer in private.log_writers(callback):
                writer.flush()
    return {name: path.stat().st_size for name, path in _log_files(logs).items()}


def _cut_logs(logs: Path | None, sizes: Mapping[str, int]) -> None:
    """Takes from the logs what was written behind a checkpoint: the same steps are about to be logged again."""
    for name, path in _log_files(logs).items():
        if name not in sizes:
            remove(path)
        elif path.stat().st_size > sizes[name]:
            with path.open("r+b") as file:
                file.truncate(sizes[name])


def _log_files(logs: Path | None) -> dict[str, Path]:
    """TensorBoard's files, by their paths in the logs' folder."""
    if logs is None:
        return {}
    return {path.relative_to(logs).as_posix(): path for path in sorted(logs.rglob("events.out.tfevents.*"))}
