"""Batches for Keras from Parquet files of any size, a window of rows in memory at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.dataset import BATCHES_AHEAD, Packing, check_batch_size, cut_batches
from nfm_tfrs.data.label import Label, check_binary, example_weights
from nfm_tfrs.data.parquet import ParquetFiles, RowGroup
from nfm_tfrs.data.read import find_files
from nfm_tfrs.features.columns import Bag, Columns, checked_arrays, raw_columns
from nfm_tfrs.keras_compat import tf

if TYPE_CHECKING:
    from nfm_tfrs.features.spec import FeatureSpec

_READ_ROWS = 1 << 14  # rows a record batch: small beside a window, many enough to be handled by columns
_WINDOWS_AHEAD = 1
_WINDOW_BYTES = 24_000_000  # as Arrow; with NumPy's, Python's strings' and TensorFlow's copies about ten times that

Window = tuple[pa.Table, np.ndarray]  # checked feature columns; label and, where there is one, weight [n, 1 or 2]


def stream(
    paths: str | Path | Sequence[str | Path],
    spec: "FeatureSpec",
    label: str | Label,
    *,
    weight: str | None = None,
    batch_size: int,
    shuffle: bool,
    seed: int,
    binary: bool = True,
    transform: Callable[[dict[str, pa.Array]], Columns] | None = None,
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
        window_rows: Rows permuted together, rounded down to whole batches, at least one batch. Resident memory grows
            by several times a window. None takes as many rows as fill about 24 MB.

    Returns:
        A dataset of known cardinality, of batches like those of `nfm_tfrs.data.batches`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not whole Parquet files, no rows, or a first batch that is not what is declared. Later batches
            raise the same line from inside the pipeline, wrapped by TensorFlow: `plain_errors` unwraps it.
    """
    check_batch_size(batch_size)
    expression = label if isinstance(label, Label) else Label.parse(label)
    wanted = [*spec.columns, expression.column, *([weight] if weight else [])]
    files = ParquetFiles(find_files(paths, format="parquet"), wanted)
    reader = _Reader(files, spec, expression, weight, binary)
    to_columns = transform or (lambda arrays: raw_columns(arrays, spec))

    def columns_of(table: pa.Table) -> Columns:
        return to_columns({name: _one_chunk(table.column(name)) for name in table.column_names})

    sample, targets = next(reader.windows(files.row_groups, min(batch_size, _READ_ROWS)))
    reader.schema = sample.schema
    if window_rows is None:
        window_rows = _WINDOW_BYTES * sample.num_rows // max(sample.nbytes, 1)
    window_rows = max(window_rows // batch_size, 1) * batch_size
    sample_columns = columns_of(sample)
    packing = Packing(sample_columns)
    structure = packing.pack(sample_columns)
    epochs = itertools.count()

    def windows() -> Iterator[tuple[np.ndarray, ...]]:
        random = np.random.default_rng([seed, next(epochs)])
        groups = files.row_groups
        if shuffle:
            groups = [groups[number] for number in random.permutation(len(groups))]
        for table, targets in _gathered(reader.windows(groups, _READ_ROWS), window_rows):
            rows = random.permutation(table.num_rows) if shuffle else np.arange(table.num_rows)
            yield *_flat(packing.pack(columns_of(table)), structure), targets, rows

    signature = (
        *(_spec(part) for part in _flat(structure, structure)),
        tf.TensorSpec([None, targets.shape[1]], tf.float32),
        tf.TensorSpec([None], tf.int64),
    )

    def unpacked(packed: dict[str, Any], targets: tf.Tensor) -> tuple[Any, ...]:
        return (packing.unpack(packed), *tf.unstack(targets, axis=1))

    def batches_of(*parts: tf.Tensor) -> tf.data.Dataset:
        *flat, targets, rows = parts
        return cut_batches(
            (_unflat(flat, structure), targets), unpacked, tf.size(rows, tf.int64), batch_size, False, rows
        )

    dataset = tf.data.Dataset.from_generator(windows, output_signature=signature)
    dataset = dataset.prefetch(_WINDOWS_AHEAD).flat_map(batches_of)
    num_batches = -(-files.num_rows // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(BATCHES_AHEAD)


@dataclass
class _Reader:
    """Row groups as checked windows; each error names the file."""

    files: ParquetFiles
    spec: "FeatureSpec"
    label: Label
    weight: str | None
    binary: bool
    schema: pa.Schema | None = None  # of the first window: what later ones must be

    def windows(self, row_groups: Iterable[RowGroup], batch_rows: int) -> Iterator[Window]:
        for group, row, batch in self.files.batches(row_groups, batch_rows):
            try:
                table = self._typed(pa.table(checked_arrays(batch, self.spec, first_row=row)))
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
        while waiting >= num_rows:
            all_tables, all_targets = pa.concat_tables(tables), np.concatenate(targets)
            yield all_tables.slice(0, num_rows), all_targets[:num_rows]
            tables, targets = [all_tables.slice(num_rows)], [all_targets[num_rows:]]
            waiting -= num_rows
    if waiting:
        yield pa.concat_tables(tables), np.concatenate(targets)


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
