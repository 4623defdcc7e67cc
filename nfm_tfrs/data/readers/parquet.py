"""Parquet files as record batches, in bounded memory whatever the size of a row group."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from nfm_tfrs.arguments import check_names, missing_column
from nfm_tfrs.data.readers.refusals import UNREADABLE, damaged_parquet
from nfm_tfrs.features.frames import without_views

# Pages are read through a buffer of this size: without one, Arrow holds all the bytes of a row group's columns,
# and one row group may be the whole file.
_BUFFER_BYTES = 1 << 20
_DICTIONARY_BYTES = 8  # strings that take fewer bytes a value in the file repeat enough to be read as dictionary


@dataclass(frozen=True)
class RowGroup:
    """One row group of a Parquet file.

    Args:
        path: The file.
        number: Number of the row group in its file, from 0.
        num_rows: Number of rows.
        first_row: Number of its first row in the file, from 0.
    """

    path: Path
    number: int
    num_rows: int
    first_row: int


class ParquetFiles:
    """Parquet files read as one, their footers read once.

    Args:
        paths: The files, in order.
        columns: The columns to read; all if None.

    Raises:
        ValueError: A file is not a whole Parquet file, lacks a column, has two of a name that is read, or no file has
            a row.
    """

    def __init__(self, paths: Sequence[Path], columns: Iterable[str] | None = None) -> None:
        self.paths = list(paths)
        self.columns = None if columns is None else list(dict.fromkeys(columns))
        self._metadata: dict[Path, pq.FileMetaData] = {}
        self.row_groups: list[RowGroup] = []
        for path in self.paths:
            try:
                metadata = self._metadata[path] = pq.read_metadata(path)
                names = metadata.schema.to_arrow_schema().names
            except UNREADABLE as error:
                raise damaged_parquet(path, error) from error
            present, read = set(names), set(names if self.columns is None else self.columns)
            for name in self.columns or ():
                if name not in present:
                    raise ValueError(f"{path}: {missing_column(name, names)}")
            check_names(path, (name for name in names if name in read))
            first_row = 0
            for number in range(metadata.num_row_groups):
                num_rows = metadata.row_group(number).num_rows
                if num_rows:
                    self.row_groups.append(RowGroup(path, number, num_rows, first_row))
                first_row += num_rows
        self.num_rows = sum(group.num_rows for group in self.row_groups)
        if not self.num_rows:
            raise ValueError(f"{', '.join(map(str, self.paths))} has no rows. Give a file with at least one.")

    @property
    def names(self) -> list[str]:
        """Names of the first file's columns."""
        names: list[str] = self._metadata[self.paths[0]].schema.to_arrow_schema().names
        return names

    def table(self) -> pa.Table:
        """Returns all rows; strings that repeat come as dictionary."""
        tables = []
        for path in self.paths:
            try:
                repeating = _repeating_strings(path, self._metadata[path])
                with pq.ParquetFile(path, metadata=self._metadata[path], read_dictionary=repeating) as file:
                    tables.append(without_views(file.read(columns=self.columns)))
            except UNREADABLE as error:
                raise damaged_parquet(path, error) from error
        return one_table(tables, self.paths)

    def batches(
        self, row_groups: Iterable[RowGroup], batch_rows: int
    ) -> Iterator[tuple[RowGroup, int, pa.RecordBatch]]:
        """Yields (row group, number in the file of the batch's first row, batch of up to `batch_rows` rows)."""
        for group in row_groups:
            row = group.first_row
            try:
                with pq.ParquetFile(
                    group.path, metadata=self._metadata[group.path], buffer_size=_BUFFER_BYTES, pre_buffer=False
                ) as file:
                    for batch in file.iter_batches(batch_rows, [group.number], self.columns, use_threads=False):
                        yield group, row, batch
                        row += batch.num_rows
            except UNREADABLE as error:
                raise damaged_parquet(group.path, error) from error


def one_table(tables: Sequence[pa.Table], paths: Sequence[Path]) -> pa.Table:
    """Returns the tables below each other, types widened where files differ.

    Raises:
        ValueError: A column's types have nothing in common, files differ in their columns, or a name comes twice.
    """
    names = set(tables[0].column_names)
    for path, table in zip(paths, tables, strict=True):
        check_names(path, table.column_names)
        differing = sorted(names ^ set(table.column_names))
        if differing:
            raise ValueError(
                f"{path} and {paths[0]} differ in the columns {', '.join(map(repr, differing))}. "
                "Give files of the same columns."
            )
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"The columns of {paths[0]} and the files after it differ in type: {error}") from error


def _repeating_strings(path: Path, metadata: pq.FileMetaData) -> list[str]:
    """Returns the names of plain string columns that the file holds as dictionary and that repeat."""
    if not metadata.num_row_groups:
        return []
    schema = metadata.schema.to_arrow_schema()
    strings = {field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)}
    if not strings:
        return []
    leaves = {metadata.schema.column(number).path: number for number in range(metadata.num_columns)}
    strings &= leaves.keys()
    # Of damaged sizes Arrow raises here; where `column` meets them first, it ends the process.
    with pq.ParquetFile(path, metadata=metadata, pre_buffer=False) as file:
        next(file.iter_batches(1, [0], sorted(strings), use_threads=False), None)
    group = metadata.row_group(0)
    repeating = []
    for name in sorted(strings):
        column = group.column(leaves[name])
        if column.has_dictionary_page and column.total_uncompressed_size < _DICTIONARY_BYTES * column.num_values:
            repeating.append(name)
    return repeating
