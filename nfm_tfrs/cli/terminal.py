"""What a person sees on the terminal: tables, and one line for each warning and error."""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nfm_tfrs.cli.remedies import in_options, of_command
from tfrs_registry import RegistryError

if TYPE_CHECKING:
    from nfm_tfrs.features.rates import Rates
    from nfm_tfrs.features.spec import FeatureSpec

# Names of columns and files are shown as they are: no [markup], no :emoji:.
console = Console(markup=False, emoji=False, highlight=False)


def show_warning(message: Warning | str, *_: Any) -> None:
    """A warning is one line on standard error, without the line of code that gave it."""
    _print_error(in_options(str(message)), "yellow")


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What a user can mend is one line on standard error and exit status 1, not a traceback; Ctrl-C is one and 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with of_command(command):
            run(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as error:
            _print_error("Interrupted.", "yellow")
            raise typer.Exit(130) from error
        except (ValueError, RegistryError, OSError, ImportError) as error:
            if os.environ.get("NFM_TFRS_TRACEBACK"):
                raise
            _print_error(in_options(str(error)), "red")
            raise typer.Exit(1) from error
        except Exception as error:
            if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's, which need not be imported here
                raise
            line = str(error).splitlines()[0]
            if "No space left" in line:
                _print_error(f"The disk is full: {line} Make room, and start again.", "red")
            else:
                _print_error(f"The memory does not suffice: {line} Make the model smaller.", "red")
            raise typer.Exit(1) from error

    return wrapped


def _print_error(line: str, style: str) -> None:
    stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    stderr.print(f"nfm-tfrs: {line}", style=style)


class TrainingProgress(Progress):
    """A bar of the epoch's steps and the best validation score so far; without a terminal, one line an epoch.

    Args:
        model: The model's registered name, for the line above the bar.
    """

    def __init__(self, model: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.model = model

    def callback(self) -> Any:
        """Returns the Keras callback that moves the bar; imports TensorFlow."""
        from nfm_tfrs.keras_compat import keras

        progress = self

        class Bar(keras.callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                self.monitor, mode = self.model.objective
                self.sign = 1 if mode == "max" else -1
                self.best: float | None = None
                self.bar = progress.add_task("epoch 1")
                print_lines(
                    [
                        f"{progress.model}: {self.model.count_params():,} parameters, "
                        f"{self.params['steps']:,} training steps an epoch."
                    ]
                )

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                best = "" if self.best is None else f"  best {self.monitor} {self.best:.4f}"
                progress.reset(self.bar, total=self.params["steps"], description=f"epoch {epoch + 1}{best}")

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                progress.update(self.bar, completed=batch + 1)  # an execution is several batches

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                found = logs or {}
                score = found[self.monitor]
                better = score == score and (self.best is None or self.sign * score > self.sign * self.best)
                self.best = score if better else self.best
                if progress.disable:
                    line = f"epoch {epoch + 1:>3}  loss {found['loss']:.4f}  {self.monitor} {score:.4f}"
                    print_lines([f"{line}  best so far" if better else line])

        return Bar()


class SearchProgress(Progress):
    """A line about a search: how much of its budget is used, the trial, the best score so far, and the time left.

    The time left counts the finalists too, each seed a whole training. Once the trials are over, it names the finalist
    that is trained. Without a terminal it is a line for each trial and finalist that begins.

    Args:
        trials: Configurations to try; None for no limit.
        minutes: Minutes of search; None for no limit.
        trainings: Whole trainings after the trials: finalists times seeds.
    """

    def __init__(self, trials: int | None, minutes: float | None, trainings: int = 0) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.trials = trials
        self.minutes = minutes
        self.trainings = trainings
        self.bar = self.add_task("search", total=1.0)
        self._said: Any = None
        self._finals: tuple[float, float] | None = None  # when they began, and the seconds that they should take

    def watch(self, oracle: Any, trial: Any, scores: Sequence[Any]) -> None:
        """Shows where a search is; `search` calls this."""
        del trial, scores
        trials, ended, best = oracle.progress()
        score = "" if best is None else f"  best {best:.4f}"
        finals = self.trainings * oracle.whole_seconds()
        if oracle.stage:
            self._finals = self._finals or (time.monotonic(), finals)
            started, expected = self._finals
            self._show(oracle.stage, 1.0, score, max(0.0, expected - (time.monotonic() - started)))
            return
        shares = [] if self.trials is None else [ended / self.trials]
        spent = oracle.time_spent
        shares += [] if self.minutes is None else [spent / 60 / self.minutes]
        done = min(1.0, max(shares))
        left = spent / done - spent + finals if done > 0 else None
        self._show(f"trial {trials}", done, score, left)

    def _show(self, what: str, done: float, score: str, left: float | None) -> None:
        ahead = "" if not left else f"  {left / 60:.0f} min left" if left >= 60 else f"  {left:.0f} s left"
        self.update(self.bar, completed=done, description=f"{what}{score}{ahead}")
        if self.disable and what != self._said:
            self._said = what
            print_lines([f"{what}{score}{ahead}"])


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Prints a table in columns of text, which a terminal of 80 columns, a log and `grep` take as they are.

    Args:
        title: The line above it; none if empty.
        headings: What each column is.
        rows: The cells, each row as long as the headings.
        left: How many of the first columns are words; the others are numbers, which end below each other.
    """
    table = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    print_lines([title] if title else [], lines)


def print_lines(*groups: Sequence[str]) -> None:
    """Prints lines as they are: rich takes a millisecond for one, and breaks the long ones."""
    console.file.write("\n".join(line for lines in groups for line in lines) + "\n")
    console.file.flush()


def print_features(features: "FeatureSpec") -> None:
    """Prints the features, one a line, cut where a terminal's line ends; a file's lines stay whole."""
    width = console.width if console.is_terminal else None
    print_lines(
        [
            line if width is None or len(line) <= width else f"{line[: width - 1]}…"
            for line in str(features).splitlines()
        ]
    )


def print_metrics(title: str, report: Mapping[str, float]) -> None:
    """Prints a table of metrics."""
    print_table(title, ("metric", "value"), [(name, f"{value:.4f}") for name, value in report.items()])


def print_constant(where: str, report: Mapping[str, float], constant: Mapping[str, float]) -> None:
    """Says what one prediction for all rows would have scored, and warns where the model is no better."""
    from nfm_tfrs.metrics.constant import no_better

    for name, value in constant.items():
        console.print(f"The training rows' mean for every row: {name} {value:.4f}.")
    if (sentence := no_better(report, constant)) is not None:
        show_warning(f"{where}: {sentence} Train longer, or give columns that tell the label.")


def print_rates(title: str, rates: "Sequence[Rates]") -> None:
    """Prints a table of missing and unknown values, feature by feature."""
    print_table(
        f"{title}: missing and unknown values",
        ("feature", "values", "missing", "unknown"),
        [(rate.name, f"{rate.values:,}", f"{rate.missing:.2%}", f"{rate.unknown:.2%}") for rate in rates],
    )
