"""Whatever holds rows, of any library, as an Arrow table, and as the columns and labels of a batch."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from nfm_tfrs.arguments import check_names, missing_column
from nfm_tfrs.features.bag import Bag, Columns
from nfm_tfrs.features.check import checked_arrays, decoded, is_real, one_a_row, raw_columns
from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.spec import SpecPart

_MAY_HOLD_VIEWS = {
    kind.id
    for kind in (
        *(pa.string_view(), pa.binary_view(), pa.list_(pa.int8()), pa.large_list(pa.int8())),
        pa.dictionary(pa.int8(), pa.string()),
    )
}


def as_table(source: Any) -> pa.Table:
    """Returns rows of any library as an Arrow table; a table stays itself.

    Args:
        source: A pandas DataFrame; a dict of columns, each an array, a list, a Series or a `Bag`; a list of dicts, of
            which missing keys are null; an Arrow table or record batch; or anything else with Arrow's C stream, as
            polars and DuckDB have.

    Raises:
        ValueError: It is none of these, a name comes twice, or a column is not of one type or of another length.
    """
    if isinstance(source, pa.Table | pa.RecordBatch):
        check_names(f"The {type(source).__name__}", source.schema.names)
        return without_views(source if isinstance(source, pa.Table) else pa.Table.from_batches([source]))
    if not (_is_of_pandas(source, "DataFrame") or isinstance(source, Mapping) or are_rows(source)):
        return _read_stream(source)
    arrays = {name: as_column(name, column) for name, column in columns_of(source).items()}
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"The columns must be of one length; received {lengths}.")
    return pa.table(arrays)


def columns_of(source: Any) -> dict[str, Any]:
    """Returns the columns of what `as_table` takes, each as it came: those that are not read need not fit.

    Raises:
        ValueError: It is nothing of the kind, or a name comes twice.
    """
    if _is_of_pandas(source, "DataFrame"):
        columns = [(name, source.iloc[:, at]) for at, name in enumerate(source.columns)]
    elif isinstance(source, Mapping):
        columns = list(source.items())
    elif are_rows(source):
        names = dict.fromkeys(name for row in source for name in row)
        columns = [(name, [row.get(name) for row in source]) for name in names]
    else:
        table = as_table(source)
        return dict(zip(table.column_names, table.columns, strict=True))
    found = {str(name): column for name, column in columns}
    if len(found) < len(columns):  # 1 and "1" are one name too
        given = [name for name, _ in columns]
        check_names(f"The {type(source).__name__}", map(str, given), shown=given)
    return found


def read_columns(source: Any, names: Iterable[str]) -> pa.Table:
    """Returns these columns of what `as_table` takes as a table; the others are not looked at.

    Raises:
        ValueError: One is missing; or as `as_table` does.
    """
    columns, wanted = columns_of(source), list(dict.fromkeys(names))
    for name in wanted:
        if name not in columns:
            raise missing_column(name, columns, reader="the model")
    return as_table({name: columns[name] for name in wanted})


def are_rows(source: Any) -> bool:
    """Whether it is a list of dicts, one a row."""
    return isinstance(source, list | tuple) and bool(source) and all(isinstance(row, Mapping) for row in source)


def batch_columns(table: pa.Table, features: Iterable[Feature]) -> Columns:
    """Returns what `features` read of a table as a model takes it raw; see `raw_columns`.

    Raises:
        ValueError: A column is missing, or does not fit its feature; see `checked_arrays`.
    """
    spec = SpecPart(tuple(features))
    return raw_columns(checked_arrays(table, spec), spec)


def numbers_of(role: str, values: Any) -> np.ndarray:
    """Returns labels or weights of any library, `[n]` or `[n, 1]`, as float32 `[n]`.

    Args:
        role: What they are, for the message: `"label"` or `"weight"`.
        values: A list, a Series, an Arrow array, an array of objects, or a table of one column.

    Raises:
        ValueError: They are no numbers, or one is missing.
    """
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ValueError(f"The {role} is an array of numbers; received {values!r:.60}. Give one number a row.")
    if len(getattr(values, "shape", ())) == 2 and not isinstance(values, np.ndarray):  # a DataFrame
        table = as_table(values)
        if table.num_columns != 1:
            raise ValueError(f"The {role} is one column; received {table.num_columns}. Give the one that is meant.")
        values = table.column(0)
    array = one_a_row(as_column(role, values))
    array = decoded(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
    if not (is_real(array.type) or types.is_null(array.type)):
        raise ValueError(f"The {role} is {array.type}, but it has to be numbers. Turn it into numbers first.")
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    if missing.any():
        raise ValueError(
            f"The {role} has no value in {missing.sum()} of {len(missing)} rows, the first in row "
            f"{int(np.argmax(missing))}. Drop these rows, or fill them."
        )
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def as_column(name: str, value: Any) -> pa.Array | pa.ChunkedArray:
    """Returns one column as Arrow: arrays `[n, k]`, bags and ragged tensors as lists.

    Raises:
        ValueError: It is not of one type, or no column.
    """
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value
    axes = len(value.shape) if hasattr(value, "shape") else 1
    is_list = hasattr(value, "__len__") or hasattr(value, "row_splits")  # TensorFlow's ragged tensors have no length
    if isinstance(value, str | bytes | Mapping | set) or not is_list or not 1 <= axes <= 2:
        what = f"of shape {tuple(value.shape)}" if axes != 1 else f"a {type(value).__name__}"
        raise ValueError(f"Column {name!r} is {what}, but a column is [n] or [n, k]. Give one value or list a row.")
    try:
        if isinstance(value, Bag) or hasattr(value, "row_splits"):
            offsets = pa.array(np.asarray(value.row_splits)).cast(pa.int32())
            return pa.ListArray.from_arrays(offsets, pa.array(np.asarray(value.values)))
        if hasattr(value, "numpy") and hasattr(value, "shape"):  # a tensor
            value = np.asarray(value)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            values = value.reshape(-1)
            values = _values(values) if values.dtype == object else pa.array(values)
            return pa.FixedSizeListArray.from_arrays(values, value.shape[1])
        if hasattr(value, "__arrow_c_stream__") and not _is_of_pandas(value, "Series"):
            return without_views(pa.table({name: pa.chunked_array(value)})).column(0)
        return _values(value)
    except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"Column {name!r} is not of one type: {reason}. Give it one type.") from error


def without_views(table: pa.Table) -> pa.Table:
    """Returns the table with `large_string` for `string_view`, whose rows Arrow cannot take; inside lists too."""
    if not any(field.type.id in _MAY_HOLD_VIEWS for field in table.schema):
        return table  # as most are: a wide table takes seconds to be made anew
    for at, field in enumerate(table.schema):
        if (
            types.is_dictionary(field.type)
            and (plain := _without_views(field.type.value_type)) != field.type.value_type
        ):
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(plain))
                for chunk in table.column(at).chunks
            ]
            kind = pa.dictionary(field.type.index_type, plain)
            table = table.set_column(at, field.with_type(kind), pa.chunked_array(chunks, kind))
    schema = pa.schema([field.with_type(_without_views(field.type)) for field in table.schema], table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_views(kind.value_type)))
    return kind


def _is_of_pandas(value: Any, kind: str) -> bool:
    pandas = sys.modules.get("pandas")  # whoever hands over a DataFrame has imported it
    return pandas is not None and isinstance(value, getattr(pandas, kind))


def _read_stream(source: Any) -> pa.Table:
    if not hasattr(source, "__arrow_c_stream__"):
        raise _no_table(source)
    try:
        return as_table(pa.table(source))
    except (pa.ArrowInvalid, TypeError) as error:  # a single column has a stream as well
        raise _no_table(source) from error


def _no_table(source: Any) -> ValueError:
    what = type(source).__name__
    if isinstance(source, list | tuple) and source:
        what += f" of {type(source[0]).__name__}"
    return ValueError(
        "Data is a DataFrame (pandas, or with Arrow's C stream as polars has), a dict of columns, a list of dicts, an "
        f"Arrow table, or, where files are read, a path or a list of paths; received {what}."
    )


def _values(value: Any) -> pa.Array:
    try:
        return pa.array(value, from_pandas=True)
    except OverflowError:  # Arrow takes whole numbers of Python for int64
        return pa.array(value, pa.uint64(), from_pandas=True)
