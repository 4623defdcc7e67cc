"""Windows of checked rows from Parquet files, across row groups and files; and the same encoded."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.labels import read_labels, read_weights
from nfm_tfrs.data.parts import EncodedPart, rates_of
from nfm_tfrs.data.readers.parquet import ParquetFiles, RowGroup
from nfm_tfrs.data.readers.table import find_files
from nfm_tfrs.features.check import Columns, checked_arrays, decoded, raw_columns
from nfm_tfrs.target import Target

if TYPE_CHECKING:
    from nfm_tfrs.features.spec import FeatureSpec

WINDOW_BYTES = 24_000_000  # as Arrow; with NumPy's, Python's strings' and TensorFlow's copies about ten times that
READ_ROWS = 1 << 15  # a record batch: small beside a window; of 26 integers, half as many take a fifth longer a row
SAMPLE_ROWS = 1 << 14  # read at first, to know the types and the size of a row

Paths = str | Path | Sequence[str | Path]
Transform = Callable[[dict[str, pa.Array]], Columns]
Window = tuple[pa.Table, np.ndarray]  # checked feature columns; label and, where there is one, weight [n, 1 or 2]


def encode_windows(
    paths: Paths,
    spec: "FeatureSpec",
    target: Target,
    transform: Transform,
) -> Iterator[EncodedPart]:
    """Yields the rows of Parquet files in their order, encoded window by window.

    Args:
        paths: A Parquet file, a list of them, a glob pattern or a folder.
        spec: The features.
        target: What is predicted.
        transform: What encodes the arrays that `checked_arrays` returns.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not whole Parquet files, no rows, or a column that does not fit.
    """
    reader = Reader(paths, spec, target, transform, SAMPLE_ROWS)
    for table, targets in reader.gathered(reader.files.row_groups, reader.window_rows):
        arrays = one_chunk_each(table)
        columns = transform(arrays)
        weights = targets[:, 1] if target.weight else None
        yield EncodedPart(columns, targets[:, 0], weights, rates_of(arrays, columns, spec))


class Reader:
    """Row groups as checked windows; each error names the file.

    Args:
        paths: A Parquet file, a list of them, a glob pattern or a folder.
        spec: The features.
        target: What is predicted.
        transform: What to make of the arrays that `checked_arrays` returns; `raw_columns` if not given.
        sample_rows: Number of first rows that the constructor reads; it raises what is wrong in them.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not whole Parquet files, no rows, or first rows that do not fit.
    """

    def __init__(
        self,
        paths: Paths,
        spec: "FeatureSpec",
        target: Target,
        transform: Transform | None,
        sample_rows: int,
    ) -> None:
        self.files = ParquetFiles(find_files(paths, format="parquet"), [*spec.columns, *target.columns])
        self.spec, self.target, self.transform = spec, target, transform
        self.schema: pa.Schema | None = None
        self.sample = next(self.windows(self.files.row_groups, sample_rows))  # the first rows
        self.schema = self.sample[0].schema  # what that of later windows must be
        self.window_rows = max(WINDOW_BYTES * self.sample[0].num_rows // max(self.sample[0].nbytes, 1), 1)

    def columns(self, table: pa.Table) -> Columns:
        """Returns the columns of a window, as the transform makes them."""
        arrays = one_chunk_each(table)
        return raw_columns(arrays, self.spec) if self.transform is None else self.transform(arrays)

    def gathered(self, row_groups: Iterable[RowGroup], num_rows: int, *, skip: int = 0) -> Iterator[Window]:
        """Yields windows of `num_rows`, across row groups, from row `skip` on; the last holds what is left."""
        row_groups = list(row_groups)
        while row_groups and row_groups[0].num_rows <= skip:  # not read at all
            skip -= row_groups.pop(0).num_rows
        tables: list[pa.Table] = []
        targets: list[np.ndarray] = []
        waiting = 0
        for table, target in self.windows(row_groups, min(num_rows, READ_ROWS)):
            tables.append(table.slice(skip))  # nothing is left of one that ends before
            targets.append(target[skip:])
            waiting += tables[-1].num_rows
            skip = max(skip - table.num_rows, 0)
            del table
            while waiting >= num_rows:
                all_tables, all_targets = pa.concat_tables(tables), np.concatenate(targets)
                tables, targets = [all_tables.slice(num_rows)], [all_targets[num_rows:]]
                waiting -= num_rows
                yield all_tables.slice(0, num_rows), all_targets[:num_rows]
                del all_tables
        if waiting:
            yield pa.concat_tables(tables), np.concatenate(targets)

    def windows(self, row_groups: Iterable[RowGroup], batch_rows: int) -> Iterator[Window]:
        """Yields windows of at most `batch_rows`, none of two row groups."""
        for group, row, batch in self.files.batches(row_groups, batch_rows):
            try:
                arrays = checked_arrays(batch, self.spec, first_row=row)
                table = self._typed(pa.table({name: decoded(array) for name, array in arrays.items()}))
                labels = read_labels(batch, self.target, first_row=row)
                weights = read_weights(batch, self.target, first_row=row)
            except ValueError as error:
                raise ValueError(f"{group.path}: {error}") from error
            yield table, np.stack([labels] if weights is None else [labels, weights], axis=1)

    def _typed(self, table: pa.Table) -> pa.Table:
        """A category of no declared dtype may be strings or integers, but one of the two in all files."""
        if self.schema is None or table.schema == self.schema:
            return table
        for field, first in zip(table.schema, self.schema, strict=True):
            if field.type != first.type and table.column(field.name).null_count < table.num_rows:
                raise ValueError(
                    f"Column {field.name!r} is {field.type}, but {first.type} in {self.files.paths[0]}. "
                    "Write it with one type."
                )
        return table.cast(self.schema)  # what differs is null in every row


def one_chunk_each(table: pa.Table) -> dict[str, pa.Array]:
    """Returns the columns of a table, each whole."""
    return {name: _one_chunk(table.column(name)) for name in table.column_names}


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
