"""The last checkpoints of a training in a folder: each written whole or not at all, and verified when it is read."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.features.statistics import today
from nfm_tfrs.runs.files import remove, write_text, writing
from nfm_tfrs.written import first_line, read, read_file, read_object

_FORMAT = 1  # to be raised with each change of what is written here, or of what it means
_NAME = re.compile(r"(step|best)-\d{12}")
_LEFT = re.compile(r"\.((step|best)-\d{12}|starts\.json)\.(unfinished|replaced)-[0-9a-f]+(\.json)?")
_STATE = "state"
_STARTS = "starts.json"
_FILES = "checkpoint"  # how the names of TensorFlow's files begin
_SHOWN = 60  # characters of a setting in a message
# What this version adds where an earlier one began a training that it cannot go on with.
_CHANGED = {
    "training.rate_rows": "the rate of an Adagrad grows with the rows of a step now",
    "training.passes": "a schedule falls over the passes of its own training now",
}
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # how TensorFlow names a variable's value in its checkpoints


class _Foreign(ValueError):
    """Another version of this package wrote a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where and how often a training writes down where it is, to go on from there after whatever ended it.

    Without minutes and steps, as often as keeps the time of writing below a fiftieth of the training's.

    Args:
        folder: Where they lie, made if it is not there; one training's alone.
        minutes: Minutes between two checkpoints.
        steps: Training steps between two checkpoints.
        keep: How many are kept, the last ones.
        settings: What else the training depends on, plain JSON types by name; a checkpoint of others is refused.

    Raises:
        ValueError: Minutes, steps or a number to keep that are not above 0, or both minutes and steps.

    Example:
        >>> Checkpoints(folder=Path("checkpoints"), minutes=10).keep
        2
    """

    folder: Path
    minutes: float | None = None
    steps: int | None = None
    keep: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if self.minutes is not None and self.steps is not None:
            raise ValueError(
                "minutes and steps both say how often a checkpoint is written; received "
                f"{self.minutes!r} and {self.steps!r}. Give one of them."
            )
        if self.minutes is not None:
            arguments.positive("minutes", self.minutes)
        if self.steps is not None:
            arguments.count("steps", self.steps)
        arguments.count("keep", self.keep)

    def of_member(self, number: int) -> "Checkpoints":
        """Returns those of one of several trainings, in a folder below.

        Args:
            number: Which one, counted from 0.
        """
        return replace(self, folder=self.folder / f"member-{number + 1}")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training was, beside its numbers.

    Args:
        settings: What the training depends on, plain JSON types by name.
        epoch: Passes over the rows that were behind it.
        step: Batches of the pass that were behind it.
        steps: Batches of a pass.
        epochs: Passes at most.
        history: The value of each metric, epoch by epoch.
        callbacks: Numbers of each callback by attribute, by the callback's place and class.
        best: Name of the folder beside this one with the weights of the best epoch; None before there is one.
        logs: Bytes of each log file, by its path in the logs' folder.
    """

    settings: Mapping[str, Any]
    epoch: int
    step: int
    steps: int
    epochs: int
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    callbacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    best: str | None = None
    logs: Mapping[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Steps that were behind it, of all passes."""
        return self.epoch * self.steps + self.step

    @property
    def total(self) -> int:
        """Steps of all passes, where nothing stops the training early."""
        return self.epochs * self.steps

    def to_json(self) -> str:
        """Returns this as text; numbers come back to the bit."""
        return json.dumps({"format": _FORMAT, **vars(self)})

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """Returns what `to_json` wrote.

        Raises:
            KeyError: Something is not there.
            TypeError: Something is not of its type.
            ValueError: It is no JSON, or another version wrote it.
        """
        written = read_object(json.loads(text))
        if read(written, "format", int) != _FORMAT:
            raise _Foreign("was written by another version of nfm-tfrs")
        return cls(
            settings=read(written, "settings", Mapping),
            epoch=read(written, "epoch", int),
            step=read(written, "step", int),
            steps=read(written, "steps", int),
            epochs=read(written, "epochs", int),
            history=read(written, "history", Mapping),
            callbacks=read(written, "callbacks", Mapping),
            best=read(written, "best", str | None),
            logs=read(written, "logs", Mapping),
        )


class Checkpoint:
    """One checkpoint, read whole once, so that what is damaged is found before anything is taken from it.

    Args:
        path: Its folder.

    Attributes:
        progress: Where the training was.

    Raises:
        Exception: It is damaged; of such files TensorFlow raises anything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _whole(path)
        self.progress = _progress(self._reader)
        self._best = None if self.progress.best is None else _whole(path.with_name(self.progress.best))

    def load(self, variables: Mapping[str, Sequence[Any]]) -> None:
        """Gives variables the values that they had.

        Args:
            variables: As they were given to `write_checkpoint`.

        Raises:
            ValueError: They are others than those that were written.
        """
        shapes = self._reader.get_variable_to_shape_map()
        for name, listed in variables.items():
            wanted = {f"{name}/{number}{_VALUE}": list(variable.shape) for number, variable in enumerate(listed)}
            found = {key: shape for key, shape in shapes.items() if key.startswith(f"{name}/")}
            if wanted != found:
                raise ValueError(
                    f"The checkpoint {self.path} holds other {name} than this training's: another version wrote it. "
                    "Remove its folder to start anew."
                )
            for key, variable in zip(wanted, listed, strict=True):
                variable.assign(self._reader.get_tensor(key))

    def best_weights(self) -> list[Any] | None:
        """Returns the weights of the best epoch, arrays; None before there is one."""
        if self._best is None:
            return None
        count = len(self._best.get_variable_to_shape_map()) - 1  # TensorFlow's own entry beside them
        return [self._best.get_tensor(f"weights/{number}{_VALUE}") for number in range(count)]

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that it is of the training that is to go on.

        Args:
            settings: What that one depends on; what only one of the two knows is not compared.

        Raises:
            ValueError: Something differs.
        """
        if (difference := differing(self.progress.settings, settings)) is not None:
            name, was, now = difference
            raise ValueError(
                f"The checkpoints in {self.path.parent} are of another training, whose {name} was {was}; "
                f"received {now}. {remedy(name, was)}, or remove the folder to start anew."
            )


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Returns the first setting that two trainings do not share: its name, and both values in words; None without.

    Args:
        before: Settings, plain JSON types by name; settings inside them have names with dots between.
        now: The other's. What only one of the two has is not compared, but inside a setting of both counts as None.
    """
    both = before.keys() & now.keys()
    one, other = (_flat({name: settings[name] for name in both}) for settings in (before, now))
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            return (name, *_apart(repr(one.get(name)), repr(other.get(name))))
    return None


def remedy(name: str, was: str) -> str:
    """Returns what there is to do where a setting differs, but for starting anew.

    Args:
        name: The setting's name, as `differing` returns it.
        was: What it was, in words.
    """
    why = _CHANGED.get(name.removeprefix("recipe.")) if was == "None" else None
    return "Give what it had" if why is None else f"An earlier version began it, and {why}. Pass --overwrite"


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """Returns the last whole checkpoint of a folder; None where there is none.

    Those behind it that are damaged are passed over, with a warning, and removed.

    Args:
        folder: The folder.

    Raises:
        OSError: One cannot be read.
        ValueError: There are some, and none of them is whole, or another version of this package wrote one.
    """
    damaged: list[Path] = []
    for path in reversed(_written(folder, "step")):
        try:
            found = Checkpoint(path)
        except _Foreign as error:
            raise ValueError(f"The checkpoint {path} {error}. Install that one, or remove the folder.") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(f"The checkpoint {path} cannot be read: {why}. Make it readable, or remove it.") from error
        except Exception as error:  # noqa: BLE001 - of a damaged file TensorFlow raises anything
            warnings.warn(f"The checkpoint {path} is damaged and passed over: {first_line(error):.200}.", stacklevel=2)
            damaged.append(path)
            continue
        for path in damaged:
            remove(path)
        return found
    if damaged:
        raise ValueError(f"None of the checkpoints in {folder} is whole. Remove the folder to start anew.")
    return None


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What is noted of a training each time that it starts.

    Args:
        day: The day of the first start, in days since 1970-01-01.
        resumed: At which steps it went on, counted from the first pass on.
        logs: Bytes of each log file that was there when it began, by its path in the logs' folder.
        of: Hash of the settings of `Checkpoints`.
    """

    day: int
    of: str
    resumed: tuple[int, ...] = ()
    logs: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def noted(cls, checkpoints: Checkpoints, logs: Mapping[str, int] | None = None) -> "Starts":
        """Returns what is noted of a training; of one that starts for the first time that it does so today.

        Args:
            checkpoints: Those of the training.
            logs: Bytes of each log file that is there, where the training starts for the first time.
        """
        written = json.dumps(checkpoints.settings, sort_keys=True, default=plain)
        of = hashlib.sha256(written.encode()).hexdigest()
        found = cls._read(checkpoints.folder)
        return found if found is not None and found.of == of else cls(day=today(), of=of, logs=logs or {})

    @classmethod
    def _read(cls, folder: Path) -> "Starts | None":
        try:
            written = read_file(folder / _STARTS)
            resumed = tuple(int(step) for step in read(written, "resumed", list))
            day, of = read(written, "day", int), read(written, "of", str)
            return cls(day=day, of=of, resumed=resumed, logs=read(written, "logs", Mapping))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, folder: Path) -> None:
        """Writes this into a folder of checkpoints, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _STARTS, json.dumps(vars(self)))


def start_anew(folder: Path, *, keep: Sequence[str] = ()) -> None:
    """Removes the checkpoints and the logs of a training from their folder; what is noted of its starts stays.

    Args:
        folder: The folder, one that holds nothing else.
        keep: Names in the folder that stay too.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in (_STARTS, *keep):
            remove(path)


def plain(value: Any) -> Any:
    """Returns a number of NumPy as Python has it, for JSON."""
    return value.item()


def clear(folder: Path) -> None:
    """Removes what killed processes have not finished writing in a folder of checkpoints."""
    for path in folder.glob(".*"):
        if _LEFT.fullmatch(path.name):  # the folder may hold anything else of the user's
            remove(path)


def write_checkpoint(checkpoints: Checkpoints, progress: Progress, variables: Mapping[str, Sequence[Any]]) -> None:
    """Writes a checkpoint, and then removes what is no longer needed.

    Args:
        checkpoints: Where, and how many are kept.
        progress: Where the training is.
        variables: Its variables, by what they are.

    Raises:
        FullDiskError: The disk is full; the checkpoints before stay.
        OSError: It cannot be written.
    """
    from nfm_tfrs.keras_compat import tf  # here, as below: settings are told without TensorFlow

    _write(checkpoints.folder / f"step-{progress.done:012d}", {**variables, _STATE: tf.Variable(progress.to_json())})
    written = _written(checkpoints.folder, "step")
    kept = written[-checkpoints.keep :]
    needed = {_best_of(path) for path in kept}
    for path in [*written, *_written(checkpoints.folder, "best")]:
        if path not in kept and path.name not in needed:
            with suppress(OSError):  # of systems that remove no open file
                remove(path)


def write_best(checkpoints: Checkpoints, epoch: int, weights: Sequence[Any]) -> str:
    """Writes the weights of the best epoch, and returns the name of their folder beside the checkpoints.

    Args:
        checkpoints: Where.
        epoch: Number of the epoch, counted from 0.
        weights: Variables that hold them.

    Raises:
        FullDiskError: The disk is full; what was written before stays.
        OSError: It cannot be written.
    """
    name = f"best-{epoch:012d}"
    _write(checkpoints.folder / name, {"weights": weights})
    return name


def _write(path: Path, variables: Mapping[str, Any]) -> None:
    from nfm_tfrs.keras_compat import tf

    with writing(path, overwrite=True) as unfinished:
        unfinished.mkdir()
        tf.train.Checkpoint(**variables).write(str(unfinished / _FILES))


def _written(folder: Path, kind: str) -> list[Path]:
    """The folders of a kind, the oldest first; unfinished ones have other names."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _NAME.fullmatch(path.name) and path.name.startswith(kind))


def _whole(path: Path) -> Any:
    """TensorFlow's reader of a checkpoint all of whose values have the checksums that they were written with."""
    from nfm_tfrs.keras_compat import tf

    for file in path.iterdir():
        file.open("rb").close()  # what may not be read is not damaged, of which TensorFlow's errors do not tell
    reader = tf.train.load_checkpoint(str(path / _FILES))
    for key in reader.get_variable_to_shape_map():
        reader.get_tensor(key)
    return reader


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two texts, shortened to where they begin to differ."""
    alike = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(alike - 20, 0) if max(len(one), len(other)) > _SHOWN else 0
    return tuple(("…" if start else "") + f"{text[start:]:.{_SHOWN}}" for text in (one, other))  # type: ignore[return-value]


def _progress(reader: Any) -> Progress:
    return Progress.from_json(reader.get_tensor(_STATE + _VALUE).decode())


def _best_of(path: Path) -> str | None:
    """The name of the best weights' folder that a checkpoint needs; None of one that is damaged."""
    from nfm_tfrs.keras_compat import tf

    try:
        return _progress(tf.train.load_checkpoint(str(path / _FILES))).best
    except Exception:  # noqa: BLE001 - of a damaged file TensorFlow raises anything
        return None


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings inside settings as one dict, by their names with dots between."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return found
