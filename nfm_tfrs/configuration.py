"""A model and how it is trained, as plain data: one candidate of a search, and what a recipe trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from nfm_tfrs.written import read, read_choice

RateSchedule = Literal["constant", "cosine", "one_cycle", "plateau"]
RATE_ROWS = 256  # of a step, with which the rates of Adagrad were chosen
ROW_WISE = ("lazyadagrad", "lazyadam")  # this package's own optimizers
OPTIMIZERS = (*ROW_WISE, "adadelta", "adagrad", "adam", "adamax", "adamw", "ftrl", "nadam", "rmsprop", "sgd")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A model and how it is trained: one candidate of a search, and what a `Recipe` trains.

    Args:
        model: The model's registered name.
        config: The model's constructor arguments, plain JSON types, without the precision.
        optimizer: `"lazyadagrad"`, `"lazyadam"` or a Keras optimizer's name; None for the model's default.
        optimizer_arguments: Further constructor arguments of the optimizer, by name.
        learning_rate: The optimizer's rate, or the highest of a schedule; None for the optimizer's default.
        schedule: `"constant"`; `"cosine"`, falling over the passes; `"one_cycle"`, rising to the rate and falling from
            there; or `"plateau"`, divided when validation stalls.
        schedule_arguments: Arguments of the schedule, by name; see `nfm_tfrs.training.schedules`.
        rate_rows: Rows of a step that the rate of an Adagrad is given for: what it trains with is `learning_rate *
            batch_size / rate_rows`. None, and any other optimizer, takes the rate as it is.
        averaging: Decay of averaged weights, beside a constant rate or a plateau; None or 0 averages none.
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
    schedule: RateSchedule = "constant"
    schedule_arguments: Mapping[str, Any] = field(default_factory=dict)
    rate_rows: int | None = RATE_ROWS
    averaging: float | None = None
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
    def rate_growth(self) -> float:
        """What the rate is multiplied by: with the rows of a step where the optimizer is an Adagrad, else 1."""
        return self.batch_size / self.rate_rows if self.rate_rows and _is_adagrad(self.optimizer) else 1.0

    @property
    def training(self) -> dict[str, Any]:
        """How the model is trained, plain JSON types, without what is left to a default."""
        training = {
            "optimizer": self.optimizer,
            "optimizer_arguments": dict(self.optimizer_arguments) or None,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "schedule_arguments": dict(self.schedule_arguments) or None,
            "averaging": self.averaging,
            "jit_compile": self.jit_compile,
            "batch_size": self.batch_size,
            "passes": self.passes,
        }
        told = {name: value for name, value in training.items() if value is not None}
        return told if self.rate_rows == self.rows_not_told else {**told, "rate_rows": self.rate_rows}

    @property
    def rows_not_told(self) -> int:
        """The rows that the rate is of where nothing says so: as in files of version 0.1.0 it is as it is."""
        return self.batch_size if _is_adagrad(self.optimizer) else RATE_ROWS

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
        training, config = read(written, "training", Mapping), read(written, "config", Mapping)
        optimizer = read(training, "optimizer", str | None, None)
        batch_size = read(training, "batch_size", int, 256)
        found = cls(
            model=read(written, "model", str),
            precision=read(config, "dtype", str | None, None),
            config={name: value for name, value in config.items() if name != "dtype"},
            optimizer=optimizer,
            optimizer_arguments=read(training, "optimizer_arguments", Mapping, {}),
            learning_rate=read(training, "learning_rate", float | int | None, None),
            schedule=read_choice(training, "schedule", get_args(RateSchedule), "constant"),
            schedule_arguments=read(training, "schedule_arguments", Mapping, {}),
            averaging=read(training, "averaging", float | int | None, None),
            batch_size=batch_size,
            passes=read(training, "passes", float | int | None, None),
            jit_compile=_read_jit(training),
        )
        return replace(found, rate_rows=read(training, "rate_rows", int | None, found.rows_not_told))


def _is_adagrad(optimizer: str | None) -> bool:
    """Whether an optimizer is an Adagrad; the default one is."""
    return str(optimizer or ROW_WISE[0]).lower() in ("lazyadagrad", "adagrad")


def _read_jit(training: Mapping[str, Any]) -> bool | None:
    if training.get("jit_compile") == "auto":  # version 0.1.0 wrote what it was told
        return None
    jit: bool | None = read(training, "jit_compile", bool | None, None)
    return jit
