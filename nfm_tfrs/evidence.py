"""What was tried and measured, as frozen types with a versioned JSON form; standard library only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

FORMAT = 1  # of the JSON form; files of version 0.1.0 say none, and are read as this one

Direction = Literal["max", "min"]
Schedule = Literal["constant", "cosine"]
Rows = Literal["train", "train and validation"]
_NEEDED = object()  # instead of a default
Metrics = Mapping[str, float]  # by the metric's name; which there are depends on the task


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What candidates are compared by.

    Args:
        name: A validation metric, such as `"val_auc"`.
        direction: `"max"` where more of it is better, else `"min"`.
    """

    name: str
    direction: Direction

    @property
    def metric(self) -> str:
        """The metric's name without `val_`."""
        return self.name.removeprefix("val_")

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, else -1."""
        return 1 if self.direction == "max" else -1

    def to_json(self) -> dict[str, Any]:
        """Returns the objective as plain JSON types."""
        return {"name": self.name, "direction": self.direction}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Objective":
        """Returns the objective that `to_json` wrote."""
        return cls(name=_read(written, "name", str), direction=_choice(written, "direction", get_args(Direction)))


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A model and how it is trained: one candidate of a search, and what a `Recipe` trains.

    Args:
        model: The model's registered name.
        config: The model's constructor arguments, plain JSON types, without the precision.
        optimizer: `"lazyadagrad"`, `"lazyadam"` or a Keras optimizer's name; None for the model's default.
        optimizer_arguments: Further constructor arguments of the optimizer, by name.
        learning_rate: The optimizer's rate, or where a schedule begins; None for the optimizer's default.
        schedule: `"constant"`, or `"cosine"`: falling to 0 over the passes.
        batch_size: Rows of a training step.
        passes: Passes over the training rows, a fraction included; None where whoever trains decides.
        precision: The model's dtype policy; None for a model that has no such argument, and for the default.
        jit_compile: Whether XLA compiles the dense part; None leaves it to the model.
    """

    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    optimizer_arguments: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    schedule: Schedule = "constant"
    batch_size: int = 256
    passes: float | None = None
    precision: str | None = None
    jit_compile: bool | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All constructor arguments of the model, the precision among them, plain JSON types."""
        if self.precision is None:
            return dict(self.config)
        found: dict[str, Any] = {}
        for name, value in self.config.items():
            if name == "task":
                found["dtype"] = self.precision  # where files of version 0.1.0 have it
            found[name] = value
        return found | {"dtype": self.precision}

    @property
    def training(self) -> dict[str, Any]:
        """How the model is trained, plain JSON types, without what is left to a default."""
        training = {
            "optimizer": self.optimizer,
            "optimizer_arguments": dict(self.optimizer_arguments) or None,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "jit_compile": self.jit_compile,
            "batch_size": self.batch_size,
            "passes": self.passes,
        }
        return {name: value for name, value in training.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Returns `{"model": …, "training": {…}, "config": {…}}`, plain JSON types."""
        return {"model": self.model, "training": self.training, "config": self.arguments}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Configuration":
        """Returns the configuration that `to_json` wrote.

        Raises:
            KeyError: The model, its config or its training is not there.
            TypeError: One of these is not of its type.
        """
        training, config = _read(written, "training", Mapping), _read(written, "config", Mapping)
        return cls(
            model=_read(written, "model", str),
            precision=_read(config, "dtype", str | None, None),
            config={name: value for name, value in config.items() if name != "dtype"},
            optimizer=_read(training, "optimizer", str | None, None),
            optimizer_arguments=_read(training, "optimizer_arguments", Mapping, {}),
            learning_rate=_read(training, "learning_rate", float | int | None, None),
            schedule=_choice(training, "schedule", get_args(Schedule), "constant"),
            batch_size=_read(training, "batch_size", int, 256),
            passes=_read(training, "passes", float | int | None, None),
            jit_compile=_read_jit(training),
        )


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial of a search.

    Args:
        id: The trial's number, as text.
        parent: The trial that it went on from; None for a first one.
        status: `"COMPLETED"`, `"FAILED"`, …, as KerasTuner calls it.
        message: Why it failed, in one line.
        values: The values of the hyperparameters, by their names.
        candidate: The model and training that these values make.
        start: Number of the slice it began with.
        end: Number of the slice it was to end before.
        score: The trial's best value of the objective; None without one.
        scores: Validation metrics after each slice, from the first, those of its parents included.
    """

    id: str
    parent: str | None
    status: str
    message: str | None
    values: Mapping[str, Any]
    candidate: Configuration
    start: int | None
    end: int | None
    score: float | None
    scores: tuple[Metrics, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the trial as plain JSON types."""
        return {
            "id": self.id,
            "parent": self.parent,
            "status": self.status,
            "message": self.message,
            "values": dict(self.values),
            "candidate": self.candidate.to_json(),
            "start": self.start,
            "end": self.end,
            "score": _finite(self.score),
            "scores": [_metrics(scores) for scores in self.scores],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "TrialRecord":
        """Returns the trial that `to_json` wrote."""
        return cls(
            id=_read(written, "id", str),
            parent=_read(written, "parent", str | None),
            status=_read(written, "status", str),
            message=_read(written, "message", str | None),
            values=_read(written, "values", Mapping),
            candidate=Configuration.from_json(_read(written, "candidate", Mapping)),
            start=_read(written, "start", int | None),
            end=_read(written, "end", int | None),
            score=_read(written, "score", float | int | None),
            scores=tuple(map(_read_metrics, _read(written, "scores", list))),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One whole training of a finalist.

    Args:
        seed: Seed of its weights, dropout and order of rows.
        slice: Number of slices of its best weights.
        metrics: Validation metrics of these weights.
        file: The file of its predictions for the validation rows.
    """

    seed: int
    slice: int
    metrics: Metrics
    file: str

    def to_json(self) -> dict[str, Any]:
        """Returns the run as plain JSON types."""
        return {"seed": self.seed, "slice": self.slice, "metrics": _metrics(self.metrics), "file": self.file}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Run":
        """Returns the run that `to_json` wrote."""
        return cls(
            seed=_read(written, "seed", int),
            slice=_read(written, "slice", int),
            metrics=_read_metrics(_read(written, "metrics", Mapping)),
            file=_read(written, "file", str),
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric, or how much higher it is than another's, with its 95 % interval over rows.

    Args:
        mean: The value over the rows themselves.
        low: Lower end of the interval; NaN where no resample has a value.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Returns the difference as plain JSON types."""
        return {"mean": _finite(self.mean), "interval": [_finite(self.low), _finite(self.high)]}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Difference":
        """Returns the difference that `to_json` wrote."""
        low, high = _read_interval(written)
        return cls(mean=_number(_read(written, "mean", float | int | None)), low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration that was trained again as a whole, with several seeds.

    Args:
        trial: The trial it comes from.
        candidate: The model and its training.
        runs: The trainings that ended well, one a seed.
        diverged: Seeds whose training diverged.
        mean: Mean of the objective over the runs; None without one.
        sd: Standard deviation over the runs; None of fewer than two.
        difference: The first finalist's objective less than this one's by so much; None of the first itself.
    """

    trial: str
    candidate: Configuration
    runs: tuple[Run, ...]
    diverged: tuple[int, ...]
    mean: float | None
    sd: float | None
    difference: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the finalist as plain JSON types."""
        return {
            "trial": self.trial,
            "candidate": self.candidate.to_json(),
            "runs": [run.to_json() for run in self.runs],
            "diverged": list(self.diverged),
            "mean": _finite(self.mean),
            "sd": _finite(self.sd),
            "difference": None if self.difference is None else self.difference.to_json(),
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Finalist":
        """Returns the finalist that `to_json` wrote."""
        difference = _read(written, "difference", Mapping | None)
        return cls(
            trial=_read(written, "trial", str),
            candidate=Configuration.from_json(_read(written, "candidate", Mapping)),
            runs=tuple(map(Run.from_json, _read(written, "runs", list))),
            diverged=tuple(_read(written, "diverged", list)),
            mean=_read(written, "mean", float | int | None),
            sd=_read(written, "sd", float | int | None),
            difference=None if difference is None else Difference.from_json(difference),
        )


@dataclass(frozen=True, kw_only=True)
class Winner:
    """How the model that a search ends with was made.

    Args:
        seed: Seed of its weights, dropout and order of rows.
        slices: Slices it was trained for.
        rows: `"train"`, or `"train and validation"` where it was trained once more on both.
    """

    seed: int
    slices: int
    rows: Rows = "train"

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        return {"seed": self.seed, "slices": self.slices, "rows": self.rows}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Winner":
        """Returns what `to_json` wrote."""
        return cls(
            seed=_read(written, "seed", int),
            slices=_read(written, "slices", int),
            rows=_choice(written, "rows", get_args(Rows)),
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The metrics of the test rows, which are read once.

    Args:
        metrics: All of the task's metrics.
        low: Lower end of the 95 % interval of the objective over rows.
        high: Upper end of that interval.
    """

    metrics: Metrics
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        return {"metrics": _metrics(self.metrics), "interval": [_finite(self.low), _finite(self.high)]}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Judged":
        """Returns what `to_json` wrote."""
        low, high = _read_interval(written)
        return cls(metrics=_read_metrics(_read(written, "metrics", Mapping)), low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The rows that evidence is about.

    Args:
        train: Number of rows trained on.
        valid: Number of rows chosen on.
        test: Number of rows judged on; None where there were none.
        label: The label's text; None where nobody said it.
        split: How the rows were divided, as a person writes it; None where nobody said it.
        fingerprint: Hash of all rows, labels and weights trained and chosen on.
    """

    train: int
    valid: int
    test: int | None = None
    label: str | None = None
    split: str | None = None
    fingerprint: str = ""

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each part that there is."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: count for name, count in parts.items() if count is not None}

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        said = {"label": self.label, "split": self.split}
        said = {name: text for name, text in said.items() if text is not None}
        return {**said, "rows": self.rows, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Data":
        """Returns what `to_json` wrote."""
        rows = _read(written, "rows", Mapping)
        return cls(
            train=_read(rows, "train", int),
            valid=_read(rows, "valid", int),
            test=_read(rows, "test", int | None, None),
            label=_read(written, "label", str | None, None),
            split=_read(written, "split", str | None, None),
            fingerprint=_read(written, "fingerprint", str, ""),
        )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a search tried and measured, and what follows from it.

    Args:
        objective: What candidates were compared by.
        seed: Seed of the trials, of the finalists and of the order of rows.
        passes: Passes over the training rows in a whole training.
        slices: Slices of a whole training.
        seconds: Seconds of search, without the finalists.
        trials: Every trial, in the order of their beginning.
        finalists: The configurations that were trained again, the best first.
        diverged: Trials that were to be finalists and diverged with every seed.
        verdict: In a sentence, how sure one may be of the first finalist.
        winner: How the model was made.
        test: The metrics of the test rows; None where there were none.
        data: The rows.
        versions: Versions of the packages that took part, by name.
    """

    objective: Objective
    seed: int
    passes: float
    slices: int
    seconds: float
    trials: tuple[TrialRecord, ...]
    finalists: tuple[Finalist, ...]
    diverged: tuple[str, ...]
    verdict: str
    winner: Winner
    test: Judged | None
    data: Data
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Returns the evidence as plain JSON types, null for NaN."""
        return {
            "format": FORMAT,
            "objective": self.objective.to_json(),
            "seed": self.seed,
            "passes": self.passes,
            "slices": self.slices,
            "seconds": self.seconds,
            "trials": [trial.to_json() for trial in self.trials],
            "finalists": [finalist.to_json() for finalist in self.finalists],
            "diverged": list(self.diverged),
            "verdict": self.verdict,
            "model": self.winner.to_json(),
            "test": None if self.test is None else self.test.to_json(),
            "data": self.data.to_json(),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Evidence":
        """Returns the evidence that `to_json` wrote, of this version or an earlier one.

        Raises:
            ValueError: A newer version wrote it, or it is no evidence.
        """
        check_format(written, "evidence of a search")
        try:
            test = _read(written, "test", Mapping | None)
            return cls(
                objective=Objective.from_json(_read(written, "objective", Mapping)),
                seed=_read(written, "seed", int),
                passes=_read(written, "passes", float | int),
                slices=_read(written, "slices", int),
                seconds=_read(written, "seconds", float | int),
                trials=tuple(map(TrialRecord.from_json, _read(written, "trials", list))),
                finalists=tuple(map(Finalist.from_json, _read(written, "finalists", list))),
                diverged=tuple(_read(written, "diverged", list)),
                verdict=_read(written, "verdict", str),
                winner=Winner.from_json(_read(written, "model", Mapping)),
                test=None if test is None else Judged.from_json(test),
                data=Data.from_json(_read(written, "data", Mapping)),
                versions=_read(written, "versions", Mapping),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"This is no evidence of a search: {type(error).__name__} {error}. Give a search.json."
            ) from error


def check_format(written: Any, what: str) -> None:
    """Checks that something was written by this version or an earlier one.

    Args:
        written: What was read, as plain JSON types.
        what: What it should be, for the message.

    Raises:
        ValueError: It is no object, or a newer version wrote it.
    """
    if not isinstance(written, Mapping):
        raise ValueError(f"This is no {what}: an object is needed; received {type(written).__name__}.")
    number = written.get("format", FORMAT)
    if not isinstance(number, int) or number > FORMAT:
        raise ValueError(
            f"This {what} has format {number!r}, and this version of nfm-tfrs reads up to {FORMAT}. Install a newer "
            "nfm-tfrs."
        )


def _read(written: Any, name: str, kind: Any, default: Any = _NEEDED) -> Any:
    """A value of what was read, of a type or union of types.

    Raises:
        KeyError: It is not there, and has no default.
        TypeError: It has another type, or what was read is no object.
    """
    found = _object(written)
    value = found[name] if default is _NEEDED else found.get(name, default)
    if not isinstance(value, kind):
        raise TypeError(f"{name!r} is {type(value).__name__}")
    return value


def _object(written: Any) -> Mapping[str, Any]:
    if not isinstance(written, Mapping):
        raise TypeError(f"{written!r} is no object")
    return written


def _choice(written: Any, name: str, options: Sequence[str], default: Any = _NEEDED) -> Any:
    value = _read(written, name, str, default)
    if value not in options:
        raise TypeError(f"{name!r} is {value!r}")
    return value


def _read_jit(training: Mapping[str, Any]) -> bool | None:
    if training.get("jit_compile") == "auto":  # version 0.1.0 wrote what it was told
        return None
    jit: bool | None = _read(training, "jit_compile", bool | None, None)
    return jit


def _read_interval(written: Mapping[str, Any]) -> tuple[float, float]:
    ends = _read(written, "interval", list)
    if len(ends) != 2:
        raise TypeError(f"'interval' has {len(ends)} ends")
    for end in ends:
        if not isinstance(end, float | int | None):
            raise TypeError(f"{end!r} is no number")
    return _number(ends[0]), _number(ends[1])


def _metrics(metrics: Metrics) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in metrics.items()}


def _read_metrics(written: Any) -> dict[str, float]:
    return {name: _number(_read(written, name, float | int | None)) for name in _object(written)}


def _finite(value: float | None) -> float | None:
    """The value, None for NaN, which JSON does not know."""
    return None if value is None or math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
