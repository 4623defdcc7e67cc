"""The least time that a training step of a workload can take on this machine, made of what it cannot do without.

Products: the tower's multiplications alone, forward and backward, at the shapes of the workload, in float32 and in
bfloat16. Rows: each distinct row of a batch read from and written to the table and Adam's two slots, at its place, and
each look-up read once more from these rows. Distinct: the look-ups' ids without their duplicates. A row is an embedding
and a first-order weight. Each part is TensorFlow's fastest way that is known, timed alone, the best of many calls; they
follow one another. Merging the gradients of equal ids, the interaction, the optimizer's arithmetic and the metrics
count as free.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from peers.interface import pool

from lib.workloads import Workload

SLOTS = 2  # Adam's
SECONDS, QUICK_SECONDS = 4.0, 0.1  # of each measurement: the best call is that of a quiet moment


def floor(workload: Workload, *, quick: bool = False) -> dict[str, float]:
    """The milliseconds of each part and of a step, with products in float32 and in bfloat16."""
    seconds = QUICK_SECONDS if quick else SECONDS
    products = {dtype: _best(_products(workload, dtype), seconds) * 1e3 for dtype in ("float32", "bfloat16")}
    rows, distinct = (_best(call, seconds) * 1e3 for call in _rows(workload))
    return {
        "distinct_rows": distinct_rows(workload),
        "flops": flops(workload),
        "products_milliseconds": products["float32"],
        "bfloat16_products_milliseconds": products["bfloat16"],
        "rows_milliseconds": rows,
        "distinct_milliseconds": distinct,
        "milliseconds": products["float32"] + rows + distinct,
        "bfloat16_milliseconds": products["bfloat16"] + rows + distinct,
    }


def flops(workload: Workload) -> int:
    """FLOPs of a step of the tower, forward and backward: three multiplications a layer."""
    return 3 * 2 * workload.batch_size * sum(before * after for before, after in _layers(workload))


def distinct_rows(workload: Workload) -> float:
    """Distinct ids of a batch, field by field, on average over the pool's batches."""
    return float(np.mean([sum(len(np.unique(field)) for field in rows.ids.T) for rows in pool(workload)]))


def _products(workload: Workload, dtype: str) -> Callable[[], Any]:
    """A call of the tower's multiplications, the head's left out: one column is no product."""
    from nfm_tfrs.keras_compat import tf

    def normal(*shape: int) -> Any:
        return tf.cast(tf.random.stateless_normal(shape, [0, 1]), dtype)

    size = workload.batch_size
    layers = [(normal(size, a), normal(a, b), normal(size, b)) for a, b in _layers(workload)[:-1]]

    @tf.function(autograph=False)
    def multiply(layers: Any) -> Any:
        return [
            (tf.matmul(x, w), tf.matmul(gradient, w, transpose_b=True), tf.matmul(x, gradient, transpose_a=True))
            for x, w, gradient in layers
        ]

    return lambda: [part for parts in multiply(layers) for part in parts][-1][0, 0].numpy()


def _rows(workload: Workload) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A call that moves the rows of a batch, and one that finds the distinct ones."""
    from nfm_tfrs.keras_compat import tf

    offsets = np.concatenate([[0], np.cumsum(workload.vocabulary_sizes)[:-1]])
    ids = tf.constant((pool(workload)[0].ids + offsets).reshape(-1), tf.int64)
    distinct, places = tf.unique(ids, tf.int32)
    shape = [sum(workload.vocabulary_sizes), workload.embedding_dim + 1]
    tables = [tf.Variable(tf.zeros(shape)) for _ in range(1 + SLOTS)]

    @tf.function(autograph=False)
    def move(distinct: Any, places: Any) -> Any:
        rows = [tf.gather(table, distinct) for table in tables]
        looked_up = tf.gather(rows[0], places)
        for table, part in zip(tables, rows, strict=True):
            table.scatter_update(tf.IndexedSlices(part, distinct))
        return looked_up[0, 0]

    @tf.function(autograph=False)
    def find(ids: Any) -> Any:
        return tf.unique(ids, tf.int32)[1][0]

    return lambda: move(distinct, places).numpy(), lambda: find(ids).numpy()


def _layers(workload: Workload) -> list[tuple[int, int]]:
    """What goes into each layer of the tower and its head, and what comes out."""
    return list(itertools.pairwise([workload.embedding_dim + workload.numbers, *workload.hidden_units, 1]))


def _best(call: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest of the calls that this time allows."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best
