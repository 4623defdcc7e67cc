"""Tables of fewer rows than a feature has ids: of which rows the embedding of an id is made."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from nfm_tfrs import arguments

Operation = Literal["product", "sum"]
PRIME = 2**31 - 1  # below it the products of a hash stay within 63 bits
_MOST_HASHES = 16


@arguments.naming_the_nearest
@dataclass(frozen=True, kw_only=True)
class QuotientRemainder:
    """About 2 √n rows for n ids, each of which keeps an embedding of its own: no two ids have both rows in common.

        product:  v_i = R[i mod m] ⊙ Q[⌊i / m⌋]      sum:  v_i = R[i mod m] + Q[⌊i / m⌋]

    First-order weights are always added. The rows R start as those of other tables do, the rows Q at 1 or 0.

    Args:
        num_rows: Number m of rows R; there are ⌈n / m⌉ rows Q. The square root of n if not given, rounded up: the
            fewest together.
        operation: How the two rows become one.

    Raises:
        ValueError: A number below 1, or another operation.

    Reference:
        Shi, Mudigere, Naumov & Yang, Compositional Embeddings Using Complementary Partitions for Memory-Efficient
        Recommendation Systems, KDD 2020, algorithm 2.
    """

    num_rows: int | None = None
    operation: Operation = "product"
    kind: ClassVar[str] = "quotient_remainder"

    def __post_init__(self) -> None:
        if self.num_rows is not None:
            arguments.count("num_rows of QuotientRemainder", self.num_rows)
        arguments.choice("operation of QuotientRemainder", self.operation, ("product", "sum"))

    def with_rows_for(self, num_ids: int) -> "QuotientRemainder":
        """Returns this with its number of rows said: that of a vocabulary that grows later stays."""
        return self if self.num_rows is not None else replace(self, num_rows=math.isqrt(num_ids - 1) + 1)

    def sizes(self, num_ids: int) -> tuple[int, ...]:
        """Returns the numbers of rows R and Q, without those of unknown values."""
        remainders = self.with_rows_for(num_ids).num_rows or 1
        return remainders, -(-num_ids // remainders)


@arguments.naming_the_nearest
@dataclass(frozen=True, kw_only=True)
class MultiHash:
    """A table of any number of rows m for n ids, each of which is the sum of several rows: few share all of them.

        v_i = Σ_j E[h_j(i)],   h_j(i) = ((a_j (i mod p) + b_j ⌊i / p⌋ + c_j) mod p) mod m,   p = 2³¹ - 1

    The factors a_j, b_j and c_j follow from j alone.

    Args:
        num_rows: Number m of rows.
        num_hashes: Number of rows that an embedding is the sum of; 1 is plain hashing.

    Raises:
        ValueError: A number out of range.

    Reference:
        Svenstrup, Hansen & Winther, Hash Embeddings for Efficient Word Representations, NIPS 2017, equation 3 with all
        weights 1; Serrà & Karatzoglou, Getting Deep Recommenders Fit: Bloom Embeddings, RecSys 2017.
    """

    num_rows: int
    num_hashes: int = 2
    kind: ClassVar[str] = "multi_hash"

    def __post_init__(self) -> None:
        arguments.count("num_rows of MultiHash", self.num_rows)
        arguments.count("num_hashes of MultiHash", self.num_hashes)
        if self.num_rows >= PRIME or self.num_hashes > _MOST_HASHES:
            raise ValueError(
                f"MultiHash takes less than {PRIME:,} rows and at most {_MOST_HASHES} hashes; received "
                f"{self.num_rows:,} and {self.num_hashes}."
            )

    def with_rows_for(self, num_ids: int) -> "MultiHash":
        """Returns this itself."""
        del num_ids
        return self

    def sizes(self, num_ids: int) -> tuple[int, ...]:
        """Returns the number of rows, without that of unknown values."""
        del num_ids
        return (self.num_rows,)

    @property
    def factors(self) -> list[tuple[int, int, int]]:
        """The factors a, b and c of each hash, of which a and b are not 0."""
        found = []
        for number in range(self.num_hashes):
            digest = hashlib.sha256(f"nfm_tfrs hash {number}".encode()).digest()
            a, b, c = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8, 16))
            found.append((1 + a % (PRIME - 1), 1 + b % (PRIME - 1), c % PRIME))
        return found


Compression = QuotientRemainder | MultiHash
_KINDS: Mapping[str, Any] = {cls.kind: cls for cls in (QuotientRemainder, MultiHash)}


def compression_to_dict(compression: Compression) -> dict[str, Any]:
    """Returns a compression as plain JSON types: its `type` and every argument that is not at its default."""
    values = {field.name: getattr(compression, field.name) for field in fields(compression)}
    told = {name: value for name, value in values.items() if value != getattr(type(compression), name, None)}
    return {"type": compression.kind, **told}


def compression_of(what: str, given: Any) -> Compression | None:
    """Returns a compression itself, or the one that `compression_to_dict` wrote.

    Args:
        what: Whose it is, for the message.
        given: A compression, its dict, or None.

    Raises:
        ValueError: It is none, or an argument is out of range or unknown.
    """
    if given is None or isinstance(given, QuotientRemainder | MultiHash):
        return given
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(
            f"{what} must be QuotientRemainder(…), MultiHash(…) or an object whose type is {' or '.join(_KINDS)}; "
            f"received {given!r:.60}."
        )
    told = {str(name): value for name, value in given.items() if name != "type"}
    if kind == MultiHash.kind and told.keys() <= {"num_hashes"}:
        raise ValueError(f"{what}: {kind} needs num_rows, its number of rows. Give one below the number of ids.")
    try:
        made: Compression = _KINDS[kind](**told)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from error
    return made
