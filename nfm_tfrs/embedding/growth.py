"""Where the rows of a table lie once its features have grown, and where the rows of new values start."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.growth import TableChange
from nfm_tfrs.features.seen import Groups


@dataclass(frozen=True, eq=False)
class MovedRows:
    """Where the rows of a table lie in the grown one: features lie one behind another, and numbers behind them all.

    Args:
        blocks: Runs of rows that stay together, each as its first row in the old table, its first row in the grown one,
            and its number of rows.
        anew: Rows of the grown table that start anew although they lie in such a run, int64 `[n]`.
    """

    blocks: tuple[tuple[int, int, int], ...]
    anew: np.ndarray

    def placed(self, old: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Returns what is kept for each row of the grown table, `[rows, width]`.

        Args:
            old: What is kept for each row of the old one, `[old rows, width]`.
            start: Where each row of the grown one starts, `[rows, width]`.
        """
        placed: np.ndarray = np.array(start)
        for before, now, count in self.blocks:
            placed[now : now + count] = old[before : before + count]
        placed[self.anew] = start[self.anew]
        return placed


def moved_rows(
    old: FusedEmbedding, new: FusedEmbedding, changes: Mapping[str, TableChange], place: int = 0
) -> MovedRows:
    """Returns where the rows of a table lie in the grown one.

    Args:
        old: The layer of before.
        new: That of the grown features.
        changes: What differs between the vocabularies, by table.
        place: Which of the layers' variables, in the order of their `layouts`.
    """
    blocks: list[tuple[int, int, int]] = []
    anew: list[np.ndarray] = [np.empty(0, np.int64)]
    before_all, now_all = old.layouts[place], new.layouts[place]
    if before_all.compression is not None:
        # The rows of quotients lie last and are alone in being more; no row is one value's, to be started anew.
        return MovedRows(((0, 0, before_all.num_rows),), anew[0])
    for table, (before, count) in before_all.tables.items():
        now, _ = now_all.tables[table]
        blocks.append((before, now, count))
        if table in changes:
            ids = np.concatenate([changes[table].new, changes[table].free])
            anew.append(now + 1 + ids[ids < count - 1])
    blocks.append((before_all.first_number, now_all.first_number, before_all.numbers))
    return MovedRows(tuple(blocks), np.concatenate(anew))


def rows_of_values(embedding: FusedEmbedding, table: str) -> tuple[Any, slice] | None:
    """Returns the variable that the rows of a table's values lie in, and where; None for a compressed table.

    Args:
        embedding: The layer.
        table: The table's name.
    """
    for variable, layout in zip(embedding.tables, embedding.layouts, strict=True):
        if table in layout.tables and layout.compression is None:
            first, count = layout.tables[table]
            return variable, slice(first + 1, first + count)
    return None


def random_rows(embedding: FusedEmbedding, values: Sequence[Any], dim: int | None = None) -> np.ndarray:
    """Returns rows for new values as those of a new table are, float32 `[values, width]`; equal ones for equal values.

    Args:
        embedding: The layer.
        values: The values, in order.
        dim: Length of their embeddings; that of the layer's fields if not given.
    """
    dim = embedding.embedding_dim if dim is None else dim
    # The values are the seed: of one night the rows are always the same, and of two nights never.
    seed = hashlib.sha256(repr(list(values)).encode()).digest()
    drawn = np.random.default_rng(list(seed)).normal(scale=embedding.stddev, size=[len(values), dim])
    return np.pad(drawn.astype(np.float32), [(0, 0), (0, int(embedding.linear))])


def mean_rows(rows: np.ndarray, groups: Groups, count: int) -> np.ndarray:
    """Returns for new values the mean of the old rows in their groups, float32 `[count, width]`.

    A value of several groups starts at the mean of their means, each as often as it is seen there; a value whose groups
    hold no old one starts at zero.

    Args:
        rows: The rows of old values, by their ids, `[ids, width]`.
        groups: Which values were seen in which groups.
        count: Number of new values.
    """
    size = 1 + max(groups.old_groups.max(initial=-1), groups.new_groups.max(initial=-1))
    members = np.bincount(groups.old_groups, minlength=size)
    there = members[groups.new_groups] > 0
    new, of_group, times = groups.new[there], groups.new_groups[there], groups.new_counts[there]
    total = np.bincount(new, times, minlength=count)
    found: np.ndarray = np.zeros([count, rows.shape[1]], np.float32)
    for column, values in enumerate(rows.T):  # one at a time: pairs of all columns would take the memory of tables
        sums = np.bincount(groups.old_groups, values[groups.old_ids], minlength=size)
        means = np.divide(sums, members, out=np.zeros(size), where=members > 0)
        added = np.bincount(new, times * means[of_group], minlength=count)
        found[:, column] = np.divide(added, total, out=np.zeros(count), where=total > 0)
    return found
