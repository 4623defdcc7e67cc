"""Columns on the host as NumPy, bags included: what the rest of the package feeds and encodes, without Arrow."""

from dataclasses import dataclass

import numpy as np

INT_MISSING = -1
UINT64_MISSING = 2**64 - 1  # what -1 becomes in unsigned integers of 64 bits
WEIGHTS_OF = b"weights_of"  # metadata of an Arrow field: the bag column whose weights a column holds
HISTORY_OF = b"history_of"  # metadata of an Arrow field: the column whose earlier values a column of lists holds


@dataclass(frozen=True, eq=False)
class Bag:
    """A list of values a row, as compressed sparse rows: row i holds `values[row_splits[i]:row_splits[i + 1]]`.

    Args:
        values: `[total]` or `[total, k]`, any dtype.
        row_splits: `[rows + 1]` int64, from 0 to total, never falling.
    """

    values: np.ndarray
    row_splits: np.ndarray

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def take(self, rows: np.ndarray) -> "Bag":
        """Returns the bag of the given rows, `[n]` int64, in their order."""
        starts = self.row_splits[rows]
        lengths = self.row_splits[rows + 1] - starts
        splits = splits_of(lengths)
        positions = np.arange(splits[-1]) + np.repeat(starts - splits[:-1], lengths)
        return Bag(self.values[positions], splits)


Columns = dict[str, np.ndarray | Bag]


def splits_of(lengths: np.ndarray) -> np.ndarray:
    """Returns the row splits, `[rows + 1]` int64, of bags of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
