"""The values that new data holds, counted for each table of a vocabulary, and which group each is seen in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.features.check import checked_arrays, decoded, is_list, is_text, one_a_row, utf8
from nfm_tfrs.features.feature import Categories, MultiCategoricalFeature
from nfm_tfrs.features.host import host_bag, means_missing
from nfm_tfrs.features.infer import Inference, row_batches
from nfm_tfrs.features.spec import FeatureSpec

_HELD = 4_000_000  # counts of batches that are kept apart before they are added up


@dataclass(frozen=True, eq=False)
class Seen:
    """The values of one table in new data.

    Args:
        values: The distinct values, strings or uint64 `[n]`, none of them missing; the most frequent first, and those
            of one frequency in their own order, as inference puts a vocabulary.
        counts: How often each comes, int64 `[n]`.
        pairs: Values beside groups, each pair once: position of the value `[p]`, the group `[p]`, and how often they
            came together, int64 `[p]`; empty without groups.
    """

    values: pa.Array
    counts: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class SeenRows:
    """What new rows hold of the vocabularies.

    Args:
        rows: Number of rows.
        tables: What was seen of each, by the name of the embedding table.
    """

    rows: int
    tables: Mapping[str, Seen]


def vocabularies(features: FeatureSpec) -> dict[str, list[Categories]]:
    """Returns the features with a vocabulary, by the name of their table."""
    found: dict[str, list[Categories]] = {}
    for feature in features:
        if isinstance(feature, Categories) and feature.vocabulary is not None:
            found.setdefault(feature.table, []).append(feature)
    return found


def values_seen(source: Any, features: FeatureSpec, *, group: str | None = None, format: str | None = None) -> SeenRows:
    """Counts the values of all features with a vocabulary, in one pass; those of a shared table together.

    Args:
        source: Rows as `infer_features` takes them, of which each column that the features read has to fit them.
        features: The features.
        group: A column of one value a row; in the rows where it has none, values are seen in no group.
        format: The files' format, where their suffix does not tell.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No row, a column is missing, or it does not fit its feature; see `checked_arrays`.
    """
    growing = vocabularies(features)
    columns = dict.fromkeys([*features.columns, *([group] if group else [])])
    counts = {
        table: _Counts(table_features[0].dtype == "string", group is not None)
        for table, table_features in growing.items()
    }
    row, kind = 0, None
    for batch in row_batches(source, Inference(list(columns)), format=format, types=features.column_types):
        arrays, groups = checked_arrays(batch, features, first_row=row), None
        if group is not None:
            groups = _groups(group, batch.column(batch.schema.get_field_index(group)), kind)
            kind = None if pa.types.is_null(groups.type) else groups.type
        for table, same in growing.items():
            for feature in same:
                counts[table].add(*_values(feature, arrays, groups))
        row += batch.num_rows
    if not row:
        raise ValueError("Vocabularies cannot grow from data without a row. Give at least one.")
    return SeenRows(row, {table: counted.seen() for table, counted in counts.items()})


def _values(feature: Categories, arrays: dict[str, pa.Array], groups: pa.Array | None) -> tuple[pa.Array, Any]:
    """The values that are there and, row by row of these, the group."""
    if isinstance(feature, MultiCategoricalFeature):
        values, splits, _ = host_bag(feature, arrays)  # those that the model reads: at most max_length
        rows: np.ndarray = np.repeat(np.arange(len(splits) - 1), np.diff(splits))
        return values, None if groups is None else groups.take(pa.array(rows))
    values = decoded(arrays[feature.name])
    there = pc.invert(means_missing(values)).fill_null(False)
    return values.filter(there), None if groups is None else groups.filter(there)


def _groups(name: str, array: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """The group of each row, of the type of those before; null where there is none."""
    array = decoded(one_a_row(array))
    if is_list(array.type):
        raise ValueError(
            f"Column {name!r} holds lists ({array.type}), and values are grouped by one value a row. Name another one."
        )
    array = utf8(name, array) if is_text(array.type) else array
    if pa.types.is_string(array.type) or pa.types.is_integer(array.type):
        array = pc.if_else(means_missing(array), pa.scalar(None, array.type), array)
    try:
        return array if kind is None else array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"Column {name!r} is {array.type}, and {kind} before. Write it with one type.") from error


class _Counts:
    """How often each value of a table comes, in each group if there are any."""

    def __init__(self, is_string: bool, grouped: bool) -> None:
        self._type = pa.string() if is_string else pa.uint64()
        self._keys = ["value", "group"] if grouped else ["value"]
        self._parts: list[pa.Table] = []

    def add(self, values: pa.Array, groups: pa.Array | None) -> None:
        """Counts values that are there, `[n]`, and the group of each."""
        columns = {"value": values.cast(self._type)} | ({} if groups is None else {"group": groups})
        counted = pa.table(columns).group_by(self._keys).aggregate([([], "count_all")])
        self._parts.append(counted.select([*self._keys, "count_all"]).rename_columns([*self._keys, "count"]))
        if sum(len(part) for part in self._parts) > _HELD:
            self._parts = [self._added(self._keys)]

    def seen(self) -> Seen:
        """Returns what was counted."""
        # In their order: threads have counted them in any, and sums of their rows would differ in the last bit.
        pairs = self._added(self._keys).sort_by([(key, "ascending") for key in self._keys])
        self._parts = [pairs]
        totals = self._added(["value"]).sort_by([("count", "descending"), ("value", "ascending")])
        values, counts = totals.column("value").combine_chunks(), totals.column("count").to_numpy()
        if len(self._keys) == 1:
            nothing: np.ndarray = np.empty(0, np.int64)
            return Seen(values, counts, (nothing, nothing, nothing))
        pairs = pairs.filter(pc.is_valid(pairs.column("group"))).combine_chunks()
        which = pc.index_in(pairs.column("value"), values).to_numpy().astype(np.int64)
        groups = pairs.column("group").unique()
        of_group = pc.index_in(pairs.column("group"), groups).to_numpy().astype(np.int64)
        return Seen(values, counts, (which, of_group, pairs.column("count").to_numpy()))

    def _added(self, keys: Sequence[str]) -> pa.Table:
        together = pa.concat_tables(self._parts, promote_options="permissive")
        summed = together.group_by(list(keys)).aggregate([("count", "sum")])
        return summed.select([*keys, "count_sum"]).rename_columns([*keys, "count"])


@dataclass(frozen=True, eq=False)
class Groups:
    """Which old and which new values of a table were seen in which groups, each pair once.

    Args:
        old_ids: Ids of old values, int64 `[p]`.
        old_groups: The group of each, from 0, int64 `[p]`.
        new: Numbers of new values, int64 `[q]`.
        new_groups: The group of each, int64 `[q]`.
        new_counts: In how many places of the data the two stand, int64 `[q]`.
    """

    old_ids: np.ndarray
    old_groups: np.ndarray
    new: np.ndarray
    new_groups: np.ndarray
    new_counts: np.ndarray


def grouped(seen: Seen, old: Categories, new: Sequence[Any]) -> Groups:
    """Returns in which groups values were seen.

    Args:
        seen: What the new data holds of the table.
        old: A feature of the table as it was.
        new: The new values, in the order of their numbers.
    """
    which, groups, counts = seen.pairs

    def found(values: Sequence[Any]) -> np.ndarray:
        """The place among `values` of each that was seen, -1 of the others."""
        places = pc.index_in(seen.values, pa.array(values, seen.values.type)).fill_null(-1)
        return np.asarray(places.to_numpy().astype(np.int64)[which])

    ids = np.append(np.asarray(old.known_ids, np.int64), -1)[found(old.known_values)]
    numbers = found(new)
    is_old, is_new = ids >= 0, numbers >= 0
    return Groups(ids[is_old], groups[is_old], numbers[is_new], groups[is_new], counts[is_new])
