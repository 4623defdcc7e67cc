"""What one input column is: a category, a bag of categories or a number."""

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Real
from typing import Any, Literal

from nfm_tfrs.arguments import naming_the_nearest
from nfm_tfrs.features.attention import Attention, attention_of
from nfm_tfrs.features.bag import UINT64_MISSING
from nfm_tfrs.features.compression import Compression, compression_of, compression_to_dict
from nfm_tfrs.features.number_encoders import (
    AutoDis,
    Buckets,
    Encoding,
    Periodic,
    Piecewise,
    encoder_to_dict,
    encoding_of,
    named_encoder,
)

RESERVED_PREFIX = "encoded/"  # keys of batches that are encoded already

FLOAT32_MAX = (2 - 2.0**-23) * 2.0**127
# Larger standardised numbers x become L (2 - L / |x|), in their order and below 2 L: three layers of `cross` take a
# number to the fourth power, and float32 ends at 3e38.
LARGEST_UNBENT = 1e7

DType = Literal["string", "int64"]
Combiner = Literal["sum", "mean", "sqrtn", "max", "attention"]
COMBINERS = ("sum", "mean", "sqrtn", "max", "attention")
ATTENTION = "attention"
_MOST_POSITIONS = 100_000  # a vector each, whatever the bags of the data hold
_LARGEST = 2**63 - 1  # rows of a table are counted in int64


@dataclass(frozen=True)
class Categories:
    """What single and multi-valued categories share: how a value becomes one of n ids.

    Exactly one of `vocabulary`, `num_hash_buckets` and `vocabulary_size` says how. The ids 0 … n-1 live in
    rows 1 … n of the feature; row 0 stands for unknown and missing values. Missing are `""`, null, every negative
    integer, and 2⁶⁴ - 1, which is -1 in unsigned integers of 64 bits.

    Args:
        name: Name of the input column.
        vocabulary: The known values, strings or integers from 0 to 2⁶⁴ - 2; value i has id i.
        num_hash_buckets: Number of buckets; the id is FarmHash64 of the value's decimal or UTF-8 form, modulo this.
        vocabulary_size: The values are ids already, 0 … vocabulary_size - 1; others are unknown.
        dtype: `"string"` or `"int64"`, which stands for integers of any type; only hash buckets need it said, and only
            to refuse the other type.
        embedding_name: Name of the rows in the embedding table. Features of one name share their rows, and must have
            the same categories.
        free_ids: Ids whose value has lost its row: it stays in the vocabulary, so that every other value keeps its
            place, and is unknown until the place is taken anew, by itself or by another value (`nfm_tfrs.grow`).
        embedding_dim: Length of this feature's own rows. Where it is another than the model's, a learned matrix
            `[embedding_dim, the model's]` makes fields of them, value by value, before a bag is pooled.
        frozen: Whether training leaves the rows as they are: zero, or what `nfm_tfrs.load_pretrained` sets. A learned
            matrix makes fields and first-order weights of them, also where they are as long as the model's.
        compression: A `QuotientRemainder` or `MultiHash`, for fewer rows than ids; a dict of its type and arguments
            stands for it.

    Raises:
        ValueError: Not exactly one of the three, an empty or repeated vocabulary, a size below 1, free ids that the
            vocabulary does not have, or a compression of frozen rows or to as many rows as there are ids.
    """

    name: str
    _: KW_ONLY
    vocabulary: tuple[str, ...] | tuple[int, ...] | None = None
    num_hash_buckets: int | None = None
    vocabulary_size: int | None = None
    dtype: DType | None = None
    embedding_name: str | None = None
    free_ids: tuple[int, ...] = ()
    embedding_dim: int | None = None
    frozen: bool = False
    compression: Compression | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_text(f"embedding_name of feature {self.name!r}", self.embedding_name)
        ways = {
            "vocabulary": self.vocabulary,
            "num_hash_buckets": self.num_hash_buckets,
            "vocabulary_size": self.vocabulary_size,
        }
        given = [way for way, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Feature {self.name!r} needs exactly one of vocabulary, num_hash_buckets and vocabulary_size; "
                f"received {', '.join(given) or 'none'}."
            )
        if self.vocabulary is not None:
            vocabulary = tuple(
                value.item() if hasattr(value, "item") else value
                for value in _listed(f"vocabulary of feature {self.name!r}", self.vocabulary)
            )
            object.__setattr__(self, "vocabulary", vocabulary)
            inferred: DType | None = _vocabulary_dtype(self.name, vocabulary)
        else:
            object.__setattr__(self, given[0], _whole(f"{given[0]} of feature {self.name!r}", ways[given[0]]))
            inferred = "int64" if self.vocabulary_size is not None else self.dtype
        if self.dtype not in (None, inferred) or inferred not in (None, "string", "int64"):
            fitting = inferred if self.num_hash_buckets is None else "string or int64"
            raise ValueError(
                f"dtype of feature {self.name!r} must be {fitting}; received {self.dtype!r:.60}. Leave it out."
            )
        object.__setattr__(self, "dtype", inferred)
        object.__setattr__(self, "free_ids", _free_ids(self.name, self.free_ids, self.vocabulary))
        if self.embedding_dim is not None:
            object.__setattr__(
                self, "embedding_dim", _whole(f"embedding_dim of feature {self.name!r}", self.embedding_dim)
            )
        if not isinstance(self.frozen, bool):
            raise ValueError(f"frozen of feature {self.name!r} must be true or false; received {self.frozen!r:.60}.")
        if self.compression is not None:
            object.__setattr__(self, "compression", _compression(self))

    @property
    def known_ids(self) -> Sequence[int]:
        """The ids of a vocabulary whose values have their row, rising; none without a vocabulary."""
        if not self.free_ids:
            return range(len(self.vocabulary or ()))
        free = set(self.free_ids)
        return [number for number in range(len(self.vocabulary or ())) if number not in free]

    @property
    def known_values(self) -> tuple[Any, ...]:
        """The values of a vocabulary that have their row, in the order of their ids."""
        if self.vocabulary is None or not self.free_ids:
            return self.vocabulary or ()
        return tuple(self.vocabulary[number] for number in self.known_ids)

    @property
    def num_ids(self) -> int:
        """Number of ids n; the feature has n + 1 rows."""
        if self.vocabulary is not None:
            return len(self.vocabulary)
        return self.num_hash_buckets or self.vocabulary_size or 0

    @property
    def table(self) -> str:
        """Name of the rows this feature uses: its own, unless `embedding_name` shares them."""
        return self.embedding_name or self.name


@naming_the_nearest
@dataclass(frozen=True)
class CategoricalFeature(Categories):
    """One category an example, `[batch]` or `[batch, 1]`: one field. See `Categories` for the arguments."""


@naming_the_nearest
@dataclass(frozen=True)
class MultiCategoricalFeature(Categories):
    """A bag of categories an example: `[batch, None]`, ragged, sparse or padded with missing values.

    A missing value in a bag is no value; an unknown one is row 0. With weights w and rows v of the bag:

        sum: Σ w v      mean: Σ w v / Σ w      sqrtn: Σ w v / √(Σ w²)      max: the largest w v, by dimension
        attention: Σ a w v, with a = a(v, target), learnt; see `Attention`

    Args:
        combiner: How a bag becomes one field. None makes every position a field of its own.
        weights: Name of the column of the values' weights, floats shaped as the bag; all 1 if not given.
        max_length: Number of values of a bag that are used, from its first on. With `combiner=None` the feature is then
            exactly this many fields, the unfilled ones masked; without it their number follows the longest bag of the
            batch.
        target: Name of the feature that this bag is the history of: what the row is about, where the bag holds what
            the same user chose before. Attention needs it.
        attention: Settings of `combiner="attention"`; its defaults if not given.

    Raises:
        ValueError: As for `Categories`; a combiner that there is not, attention without a target, its settings beside
            another combiner, or a max_length below 1.

    Example:
        >>> films = {"vocabulary": (10, 20, 30), "embedding_name": "film"}
        >>> MultiCategoricalFeature("seen", **films, combiner="attention", target="film").target
        'film'
    """

    _: KW_ONLY
    combiner: Combiner | None = "mean"
    weights: str | None = None
    max_length: int | None = None
    target: str | None = None
    attention: Attention | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_text(f"weights of feature {self.name!r}", self.weights)
        _check_text(f"target of feature {self.name!r}", self.target)
        if self.combiner is not None and self.combiner not in COMBINERS:
            raise ValueError(
                f"combiner of feature {self.name!r} must be None or one of {', '.join(COMBINERS)}; "
                f"received {self.combiner!r:.60}."
            )
        if self.max_length is not None:
            object.__setattr__(self, "max_length", _whole(f"max_length of feature {self.name!r}", self.max_length))
        object.__setattr__(self, "attention", attention_of(self.name, self.attention))
        self._check_attention()

    @property
    def attends(self) -> bool:
        """Whether the bag is pooled by target attention."""
        return self.combiner == ATTENTION

    def _check_attention(self) -> None:
        if self.attends and self.target is None:
            raise ValueError(
                f'combiner="attention" of feature {self.name!r} needs a target to attend to; received none. Name the '
                "feature that the bag is the history of."
            )
        if self.attention is None:
            return
        if not self.attends:
            raise ValueError(
                f'attention of feature {self.name!r} is of combiner="attention"; received combiner='
                f"{self.combiner!r}. Leave attention out, or change the combiner."
            )
        if self.attention.positions and self.max_length is None:
            raise ValueError(
                f"attention of feature {self.name!r} has positions, which need a max_length; received none. Say how "
                "many values of a bag are used."
            )
        if self.attention.positions and (self.max_length or 0) > _MOST_POSITIONS:
            raise ValueError(
                f"attention of feature {self.name!r} has positions, of which there are at most {_MOST_POSITIONS:,}; "
                f"received max_length={self.max_length!r:.60}. Lower it, or leave positions out."
            )


@naming_the_nearest
@dataclass(frozen=True)
class NumericFeature:
    """One number an example, `[batch]` or `[batch, 1]`, any real dtype; NaN and null are missing.

    x ← sign(x)·ln(1 + |x|) if `log`, then (x - mean) / std; beyond ±10⁷ this grows ever more slowly, up to ±2·10⁷.
    What becomes of it, where numbers are fields of the interaction, with a vector v of its own for a missing one:

        None: with `boundaries` a category, id i for boundaries[i-1] ≤ x < boundaries[i], taken from the raw number,
            with rows of the table as any other category; without them as "linear".
        "linear": x v.
        "buckets": the vector of the number's bucket. As the category, but rows hold the number itself, so that those
            encoded once are right for every encoder.
        "piecewise", "periodic", "autodis": see `Piecewise`, `Periodic` and `AutoDis` in
            `nfm_tfrs.features.number_encoders`, which are given in the place of the name where settings are others.

    The first-order term is w x, but with "buckets" w. With the last four each vector of the encoder has a first-order
    weight too, so that this term is a curve as well.

    Args:
        name: Name of the input column.
        mean: Mean of the (logged) column.
        std: Standard deviation of the (logged) column, above 0.
        log: Whether to take the signed logarithm first.
        boundaries: Increasing limits in the column's own unit, one bucket more than there are limits; of "piecewise"
            the ends of the pieces, two at least.
        missing_values: Numbers that stand for a missing one, such as the largest float32.
        fill: What a missing number counts as, standardised, in models whose numbers are no fields; 0 is the mean.
        encoder: How the number becomes a field: a name, or settings of `nfm_tfrs.features.number_encoders`.

    Raises:
        ValueError: A mean, std, fill, limit or missing value that is not finite, a std of 0 or less, limits that do
            not increase, an encoder that there is not, or one that lacks its limits.
    """

    name: str
    _: KW_ONLY
    mean: float = 0.0
    std: float = 1.0
    log: bool = False
    boundaries: tuple[float, ...] | None = None
    missing_values: tuple[float, ...] = ()
    fill: float = 0.0
    encoder: str | Buckets | Piecewise | Periodic | AutoDis | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.log, bool):
            raise ValueError(f"log of feature {self.name!r} must be true or false; received {self.log!r:.60}.")
        if not (_is_finite(self.mean) and _is_finite(self.std) and self.std > 0):
            raise ValueError(
                f"Feature {self.name!r} needs a finite mean and a std above 0; "
                f"received mean {self.mean!r:.60}, std {self.std!r:.60}."
            )
        if not _is_finite(self.fill):
            raise ValueError(f"fill of feature {self.name!r} must be a finite number; received {self.fill!r:.60}.")
        marks = _listed(self.name, self.missing_values)
        if not all(isinstance(mark, Real) and math.isfinite(mark) for mark in marks):
            raise ValueError(f"missing_values of feature {self.name!r} must be finite numbers; received {marks!r}.")
        object.__setattr__(self, "missing_values", tuple(float(mark) for mark in marks))
        if self.boundaries is not None:
            limits = _listed(f"boundaries of feature {self.name!r}", self.boundaries)
            boundaries = tuple(float(limit) for limit in limits if _is_finite(limit))
            increasing = all(low < high for low, high in itertools.pairwise(boundaries))
            if not boundaries or not increasing or len(boundaries) < len(limits):
                raise ValueError(
                    f"boundaries of feature {self.name!r} must be finite numbers and increase; "
                    f"received {self.boundaries!r:.60}."
                )
            object.__setattr__(self, "boundaries", boundaries)
        object.__setattr__(self, "encoder", named_encoder(f"encoder of feature {self.name!r}", self.encoder))
        least = 0 if self.encoding is None else self.encoding.least_boundaries
        if len(self.boundaries or ()) < least:
            raise ValueError(
                f"The encoder {self.encoding.name!r} of feature {self.name!r} needs {least} or more boundaries; "  # type: ignore[union-attr]
                f"received {self.boundaries!r:.60}. Give the limits, or infer the features with number_encoder=."
            )

    @property
    def encoding(self) -> Encoding | None:
        """The encoder with its settings; None of a linear number and of a category."""
        return encoding_of(self.encoder)

    @property
    def num_ids(self) -> int:
        """Number of ids of a bucketised number, which is a category; 0 for one that stays a number."""
        return 0 if self.boundaries is None or self.encoder is not None else len(self.boundaries) + 1

    @property
    def table(self) -> str:
        """Name of the rows this feature uses."""
        return self.name


Feature = CategoricalFeature | MultiCategoricalFeature | NumericFeature
_TYPES: dict[str, type] = {
    "categorical": CategoricalFeature,
    "multi_categorical": MultiCategoricalFeature,
    "numeric": NumericFeature,
}


def feature_to_dict(feature: Feature) -> dict[str, Any]:
    """Returns the feature as plain JSON types: its `type` and every argument that is not at its default."""
    kind = next(kind for kind, cls in _TYPES.items() if type(feature) is cls)
    values = {
        field.name: _plain(value)
        for field in fields(feature)
        if (value := getattr(feature, field.name)) != field.default
    }
    return {"type": kind, **values}


def feature_from_dict(config: dict[str, Any]) -> Feature:
    """Returns the feature that `feature_to_dict` wrote.

    Raises:
        ValueError: Not a dict, no name, or an unknown type or argument.
    """
    if not isinstance(config, dict) or "name" not in config:
        raise ValueError(f'A feature is an object with a "type" and a "name"; received {config!r:.60}.')
    arguments = dict(config)
    kind = arguments.pop("type", None)
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(
            f"A feature's type must be one of {', '.join(_TYPES)}; received {kind!r:.60} in {config!r:.60}."
        )
    known = [field.name for field in fields(_TYPES[kind])]
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(
            f"A {kind} feature has no argument {', '.join(map(repr, unknown)):.60}; it has {', '.join(known)}."
        )
    feature: Feature = _TYPES[kind](**arguments)
    return feature


def _plain(value: Any) -> Any:
    """A feature's argument as JSON knows it."""
    if isinstance(value, Attention):
        return value.to_dict()
    if isinstance(value, Encoding):
        return encoder_to_dict(value)
    if isinstance(value, Compression):
        return compression_to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"A feature's name must be a non-empty string; received {name!r:.60}.")


def _check_text(what: str, text: object) -> None:
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{what} must be a string; received {text!r:.60}. Name it, or leave it out.")


def _is_finite(number: object) -> bool:
    if not isinstance(number, Real) or isinstance(number, bool):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that no float holds
        return False


def _whole(what: str, number: Any) -> int:
    """The number as Python's int: the largest id of an array plus one is NumPy's, which JSON does not take."""
    if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
        raise ValueError(f"{what} must be a whole number of 1 or more; received {number!r:.60}.")
    whole = operator.index(number)
    if whole > _LARGEST:
        raise ValueError(f"{what} must be below 2^63; received {number!r:.60}.")
    return whole


def _listed(what: str, values: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{what} must be a list of values; received {values!r:.60}. Write it in brackets.")
    return tuple(values)


def _free_ids(name: str, given: Any, vocabulary: tuple[Any, ...] | None) -> tuple[int, ...]:
    listed = _listed(f"free_ids of feature {name!r}", given)
    if not listed:
        return ()
    if vocabulary is None:
        raise ValueError(
            f"free_ids of feature {name!r} are ids of a vocabulary, and it has none; received {listed!r:.60}. "
            "Leave them out."
        )
    wrong = [one for one in listed if isinstance(one, bool) or not hasattr(one, "__index__")]
    wrong = wrong or [one for one in listed if not 0 <= one < len(vocabulary)]
    if wrong or len(set(listed)) < len(listed):
        raise ValueError(
            f"free_ids of feature {name!r} must be ids below {len(vocabulary)}, each once; "
            f"received {wrong[0] if wrong else listed!r:.60}."
        )
    return tuple(sorted(operator.index(one) for one in listed))


def _compression(feature: Categories) -> Compression:
    """The feature's compression with its number of rows said."""
    what = f"compression of feature {feature.name!r}"
    given = compression_of(what, feature.compression)
    assert given is not None
    if feature.frozen:
        raise ValueError(
            f"Feature {feature.name!r} has frozen rows, which stand for one value each, and a compression, whose rows "
            "several values share. Leave out one of them."
        )
    asked, given = given, given.with_rows_for(feature.num_ids)
    rows = sum(given.sizes(feature.num_ids))
    if rows >= feature.num_ids:
        remedy = "Leave it out." if asked.num_rows is None else "Leave it out, or lower its num_rows."
        raise ValueError(f"{what} gives {rows:,} rows for {feature.num_ids:,} ids, which saves none. {remedy}")
    return given


def _vocabulary_dtype(name: str, vocabulary: tuple[Any, ...]) -> DType:
    if not vocabulary:
        raise ValueError(f"The vocabulary of feature {name!r} is empty. Give its values, or num_hash_buckets.")
    types = {type(value) for value in vocabulary}
    if types not in ({str}, {int}):
        raise ValueError(
            f"The vocabulary of feature {name!r} must be all strings or all integers; "
            f"received {', '.join(sorted(kind.__name__ for kind in types))}."
        )
    if len(set(vocabulary)) < len(vocabulary):
        raise ValueError(f"The vocabulary of feature {name!r} repeats a value. Give each value once.")
    missing = [value for value in vocabulary if value in ("", UINT64_MISSING) or (isinstance(value, int) and value < 0)]
    if missing:
        raise ValueError(
            f"The vocabulary of feature {name!r} contains {missing[0]!r:.60}, which means missing. Leave it out."
        )
    if types == {int} and max(vocabulary) > UINT64_MISSING:
        raise ValueError(
            f"The vocabulary of feature {name!r} contains {max(vocabulary)!r:.60}, an integer of more than 64 bits. "
            "Make the column strings."
        )
    return "string" if types == {str} else "int64"
