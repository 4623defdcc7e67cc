"""Batches for Keras from Parquet files of any size, a window of rows in memory at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.dataset import Packing, batches_in_order, check_batch_size
from nfm_tfrs.data.encoded import EncodedPart
from nfm_tfrs.data.generator import Elements, dataset_of
from nfm_tfrs.data.label import Label, check_binary, example_weights
from nfm_tfrs.data.parquet import ParquetFiles, RowGroup
from nfm_tfrs.data.read import find_files
from nfm_tfrs.features.columns import Bag, Columns, checked_arrays, decoded, raw_columns
from nfm_tfrs.keras_compat import tf

if TYPE_CHECKING:
    from nfm_tfrs.features.spec import FeatureSpec

_WINDOW_BYTES = 24_000_000  # as Arrow; with NumPy's, Python's strings' and TensorFlow's copies about ten times that
_READ_ROWS = 1 << 15  # a record batch: small beside a window; of 26 integers, half as many take a fifth longer a row
_SAMPLE_ROWS = 1 << 14  # read at first, to know the types and the size of a row

Paths = str | Path | Sequence[str | Path]
Transform = Callable[[dict[str, pa.Array]], Columns]
Window = tuple[pa.Table, np.ndarray]  # checked feature columns; label and, where there is one, weight [n, 1 or 2]


def stream(
    paths: Paths,
    spec: "FeatureSpec",
    label: str | Label,
    *,
    weight: str | None = None,
    batch_size: int,
    shuffle: bool,
    seed: int,
    binary: bool = True,
    transform: Transform | None = None,
    encoded: EncodedPart | None = None,
    window_rows: int | None = None,
) -> tf.data.Dataset:
    """Returns Parquet files as a dataset of (features, label[, weight]) batches that never holds a whole file.

    With `shuffle`, epoch e visits the row groups in a random order and permutes the rows inside each window, both
    drawn from (seed, e). Rows of one row group that lie further apart than a window never meet: write files of many
    row groups, or in random order. An epoch begins with each new iterator, so two iterators open at once are two
    epochs; a dataset built again starts at epoch 0 again. Memory is that of a few windows.

    Args:
        paths: A Parquet file, a list of them, a glob pattern or a folder.
        spec: The features.
        label: A column or an expression such as `"rating>=4"`.
        weight: A column of example weights, finite and not negative.
        batch_size: Rows a batch; only the last of an epoch may hold fewer.
        shuffle: Whether to shuffle.
        seed: Of the orders.
        binary: Whether the label must be 0 or 1.
        transform: What to make of the arrays `checked_arrays` returns; `raw_columns` if not given.
        encoded: All rows in the order of the files, as `encode_windows` gives them and a cache holds them. The
            batches are the same, but come from there.
        window_rows: Rows permuted together, rounded down to whole batches, at least one batch. Resident memory grows
            by several times a window. None takes as many rows as fill about 24 MB.

    Returns:
        A dataset of known cardinality, of batches like those of `nfm_tfrs.data.batches`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not whole Parquet files, no rows, a first batch that is not what is declared, or another number of
            encoded rows. Later batches raise the same line from inside the pipeline, wrapped by TensorFlow:
            `plain_errors` unwraps it.
    """
    check_batch_size(batch_size)
    reader = _Reader(paths, spec, label, weight, binary, transform, min(batch_size, _SAMPLE_ROWS))
    groups, num_rows = reader.files.row_groups, reader.files.num_rows
    window_rows = max((window_rows or reader.window_rows) // batch_size, 1) * batch_size

    def shuffled(epoch: int) -> tuple[list[RowGroup], Callable[[int], np.ndarray]]:
        """The row groups in the epoch's order, and what orders each window."""
        random = np.random.default_rng([seed, epoch])
        return (
            ([groups[n] for n in random.permutation(len(groups))], random.permutation)
            if shuffle
            else (groups, np.arange)
        )

    if encoded is not None:
        if len(encoded) != num_rows:
            raise ValueError(f"The files have {num_rows} rows, but {len(encoded)} were encoded. Encode them again.")
        starts = dict(zip(groups, np.cumsum([0, *(group.num_rows for group in groups)]).tolist(), strict=False))

        def order(epoch: int) -> np.ndarray:
            shuffled_groups, permutation = shuffled(epoch)
            rows = np.concatenate([starts[group] + np.arange(group.num_rows) for group in shuffled_groups])
            for start in range(0, num_rows, window_rows):
                window = rows[start : start + window_rows]
                window[:] = window[permutation(len(window))]
            return rows

        return batches_in_order(
            encoded.columns, encoded.labels, encoded.weights, order if shuffle else None, batch_size=batch_size
        )
    packing = Packing(reader.columns(reader.sample[0]))
    sample = packing.pack(reader.columns(reader.sample[0]))
    signature = [
        *(_spec(part) for part in _flat(sample, sample)),
        tf.TensorSpec([None, reader.sample[1].shape[1]], tf.float32),
    ]

    def elements(epoch: int) -> Elements:
        shuffled_groups, permutation = shuffled(epoch)
        for table, targets in reader.gathered(shuffled_groups, window_rows):
            columns = packing.pack(reader.columns(table))
            del table  # as is `columns` below: else two windows were in memory while one is read
            order = permutation(len(targets))
            for start in range(0, len(targets), batch_size):
                rows = order[start : start + batch_size]
                yield [*_flat({name: _taken(column, rows) for name, column in columns.items()}, sample), targets[rows]]
            del columns

    def unpacked(*parts: tf.Tensor) -> tuple[Any, ...]:
        *flat, targets = parts
        return (packing.unpack(_unflat(flat, sample)), *tf.unstack(targets, axis=1))

    num_batches = -(-num_rows // batch_size)
    ahead = max(window_rows // batch_size // 2, 1)  # training goes on with half a window while the next one is read
    return dataset_of(elements, signature, size=num_batches, ahead=ahead).map(unpacked)


def encode_windows(
    paths: Paths,
    spec: "FeatureSpec",
    label: str | Label,
    transform: Transform,
    *,
    weight: str | None = None,
    binary: bool = True,
) -> Iterator[EncodedPart]:
    """Yields the rows of Parquet files in their order, encoded window by window; see `stream` for the arguments."""
    reader = _Reader(paths, spec, label, weight, binary, transform, _SAMPLE_ROWS)
    for table, targets in reader.gathered(reader.files.row_groups, reader.window_rows):
        yield EncodedPart(reader.columns(table), targets[:, 0], targets[:, 1] if weight else None)


class _Reader:
    """Row groups as checked windows; each error names the file."""

    def __init__(
        self,
        paths: Paths,
        spec: "FeatureSpec",
        label: str | Label,
        weight: str | None,
        binary: bool,
        transform: Transform | None,
        sample_rows: int,
    ) -> None:
        self.label = label if isinstance(label, Label) else Label.parse(label)
        wanted = [*spec.columns, self.label.column, *([weight] if weight else [])]
        self.files = ParquetFiles(find_files(paths, format="parquet"), wanted)
        self.spec, self.weight, self.binary, self.transform = spec, weight, binary, transform
        self.schema: pa.Schema | None = None
        self.sample = next(self.windows(self.files.row_groups, sample_rows))  # the first rows
        self.schema = self.sample[0].schema  # what that of later windows must be
        self.window_rows = max(_WINDOW_BYTES * self.sample[0].num_rows // max(self.sample[0].nbytes, 1), 1)

    def columns(self, table: pa.Table) -> Columns:
        """The columns of a window."""
        arrays = {name: _one_chunk(table.column(name)) for name in table.column_names}
        return raw_columns(arrays, self.spec) if self.transform is None else self.transform(arrays)

    def gathered(self, row_groups: Iterable[RowGroup], num_rows: int) -> Iterator[Window]:
        """Windows of `num_rows`, across row groups; the last holds what is left."""
        return _gathered(self.windows(row_groups, min(num_rows, _READ_ROWS)), num_rows)

    def windows(self, row_groups: Iterable[RowGroup], batch_rows: int) -> Iterator[Window]:
        """Windows of at most `batch_rows`, none of two row groups."""
        for group, row, batch in self.files.batches(row_groups, batch_rows):
            try:
                arrays = checked_arrays(batch, self.spec, first_row=row)
                table = self._typed(pa.table({name: decoded(array) for name, array in arrays.items()}))
                targets = [self.label.values(batch, first_row=row)]
                if self.binary:
                    check_binary(targets[0], self.label)
                if self.weight:
                    targets.append(example_weights(batch, self.weight, first_row=row))
            except ValueError as error:
                raise ValueError(f"{group.path}: {error}") from error
            yield table, np.stack(targets, axis=1)

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


def _gathered(windows: Iterable[Window], num_rows: int) -> Iterator[Window]:
    """Yields the same rows in windows of `num_rows`; the last holds what is left."""
    tables: list[pa.Table] = []
    targets: list[np.ndarray] = []
    waiting = 0
    for table, target in windows:
        tables.append(table)
        targets.append(target)
        waiting += table.num_rows
        del table
        while waiting >= num_rows:
            all_tables, all_targets = pa.concat_tables(tables), np.concatenate(targets)
            tables, targets = [all_tables.slice(num_rows)], [all_targets[num_rows:]]
            waiting -= num_rows
            yield all_tables.slice(0, num_rows), all_targets[:num_rows]
            del all_tables
    if waiting:
        yield pa.concat_tables(tables), np.concatenate(targets)


def _taken(column: np.ndarray | Bag, rows: np.ndarray) -> np.ndarray | Bag:
    return column.take(rows) if isinstance(column, Bag) else column.take(rows, axis=0)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _flat(columns: Columns, structure: Columns) -> list[np.ndarray]:
    flat = []
    for name in structure:
        column = columns[name]
        flat += [column.values, column.row_splits] if isinstance(column, Bag) else [column]
    return flat


def _unflat(flat: Sequence[Any], structure: Columns) -> dict[str, Any]:
    parts = iter(flat)
    return {
        name: tf.RaggedTensor.from_row_splits(next(parts), next(parts), validate=False)
        if isinstance(column, Bag)
        else next(parts)
        for name, column in structure.items()
    }


def _spec(part: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *part.shape[1:]], tf.string if part.dtype == object else tf.as_dtype(part.dtype))
