"""Passes over the training rows, cut in slices: the resource by which a search over few and many rows is measured."""

import copy

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.pipeline.batches import batches
from nfm_tfrs.features.check import Bag, Columns
from nfm_tfrs.features.rates import merged_rates
from nfm_tfrs.keras_compat import tf


class Slices:
    """The rows of each slice: a whole training is `passes` passes, cut into `count` slices of one size.

    Pass p is in the order of the permutation drawn from (seed, p); slice k holds the places from k · passes/count to
    (k + 1) · passes/count of the passes in a row. Slices of one pass are disjoint, and together are the pass.

    Args:
        part: The rows.
        passes: Passes over them, a fraction included.
        count: Number of slices.
        seed: Seed of the permutations.

    Raises:
        ValueError: Fewer than one slice, no passes, fewer rows than slices, or rows without labels.
    """

    def __init__(self, part: EncodedPart, *, passes: float, count: int, seed: int) -> None:
        if count < 1 or not passes > 0:
            raise ValueError(f"A training needs passes above 0 and a slice or more; received {passes} and {count}.")
        if part.labels is None:
            raise ValueError("Training rows need labels; received none. Prepare them with a label.")
        self.part = part
        self.passes = passes
        self.seed = seed
        self.count = count
        self._size = passes * len(part) / count  # of a slice, in rows
        if round(passes * len(part)) < count:
            raise ValueError(f"{len(part)} rows in {passes} passes are too few for {count} slices. Give more passes.")

    def longer(self, passes: float) -> "Slices":
        """Returns the same slices and as many more as fit into more passes.

        Args:
            passes: Passes over the rows; with no more than there are, the slices are the same.
        """
        longer = copy.copy(self)
        longer.count = max(self.count, int(passes * len(self.part) / self._size))
        longer.passes = self.passes * longer.count / self.count
        return longer

    def rows(self, number: int) -> np.ndarray:
        """Returns the numbers of the rows of a slice, `[n]` int64, in their order; there is no last slice."""
        places = np.arange(*self._bounds(number, number + 1))
        found: np.ndarray = np.empty(len(places), np.int64)
        for pass_number in np.unique(places // len(self.part)):
            order = np.random.default_rng([self.seed, int(pass_number)]).permutation(len(self.part))
            here = places // len(self.part) == pass_number
            found[here] = order[places[here] % len(self.part)]
        return found

    def dataset(self, number: int, batch_size: int) -> tf.data.Dataset:
        """Returns the slice as batches of (columns, label[, weight])."""
        part = self.part.take(self.rows(number))
        rows = (part.columns, part.labels, part.weights)
        return batches(*rows, batch_size=batch_size, shuffle=False, seed=self.seed)

    def steps(self, batch_size: int, slices: int | None = None) -> int:
        """Returns the number of steps of a whole training, or of its first slices."""
        return int(np.sum(-(-np.diff(self._bounds(0, slices or self.count)) // batch_size)))

    def _bounds(self, first: int, last: int) -> np.ndarray:
        """The places at which slices begin, from the first one to the end of the one before the last."""
        bounds: np.ndarray = np.round(np.arange(first, last + 1) * self._size).astype(np.int64)
        return bounds


def joined(one: EncodedPart, other: EncodedPart) -> EncodedPart:
    """Returns the labelled rows of both, the other's behind."""
    columns: Columns = {}
    for name, column in one.columns.items():
        behind = other.columns[name]
        if isinstance(column, Bag) and isinstance(behind, Bag):
            splits = np.concatenate([column.row_splits, behind.row_splits[1:] + column.row_splits[-1]])
            columns[name] = Bag(np.concatenate([column.values, behind.values]), splits)
        else:
            columns[name] = np.concatenate([column, behind])
    if one.labels is None or other.labels is None:
        raise ValueError("Rows to train on need labels; received none. Prepare them with a label.")
    weights = None
    if one.weights is not None or other.weights is not None:  # rows without one count once
        weights = np.concatenate(
            [np.ones(len(part), np.float32) if part.weights is None else part.weights for part in (one, other)]
        )
    known = [(len(part), part.rates) for part in (one, other) if part.rates]
    rates = merged_rates(known) if len(known) == 2 else []
    return EncodedPart(columns, np.concatenate([one.labels, other.labels]), weights, rates)
