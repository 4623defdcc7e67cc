"""The workloads of the speed benchmarks: made-up click logs of a fixed shape.

NumPy and the standard library only: every peer's environment imports it.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

ZIPF_EXPONENT = 1.05  # a batch of W1 then touches about 22 thousand distinct rows, as of a click log
LEAST_VOCABULARY = 3
LABEL_RATE = 0.25
BAG_VOCABULARY = 100_000
MOST_IN_BAG = 100
# DeepCTR's NFM in this package's words: no BatchNorm, no dropout, numbers beside the interaction.
PEER_DEFINITION: dict[str, Any] = {
    "batch_norm": False,
    "interaction_batch_norm": False,
    "dropout": 0.0,
    "interaction_dropout": 0.0,
    "numeric": "concat",
}
_BAG_STOP = 0.0472  # chance that a bag ends behind a value: lengths of mean 21, once cut at 100


@dataclasses.dataclass(frozen=True)
class Workload:
    """The shape of a model and its batches.

    Args:
        vocabulary_sizes: One a categorical field.
        numbers: How many numeric fields there are.
    """

    name: str
    vocabulary_sizes: tuple[int, ...]
    numbers: int
    embedding_dim: int
    hidden_units: tuple[int, ...]
    batch_size: int


class Rows(NamedTuple):
    """Rows of a workload.

    Args:
        ids: int32 `[rows, fields]`, each 0 … size - 1 within its own field.
        numbers: float32 `[rows, numbers]`, standard normal.
        labels: float32 `[rows]`, 0 or 1.
    """

    ids: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray


class Bags(NamedTuple):
    """One bag of ids a row, as compressed sparse rows.

    Args:
        values: int32 `[total]`, each 0 … `BAG_VOCABULARY` - 1.
        row_splits: int64 `[rows + 1]`.
    """

    values: np.ndarray
    row_splits: np.ndarray

    def padded(self) -> np.ndarray:
        """int32 `[rows, MOST_IN_BAG]`: ids plus one, then zeros."""
        filled = np.arange(MOST_IN_BAG) < np.diff(self.row_splits)[:, None]
        padded: np.ndarray = np.zeros(filled.shape, np.int32)
        padded[filled] = self.values + 1
        return padded


class _Shape(NamedTuple):
    rows: int
    fields: int
    numbers: int
    embedding_dim: int
    hidden_units: tuple[int, ...]
    batch_size: int


_SHAPES = {
    "W1": _Shape(1_000_000, 26, 13, 16, (256, 128), 4096),
    "W2": _Shape(5_382, 10, 0, 64, (64,), 1024),
    "W3": _Shape(1_000_000, 26, 13, 16, (256, 128), 4096),  # W1; its rows are varied
    "W5": _Shape(10_000, 5, 0, 16, (256, 128), 4096),  # beside these fields a bag: `generate_bags`
}


def workload(name: str, rows: int | None = None) -> Workload:
    """The workload of this name, with so many rows of vocabulary in all, or its own number.

    Raises:
        ValueError: There is no such workload.
    """
    if name not in _SHAPES:
        raise ValueError(f"Unknown workload {name!r}; known: {', '.join(_SHAPES)}.")
    shape = _SHAPES[name]
    sizes = _vocabulary_sizes(shape.rows if rows is None else rows, shape.fields)
    return Workload(name, sizes, *shape[2:])


def generate(workload: Workload, num_rows: int, seed: int) -> Rows:
    """Rows whose ids follow Zipf's law, field by field; the same seed gives the same rows.

    The labels follow from nothing: no quality is measured with them.
    """
    rng = np.random.default_rng(seed)
    ids: np.ndarray = np.empty([num_rows, len(workload.vocabulary_sizes)], np.int32)
    for field, size in enumerate(workload.vocabulary_sizes):
        ids[:, field] = zipf_ids(size, num_rows, rng, field)
    numbers = rng.standard_normal((num_rows, workload.numbers), np.float32)
    labels = (rng.random(num_rows) < LABEL_RATE).astype(np.float32)
    return Rows(ids, numbers, labels)


def generate_bags(num_rows: int, seed: int) -> Bags:
    """Bags of one to `MOST_IN_BAG` values, 21 on average; the same seed gives the same bags."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(_BAG_STOP, num_rows), MOST_IN_BAG)
    splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Bags(zipf_ids(BAG_VOCABULARY, int(splits[-1]), rng, field=0), splits)


def zipf_ids(size: int, count: int, rng: np.random.Generator, field: int) -> np.ndarray:
    """int32 `[count]` ids 0 … size - 1; which ids are frequent depends on `field` alone, not on `rng`."""
    cumulative = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    ranks = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    # Permuted: frequent ids side by side would share cache lines, which no real table gives.
    order = np.random.default_rng(field).permutation(size).astype(np.int32)
    return order[np.minimum(ranks, size - 1)]


def _vocabulary_sizes(rows: int, fields: int) -> tuple[int, ...]:
    """Sizes in a geometric row from tiny to large, `rows` in all: as the fields of a click log differ."""
    wanted = np.geomspace(1, max(rows / 20, 1), fields)
    sizes = np.maximum(LEAST_VOCABULARY, np.floor(wanted / wanted.sum() * rows)).astype(int)
    sizes[-1] += rows - sizes.sum()
    if sizes[-1] < LEAST_VOCABULARY:
        raise ValueError(f"{fields} fields of at least {LEAST_VOCABULARY} values need more rows; received {rows}.")
    return tuple(int(size) for size in sizes)
