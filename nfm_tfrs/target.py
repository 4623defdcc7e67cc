"""What a model learns to predict: a label, the weight of each row, and the task; parsed once, never run as code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from nfm_tfrs.written import read

Task = Literal["binary", "regression"]

_GRAMMAR = re.compile(
    r"""\s* (?: `([^`]+)` | ([^\s`"'<>=!](?:[^`"'<>=!]*[^\s`"'<>=!])?) ) \s*
        (?: (>=|<=|==|!=|>|<) \s*
            (?: ([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
              | "([^"]*)" | '([^']*)' ) \s* )?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Label:
    """A column, or a column compared with a number or a quoted string.

    Args:
        column: The column's name.
        operator: One of `>=`, `<=`, `==`, `!=`, `>` and `<`; None takes the column as it is.
        value: What the column is compared with.

    Example:
        >>> Label.parse("rating>=4")
        Label(column='rating', operator='>=', value=4)
    """

    column: str
    operator: str | None = None
    value: int | float | str | None = None

    @classmethod
    def parse(cls, text: str) -> "Label":
        """Returns the label that `text` writes: `click`, `rating>=4`, `clicked == "yes"`.

        A name that holds an operator or a quote stands in backticks.

        Raises:
            ValueError: It is none of these.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise ValueError(
                f"A label is a column, or a column compared with a number or a quoted string, such as rating>=4 or "
                f'clicked == "yes"; received {text!r:.200}.'
            )
        quoted, plain, compared, number, double, single = match.groups()
        column = quoted or plain
        if compared is None:
            return cls(column)
        if number is None:
            return cls(column, compared, double if double is not None else single)
        if re.fullmatch(r"[+-]?\d{1,20}", number) and -(2**63) <= int(number) < 2**64:
            return cls(column, compared, int(number))  # a float would round those beyond 2^53
        return cls(column, compared, float(number))

    def __str__(self) -> str:
        name = f"`{self.column}`" if re.search("[`\"'<>=!]|^\\s|\\s$", self.column) else self.column
        return name if self.operator is None else f"{name} {self.operator} {_written(self.value)}"


@dataclass(frozen=True)
class Target:
    """What is predicted, and how much each row counts; `nfm_tfrs.data.labels` reads it from tables.

    Args:
        label: The label.
        weight: The column of example weights; None where all rows count alike.
        task: `"binary"`, for labels 0 and 1, or `"regression"`, for any finite ones.

    Raises:
        ValueError: A task that there is not.

    Example:
        >>> target = Target.parse("rating>=4", weight="trust")
        >>> target.columns, target.is_binary
        (('rating', 'trust'), True)
    """

    label: Label
    weight: str | None = None
    task: Task = "binary"

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"task must be binary or regression; received {self.task!r:.60}.")

    @classmethod
    def parse(cls, text: str, *, weight: str | None = None, task: Any = "binary") -> "Target":
        """Returns the target whose label `text` writes; see `Label.parse` and the class for the arguments.

        Raises:
            ValueError: No label, or a task that there is not.
        """
        return cls(Label.parse(text), weight, task)

    @classmethod
    def of(cls, target: "Target | str", *, binary: bool | None = None) -> "Target":
        """Returns the target itself, or the one without weights whose label a text writes.

        Args:
            target: The target, or its label's text.
            binary: Whether the labels of a text are 0 and 1; they are if not given.

        Raises:
            ValueError: A text that is no label, or a target whose task is not what `binary` says.
        """
        if not isinstance(target, Target):
            return cls.parse(target, task="regression" if binary is False else "binary")
        if binary not in (None, target.is_binary):
            raise ValueError(
                f"The target's task is {target.task!r}; received binary={binary} too. Leave it out: the target says it."
            )
        return target

    def __str__(self) -> str:
        return str(self.label)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read: the label's and, where there is one, the weight."""
        return (self.label.column, self.weight) if self.weight else (self.label.column,)

    @property
    def is_binary(self) -> bool:
        """Whether labels are 0 and 1."""
        return self.task == "binary"

    def check_labels(self, values: np.ndarray) -> None:
        """Checks that labels fit the task.

        Args:
            values: `[n]`, finite.

        Raises:
            ValueError: The task is binary and other values than 0 and 1 came; the message suggests an expression.
        """
        if not self.is_binary or np.all((values == 0) | (values == 1)):
            return
        distinct = np.unique(values)
        shown = ", ".join(f"{value:g}" for value in distinct[:5]) + (", …" if len(distinct) > 5 else "")
        raise ValueError(
            f"Label {str(self)!r} is not binary: it holds {shown} ({len(distinct)} distinct values). Write an "
            f"expression such as {split_label(self.label.column, values)}, or use the regression task."
        )

    def check_weights(self, values: np.ndarray, *, first_row: int = 0) -> None:
        """Checks that weights are finite and not negative.

        Args:
            values: `[n]`, NaN where there is none.
            first_row: Number of the first row, for the message; rows count from 0.

        Raises:
            ValueError: One is not.
        """
        wrong = ~((values >= 0) & np.isfinite(values))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(
                f"Weight column {self.weight!r} is {values[at]} in row {first_row + at}. "
                "Give finite weights of 0 or more."
            )

    def check_both_classes(self, part: str, labels: np.ndarray, weights: np.ndarray | None) -> None:
        """Checks that the rows to train or to choose on hold positives and negatives, where the task is binary.

        Args:
            part: The rows' name, for the message.
            labels: `[n]`.
            weights: `[n]`; None where all rows count alike.

        Raises:
            ValueError: Rows of one class alone have a weight above 0.
        """
        counted = labels if weights is None else labels[weights > 0]
        if self.is_binary and len(np.unique(counted)) < 2:
            raise ValueError(
                f"The {part} rows need positives and negatives of a weight above 0; label {str(self)!r} gives one "
                f"class in their {len(labels)} rows. Give other rows, another split or another label."
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the target as plain JSON types."""
        return {"label": str(self.label), "weight": self.weight, "task": self.task}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Target":
        """Returns the target that `to_json` wrote.

        Raises:
            KeyError: There is no label.
            TypeError: The label or the weight is no text.
            ValueError: The label is none, or there is no such task.
        """
        label, weight = read(written, "label", str), read(written, "weight", str | None, None)
        return cls.parse(label, weight=weight, task=written.get("task") or "binary")


def split_label(column: str, values: np.ndarray) -> Label:
    """Returns the label that makes of numbers, finite and at least one, about as many positives as negatives.

    Example:
        >>> str(split_label("click", np.array([-1, 1, 1])))
        'click >= 1'
    """
    distinct = np.unique(values)
    above = distinct[1:] if len(distinct) > 1 else distinct  # at the lowest, every row would be positive
    threshold = next(value for value in [*above[above >= np.median(values)], above[-1]])
    return Label(column, ">=", _short(float(threshold)))


def _written(value: Any) -> str:
    """What a label compares with, as `Label.parse` reads it."""
    if isinstance(value, str):
        quote = "'" if '"' in value else '"'
        return f"{quote}{value}{quote}"
    return repr(value).replace("inf", "1e999")  # what float() makes an infinity of


def _short(number: float) -> int | float:
    return int(number) if number.is_integer() else number
