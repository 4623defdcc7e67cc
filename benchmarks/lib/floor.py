"""The least time that a training step of a workload can take on this machine.

Its bytes move at the speed of a copy, and its FLOPs are computed at the speed of the same multiplications alone. Bytes:
the forward gather reads and writes a row of the table a look-up; the update reads and writes each distinct row of the
table and of Adam's two slots once. A row is an embedding and a first-order weight. FLOPs: of the tower, forward and
backward. Merging the gradients of equal ids, the interaction and the metrics count as free.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from peers.interface import pool

from lib.workloads import Workload

FLOAT_BYTES = 4
SLOTS = 2  # Adam's
THREADS = 2
COPIED_MEGABYTES, QUICK_MEGABYTES = 512, 16
SECONDS, QUICK_SECONDS = 5.0, 0.2  # of each measurement: the best call is that of a quiet moment


def bandwidth(megabytes: float, seconds: float) -> float:
    """Bytes read and written a second by the best of several copies of an array, by two threads."""
    source: np.ndarray = np.ones(int(megabytes * 1e6 / FLOAT_BYTES), np.float32)
    target = np.zeros_like(source)  # written once before: else the first copy also asks the system for its pages
    parts = list(zip(np.array_split(target, THREADS), np.array_split(source, THREADS), strict=True))
    with ThreadPoolExecutor(THREADS) as threads:
        best = _best(lambda: list(threads.map(lambda part: np.copyto(*part), parts)), seconds)
    return 2 * source.nbytes / best


def matrix_rate(workload: Workload, seconds: float) -> float:
    """FLOPs a second of the tower's multiplications alone, forward and backward, in float32 through TensorFlow."""
    from nfm_tfrs.keras_compat import tf

    hidden = _layers(workload)[:-1]  # the head, one column, is no measure of what the machine can do
    layers = [
        tuple(
            tf.random.stateless_normal(shape, [0, number])
            for number, shape in enumerate(
                ([workload.batch_size, before], [before, after], [workload.batch_size, after])
            )
        )
        for before, after in hidden
    ]

    @tf.function(autograph=False)
    def multiply(layers: Any) -> Any:
        return [
            (tf.matmul(x, w), tf.matmul(gradient, w, transpose_b=True), tf.matmul(x, gradient, transpose_a=True))
            for x, w, gradient in layers
        ]

    return _flops(workload.batch_size, hidden) / _best(lambda: multiply(layers)[-1][-1].numpy(), seconds)


def flops(workload: Workload) -> int:
    """FLOPs of a step of the tower, forward and backward: three multiplications a layer."""
    return _flops(workload.batch_size, _layers(workload))


def bytes_moved(workload: Workload) -> int:
    """Bytes that the embeddings of a step move, on average over the pool's batches."""
    row = (workload.embedding_dim + 1) * FLOAT_BYTES
    looked_up = workload.batch_size * len(workload.vocabulary_sizes)
    return round(2 * looked_up * row + 2 * (1 + SLOTS) * distinct_rows(workload) * row)


def distinct_rows(workload: Workload) -> float:
    """Distinct ids of a batch, field by field, on average over the pool's batches."""
    return float(np.mean([sum(len(np.unique(field)) for field in rows.ids.T) for rows in pool(workload)]))


def floor(workload: Workload, *, quick: bool = False) -> dict[str, float]:
    """The measured rates of this machine and the least milliseconds of a step."""
    megabytes, seconds = (QUICK_MEGABYTES, QUICK_SECONDS) if quick else (COPIED_MEGABYTES, SECONDS)
    speed, rate = bandwidth(megabytes, seconds), matrix_rate(workload, seconds)
    moved, computed = bytes_moved(workload), flops(workload)
    return {
        "gigabytes_per_second": speed / 1e9,
        "gigaflops_per_second": rate / 1e9,
        "distinct_rows": distinct_rows(workload),
        "bytes": moved,
        "flops": computed,
        "embedding_milliseconds": moved / speed * 1e3,
        "tower_milliseconds": computed / rate * 1e3,
        "milliseconds": (moved / speed + computed / rate) * 1e3,
    }


def _layers(workload: Workload) -> list[tuple[int, int]]:
    """What goes into each layer of the tower and its head, and what comes out."""
    return list(itertools.pairwise([workload.embedding_dim + workload.numbers, *workload.hidden_units, 1]))


def _flops(batch_size: int, layers: list[tuple[int, int]]) -> int:
    return 3 * 2 * batch_size * sum(before * after for before, after in layers)


def _best(call: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest of the calls that this time allows."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best
