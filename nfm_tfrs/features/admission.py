"""Which values of new data get a row, which old ones lose theirs, and the place of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.features.bag import UINT64_MISSING
from nfm_tfrs.features.feature import Categories, DType
from nfm_tfrs.features.growth import Growth
from nfm_tfrs.features.seen import Seen, vocabularies
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import MOST_WAITING, TOO_MANY_IDS, Statistics, are_counted

_WAITING = 100_000  # values of a table that may wait for a row, or four times its vocabulary if that is more


@dataclass(frozen=True, kw_only=True, eq=False)
class Grown:
    """What becomes of features with new data.

    Args:
        features: The grown features.
        freed: By table, ids whose value has lost its row; another value may have taken the place at once.
        earlier: By table, how often each new value was seen before this data, int64 `[n]`, in the order of their ids.
        waiting: By table, values that were seen and have no row, and how often each was; the most frequent ones.
    """

    features: FeatureSpec
    freed: Mapping[str, np.ndarray]
    earlier: Mapping[str, np.ndarray]
    waiting: Mapping[str, Mapping[Any, int]]


def grown_features(
    features: FeatureSpec,
    seen: Mapping[str, Seen],
    growth: Growth,
    statistics: Statistics | None = None,
    *,
    other_rows: int = 0,
) -> Grown:
    """Returns what becomes of features that new data was read for.

    A value that comes back takes its own old place where that is free. Other new values, the most frequent first and
    those of one frequency in their own order, take free places from the first on, and then those behind the last.

    Args:
        features: The features.
        seen: What the new data holds, by table.
        growth: How vocabularies grow.
        statistics: Those of all data before.
        other_rows: Rows of the embedding table behind those of the features.

    Raises:
        ValueError: `max_age` or `max_rows` without statistics, or fewer rows than there are.
    """
    check_limits(features, growth, statistics, other_rows=other_rows)
    growing = vocabularies(features)
    tables = {name: _Table(same, seen[name], growth, statistics) for name, same in growing.items()}
    if growth.max_rows is not None:
        limited = [table for name, table in tables.items() if not _is_compressed(features, name)]
        _limit(limited, growth.max_rows - _limited_rows(features) - other_rows)
    placed = {name: table.placed() for name, table in tables.items()}
    grown = [
        replace(feature, vocabulary=placed[feature.table].vocabulary, free_ids=placed[feature.table].free_ids)
        if isinstance(feature, Categories) and feature.table in placed
        else feature
        for feature in features
    ]
    return Grown(
        features=FeatureSpec(tuple(grown)),
        freed={name: table.freed for name, table in tables.items()},
        earlier={name: one.earlier for name, one in placed.items()},
        waiting={} if statistics is None else {name: table.waiting() for name, table in tables.items()},
    )


def check_limits(features: FeatureSpec, growth: Growth, statistics: Statistics | None, *, other_rows: int = 0) -> None:
    """Checks, before any row is read, that features can grow so; see `grown_features`, whose arguments these are.

    Raises:
        ValueError: They cannot.
    """
    for name in ("max_age", "max_rows"):
        if statistics is None and getattr(growth, name) is not None:
            remedy = "or train the model with a Recipe (nfm-tfrs train), which keeps them."
            why = "" if are_counted(features) else f": for {TOO_MANY_IDS}"
            raise ValueError(
                f"{name} needs the statistics of the rows that the model was trained on, and it has none{why}. Leave "
                f"it out, {'or train a model without compression.' if why else remedy}"
            )
    rows = _limited_rows(features) + other_rows
    if growth.max_rows is not None and growth.max_rows < rows:
        raise ValueError(
            f"The table has {rows:,} rows already, and keeps them: values never change their places; received "
            f"max_rows={growth.max_rows:,}. Give {rows:,} or more, or train a smaller model from scratch."
        )


def _is_compressed(features: FeatureSpec, table: str) -> bool:
    owner = features.owners[table]
    return isinstance(owner, Categories) and owner.compression is not None


def _limited_rows(features: FeatureSpec) -> int:
    """Rows that ids have of their own: those of compressed tables do not follow the ids."""
    return sum(rows for table, (_, rows) in features.tables.items() if not _is_compressed(features, table))


@dataclass(frozen=True, eq=False)
class _Placed:
    vocabulary: tuple[Any, ...]
    free_ids: tuple[int, ...]
    earlier: np.ndarray


class _Table:
    """One table: its values, and those of the new data that have no row."""

    def __init__(self, same: Sequence[Categories], seen: Seen, growth: Growth, statistics: Statistics | None) -> None:
        first, day = same[0], growth.day_number
        self.vocabulary = first.vocabulary or ()
        held, size = pa.array(self.vocabulary, seen.values.type), len(self.vocabulary)
        self.is_free: np.ndarray = np.zeros(size, bool)
        self.is_free[list(first.free_ids)] = True
        self.times: np.ndarray = np.zeros(size, np.int64)
        self.last: np.ndarray = np.zeros(size, np.int64)
        waiting: Mapping[Any, int] = {}
        if statistics is not None:
            self.times += sum(statistics.counts[feature.name][1:] for feature in same)
            self.last += statistics.seen[first.table][1:]
            waiting = _of_type(statistics.waiting.get(first.table, {}), first.dtype)
        places = pc.index_in(seen.values, held).fill_null(-1).to_numpy().astype(np.int64)
        known = places >= 0
        known[known] = ~self.is_free[places[known]]
        self.times[places[known]] += seen.counts[known]
        self.last[places[known]] = np.maximum(self.last[places[known]], day)
        aged = np.zeros(size, bool) if growth.max_age is None else day - self.last > growth.max_age
        self._aged = aged & ~self.is_free
        self._out: np.ndarray = np.zeros(size, bool)  # that lose their rows to more frequent ones
        self._day = day
        self._set_candidates(seen.values.filter(pa.array(~known)), seen.counts[~known], places[~known], waiting)
        self.admitted = self.totals >= growth.min_count

    def _set_candidates(
        self, values: pa.Array, counts: np.ndarray, places: np.ndarray, waiting: Mapping[Any, int]
    ) -> None:
        """Values without a row, the most frequent first, and how often each was seen before and in all."""
        kept, times = pa.array(list(waiting), values.type), np.array(list(waiting.values()), np.int64)
        where = pc.index_in(values, kept).fill_null(-1).to_numpy().astype(np.int64)
        earlier = np.append(times, 0)[where]
        order: np.ndarray = np.arange(len(values))
        if earlier.any():
            sortable = pa.table({"value": values, "count": counts + earlier})
            order = pc.sort_indices(sortable, [("count", "descending"), ("value", "ascending")]).to_numpy()
        self.values, self.places = values.take(pa.array(order)), places[order]
        self.earlier, self.totals = earlier[order], (counts + earlier)[order]
        unseen: np.ndarray = np.ones(len(kept), bool)
        unseen[where[where >= 0]] = False
        self._unseen = kept.filter(pa.array(unseen)), times[unseen]

    @property
    def freed(self) -> np.ndarray:
        """Ids of the values that lose their rows."""
        return np.flatnonzero(self._aged | self._out)

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """All that want a row, the first to keep it first: ids, and behind them candidates; and what ranks them."""
        ids, new = np.flatnonzero(~self.is_free & ~self._aged), np.flatnonzero(self.admitted)
        one = np.concatenate([ids, len(self.vocabulary) + new])
        times = np.concatenate([self.times[ids], self.totals[new]])
        last = np.concatenate([self.last[ids], np.full(len(new), self._day)])
        is_new: np.ndarray = np.repeat(
            [0, 1], [len(ids), len(new)]
        )  # no value gives way to one that is no more frequent
        order = np.lexsort((one, is_new, -last, -times))
        return one[order], np.stack([-times, -last, is_new], axis=1)[order]

    def keep(self, ranked: np.ndarray) -> None:
        """Leaves rows to these of `ranked` alone."""
        size = len(self.vocabulary)
        kept: np.ndarray = np.zeros(size + len(self.values), bool)
        kept[ranked] = True
        self._out = ~kept[:size] & ~self.is_free & ~self._aged
        self.admitted = self.admitted & kept[size:]

    def placed(self) -> _Placed:
        """Returns the grown vocabulary, its free ids, and how often its new values were seen before."""
        free = self.is_free.copy()
        free[self.freed] = True
        new = np.flatnonzero(self.admitted)
        back = self.places[new] >= 0
        places = np.where(back, self.places[new], 0)
        free[places[back]] = False
        available = np.flatnonzero(free)[: np.count_nonzero(~back)]
        free[available] = False
        behind: np.ndarray = len(self.vocabulary) + np.arange(len(new) - np.count_nonzero(back) - len(available))
        places[~back] = np.concatenate([available, behind])
        vocabulary = [*self.vocabulary, *[None] * len(behind)]
        values = self.values.take(pa.array(new)).to_pylist()
        for place, value in zip(places.tolist(), values, strict=True):
            vocabulary[place] = value
        earlier = self.earlier[new][np.argsort(places)]
        return _Placed(tuple(vocabulary), tuple(np.flatnonzero(free).tolist()), earlier)

    def waiting(self) -> dict[Any, int]:
        """Returns how often the values without a row were seen, the most frequent ones, in a fixed order."""
        out = np.flatnonzero(self._out)
        beaten = pa.array([self.vocabulary[one] for one in out], self.values.type)
        left = ~self.admitted
        values = pa.chunked_array([self.values.filter(pa.array(left)), self._unseen[0], beaten])
        counts = np.concatenate([self.totals[left], self._unseen[1], self.times[out]])
        together = pa.table({"value": values, "count": counts})
        most = min(max(_WAITING, 4 * len(self.vocabulary)), MOST_WAITING)
        kept = together.sort_by([("count", "descending"), ("value", "ascending")]).slice(0, most)
        return dict(zip(kept.column("value").to_pylist(), kept.column("count").to_pylist(), strict=True))


def _of_type(waiting: Mapping[Any, int], dtype: DType | None) -> dict[Any, int]:
    """What may be values of such a vocabulary: a file may hold anything."""
    if dtype == "string":
        return {value: count for value, count in waiting.items() if isinstance(value, str) and value}
    return {value: count for value, count in waiting.items() if isinstance(value, int) and 0 <= value < UINT64_MISSING}


def _limit(tables: Sequence[_Table], more_rows: int) -> None:
    """Lets tables have no more than so many rows more, all together: those of the most frequent of what wants one."""
    ranked = [table.ranked() for table in tables]
    sizes = [len(table.vocabulary) for table in tables]
    beyond = [keys[size:] for (_, keys), size in zip(ranked, sizes, strict=True)]
    of_table: np.ndarray = np.repeat(np.arange(len(tables)), [len(keys) for keys in beyond])
    if len(of_table) <= more_rows:
        return
    negative_times, negative_last, is_new = np.concatenate(beyond).T
    # Stable, and each table's own are in this order: the first of all are the first of their tables.
    best = np.lexsort((is_new, negative_last, negative_times))[:more_rows]
    more = np.bincount(of_table[best], minlength=len(tables))
    for table, (order, _), size, count in zip(tables, ranked, sizes, more, strict=True):
        table.keep(order[: size + count])
