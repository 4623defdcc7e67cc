"""Rows of any library as the arrays that an export takes, without TensorFlow."""

import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.bag import UINT64_MISSING, Bag
from nfm_tfrs.features.feature import FLOAT32_MAX, CategoricalFeature, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving.hashing import bucket_numbers
from nfm_tfrs.serving.signature import MISSING, Input, Signature

Arrays = dict[str, np.ndarray]
NUMPY: Mapping[str, Any] = {
    "string": object,
    "either": object,
    "int64": np.int64,
    "uint64": np.uint64,
    "float32": np.float32,
}
_LARGEST = 2**63 - 1
_PLAIN: Mapping[str, type] = {"string": str, "either": str, "int64": int, "uint64": int, "float32": float}


def encode(export: str | Path | Signature, rows: Any) -> Arrays:
    """Returns rows as an export takes them, without TensorFlow: for onnxruntime, or a client of TensorFlow Serving.

    Values that the export takes by the number of their hash bucket are hashed as TensorFlow does.

    Args:
        export: The export's folder, or its signature.
        rows: A dict of values, one row; a list of dicts; a dict of columns; a DataFrame (pandas, or with Arrow's C
            stream as polars has); an Arrow table.

    Returns:
        An array by the name of each input: strings as objects, missing values as the signature says.

    Raises:
        ValueError: It is no export, or a column is missing or does not fit its input.
    """
    signature = export if isinstance(export, Signature) else Signature.from_file(Path(export))
    return arrays_of(signature.inputs, rows)


def arrays_of(inputs: Sequence[Input], rows: Any) -> Arrays:
    """Returns rows as an export takes them: an array by the name of each input.

    Args:
        inputs: The inputs of the export.
        rows: A dict of values, one row; a list of dicts; a dict of columns; a DataFrame (pandas, or with Arrow's C
            stream as polars has); an Arrow table.

    Raises:
        ValueError: A column is missing, or does not fit its input.
    """
    if isinstance(rows, Mapping) and is_row(inputs, rows):
        found = {one.name: _of_row(one, rows) for one in inputs}
    else:
        found = _of_rows(inputs, rows)
    for one in inputs:
        if one.num_hash_buckets is not None:
            found[one.name] = bucket_numbers(found[one.name], one.num_hash_buckets)
    return found


def num_rows(inputs: Sequence[Input], arrays: Arrays) -> int:
    """Returns the number of rows of such arrays."""
    return max(len(arrays[one.name]) for one in inputs if one.shape[0] == "rows" and not one.optional)


def is_row(inputs: Sequence[Input], rows: Mapping[str, Any]) -> bool:
    """Returns whether a dict holds the values of one row, not columns: its first value that is read decides."""
    for one in inputs:
        if one.column in rows and one.kind in ("value", "bag"):
            value = rows[one.column]
            if one.kind == "bag" and isinstance(value, list | tuple):
                return not value or isinstance(value[0], str | bytes | numbers.Number | None)
            return value is None or isinstance(value, str | bytes | numbers.Number)
    return False


def value_of(one: Input, row: Mapping[str, Any]) -> Any:
    """Returns the value of a single-valued input in one row, as its array takes it.

    Raises:
        ValueError: The column is missing, or does not fit.
    """
    if one.column not in row and not one.optional:
        raise missing_column(one.column, row, reader="the model")
    return _value(one, row.get(one.column))


def _of_row(one: Input, row: Mapping[str, Any]) -> np.ndarray:
    """The array of an input, of one row."""
    if one.kind == "value":
        return _array(one, [value_of(one, row)])
    if one.column not in row and not one.optional:
        raise missing_column(one.column, row, reader="the model")
    given = row.get(one.column)
    listed = [] if given is None else [given] if isinstance(given, str | bytes | numbers.Number) else list(given)
    if one.kind == "lengths":
        return np.array([len(listed)], np.int64)
    if one.kind == "weights" and None in listed:
        raise ValueError(f"Weights {one.column!r} have no value in place {listed.index(None)}. Give finite numbers.")
    values = _array(one, [_value(one, value) for value in listed])
    return values[None] if one.padded else values


def _array(one: Input, values: list[Any]) -> np.ndarray:
    try:
        return np.array(values, NUMPY[one.values])
    except (ValueError, TypeError, OverflowError) as error:
        raise _unfit(one, values[0]) from error


def _value(one: Input, value: Any) -> Any:
    """A value as its input takes it, None and NaN as what means missing there."""
    dtype, kind = one.values, type(value)
    if kind is _PLAIN[dtype] and (kind is str or -_LARGEST <= value <= _LARGEST):  # most are: the rest takes longer
        return value
    if value is None:
        return MISSING[dtype]
    if dtype in ("string", "either"):
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return value.decode()
        if dtype == "either" and isinstance(value, numbers.Integral):
            return "" if value < 0 else str(value)  # as a column of integers is hashed
        if isinstance(value, float) and math.isnan(value):
            return ""
        raise _unfit(one, value)
    if dtype == "float32":
        if isinstance(value, numbers.Real):
            number = float(value)
            if math.isinf(number):
                raise ValueError(f"Column {one.column!r} is {number}. Clip it, or give NaN for missing.")
            return min(max(number, -FLOAT32_MAX), FLOAT32_MAX) if number == number else number
        raise _unfit(one, value)
    if isinstance(value, numbers.Integral):
        return int(value) if dtype == "uint64" else min(max(int(value), -_LARGEST), _LARGEST)
    if isinstance(value, numbers.Real):
        if math.isnan(value):
            return MISSING[dtype]
        number = float(value)
        if number.is_integer():
            return int(number)
    raise _unfit(one, value)


def _unfit(one: Input, value: Any) -> ValueError:
    wanted = {"string": "a string", "either": "a string or a whole number", "float32": "a number"}
    what = wanted.get(one.values, "a whole number")
    return ValueError(f"Column {one.column!r} is {what}; received {value!r:.60}. Convert it.")


def _of_rows(inputs: Sequence[Input], rows: Any) -> Arrays:
    if isinstance(rows, Mapping):  # of 39 columns and 100 rows in a twentieth of the time
        arrays = {one.name: _as_it_is(one, rows.get(one.column)) for one in inputs}
        sizes = {None if array is None else len(array) for array in arrays.values()}
        if len(sizes) == 1 and None not in sizes:
            return {name: array for name, array in arrays.items() if array is not None}
    # Here: one row needs no Arrow, whose import takes longer than all else.
    from nfm_tfrs.features.frames import as_table, batch_columns, columns_of

    columns = columns_of(rows)
    left_out = {one.column for one in inputs if one.optional and one.column not in columns}
    read = [_stand_in(one, inputs) for one in inputs if one.kind in ("value", "bag") and one.column not in left_out]
    names = FeatureSpec(tuple(read)).columns
    for name in names:
        if name not in columns:
            raise missing_column(name, columns, reader="the model")
    found = batch_columns(as_table({name: columns[name] for name in names}), read)
    return {
        one.name: _of_row(one, {}) if one.column in left_out else _of_column(one, found[one.bag or one.column], found)
        for one in inputs
    }


def _as_it_is(one: Input, column: Any) -> np.ndarray | None:
    """A column that is an array of numbers of its input's kind already, none of them beyond it; None for any other."""
    if one.kind != "value" or not isinstance(column, np.ndarray) or column.ndim != 1:
        return None
    if one.values == "float32" and column.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow: np.ndarray = column.astype(np.float32, copy=False)
        return None if np.isinf(narrow).any() else narrow
    fits = (one.values == "int64" and column.dtype.kind == "i") or one.values == column.dtype.name == "uint64"
    return column.astype(NUMPY[one.values], copy=False) if fits else None


def _stand_in(one: Input, inputs: Sequence[Input]) -> Feature:
    """A feature that takes what the input takes: types and missing values are checked as for the model's own."""
    dtype: Any = None if one.values == "either" else "string" if one.values == "string" else "int64"
    if one.values == "float32":
        return NumericFeature(one.column)
    if one.kind == "value":
        return CategoricalFeature(one.column, num_hash_buckets=1, dtype=dtype)
    weights = next((other.column for other in inputs if other.kind == "weights" and other.bag == one.column), None)
    return MultiCategoricalFeature(one.column, num_hash_buckets=1, dtype=dtype, weights=weights)


def _of_column(one: Input, column: np.ndarray | Bag, found: Mapping[str, Any]) -> np.ndarray:
    """The array of an input from what it is of: a bag's for its lengths, too."""
    if one.kind == "weights":
        column = found[one.column]
    if not isinstance(column, Bag):
        return _typed(one, column)
    if one.kind == "lengths":
        return np.diff(column.row_splits)
    values = _typed(one, column.values)
    if not one.padded:
        return values
    lengths = np.diff(column.row_splits)
    filler = 0.0 if one.kind == "weights" else one.missing
    wide = np.full([len(lengths), lengths.max(initial=0)], filler, values.dtype)
    wide[np.arange(wide.shape[1]) < lengths[:, None]] = values
    return wide


def _typed(one: Input, values: np.ndarray) -> np.ndarray:
    dtype = one.values
    if dtype in ("string", "either"):
        if values.dtype == object:
            return np.array([value.decode() if isinstance(value, bytes) else value for value in values], object)
        return np.array(
            ["" if value < 0 or value == UINT64_MISSING else str(value) for value in values.tolist()], object
        )
    if dtype == "float32":
        return np.clip(values, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
    if dtype == "int64" and values.dtype == np.uint64:
        missing = values == np.iinfo(np.uint64).max
        return np.where(missing, -1, np.minimum(values, np.uint64(_LARGEST)).astype(np.int64))
    return values.astype(NUMPY[dtype])
