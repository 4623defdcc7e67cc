"""Label expressions such as `rating>=4`: parsed by a small grammar, never evaluated as code."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from nfm_tfrs.features.check import is_text, missing_column

_OPERATORS: dict[str, Callable[..., pa.Array]] = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">": pc.greater,
    "<": pc.less,
}
_GRAMMAR = re.compile(
    r"""\s* (?: `(?P<quoted>[^`]+)` | (?P<plain>[^\s`"'<>=!](?:[^`"'<>=!]*[^\s`"'<>=!])?) ) \s*
        (?: (?P<operator>>=|<=|==|!=|>|<) \s*
            (?: (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
              | "(?P<double>[^"]*)" | '(?P<single>[^']*)' ) \s* )?""",
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
        >>> Label.parse("rating>=4").values(pa.table({"rating": [3.5, 4.0]}))
        array([0., 1.], dtype=float32)
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
                f'clicked == "yes"; received {text!r}.'
            )
        column = match["quoted"] or match["plain"]
        if match["operator"] is None:
            return cls(column)
        if match["number"] is None:
            return cls(column, match["operator"], match["double"] if match["double"] is not None else match["single"])
        whole = re.fullmatch(r"[+-]?\d{1,18}", match["number"])  # 18 digits always fit int64
        return cls(column, match["operator"], int(match["number"]) if whole else float(match["number"]))

    def __str__(self) -> str:
        name = f"`{self.column}`" if re.search("[`\"'<>=!]", self.column) else self.column
        if self.operator is None:
            return name
        value = f'"{self.value}"' if isinstance(self.value, str) and '"' not in self.value else repr(self.value)
        return f"{name} {self.operator} {value}"

    def values(self, table: pa.Table | pa.RecordBatch, *, first_row: int = 0) -> np.ndarray:
        """Returns the label of each row of `table`, `[n]` float32; a comparison gives 0 and 1.

        Args:
            table: The data.
            first_row: Where it begins in its file, for the row numbers in messages; they count from 0.

        Raises:
            ValueError: The column is missing, holds null, NaN or an infinity, or is of a type that the expression
                cannot take.
        """
        if self.column not in table.schema.names:
            raise missing_column(self.column, table.schema.names)
        array = _decoded(table.column(self.column))
        text = is_text(array.type)
        if not text and not _is_number(array.type):
            raise ValueError(
                f"Label column {self.column!r} is {array.type}, neither numbers nor strings. "
                "Turn it into a number first."
            )
        unknown = np.asarray(pc.is_null(array, nan_is_null=True))
        if unknown.any():
            raise ValueError(
                f"Label column {self.column!r} has no value in {unknown.sum()} of {len(unknown)} rows, "
                f"the first in row {first_row + int(np.argmax(unknown))}. Drop these rows, or fill them."
            )
        if self.operator is None:
            if text:
                raise ValueError(
                    f"Label column {self.column!r} holds strings. Compare it with one, such as "
                    f"{Label(self.column, '==', _first(array))}."
                )
            return _finite(self.column, array, first_row)
        if text != isinstance(self.value, str):
            kinds = ("strings", "a number") if text else (f"numbers ({array.type})", "a string")
            example = _first(array) if text else 1
            raise ValueError(
                f"Label column {self.column!r} holds {kinds[0]}, but {self} compares it with {kinds[1]}. "
                f"Write {Label(self.column, self.operator, example)}, for example."
            )
        # In the column's own precision: 3.3 as float64 is above the 3.3 of a float32 column.
        value = pa.scalar(self.value, array.type) if types.is_floating(array.type) else pa.scalar(self.value)
        compared = _OPERATORS[self.operator](array, value)
        return np.asarray(compared).astype(np.float32)


def check_binary(values: np.ndarray, label: Label | str) -> None:
    """Checks that a label for a binary task is 0 or 1 in every row.

    Args:
        values: `[n]`, what `Label.values` returned.
        label: Where they came from, for the message.

    Raises:
        ValueError: Other values came; the message suggests an expression.
    """
    if np.all((values == 0) | (values == 1)):
        return
    distinct = np.unique(values)
    shown = ", ".join(f"{value:g}" for value in distinct[:5]) + (", …" if len(distinct) > 5 else "")
    column = label.column if isinstance(label, Label) else Label.parse(label).column
    threshold = next(value for value in [*distinct[distinct >= np.median(values)], distinct[-1]])
    raise ValueError(
        f"Label {str(label)!r} is not binary: it holds {shown} ({len(distinct)} distinct values). "
        f"Write an expression such as {Label(column, '>=', _short(float(threshold)))}, or use the regression task."
    )


def example_weights(table: pa.Table | pa.RecordBatch, name: str, *, first_row: int = 0) -> np.ndarray:
    """Returns the column of example weights, `[n]` float32.

    Raises:
        ValueError: It is missing, not numbers, or holds a null, a negative or an infinite weight.
    """
    if name not in table.schema.names:
        raise missing_column(name, table.schema.names)
    array = table.column(name)
    if not _is_number(array.type):
        raise ValueError(f"Weight column {name!r} is {array.type}, but weights are numbers. Cast it first.")
    weights = np.asarray(array.cast(pa.float64(), safe=False), np.float64)
    wrong = ~((weights >= 0) & np.isfinite(weights))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"Weight column {name!r} is {weights[at]} in row {first_row + at}. Give finite weights of 0 or more."
        )
    return weights.astype(np.float32)


def _finite(name: str, array: pa.ChunkedArray, first_row: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = array.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
    infinite = np.isinf(values)
    if infinite.any():
        row = first_row + int(np.argmax(infinite))
        raise ValueError(f"Label column {name!r} is infinite, or beyond float32, in row {row}. Drop or clip it.")
    return values


def _decoded(array: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    array = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    if types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if types.is_boolean(array.type):
        return array.cast(pa.int64())
    if types.is_decimal(array.type) or types.is_null(array.type):
        return array.cast(pa.float64(), safe=False)
    return array.cast(pa.string()) if types.is_binary(array.type) else array


def _is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind)


def _first(array: pa.ChunkedArray) -> str:
    return array[0].as_py() if len(array) else "yes"


def _short(number: float) -> int | float:
    return operator.index(int(number)) if number.is_integer() else number
