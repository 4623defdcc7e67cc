"""The labels and weights of a table, as a target has them."""

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.check import is_text, one_a_row
from nfm_tfrs.target import Label, Target

_OPERATORS: dict[str, Callable[..., pa.Array]] = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">": pc.greater,
    "<": pc.less,
}


def read_labels(table: pa.Table | pa.RecordBatch, target: Target, *, first_row: int = 0) -> np.ndarray:
    """Returns the label of each row of `table`, `[n]` float32; a comparison gives 0 and 1.

    Args:
        table: The data.
        target: Whose label to read.
        first_row: Where the table begins in its file, for the row numbers in messages; they count from 0.

    Raises:
        ValueError: The column is missing, holds null, NaN or an infinity, is of a type that the label cannot take, or
            holds what does not fit the task.

    Example:
        >>> read_labels(pa.table({"rating": [3.5, 4.0]}), Target.parse("rating>=4"))
        array([0., 1.], dtype=float32)
    """
    labels = label_values(table, target.label, first_row)
    target.check_labels(labels)
    return labels


def label_summary(table: pa.Table, target: Target) -> str:
    """Returns in a line what the labels of a table are: the rate of 1, or mean and spread of what is no 0 and 1.

    Args:
        table: The data.
        target: Whose label to read.

    Raises:
        ValueError: See `read_labels`, but for labels that are neither 0 nor 1.
    """
    labels = label_values(table, target.label, 0)
    if np.isin(labels, (0, 1)).all():
        return f"label {target.label}: {labels.mean():.2%} of {len(labels):,} rows are 1"
    wide: np.ndarray = labels.astype(np.float64)
    spread = f"mean {wide.mean():.6g}, std {wide.std():.6g}, from {wide.min():g} to {wide.max():g}"
    return f"label {target.label}: {spread}, in {len(labels):,} rows"


def read_weights(table: pa.Table | pa.RecordBatch, target: Target, *, first_row: int = 0) -> np.ndarray | None:
    """Returns the weight of each row, `[n]` float32; None where the target has no weight.

    Args:
        table: The data.
        target: Whose weight to read.
        first_row: Where the table begins in its file, for the row numbers in messages; they count from 0.

    Raises:
        ValueError: The column is missing, not numbers, or holds a null, a negative or an infinite weight.
    """
    name = target.weight
    if name is None:
        return None
    if name not in table.schema.names:
        raise missing_column(name, table.schema.names)
    array = one_a_row(table.column(name))
    if not _is_number(array.type):
        raise ValueError(f"Weight column {name!r} is {array.type}, but weights are numbers. Cast it first.")
    weights = np.asarray(array.cast(pa.float64(), safe=False), np.float64)
    target.check_weights(weights, first_row=first_row)
    return weights.astype(np.float32)


def label_values(table: pa.Table | pa.RecordBatch, label: Label, first_row: int) -> np.ndarray:
    """Returns what a label makes of each row, `[n]` float32; a comparison gives 0 and 1.

    Args:
        table: The data.
        label: The column, and what it is compared with.
        first_row: Where the table begins in its file, for the row numbers in messages; they count from 0.

    Raises:
        ValueError: The column is missing, holds null, NaN or an infinity, or is of a type that the label cannot take.
    """
    if label.column not in table.schema.names:
        raise missing_column(label.column, table.schema.names)
    array = _decoded(label.column, table.column(label.column))
    text = is_text(array.type)
    if not text and not _is_number(array.type):
        raise ValueError(
            f"Label column {label.column!r} is {array.type}, neither numbers nor strings. Turn it into a number first."
        )
    unknown = np.asarray(pc.is_null(array, nan_is_null=True))
    if unknown.any():
        raise ValueError(
            f"Label column {label.column!r} has no value in {unknown.sum()} of {len(unknown)} rows, "
            f"the first in row {first_row + int(np.argmax(unknown))}. Drop these rows, or fill them."
        )
    if label.operator is None:
        if text:
            raise ValueError(
                f"Label column {label.column!r} holds strings. Compare it with one, such as "
                f"{Label(label.column, '==', _first(array))}."
            )
        return _finite(label.column, array, first_row)
    if text != isinstance(label.value, str):
        kinds = ("strings", "a number") if text else (f"numbers ({array.type})", "a string")
        example = _first(array) if text else 1
        raise ValueError(
            f"Label column {label.column!r} holds {kinds[0]}, but {label} compares it with {kinds[1]}. "
            f"Write {Label(label.column, label.operator, example)}, for example."
        )
    return np.asarray(_compared(array, label.operator, label.value)).astype(np.float32)


def _compared(array: pa.ChunkedArray, operator: str, value: int | float | str | None) -> pa.Array:
    """Compares text with a string, or numbers with a number that may be none of their type."""
    kind = array.type
    if isinstance(value, int | float):
        if types.is_integer(kind):
            return _compared_whole(array, operator, value)
        # In the column's own precision: 3.3 as float64 is above the 3.3 of a float32 column.
        with np.errstate(over="ignore"):
            value = float(kind.to_pandas_dtype()(value))
        if types.is_float16(kind):  # which Arrow does not compare
            array, kind = array.cast(pa.float32()), pa.float32()
    return _OPERATORS[operator](array, pa.scalar(value, kind))


def _compared_whole(array: pa.ChunkedArray, operator: str, value: int | float) -> pa.Array:
    """Compares integers exactly: as floats, those beyond 2^53 would be rounded."""
    limits = np.iinfo(array.type.to_pandas_dtype())
    if limits.min <= value <= limits.max:
        floor = math.floor(value)
        if operator not in ("==", "!=") or floor == value:
            whole = floor + (floor != value and operator in (">=", "<"))
            return _OPERATORS[operator](array, pa.scalar(whole, array.type))
        always = operator == "!="
    else:
        always = operator in (("!=", ">=", ">") if value < 0 else ("!=", "<=", "<"))
    return pa.array(np.full(len(array), always))


def _finite(name: str, array: pa.ChunkedArray, first_row: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = array.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
    infinite = np.isinf(values)
    if infinite.any():
        row = first_row + int(np.argmax(infinite))
        raise ValueError(f"Label column {name!r} is infinite, or beyond float32, in row {row}. Drop or clip it.")
    return values


def _decoded(name: str, array: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    array = one_a_row(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))
    if types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if types.is_boolean(array.type):
        return array.cast(pa.int64())
    if types.is_decimal(array.type) or types.is_null(array.type):
        return array.cast(pa.float64(), safe=False)
    if is_text(array.type) and not types.is_string(array.type) and not types.is_large_string(array.type):
        try:
            return array.cast(pa.large_string())  # Arrow compares no views
        except pa.ArrowInvalid as error:
            raise ValueError(f"Label column {name!r} holds bytes that are not UTF-8. Decode it first.") from error
    return array


def _is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind)


def _first(array: pa.ChunkedArray) -> str:
    return array[0].as_py() if len(array) else "yes"
