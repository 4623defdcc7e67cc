"""Batches for Keras from Parquet files of any size, a window of rows in memory at a time."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.pipeline.batches import Packing, batches_in_order, check_batch_size
from nfm_tfrs.data.pipeline.generator import Elements, dataset_of
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.data.pipeline.windows import SAMPLE_ROWS, Paths, Reader, Transform
from nfm_tfrs.data.readers.parquet import RowGroup
from nfm_tfrs.features.check import Bag, Columns
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.target import Target

if TYPE_CHECKING:
    from nfm_tfrs.features.spec import FeatureSpec

# Of an epoch: the row groups as they are visited, and what gives the order of a window's rows.
Orders = tuple[Sequence[RowGroup], Callable[[int], np.ndarray]]


def stream(
    paths: Paths,
    spec: "FeatureSpec",
    target: Target | str,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    transform: Transform | None = None,
    encoded: EncodedPart | None = None,
    window_rows: int | None = None,
    start: Position | None = None,
) -> tf.data.Dataset:
    """Returns Parquet files as a dataset of (features, label[, weight]) batches that never holds a whole file.

    With `shuffle`, epoch e visits the row groups in a random order and permutes the rows inside each window, both
    drawn from (seed, e). Rows of one row group that lie further apart than a window never meet: write files of many
    row groups, or in random order. An epoch begins with each new iterator, so two iterators open at once are two
    epochs; a dataset built again starts at epoch 0 again. Memory is that of a few windows.

    Args:
        paths: A Parquet file, a list of them, a glob pattern or a folder.
        spec: The features.
        target: What is predicted; of a text such as `"rating>=4"` the binary target without weights.
        batch_size: Rows a batch; only the last of an epoch may hold fewer.
        shuffle: Whether to shuffle the rows.
        seed: Seed of the orders.
        transform: What to make of the arrays `checked_arrays` returns; `raw_columns` if not given. Unused with
            `encoded`, whose columns it has made before.
        encoded: All rows in the order of the files, as `nfm_tfrs.data.pipeline.windows.encode_windows` gives them and a
            cache holds them. The batches are the same, but come from there.
        window_rows: Rows permuted together, rounded down to whole batches, at least one batch. Resident memory grows
            by several times a window. None takes as many rows as fill about 24 MB.
        start: Where an iterator begins; it then goes on pass after pass without end. None makes each iterator a pass.

    Returns:
        A dataset of known cardinality, infinite with `start`, of batches like those of `nfm_tfrs.data.batches`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not whole Parquet files, no rows, a first batch that is not what is declared, another number of
            encoded rows, or weights in one of `target` and `encoded` alone. Later batches raise the same line from
            inside the pipeline, wrapped by TensorFlow: `plain_errors` unwraps it.
    """
    check_batch_size(batch_size)
    target = Target.of(target)
    reader = Reader(paths, spec, target, transform, min(batch_size, SAMPLE_ROWS))
    groups, num_rows = reader.files.row_groups, reader.files.num_rows
    window_rows = max((window_rows or reader.window_rows) // batch_size, 1) * batch_size

    def orders(epoch: int) -> Orders:
        if not shuffle:
            return groups, np.arange
        random = np.random.default_rng([seed, epoch])
        return [groups[n] for n in random.permutation(len(groups))], random.permutation

    if encoded is None:
        return _batches_of_files(reader, orders, batch_size, window_rows, start)
    if len(encoded) != num_rows:
        raise ValueError(f"The files have {num_rows} rows, but {len(encoded)} were encoded. Encode them again.")
    if (encoded.weights is None) != (target.weight is None):
        were = "without weights" if encoded.weights is None else "with weights"
        raise ValueError(f"weight is {target.weight!r}, but the rows were encoded {were}. Encode them again with it.")

    def numbers(epoch: int) -> np.ndarray:
        return _row_numbers(groups, *orders(epoch), window_rows)

    # None, not the numbers in their order: slices are cut faster than rows are gathered.
    order = numbers if shuffle else None
    targets = (encoded.labels, encoded.weights)
    return batches_in_order(encoded.columns, *targets, order, batch_size=batch_size, start=start)


def _batches_of_files(
    reader: Reader, orders: Callable[[int], Orders], batch_size: int, window_rows: int, start: Position | None
) -> tf.data.Dataset:
    """Returns the batches of what is read window by window."""
    packing = Packing(reader.columns(reader.sample[0]))
    sample = packing.pack(reader.columns(reader.sample[0]))
    signature = [
        *(_spec(part) for part in _flat(sample, sample)),
        tf.TensorSpec([None, reader.sample[1].shape[1]], tf.float32),
    ]

    def elements(epoch: int, first: int = 0) -> Elements:
        groups, permutation = orders(epoch)
        windows, row = divmod(first * batch_size, window_rows)
        for _ in range(windows):  # which draw from the same numbers as those behind them
            permutation(window_rows)
        for table, targets in reader.gathered(groups, window_rows, skip=windows * window_rows):
            columns = packing.pack(reader.columns(table))
            # Deleted, as `columns` below: what a name still holds is in memory while the next window is read.
            del table
            order = permutation(len(targets))
            for begin in range(row, len(targets), batch_size):
                rows = order[begin : begin + batch_size]
                yield [*_flat({name: _taken(column, rows) for name, column in columns.items()}, sample), targets[rows]]
            row = 0
            del columns

    def endless(_: int) -> Elements:
        assert start is not None
        yield from elements(*start)
        for epoch in itertools.count(start.epoch + 1):
            yield from elements(epoch)

    def unpacked(*parts: tf.Tensor) -> tuple[Any, ...]:
        *flat, targets = parts
        return (packing.unpack(_unflat(flat, sample)), *tf.unstack(targets, axis=1))

    num_batches = -(-reader.files.num_rows // batch_size)
    ahead = max(window_rows // batch_size // 2, 1)  # training goes on with half a window while the next one is read
    if start is not None:
        return dataset_of(endless, signature, size=None, ahead=ahead).map(unpacked)
    return dataset_of(elements, signature, size=num_batches, ahead=ahead).map(unpacked)


def _row_numbers(
    groups: Sequence[RowGroup],
    visited: Sequence[RowGroup],
    permutation: Callable[[int], np.ndarray],
    window_rows: int,
) -> np.ndarray:
    """Returns all rows' numbers, int64 `[n]`, in the order in which `_batches_of_files` gives the rows."""
    starts = dict(zip(groups, np.cumsum([0, *(group.num_rows for group in groups)]).tolist(), strict=False))
    rows = np.concatenate([starts[group] + np.arange(group.num_rows) for group in visited])
    for start in range(0, len(rows), window_rows):
        window = rows[start : start + window_rows]
        window[:] = window[permutation(len(window))]
    return rows


def _taken(column: np.ndarray | Bag, rows: np.ndarray) -> np.ndarray | Bag:
    return column.take(rows) if isinstance(column, Bag) else column.take(rows, axis=0)


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
