"""The times that rows are put in order by, and other columns that must have a value in each row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.check import one_a_row


def complete_column(
    table: pa.Table | pa.RecordBatch, name: str, reader: str, *, first_row: int = 0
) -> pa.Array | pa.ChunkedArray:
    """Returns a column with a value in each row.

    Args:
        table: The rows.
        name: The column's name.
        reader: What reads the column, for the messages.
        first_row: Number of the first row, for the messages; rows count from 0.

    Raises:
        ValueError: The column is missing, or holds null or NaN.
    """
    if name not in table.schema.names:
        raise missing_column(name, table.schema.names)
    column = one_a_row(table.column(name))
    unknown = np.asarray(pc.is_null(column, nan_is_null=types.is_floating(column.type)))
    if unknown.any():
        raise ValueError(
            f"Column {name!r}, which {reader} reads, has no value in {unknown.sum()} of {len(unknown)} rows, "
            f"the first in row {first_row + int(np.argmax(unknown))}. Drop these rows, or fill them."
        )
    return column


def times(table: pa.Table | pa.RecordBatch, name: str, reader: str, *, first_row: int = 0) -> np.ndarray:
    """Returns the time of each row, `[n]`: numbers, or dates and times as NumPy has them.

    Args:
        table: The rows.
        name: Name of the column of times.
        reader: What reads the column, for the messages.
        first_row: Number of the first row, for the messages; rows count from 0.

    Raises:
        ValueError: The column is missing, holds null or NaN, or is neither numbers nor dates nor times.
    """
    column = complete_column(table, name, reader, first_row=first_row)
    if types.is_time(column.type):  # of which Arrow makes Python's objects, which know no hour 24
        column = column.cast(pa.int32() if types.is_time32(column.type) else pa.int64())
    if types.is_temporal(column.type) or types.is_integer(column.type) or types.is_floating(column.type):
        return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    raise ValueError(
        f"Column {name!r}, the time of {reader}, is {column.type}. Give numbers, dates or times, which have an order."
    )
