"""What was tried and measured, as frozen types with a versioned JSON form; standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.written import FORMAT, check_format, finite, number, read, read_choice, read_object

Direction = Literal["max", "min"]
Rows = Literal["train", "train and validation"]
DEFAULT = "default"  # in place of a trial's number: the model that is trained without a search
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
        return cls(name=read(written, "name", str), direction=read_choice(written, "direction", get_args(Direction)))


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
            "score": finite(self.score),
            "scores": [_metrics(scores) for scores in self.scores],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "TrialRecord":
        """Returns the trial that `to_json` wrote."""
        return cls(
            id=read(written, "id", str),
            parent=read(written, "parent", str | None),
            status=read(written, "status", str),
            message=read(written, "message", str | None),
            values=read(written, "values", Mapping),
            candidate=Configuration.from_json(read(written, "candidate", Mapping)),
            start=read(written, "start", int | None),
            end=read(written, "end", int | None),
            score=read(written, "score", float | int | None),
            scores=tuple(map(_read_metrics, read(written, "scores", list))),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One whole training of a finalist.

    Args:
        seed: Seed of its weights, dropout and order of rows.
        slice: Number of slices of its best weights; of epochs, where it was trained as without a search.
        metrics: Validation metrics of these weights.
        file: The file of its predictions for the validation rows.
        trained: Number of slices, or of epochs, that it was trained for; None where nobody said it.
        averaged: Whether its best weights are the averages of the training's.
    """

    seed: int
    slice: int
    metrics: Metrics
    file: str
    trained: int | None = None
    averaged: bool = False

    @property
    def improving(self) -> bool:
        """Whether its last slice was its best, so that more of them may be better."""
        return self.slice == self.trained

    def to_json(self) -> dict[str, Any]:
        """Returns the run as plain JSON types."""
        further = {} if self.trained is None else {"trained": self.trained}
        further |= {"averaged": True} if self.averaged else {}
        return {"seed": self.seed, "slice": self.slice, "metrics": _metrics(self.metrics), "file": self.file} | further

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Run":
        """Returns the run that `to_json` wrote."""
        return cls(
            seed=read(written, "seed", int),
            slice=read(written, "slice", int),
            metrics=_read_metrics(read(written, "metrics", Mapping)),
            file=read(written, "file", str),
            trained=read(written, "trained", int | None, None),
            averaged=read(written, "averaged", bool, False),
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric, or how much higher it is than another's, with its 95 % interval over rows and, of several seeds, seeds.

    Args:
        mean: The value over the rows and seeds themselves.
        low: Lower end of the interval; NaN where no resample has a value.
        high: Upper end of the interval.
        over_seeds: Whether the interval counts the spread over seeds too; older searches counted that over rows alone.
    """

    mean: float
    low: float
    high: float
    over_seeds: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the difference as plain JSON types."""
        further = {"over_seeds": True} if self.over_seeds else {}
        return {"mean": finite(self.mean), "interval": [finite(self.low), finite(self.high)]} | further

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Difference":
        """Returns the difference that `to_json` wrote."""
        low, high = _read_interval(written)
        mean = number(read(written, "mean", float | int | None))
        return cls(mean=mean, low=low, high=high, over_seeds=read(written, "over_seeds", bool, False))


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration that was trained again as a whole, with several seeds.

    Args:
        trial: The trial it comes from; `"default"` for the model that is trained without a search.
        candidate: The model and its training.
        runs: The trainings that ended well, one for each seed.
        diverged: Seeds whose training diverged.
        mean: Mean of the objective over the runs; None without one.
        sd: Standard deviation of the objective over the runs; None with fewer than two.
        difference: This one's objective less the first finalist's; None for the first finalist itself.
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
            "mean": finite(self.mean),
            "sd": finite(self.sd),
            "difference": None if self.difference is None else self.difference.to_json(),
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Finalist":
        """Returns the finalist that `to_json` wrote."""
        difference = read(written, "difference", Mapping | None)
        return cls(
            trial=read(written, "trial", str),
            candidate=Configuration.from_json(read(written, "candidate", Mapping)),
            runs=tuple(map(Run.from_json, read(written, "runs", list))),
            diverged=tuple(read(written, "diverged", list)),
            mean=read(written, "mean", float | int | None),
            sd=read(written, "sd", float | int | None),
            difference=None if difference is None else Difference.from_json(difference),
        )


@dataclass(frozen=True, kw_only=True)
class Member:
    """A training that takes part in the model that a search ends with, the mean of several.

    Args:
        trial: The trial it comes from; `"default"` for the model that is trained without a search.
        candidate: The model and its training.
        seed: Seed of its weights, dropout and order of rows.
        slices: Slices it was trained for; None where it was trained as without a search.
        averaged: Whether its weights are the averages of the training's.
    """

    trial: str
    candidate: Configuration
    seed: int
    slices: int | None
    averaged: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the member as plain JSON types."""
        averaged = {"averaged": True} if self.averaged else {}
        candidate = self.candidate.to_json()
        return {"trial": self.trial, "seed": self.seed, "slices": self.slices, **averaged, "candidate": candidate}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Member":
        """Returns the member that `to_json` wrote."""
        return cls(
            trial=read(written, "trial", str),
            candidate=Configuration.from_json(read(written, "candidate", Mapping)),
            seed=read(written, "seed", int),
            slices=read(written, "slices", int | None),
            averaged=read(written, "averaged", bool, False),
        )


@dataclass(frozen=True, kw_only=True)
class Winner:
    """How the model that a search ends with was made.

    Args:
        seed: Seed of its weights, dropout and order of rows.
        slices: Slices it was trained for; None where it was trained as without a search, which ends by itself.
        rows: `"train"`, or `"train and validation"` where it was trained once more on both.
        averaged: Whether its weights are the averages of the training's.
        objective: What its slices were judged by, where its training depends on that: with averages and on a plateau.
        passes: Passes that the slices of a whole training of the search cut; the recipe's where None.
        members: The trainings that it is the mean of, whose seeds and slices count; none for a model by itself.
    """

    seed: int
    slices: int | None
    rows: Rows = "train"
    averaged: bool = False
    objective: Objective | None = None
    passes: float | None = None
    members: tuple[Member, ...] = ()

    @property
    def made(self) -> str:
        """How it was made, as a person writes it."""
        if self.members:
            runs = ", ".join(f"{member.trial} with seed {member.seed}" for member in self.members)
            return f"the mean of {len(self.members)} trainings on the {self.rows} rows: {runs}"
        length = "a training as without a search" if self.slices is None else f"{self.slices} slices"
        return f"{length} of the {self.rows} rows, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        further: dict[str, Any] = {"averaged": True} if self.averaged else {}
        further |= {} if self.objective is None else {"objective": self.objective.to_json()}
        further |= {} if self.passes is None else {"passes": self.passes}
        members = {"members": [member.to_json() for member in self.members]} if self.members else {}
        return {"seed": self.seed, "slices": self.slices, "rows": self.rows, **further, **members}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Winner":
        """Returns what `to_json` wrote."""
        objective = read(written, "objective", Mapping | None, None)
        return cls(
            seed=read(written, "seed", int),
            slices=read(written, "slices", int | None),
            rows=read_choice(written, "rows", get_args(Rows)),
            averaged=read(written, "averaged", bool, False),
            objective=None if objective is None else Objective.from_json(objective),
            passes=read(written, "passes", float | int | None, None),
            members=tuple(map(Member.from_json, read(written, "members", list, []))),
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The metrics of the test rows, which are read once.

    Args:
        metrics: All of the task's metrics.
        low: Lower end of the 95 % interval of the objective over rows.
        high: Upper end of that interval.
        constant: The log loss or RMSE of the training rows' mean for every row; empty in files of version 0.1.0.
    """

    metrics: Metrics
    low: float
    high: float
    constant: Metrics = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        constant = {"constant": _metrics(self.constant)} if self.constant else {}
        return {"metrics": _metrics(self.metrics), "interval": [finite(self.low), finite(self.high)], **constant}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Judged":
        """Returns what `to_json` wrote."""
        low, high = _read_interval(written)
        return cls(
            metrics=_read_metrics(read(written, "metrics", Mapping)),
            low=low,
            high=high,
            constant=_read_metrics(read(written, "constant", Mapping, {})),
        )


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
        rows = read(written, "rows", Mapping)
        return cls(
            train=read(rows, "train", int),
            valid=read(rows, "valid", int),
            test=read(rows, "test", int | None, None),
            label=read(written, "label", str | None, None),
            split=read(written, "split", str | None, None),
            fingerprint=read(written, "fingerprint", str, ""),
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
            test = read(written, "test", Mapping | None)
            return cls(
                objective=Objective.from_json(read(written, "objective", Mapping)),
                seed=read(written, "seed", int),
                passes=read(written, "passes", float | int),
                slices=read(written, "slices", int),
                seconds=read(written, "seconds", float | int),
                trials=tuple(map(TrialRecord.from_json, read(written, "trials", list))),
                finalists=tuple(map(Finalist.from_json, read(written, "finalists", list))),
                diverged=tuple(read(written, "diverged", list)),
                verdict=read(written, "verdict", str),
                winner=Winner.from_json(read(written, "model", Mapping)),
                test=None if test is None else Judged.from_json(test),
                data=Data.from_json(read(written, "data", Mapping)),
                versions=read(written, "versions", Mapping),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"This is no evidence of a search: {type(error).__name__} {error}. Give a search.json."
            ) from error


def _read_interval(written: Mapping[str, Any]) -> tuple[float, float]:
    ends = read(written, "interval", list)
    if len(ends) != 2:
        raise TypeError(f"'interval' has {len(ends)} ends")
    for end in ends:
        if not isinstance(end, float | int | None):
            raise TypeError(f"{end!r} is no number")
    return number(ends[0]), number(ends[1])


def _metrics(metrics: Metrics) -> dict[str, float | None]:
    return {name: finite(value) for name, value in metrics.items()}


def _read_metrics(written: Any) -> dict[str, float]:
    return {name: number(read(written, name, float | int | None)) for name in read_object(written)}
