"""Rows that lie in several variables, of several lengths, put together as rows of one length."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nfm_tfrs.embedding.compressed import combined, rows_of_ids
from nfm_tfrs.embedding.layout import Layout
from nfm_tfrs.embedding.pooling import Rows
from nfm_tfrs.embedding.row_sums import copied_rows
from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.keys import IDS, bag_key
from nfm_tfrs.keras_compat import tf

Read = Callable[[int, tf.Tensor], tf.Tensor]


class Look(NamedTuple):
    """Ids that are looked up in one variable.

    Attributes:
        place: Number of the variable.
        tables: The table that each column of the ids is of.
        columns: Places of these columns among all single-valued features; none of a bag.
        ids: int64 `[batch, columns]` or, of a bag, `[values]`: ids of the encoded batch.
    """

    place: int
    tables: tuple[str, ...]
    columns: tuple[int, ...]
    ids: tf.Tensor


class SeveralTables:
    """The variables of a `FusedEmbedding` whose rows do not all lie in one, as they are.

    Args:
        layer: The layer, which has been built.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.layouts: Sequence[Layout] = layer.layouts
        self._place = {table: place for place, layout in enumerate(self.layouts) for table in layout.tables}

    def rows(self, ids: tf.Tensor, features: Sequence[Feature] | None, read: Read) -> tf.Tensor:
        """Returns rows as fields are, float32 `[..., width]`, of ids of an encoded batch.

        Args:
            ids: int64 `[..., features]` or, of one feature, of any shape; of numbers' rows without features.
            features: The features that the ids are of, one a column.
            read: Gives rows of a variable, by its number and theirs.
        """
        if features is None:
            return read(0, ids)
        if len(features) == 1:
            table = features[0].table
            first, _ = self.layer.features.tables[table]
            # Where a bag is padded the ids are those of another table.
            return self._fields(Look(self._place[table], (table,), (), tf.maximum(ids, first)), read)
        looks = self._columns_apart(ids, features)
        together = tf.concat([self._fields(look, read) for look in looks], axis=-2)
        return _in_order(together, [column for look in looks for column in look.columns], axis=-2)

    def look_up(self, encoded: Mapping[str, Any], *, distinct: bool) -> tuple[list[Rows], list[tf.Tensor]]:
        """Returns rows of the single-valued features, of each bag, and of missing and of present numbers.

        Args:
            encoded: What `FeatureEncoder` returns.
            distinct: Whether each row is read, and made a field of, once.
        """
        layer, features = self.layer, self.layer.features
        read = layer.read
        single = [Rows(tf.zeros([0, layer.width]), None)]
        if distinct:
            looks = self._columns_apart(encoded[IDS], features.single) if features.single else []
            bags = [self._bag_look(encoded, bag) for bag in features.bags]
            found, numbers = self._distinct(looks + bags)
            if looks:
                single = [self._side_by_side(looks, found[: len(looks)])]
            return [*single, *found[len(looks) :]], numbers
        if features.single:
            rows = self.rows(encoded[IDS], features.single, read)
            single = [Rows(tf.reshape(rows, [-1, layer.width]), None)]
        bag_rows = [Rows(self._fields(self._bag_look(encoded, bag), read), None) for bag in features.bags]
        numbers = [tf.gather(layer.table, ids) for ids in self._number_ids()]
        return [*single, *bag_rows], numbers

    def distinct_rows(self, encoded: Mapping[str, Any]) -> list[tuple[int, tf.Tensor, tf.Tensor]]:
        """Returns of each variable that is trained its number, and which distinct rows a batch reads, and these.

        Rows of numbers come last.

        Args:
            encoded: What `FeatureEncoder` returns.
        """
        features = self.layer.features
        looks = self._columns_apart(encoded[IDS], features.single) if features.single else []
        looks += [self._bag_look(encoded, bag) for bag in features.bags]
        found = []
        for place, layout in enumerate(self.layouts):
            here = [look for look in looks if look.place == place]
            if not layout.frozen and (here or layout.numbers):
                parts = [part for look in here for part in self._flat(look)]
                parts += self._number_ids() if layout.numbers else []
                ids, _ = tf.unique(tf.concat(parts, axis=0), tf.int64)
                found.append((place, ids, self.layer.read(place, ids)))
        return found

    # --- ids

    def _number_ids(self) -> list[tf.Tensor]:
        """Of every number the row for a missing value, then the one for a present value."""
        if not self.layer.has_number_fields:
            return []
        return [tf.constant(list(rows), tf.int64) for rows in self.layouts[0].number_rows()]

    def _columns_apart(self, ids: tf.Tensor, features: Sequence[Feature]) -> list[Look]:
        """The columns of each variable; where its tables have matrices or are compressed, of each table, in order."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for column, feature in enumerate(features):
            place = self._place[feature.table]
            layout = self.layouts[place]
            groups[place, 0 if layout.is_plain else layout.tables[feature.table][0]].append(column)
        looks = []
        for (place, _), columns in sorted(groups.items()):
            some = ids if len(columns) == len(features) else tf.gather(ids, columns, axis=-1)
            looks.append(Look(place, tuple(features[column].table for column in columns), tuple(columns), some))
        return looks

    def _bag_look(self, encoded: Mapping[str, Any], bag: Any) -> Look:
        return Look(self._place[bag.table], (bag.table,), (), encoded[bag_key(bag.name)].values)

    def _local(self, look: Look) -> list[tf.Tensor]:
        """Rows of the variable that the ids are made of: one, or several of a compressed table."""
        layout, tables = self.layouts[look.place], self.layer.features.tables
        if layout.compression is not None:
            first, rows = tables[look.tables[0]]
            return rows_of_ids(layout.compression, look.ids - first, rows - 1)
        shifts = [layout.tables[table][0] - tables[table][0] for table in look.tables]
        return [look.ids + (shifts[0] if len(set(shifts)) == 1 else tf.constant(shifts, tf.int64))]

    def _flat(self, look: Look) -> list[tf.Tensor]:
        return [tf.reshape(part, [-1]) for part in self._local(look)]

    # --- rows

    def _fields(self, look: Look, read: Read) -> tf.Tensor:
        """Rows as fields are, [..., width], of ids of one variable."""
        layout = self.layouts[look.place]
        rows = [read(look.place, part) for part in self._local(look)]
        own = rows[0] if layout.compression is None else combined(layout.compression, rows, layout.dim)
        return self._projected(layout, look.tables[0], own)

    def _projected(self, layout: Layout, table: str, rows: tf.Tensor) -> tf.Tensor:
        """Rows of a table, [..., own width], as fields are, [..., width]."""
        if not layout.projected:
            return rows
        matrix = self.layer.projections[self.layer.projected.index(table)]
        if layout.frozen or not self.layer.linear:
            return tf.matmul(rows, matrix)
        return tf.concat([tf.matmul(rows[..., : layout.dim], matrix), rows[..., layout.dim :]], axis=-1)

    def _distinct(self, looks: Sequence[Look]) -> tuple[list[Rows], list[tf.Tensor]]:
        """Rows for each of several looks, and those of numbers, each row read once."""
        found: list[Rows | None] = [None] * len(looks)
        numbers: list[tf.Tensor] = []
        for place, layout in enumerate(self.layouts):
            # By table: the distinct rows then lie in the order of the tables, each of which has its matrix.
            here = sorted(
                (number for number, look in enumerate(looks) if look.place == place),
                key=lambda number: layout.tables[looks[number].tables[0]],
            )
            own = self._number_ids() if layout.numbers else []
            parts = [self._flat(looks[number]) for number in here]
            flat = [part for listed in [*parts, own] for part in listed]
            if not flat:
                continue
            ids, positions = tf.unique(tf.concat(flat, axis=0), tf.int64)
            rows = self.layer.read(place, ids)
            if layout.projected and layout.compression is None:
                rows = self._projected_by_table(layout, ids, rows)
            start = 0
            for number, listed in zip(here, parts, strict=True):
                slices = []
                for part in listed:
                    slices.append(positions[start : start + tf.size(part)])
                    start += tf.size(part)
                if layout.compression is None:
                    found[number] = Rows(rows, slices[0])
                else:
                    whole = combined(layout.compression, [copied_rows(rows, one) for one in slices], layout.dim)
                    found[number] = Rows(self._projected(layout, looks[number].tables[0], whole), None)
            for part in own:
                each = copied_rows(rows, positions[start : start + tf.size(part)])
                numbers.append(tf.reshape(each, [layout.numbers // 2, self.layer.width]))
                start += tf.size(part)
        return [one for one in found if one is not None], numbers

    def _projected_by_table(self, layout: Layout, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Distinct rows, which lie in the order of their tables, as fields are."""
        bounds = [(table, first, first + count) for table, (first, count) in layout.tables.items()]
        if len(bounds) == 1:
            return self._projected(layout, bounds[0][0], rows)
        counts = [tf.math.count_nonzero((ids >= first) & (ids < end), dtype=tf.int32) for _, first, end in bounds]
        parts = tf.split(rows, tf.stack(counts), num=len(counts))
        return tf.concat(
            [self._projected(layout, table, part) for (table, _, _), part in zip(bounds, parts, strict=True)], axis=0
        )

    def _side_by_side(self, looks: Sequence[Look], found: Sequence[Rows]) -> Rows:
        """Rows of all columns, one example behind the other."""
        sources: list[tf.Tensor] = []
        starts: dict[int, Any] = {}
        positions, start = [], tf.constant(0, tf.int64)
        for look, rows in zip(looks, found, strict=True):
            if id(rows.rows) not in starts:
                starts[id(rows.rows)] = start
                sources.append(rows.rows)
                start += tf.shape(rows.rows, tf.int64)[0]
            each = tf.range(tf.shape(rows.rows, tf.int64)[0]) if rows.positions is None else rows.positions
            positions.append(tf.reshape(each + starts[id(rows.rows)], tf.shape(look.ids)))
        together = tf.concat(positions, axis=1)
        together = _in_order(together, [column for look in looks for column in look.columns], axis=1)
        return Rows(tf.concat(sources, axis=0), tf.reshape(together, [-1]))


def _in_order(together: tf.Tensor, columns: Sequence[int], axis: int) -> tf.Tensor:
    """Columns that stand in this order, in that of their numbers."""
    if list(columns) == sorted(columns):
        return together
    return tf.gather(together, [columns.index(column) for column in range(len(columns))], axis=axis)
