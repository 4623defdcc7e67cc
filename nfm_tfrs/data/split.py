"""Which rows train, validate and test: at random, by time, or by time within each user."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from nfm_tfrs.data.order import complete_column, times

FRACTIONS = (0.8, 0.1, 0.1)
Kind = Literal["random", "time", "user-time"]
_NUM_COLUMNS = {"random": 0, "time": 1, "user-time": 2}
_FORMS = "random, time:timestamp or user-time:user_id,timestamp, each with :0.8,0.1,0.1 behind it if you like"
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*")


class Parts(NamedTuple):
    """Row numbers of the three parts, `[n]` int64 each, in file order; together every row once."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Split:
    """A way to divide a table's rows into train, valid and test.

    With fractions (0.8, 0.1, 0.1) and a row's position in its order, counted from 0, the row is of train where
    position / count < 0.8, of valid where it is < 0.9, and of test otherwise. The order is

        random: a permutation drawn from `seed`
        time: all rows by time
        user-time: each user's rows by time, position and count within the user

    Rows of equal time keep the order of the file, so a split by time may part rows of one moment; a user with one
    row is all train.

    Args:
        kind: `"random"`, `"time"` or `"user-time"`.
        columns: The columns it reads: none, (time,) or (user, time).
        fractions: Shares of the three parts, none negative, of sum 1.
        seed: Seed of the random split.
    """

    kind: Kind
    columns: tuple[str, ...] = ()
    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0

    @classmethod
    def of(cls, split: "Split | str", seed: int = 0) -> "Split":
        """Returns the split itself, or the one that a text writes, with the seed; see `parse_split`.

        Raises:
            ValueError: It is neither, or no split that a text can write.
        """
        if isinstance(split, Split):
            return split
        if not isinstance(split, str):
            raise ValueError(f"A split is {_FORMS}; received {split!r:.60}.")
        return parse_split(split, seed)

    def __str__(self) -> str:
        columns = f":{','.join(self.columns)}" if self.columns else ""
        fractions = "" if self.fractions == FRACTIONS else ":" + ",".join(f"{share:g}" for share in self.fractions)
        return f"{self.kind}{columns}{fractions}"

    def parts(self, table: pa.Table) -> Parts:
        """Returns the row numbers of each part.

        Raises:
            ValueError: A column is missing, holds null, or the time column is not numbers, dates or times.
        """
        if self.kind == "random":
            position = np.empty(table.num_rows, np.int64)
            position[np.random.default_rng(self.seed).permutation(table.num_rows)] = np.arange(table.num_rows)
            return self._cut(position, np.full(table.num_rows, table.num_rows))
        groups = np.zeros(table.num_rows, np.int64)
        if self.kind == "user-time":
            users = complete_column(table, self.columns[0], "the split")
            users = users if types.is_dictionary(users.type) else users.dictionary_encode()
            groups = users.unify_dictionaries().combine_chunks().indices.to_numpy() if table.num_rows else groups
        order = np.lexsort((times(table, self.columns[-1], "the split"), groups))  # stable: ties keep file order
        counts = np.bincount(groups)
        starts = np.cumsum(counts) - counts
        position = np.empty(table.num_rows, np.int64)
        position[order] = np.arange(table.num_rows) - starts[groups[order]]
        return self._cut(position, counts[groups])

    def _cut(self, position: np.ndarray, count: np.ndarray) -> Parts:
        share = position / np.maximum(count, 1)
        # Rounded, since 0.1 + 0.2 > 0.3 would move the row that lies exactly at the limit.
        until_train, until_valid = round(self.fractions[0], 12), round(self.fractions[0] + self.fractions[1], 12)
        part = np.where(share < until_train, 0, np.where(share < until_valid, 1, 2))
        return Parts(*(np.flatnonzero(part == number) for number in range(3)))


def parse_split(text: str, seed: int = 0) -> Split:
    """Returns the split that `text` writes.

    Args:
        text: `random`, `time:timestamp` or `user-time:user_id,timestamp`; with three fractions behind it if wanted,
            as in `random:0.7,0.2,0.1` and `time:timestamp:0.7,0.2,0.1`.
        seed: Seed of the random split.

    Raises:
        ValueError: It is none of these, or the fractions are not three shares of sum 1.
    """
    kind, *rest = (part.strip() for part in text.split(":"))
    if kind not in _NUM_COLUMNS:
        raise ValueError(f"A split is {_FORMS}; received {text!r}.")
    columns: tuple[str, ...] = ()
    if _NUM_COLUMNS[kind]:
        columns = tuple(name.strip() for name in rest.pop(0).split(",")) if rest else ()
        if len(columns) != _NUM_COLUMNS[kind] or not all(columns):
            wanted = "one column, the time" if kind == "time" else "two columns, the user and the time"
            raise ValueError(f"A {kind} split needs {wanted}; received {text!r}. A split is {_FORMS}.")
    if len(rest) > 1:
        raise ValueError(f"A split is {_FORMS}; received {text!r}.")
    fractions = _fractions(rest[0]) if rest else FRACTIONS
    return Split(kind, columns, fractions, seed)  # type: ignore[arg-type]


def _fractions(text: str) -> tuple[float, float, float]:
    numbers = [_NUMBER.fullmatch(part) for part in text.split(",")]
    fractions = tuple(float(number[1]) for number in numbers if number)
    if len(numbers) != 3 or len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(
            f"The fractions of a split are three numbers of sum 1, such as 0.8,0.1,0.1; received {text!r}."
        )
    return fractions[0], fractions[1], fractions[2]
