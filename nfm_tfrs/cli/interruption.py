"""Ctrl-C and SIGTERM while a model trains: the training ends, and its best weights so far are kept."""

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from nfm_tfrs.runs.checkpoint import differing
from nfm_tfrs.runs.record import RunRecord


class Interruption:
    """Hears the first Ctrl-C or SIGTERM, and ends the training that its callback takes part in.

    A second one does as ever, so that nobody has to wait. A signal that the process was started to ignore, as a shell
    starts its background jobs, stays ignored.

    Attributes:
        number: The signal that was heard; None so far.
        ended: Whether it has ended a training, which would have gone on.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.ended = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # others hear no signals
            heard = (n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN)
            self._before = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _hear(self, number: int, frame: Any) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @property
    def status(self) -> int:
        """The exit status of a process that a signal ends."""
        return 128 + (self.number or 0)

    def leave(self) -> None:
        """Ends the command with the status of the signal, where one was heard."""
        if self.number is not None:
            raise typer.Exit(self.status)

    def callback(self, epochs: int | None = None) -> Any:
        """Returns the Keras callback that ends the training, after the last of all others; imports TensorFlow.

        Args:
            epochs: Epochs of the training, where it is of several calls of `fit`, which know but their own.
        """
        from nfm_tfrs.keras_compat import keras

        interruption = self

        class End(keras.callbacks.Callback):
            @property
            def interrupted(self) -> bool:
                return interruption.ended

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                if batch + 1 != self.params.get("steps"):  # else the epoch ends by itself
                    self._end()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch + 1 != (epochs or self.params.get("epochs")):
                    self._end()

            def _end(self) -> None:
                if interruption.number is not None and not self.model.stop_training:
                    self.model.stop_training = interruption.ended = True

        return End()


def interrupted_run(out: Path, command: str | None = None, settings: Mapping[str, Any] | None = None) -> bool:
    """Returns whether a folder holds a run that was interrupted, of the same command where one is given.

    Args:
        out: The folder.
        command: The command line.
        settings: What the command told, where other words for the same are the same command.
    """
    try:
        record = RunRecord.from_file(out / "run.json")
    except (OSError, ValueError):  # it is no run, which the check of the output says
        return False
    same = command in (None, record.command) or (settings is not None and differing(record.settings, settings) is None)
    return record.interrupted and same
