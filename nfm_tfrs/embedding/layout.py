"""Which variable the rows of each feature lie in, and where: one for each length of rows, trained or frozen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nfm_tfrs.features.compression import Compression
from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.spec import FeatureSpec


class Layout(NamedTuple):
    """One variable of rows.

    Attributes:
        dim: Length of an embedding in it.
        tables: By the name of each table in it, its first row here and its number of rows.
        numbers: Rows of numbers, behind all others.
        frozen: Whether training leaves the rows as they are; they then hold no first-order weight.
        compression: How several rows make one embedding; the variable then holds one table alone.
        projected: Whether a matrix for each table makes fields of its rows.
    """

    dim: int
    tables: Mapping[str, tuple[int, int]]
    numbers: int = 0
    frozen: bool = False
    compression: Compression | None = None
    projected: bool = False

    @property
    def first_number(self) -> int:
        """The first row of numbers."""
        return sum(count for _, count in self.tables.values())

    @property
    def num_rows(self) -> int:
        """Rows of the variable."""
        return self.first_number + self.numbers

    def number_rows(self) -> tuple[range, range]:
        """Returns of every number its row for a missing value, and its row for a present one."""
        return range(self.first_number, self.num_rows, 2), range(self.first_number + 1, self.num_rows, 2)

    @property
    def is_plain(self) -> bool:
        """Whether its rows are looked up by the ids of an encoded batch, and are fields as they are."""
        return not self.frozen and not self.projected and self.compression is None

    def width(self, *, linear: bool) -> int:
        """Returns the length of a row: the embedding and, behind it, the first-order weight where there is one."""
        return self.dim + (linear and not self.frozen)

    def shape(self, *, linear: bool) -> list[int]:
        """Returns the shape of the variable; see `width` for `linear`."""
        return [self.num_rows, self.width(linear=linear)]

    def matrix_shape(self, embedding_dim: int, *, linear: bool) -> list[int]:
        """Returns the shape of a table's matrix, whose last column is the first-order term of frozen rows.

        Args:
            embedding_dim: Length of a field's embedding.
            linear: Whether there is a first-order term.
        """
        return [self.dim, embedding_dim + (linear and self.frozen)]


def layouts_of(features: FeatureSpec, embedding_dim: int, *, numbers: bool) -> tuple[Layout, ...]:
    """Returns the variables that features need; the first holds what has the model's own length, where anything has.

    Args:
        features: The features.
        embedding_dim: Length of a field's embedding.
        numbers: Whether numbers have two rows each.
    """
    own: tuple[Any, ...] = (embedding_dim, False, None, None)
    num_numbers = 2 * len(features.numbers) if numbers else 0
    found: dict[tuple[Any, ...], dict[str, tuple[int, int]]] = {own: {}}
    for table, (_, rows) in features.tables.items():
        feature = features.owners[table]
        key = own
        if isinstance(feature, Categories):
            compression = feature.compression
            dim = feature.embedding_dim or embedding_dim
            key = (dim, feature.frozen, compression, None if compression is None else table)
            if compression is not None:  # beside the rows of ids those of unknown values
                rows = sum(size + 1 for size in compression.sizes(feature.num_ids))
        tables = found.setdefault(key, {})
        tables[table] = (sum(count for _, count in tables.values()), rows)
    return tuple(
        Layout(
            dim=dim,
            tables=tables,
            numbers=num_numbers if (dim, frozen, compression, name) == own else 0,
            frozen=frozen,
            compression=compression,
            projected=frozen or dim != embedding_dim,
        )
        for (dim, frozen, compression, name), tables in found.items()
        if tables or (num_numbers and (dim, frozen, compression, name) == own)
    )
