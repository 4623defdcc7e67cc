"""A dataset of what a Python generator yields, that leaves the process's memory allocator alone."""

import itertools
import weakref
from collections.abc import Callable, Generator, Sequence

import numpy as np

from nfm_tfrs.keras_compat import tf

_ALIGNMENT = 64  # bytes; TensorFlow copies other arrays

Elements = Generator[Sequence[np.ndarray], None, None]


def dataset_of(
    generate: Callable[[int], Elements], signature: Sequence[tf.TensorSpec], *, size: int | None, ahead: int
) -> tf.data.Dataset:
    """Returns the elements of `generate(e)` for the e-th iterator of the dataset, counted from 0.

    Like `tf.data.Dataset.from_generator`, whose kernel lowers malloc's threshold for mapping memory to 128 KB for the
    whole process: each training step then takes its memory from the system anew (7,000 page faults, half of the step's
    time).

    Args:
        generate: Called with the number of the iterator; the generator is closed when it ends or the iterator is left.
        signature: Dtypes and shapes of an element's arrays.
        size: Number of elements; None of a generator without end.
        ahead: How many elements are generated before they are asked for.

    Example:
        >>> def count(epoch):
        ...     yield from ([np.array(10 * epoch + n)] for n in range(2))
        >>> dataset = dataset_of(count, [tf.TensorSpec([], tf.int64)], size=2, ahead=1)
        >>> [[number.numpy().item() for (number,) in dataset] for epoch in range(2)]
        [[0, 1], [10, 11]]
    """
    under_way = _UnderWay(generate)

    def elements(zero: tf.Tensor) -> tf.data.Dataset:
        token = tf.numpy_function(under_way.begin, [zero], tf.int64)

        def element(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            arrays = tf.numpy_function(under_way.next, [token], [spec.dtype for spec in signature])
            return tuple(tf.ensure_shape(array, spec.shape) for array, spec in zip(arrays, signature, strict=True))

        return tf.data.Dataset.range(tf.int64.max if size is None else size).map(element).prefetch(ahead)

    dataset = tf.data.Dataset.range(1).flat_map(elements)
    cardinality = tf.data.INFINITE_CARDINALITY if size is None else size
    return untuned(dataset.apply(tf.data.experimental.assert_cardinality(cardinality)))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset without tf.data's autotuning.

    There is nothing to tune, and an iterator with autotuning waits at its end for a thread that sleeps for up to as
    long as the epoch lasted.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class _UnderWay:
    """The generators of the iterators that are open.

    TensorFlow tells nobody that an iterator is left, but frees the tensors that it alone held. One that is made of an
    aligned array holds that array itself, and the end of the array can be waited for.
    """

    def __init__(self, generate: Callable[[int], Elements]) -> None:
        self._generate = generate
        self._numbers = itertools.count()
        self._generators: dict[int, Elements] = {}

    def begin(self, _: np.ndarray) -> np.ndarray:
        """Begins a generator and returns its number, an int64 scalar; the generator is closed when that is freed."""
        number = next(self._numbers)
        self._generators[number] = self._generate(number)
        memory: np.ndarray = np.empty(2 * _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        token: np.ndarray = memory[start : start + 8].view(np.int64).reshape([])
        token[...] = number
        weakref.finalize(token, self._close, number).atexit = False
        return token

    def next(self, token: np.ndarray) -> Sequence[np.ndarray]:
        """Returns the next element of the generator of this number."""
        return next(self._generators[int(token)])

    def _close(self, number: int) -> None:
        self._generators.pop(number).close()
