"""The columns that features read, of any source, some rows at a time."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from nfm_tfrs.data.readers.table import file_format, find_files, is_files, iterate_batches, read_table
from nfm_tfrs.features.frames import read_columns
from nfm_tfrs.features.spec import FeatureSpec

ROWS = 1 << 17  # checked and encoded at once


def read_rows(source: Any, features: FeatureSpec, *, format: str | None = None) -> Iterator[pa.Table | pa.RecordBatch]:
    """Yields the columns that features read, in order; Parquet is streamed, all else is read whole first.

    Args:
        source: Files (a path, a list, a glob pattern, a folder), a DataFrame (pandas, or with Arrow's C stream as
            polars has), a dict of columns, a list of dicts, or an Arrow table.
        features: The features.
        format: The files' format, where their suffix does not tell.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No rows, a missing column, or a file that is not of its format.
    """
    if not is_files(source):
        table = read_columns(source, features.columns)
    elif (format or file_format(find_files(source, format=format))) == "parquet":
        yield from iterate_batches(source, features.columns, batch_rows=ROWS, format=format)
        return
    else:
        table = read_table(source, features.columns, format=format, types=features.column_types)
    if not table.num_rows:
        raise ValueError("The data has no rows. Give data with at least one.")
    for start in range(0, table.num_rows, ROWS):
        yield table.slice(start, ROWS)
