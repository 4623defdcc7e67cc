"""Batches for Keras from columns in memory, each gathered whole by a permutation."""

import itertools
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from nfm_tfrs.data.pipeline.generator import untuned
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.features.check import Bag, Columns
from nfm_tfrs.keras_compat import tf

BATCHES_AHEAD = 2
_PLAIN = re.compile(r"\b(?:ValueError|FileNotFoundError): (.+)")


def batches(
    columns: Columns,
    labels: np.ndarray | None,
    weights: np.ndarray | None = None,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    drop_remainder: bool = False,
    start: Position | None = None,
) -> tf.data.Dataset:
    """Returns the rows in memory as a dataset of (features, label), or (features, label, weight), batches.

    With `shuffle`, epoch e is in the order of the permutation drawn from (seed, e). An epoch begins with each new
    iterator, so two iterators open at once are two epochs; a dataset built again starts at epoch 0 again.

    Args:
        columns: Raw or encoded columns: arrays `[n]` or `[n, k]`, and bags.
        labels: `[n]`; None gives batches of the features alone.
        weights: `[n]`, of the examples.
        batch_size: Rows a batch; the last one holds what is left.
        shuffle: Whether to permute the rows.
        seed: Seed of the permutations.
        drop_remainder: Whether to leave a last partial batch out; the batch size is then static.
        start: Where an iterator begins; it then goes on pass after pass without end. None makes each iterator a pass.

    Returns:
        A dataset of known cardinality, infinite with `start`. Features are a dict of tensors `[b]` or `[b, k]` and
        ragged tensors `[b, None]`; label and weight are float32 `[b]`.

    Raises:
        ValueError: No rows, columns of different length, weights without labels, a batch size below 1, or not a
            single whole batch.
    """
    if labels is None and weights is not None:
        raise ValueError("weights were given without labels. Give labels too, or leave the weights out.")
    num_rows = _num_rows(columns, labels, weights)
    check_batch_size(batch_size)
    if drop_remainder and num_rows < batch_size:
        raise ValueError(f"{num_rows} rows are no whole batch of {batch_size}. Lower batch_size or keep the remainder.")

    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(num_rows)

    return batches_in_order(
        columns,
        labels,
        weights,
        permutation if shuffle else None,
        batch_size=batch_size,
        drop_remainder=drop_remainder,
        start=start,
    )


def batches_in_order(
    columns: Columns,
    labels: np.ndarray | None,
    weights: np.ndarray | None,
    order: Callable[[int], np.ndarray] | None,
    *,
    batch_size: int,
    drop_remainder: bool = False,
    start: Position | None = None,
) -> tf.data.Dataset:
    """Returns batches as `batches` does, in any order of the rows; memory-mapped columns stay where they are.

    Args:
        columns: Raw or encoded columns: arrays `[n]` or `[n, k]`, and bags.
        labels: `[n]`; None gives batches of the features alone.
        weights: `[n]`, of the examples, with labels.
        order: Called with the number of the epoch, as `batches` counts them; returns the rows' numbers, int64 `[n]`.
            None leaves the rows as they are.
        batch_size: Rows a batch; the last one holds what is left.
        drop_remainder: Whether to leave a last partial batch out; the batch size is then static.
        start: Where an iterator begins; it then goes on pass after pass without end. None makes each iterator a pass.

    Raises:
        ValueError: No rows, or columns of different length.

    Example:
        >>> columns = {"user": np.array([10, 11, 12])}
        >>> turned = batches_in_order(columns, None, None, lambda epoch: np.array([2, 1, 0]), batch_size=2)
        >>> [features["user"].numpy().tolist() for features in turned]
        [[12, 11], [10]]
    """
    num_rows = _num_rows(columns, labels, weights)
    # The map functions below capture these tensors: Dataset passes captured tensors by reference, neither as
    # constants of a graph (limited to 2 GB) nor as one slice a row. On the CPU, since an epoch would otherwise
    # travel to the GPU and back.
    packing = Packing(columns)
    with tf.device("CPU:0"):
        packed = {name: to_tensor(column) for name, column in packing.pack(columns).items()}
        targets = [tf.constant(part, tf.float32) for part in (labels, weights) if part is not None]

    num_batches = num_rows // batch_size if drop_remainder else -(-num_rows // batch_size)

    def cut(rows: tf.Tensor | None, first: Any = 0) -> tf.data.Dataset:
        """The batches of these rows, `[n]` int64, from the first on; of the rows as they are if None."""

        def batch(start: tf.Tensor) -> Any:
            if rows is None:
                taken = partial(_sliced, start=start, batch_size=batch_size, static=drop_remainder)
            else:
                taken = partial(tf.gather, indices=_sliced(rows, start, batch_size, drop_remainder))
            columns_of_batch, *targets_of_batch = tf.nest.map_structure(taken, (packed, *targets))
            features = packing.unpack(columns_of_batch)
            return (features, *targets_of_batch) if targets else features

        return tf.data.Dataset.range(first * batch_size, num_batches * batch_size, batch_size).map(batch)

    def rows_of(epoch: tf.Tensor) -> tf.Tensor | None:
        if order is None:
            return None
        return tf.ensure_shape(tf.numpy_function(order, [epoch], tf.int64), [num_rows])

    if start is not None:
        begin = start

        def from_position(epoch: tf.Tensor) -> tf.data.Dataset:
            return cut(rows_of(epoch), tf.where(epoch == begin.epoch, tf.constant(begin.step, tf.int64), 0))

        dataset = tf.data.Dataset.range(begin.epoch, tf.int64.max).flat_map(from_position)
        size = tf.data.INFINITE_CARDINALITY
    else:
        epochs = itertools.count()

        def next_epoch(_: tf.Tensor) -> tf.data.Dataset:
            return cut(rows_of(tf.numpy_function(lambda: np.int64(next(epochs)), [], tf.int64)))

        # Not from_generator: see `dataset_of`.
        dataset = cut(None) if order is None else tf.data.Dataset.range(1).flat_map(next_epoch)
        size = num_batches
    return untuned(dataset.apply(tf.data.experimental.assert_cardinality(size)).prefetch(BATCHES_AHEAD))


class Packing:
    """Columns `[n]` of one numeric dtype side by side as one array `[n, k]`.

    A row of k columns is then one gather from a cache line or two, instead of k gathers from k places: twice as fast.

    Args:
        columns: The columns, or some with the same names and dtypes.
    """

    def __init__(self, columns: Columns) -> None:
        self._names = list(columns)
        self._packs: dict[str, list[str]] = {}
        for name, column in columns.items():
            if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "biuf":
                self._packs.setdefault(f"packed/{column.dtype}", []).append(name)
        self._packed = {name for names in self._packs.values() for name in names}

    def pack(self, columns: Columns) -> Columns:
        """Returns the columns, packed."""
        packs: Columns = {pack: np.stack([columns[n] for n in names], axis=1) for pack, names in self._packs.items()}
        return packs | {name: columns[name] for name in self._names if name not in self._packed}

    def unpack(self, packed: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a batch of the packed tensors as the columns it was, in their order."""
        columns = {
            name: column
            for pack, names in self._packs.items()
            for name, column in zip(names, tf.unstack(packed[pack], axis=1), strict=True)
        }
        return {name: columns[name] if name in self._packed else packed[name] for name in self._names}


def to_tensor(column: np.ndarray | Bag) -> Any:
    """Returns an array as a tensor, a bag as a ragged tensor; both on the memory of a file that is mapped whole."""
    if isinstance(column, Bag):
        return tf.RaggedTensor.from_row_splits(to_tensor(column.values), to_tensor(column.row_splits), validate=False)
    if isinstance(column, np.memmap) and column.ctypes.data % mmap.PAGESIZE == 0:  # of a part, TensorFlow may die
        return tf.experimental.dlpack.from_dlpack(column.__dlpack__())
    return tf.constant(column)


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless `batch_size` is 1 or more."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; received {batch_size}.")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raises the readers' own one-line errors where TensorFlow has wrapped them on their way through a pipeline.

    Raises:
        ValueError: With the line alone, caused by TensorFlow's error.

    Example:
        >>> def check(value):
        ...     raise ValueError("Column 'price' is infinite in row 7.")
        >>> broken = tf.data.Dataset.range(1).map(lambda value: tf.numpy_function(check, [value], tf.int64))
        >>> with plain_errors():
        ...     list(broken)
        Traceback (most recent call last):
        ValueError: Column 'price' is infinite in row 7.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        line = _PLAIN.search(error.message)
        if line is None:
            raise
        raise ValueError(line[1]) from error


def _sliced(part: Any, start: tf.Tensor, batch_size: int, static: bool) -> Any:
    rows = part[start : start + batch_size]
    if static and not isinstance(part, tf.RaggedTensor):
        rows.set_shape([batch_size, *part.shape[1:]])
    return rows


def _num_rows(columns: Mapping[str, np.ndarray | Bag], *targets: np.ndarray | None) -> int:
    lengths = {name: len(column) for name, column in columns.items()}
    lengths |= {name: len(part) for name, part in zip(("label", "weight"), targets, strict=True) if part is not None}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "no columns"
        raise ValueError(f"Columns, labels and weights must be of one length; received {listed}.")
    num_rows = next(iter(lengths.values()))
    if not num_rows:
        raise ValueError("The columns have no rows. Give at least one.")
    return num_rows
