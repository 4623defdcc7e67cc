"""Rows of any library as the arrays that an export takes, without TensorFlow."""

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
        return arrays_of_row(inputs, rows)
    return _hashed(inputs, _of_rows(inputs, rows))


def is_row(inputs: Sequence[Input], rows: Mapping[str, Any]) -> bool:
    """Returns whether a dict holds the values of one row, not columns.

    The first single value that is read decides; of a model that reads bags alone, whether the first one holds values.
    """
    for one in inputs:
        if one.kind == "value" and one.column in rows:
            return _is_single(rows[one.column])
    bags = [rows[one.column] for one in inputs if one.kind == "bag" and one.column in rows]
    return bool(bags) and (_is_single(bags[0]) or not len(bags[0]) or _is_single(bags[0][0]))


def arrays_of_row(inputs: Sequence[Input], row: Mapping[str, Any]) -> Arrays:
    """Returns one row as `arrays_of` does; most rows without Arrow, which would take twenty times as long.

    Args:
        inputs: The inputs of the export, or some of them.
        row: A dict of values.

    Raises:
        ValueError: A column is missing, or does not fit its input.
    """
    found: Arrays = {}
    for one in inputs:
        if one.column not in row and not one.optional:
            raise missing_column(one.column, row, reader="the model")
        array = _of_row(one, row.get(one.column))
        if array is None:  # its column takes what is unusual, or refuses it
            return _hashed(inputs, _of_rows(inputs, [dict(row)]))
        found[one.name] = array
    for one in inputs:
        if one.kind == "weights" and found[one.name].shape != found[str(one.bag)].shape:
            return _hashed(inputs, _of_rows(inputs, [dict(row)]))
    return _hashed(inputs, found)


def plain_value(one: Input, value: Any) -> Any:
    """Returns a value as its input's array takes it, None for what is not of its plain type, or beyond it."""
    if isinstance(value, np.generic):
        value = value.item()
    kind, wanted = type(value), _PLAIN[one.values]
    if value is None:
        return MISSING[one.values]
    if one.marks:
        return None
    if kind is wanted and (kind is str or value != value or -_LARGEST <= value <= _LARGEST):
        return None if one.values == "uint64" and value < 0 else value
    if wanted is float and kind is int and -_LARGEST <= value <= _LARGEST:
        return float(value)
    return None


def _is_single(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | numbers.Number | np.generic)


def _of_row(one: Input, given: Any) -> np.ndarray | None:
    """The array of an input, of its column's value in one row; None where that is not plain."""
    if one.kind == "value":
        value = plain_value(one, given)
        return None if value is None else np.array([value], NUMPY[one.values])
    listed = [] if given is None else [given] if _is_single(given) else list(given)
    if one.kind == "lengths":
        return np.array([len(listed)], np.int64)
    values = [None if value is None else plain_value(one, value) for value in listed]
    if None in values or (one.kind == "weights" and any(value != value for value in values)):
        return None
    array: np.ndarray = np.array(values, NUMPY[one.values])
    return array[None] if one.padded else array


def _hashed(inputs: Sequence[Input], arrays: Arrays) -> Arrays:
    """The arrays, with the numbers of buckets in the place of values that the export does not hash."""
    hashed = {one.name: one.num_hash_buckets for one in inputs if one.num_hash_buckets is not None}
    return {
        name: array if name not in hashed else bucket_numbers(array, hashed[name]) for name, array in arrays.items()
    }


def _of_rows(inputs: Sequence[Input], rows: Any) -> Arrays:
    if isinstance(rows, Mapping):  # of 39 columns and 100 rows in a twentieth of the time
        plain = {one.name: _as_it_is(one, rows.get(one.column)) for one in inputs}
        sizes = {None if array is None else len(array) for array in plain.values()}
        if len(sizes) == 1 and None not in sizes:
            return {name: array for name, array in plain.items() if array is not None}
    # Here: one row needs no Arrow, whose import takes longer than all else.
    from nfm_tfrs.features.frames import as_table, batch_columns, columns_of

    columns = columns_of(rows)
    left_out = {one.column for one in inputs if one.optional and one.column not in columns}
    read = [_stand_in(one, inputs) for one in inputs if one.kind in ("value", "bag") and one.column not in left_out]
    names = FeatureSpec(tuple(read)).columns if read else ()
    for name in names:
        if name not in columns:
            raise missing_column(name, columns, reader="the model")
    found = batch_columns(as_table({name: columns[name] for name in names}), read) if read else {}
    arrays: Arrays = {}
    for one in inputs:
        array = _of_row(one, None) if one.column in left_out else _of_column(one, found[one.feature], found)
        if array is not None:  # a missing value is plain
            arrays[one.name] = array
    return arrays


def _as_it_is(one: Input, column: Any) -> np.ndarray | None:
    """A column that is an array of numbers of its input's kind already, none of them beyond it; None for any other."""
    if one.kind != "value" or not isinstance(column, np.ndarray) or column.ndim != 1:
        return None
    if one.values == "float32" and column.dtype.kind == "f" and not one.marks:
        with np.errstate(over="ignore"):
            narrow: np.ndarray = column.astype(np.float32, copy=False)
        return None if np.isinf(narrow).any() else narrow
    fits = (one.values == "int64" and column.dtype.kind == "i") or one.values == column.dtype.name == "uint64"
    return column.astype(NUMPY[one.values], copy=False) if fits else None


def _stand_in(one: Input, inputs: Sequence[Input]) -> Feature:
    """A feature that takes what the input takes: types and missing values are checked as for the model's own."""
    dtype: Any = None if one.values == "either" else "string" if one.values == "string" else "int64"
    if one.values == "float32":
        return NumericFeature(one.column, missing_values=one.marks)
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
        beyond = np.abs(values) > FLOAT32_MAX
        if beyond.any():
            raise ValueError(
                f"Column {one.column!r} is {values[beyond][0]}, beyond float32, which the export takes. Clip it."
            )
        return values.astype(np.float32)
    if dtype == "int64" and values.dtype == np.uint64:
        missing = values == UINT64_MISSING
        beyond = (values > _LARGEST) & ~missing
        if beyond.any():
            raise ValueError(
                f"Column {one.column!r} is {values[beyond][0]}, beyond int64, which the export takes. Leave it out."
            )
        return values.view(np.int64)
    if dtype == "uint64" and values.dtype == np.int64:
        return np.where(values < 0, np.uint64(UINT64_MISSING), values.astype(np.uint64))
    return values.astype(NUMPY[dtype])
