"""The ordered, frozen description of a model's input columns, and where their rows lie in the fused table."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nfm_tfrs.arguments import choice
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.feature import (
    ATTENTION,
    COMBINERS,
    RESERVED_PREFIX,
    CategoricalFeature,
    Categories,
    Combiner,
    DType,
    Feature,
    MultiCategoricalFeature,
    NumericFeature,
    feature_from_dict,
    feature_to_dict,
)
from nfm_tfrs.features.number_encoders import LINEAR, NUMBER_ENCODERS

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FeatureSpec:
    """The columns a model reads, in order.

    One id space covers all features: feature after feature, each with its row 0 and then its n ids, so that
    `offsets[name] + 1 + id` is the row of an id and `offsets[name]` the row of unknown and missing values.

    Args:
        features: The features, in order.

    Raises:
        ValueError: No feature, a name given twice, a shared embedding whose categories or rows differ, or a bag whose
            target is no single category of the spec.

    Example:
        >>> spec = FeatureSpec([CategoricalFeature("user_id", vocabulary_size=10), NumericFeature("price")])
        >>> spec.names, spec.num_rows
        (('user_id', 'price'), 11)
    """

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        if isinstance(self.features, CategoricalFeature | MultiCategoricalFeature | NumericFeature):
            raise ValueError(
                "FeatureSpec takes a list of features; received a single one. Write FeatureSpec([feature])."
            )
        features = tuple(self.features)
        object.__setattr__(self, "features", features)
        if not features:
            raise ValueError("FeatureSpec needs at least one feature; received none. Name one.")
        for feature in features:
            if not isinstance(feature, CategoricalFeature | MultiCategoricalFeature | NumericFeature):
                raise ValueError(
                    "FeatureSpec takes CategoricalFeature, MultiCategoricalFeature and NumericFeature; "
                    f"received {type(feature).__name__}."
                )
            if feature.name.startswith(RESERVED_PREFIX):
                raise ValueError(f"Names that begin with {RESERVED_PREFIX!r} are reserved; received {feature.name!r}.")
        names = [feature.name for feature in features]
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise ValueError(f"Each feature needs a name of its own; {', '.join(map(repr, repeated))} came twice.")
        owners: dict[str, Feature] = {}
        for feature in features:
            if not feature.num_ids:
                continue  # a plain number has no rows to share
            owner = owners.setdefault(feature.table, feature)
            if _categories(owner) != _categories(feature):
                raise ValueError(
                    f"Features {owner.name!r} and {feature.name!r} share the embedding {feature.table!r} but not their "
                    "categories. Give both the same vocabulary, num_hash_buckets or vocabulary_size."
                )
            if _rows_of(owner) != _rows_of(feature):
                raise ValueError(
                    f"Features {owner.name!r} and {feature.name!r} share the embedding {feature.table!r} but not what "
                    "its rows are. Give both the same embedding_dim, frozen and compression."
                )
        self._check_targets()

    def _check_targets(self) -> None:
        for bag in self.bags:
            if bag.target is not None and not isinstance(self._by_name.get(bag.target), CategoricalFeature):
                single = [feature.name for feature in self.features if isinstance(feature, CategoricalFeature)]
                raise ValueError(
                    f"target of feature {bag.name!r} must be a CategoricalFeature of the same spec; received "
                    f"{bag.target!r:.60}, and there are {', '.join(single) or 'none'}."
                )

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> Feature:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[object, Feature]:
        return {feature.name: feature for feature in self.features}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def dtypes(self) -> dict[str, DType]:
        """`"string"` or `"int64"` for each single-valued category that says which."""
        return {f.name: f.dtype for f in self.features if isinstance(f, CategoricalFeature) and f.dtype}

    @cached_property
    def column_types(self) -> dict[str, Literal["string", "int64", "number"]]:
        """`dtypes`, and `"number"` for each number: what a reader of text need not guess."""
        return {**self.dtypes, **{number.name: "number" for number in self.numbers}}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every input column that is read: the features and the weights of bags."""
        weights = [feature.weights for feature in self.bags if feature.weights]
        return tuple(dict.fromkeys([*self.names, *weights]))

    @cached_property
    def single(self) -> tuple[CategoricalFeature | NumericFeature, ...]:
        """Features with one id an example: categories and bucketised numbers."""
        return tuple(f for f in self.features if not isinstance(f, MultiCategoricalFeature) and f.num_ids)

    @cached_property
    def numbers(self) -> tuple[NumericFeature, ...]:
        """Numbers that stay numbers."""
        return tuple(f for f in self.features if isinstance(f, NumericFeature) and not f.num_ids)

    @cached_property
    def bags(self) -> tuple[MultiCategoricalFeature, ...]:
        """Features with a bag of ids an example."""
        return tuple(f for f in self.features if isinstance(f, MultiCategoricalFeature))

    @cached_property
    def histories(self) -> tuple[MultiCategoricalFeature, ...]:
        """Bags that have a target."""
        return tuple(bag for bag in self.bags if bag.target is not None)

    @cached_property
    def tables(self) -> dict[str, tuple[int, int]]:
        """First row and number of rows of each table, by its name."""
        tables: dict[str, tuple[int, int]] = {}
        offset = 0
        for feature in self.features:
            if feature.num_ids and feature.table not in tables:
                tables[feature.table] = (offset, feature.num_ids + 1)
                offset += feature.num_ids + 1
        return tables

    @cached_property
    def owners(self) -> dict[str, Feature]:
        """The first feature of each table, by the table's name."""
        owners: dict[str, Feature] = {}
        for feature in self.features:
            if feature.num_ids:
                owners.setdefault(feature.table, feature)
        return owners

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Row of each feature's unknown and missing values, by the feature's name."""
        return {feature.name: self.tables[feature.table][0] for feature in self.features if feature.num_ids}

    @cached_property
    def num_rows(self) -> int:
        """Rows of all tables together."""
        return sum(rows for _, rows in self.tables.values())

    def replace(self, feature: Feature) -> "FeatureSpec":
        """Returns the spec with `feature` in the place of the one of its name.

        Raises:
            ValueError: There is none of that name.
        """
        if feature.name not in self:
            raise ValueError(f"There is no feature {feature.name!r} to replace; there are {', '.join(self.names)}.")
        return replace(self, features=tuple(feature if f.name == feature.name else f for f in self.features))

    def part(self, names: Collection[str]) -> "FeatureSpec":
        """Returns the features of these names, in their order; the target of a bag may be left out.

        Args:
            names: Names of some of the features.
        """
        return SpecPart(tuple(feature for feature in self.features if feature.name in names))

    def with_history_combiner(self, combiner: Combiner | None) -> "FeatureSpec":
        """Returns the spec with every bag that has a target pooled in one way; the spec itself for None.

        Args:
            combiner: How a bag becomes one field; settings of attention stay where it is attention.

        Raises:
            ValueError: There is no such combiner, or no bag that has a target.

        Example:
            >>> film = CategoricalFeature("film", vocabulary_size=5)
            >>> seen = MultiCategoricalFeature("seen", vocabulary_size=5, embedding_name="film", target="film")
            >>> FeatureSpec([film, seen]).with_history_combiner("attention").bags[0].combiner
            'attention'
        """
        if combiner is None:
            return self
        choice("history_combiner", combiner, COMBINERS)
        if not self.histories:
            raise ValueError(
                f'history_combiner="{combiner}" is of bags that have a target; received features without one: '
                f"{', '.join(self.names):.200}. Name the target of a bag, or leave history_combiner out."
            )
        spec = self
        for bag in self.histories:
            kept = bag.attention if combiner == ATTENTION else None
            spec = spec.replace(replace(bag, combiner=combiner, attention=kept))
        return spec

    def with_number_encoder(self, encoder: str | None) -> "FeatureSpec":
        """Returns the spec with an encoder for every number that is linear; itself where it is None or "linear".

        Args:
            encoder: One of `NUMBER_ENCODERS`, or None.

        Raises:
            ValueError: There is no such encoder, no number that stays one, or a linear one lacks the limits that the
                encoder needs.
        """
        if encoder is None:
            return self
        choice("number_encoder", encoder, NUMBER_ENCODERS)
        if encoder == LINEAR:
            return self
        if not self.numbers:
            raise ValueError(
                f'number_encoder="{encoder}" is of numbers; received features without one: '
                f"{', '.join(self.names):.200}. Leave number_encoder out."
            )
        changed = {number.name: replace(number, encoder=encoder) for number in self.numbers if number.encoding is None}
        return replace(self, features=tuple(changed.get(feature.name, feature) for feature in self.features))

    def __str__(self) -> str:
        rows = [("feature", "kind", "ids", "how")] + [_described(feature) for feature in self.features]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        )

    @classmethod
    def from_table(cls, table: "pa.Table", **rules: Any) -> "FeatureSpec":
        """Returns the features inferred from an Arrow table; see `infer_features` for the rules.

        Raises:
            ValueError: No row, an unknown column, or no column that can be used.
        """
        # Imported here, as below: inference needs Arrow, a spec does not.
        from nfm_tfrs.features.infer import infer_features

        return infer_features(table, **rules)

    @classmethod
    def from_batches(cls, batches: Iterable["pa.RecordBatch"], **rules: Any) -> "FeatureSpec":
        """Returns the features inferred from a stream of Arrow record batches; see `infer_features` for the rules."""
        from nfm_tfrs.features.infer import infer_features

        return infer_features(iter(batches), **rules)

    @classmethod
    def from_dataframe(cls, dataframe: Any, **rules: Any) -> "FeatureSpec":
        """Returns the features inferred from a pandas DataFrame; see `infer_features` for the rules."""
        from nfm_tfrs.features.infer import infer_features

        return infer_features(dataframe, **rules)

    @classmethod
    def from_parquet(cls, path: str | Path, **rules: Any) -> "FeatureSpec":
        """Returns the features inferred from Parquet files in one streamed pass; see `infer_features` for the rules."""
        from nfm_tfrs.features.infer import infer_features

        return infer_features(path, format="parquet", **rules)

    @classmethod
    def from_dataset(cls, dataset: Any, *, label: str | None = None, **rules: Any) -> "FeatureSpec":
        """Returns the features inferred from one pass over a batched tf.data.Dataset.

        Args:
            dataset: Batches of {name: tensor}, or tuples that begin with one.
            label: The column that is the label, where it lies among the features.
            **rules: See `infer_features`.
        """
        from nfm_tfrs.features.infer import infer_features

        exclude = [*rules.pop("exclude", ()), *([label] if label else [])]
        return infer_features(dataset, exclude=exclude, **rules)

    @classmethod
    def from_feature_columns(cls, columns: Sequence[Any]) -> "FeatureSpec":
        """Returns the spec of `tf.feature_column`s; see `nfm_tfrs.migration.feature_columns`."""
        # Imported here: the adapter needs TensorFlow, a spec does not.
        from nfm_tfrs.migration.feature_columns import features_from_columns

        return cls(tuple(features_from_columns(columns)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as plain JSON types."""
        return {"features": [feature_to_dict(feature) for feature in self.features]}

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "FeatureSpec":
        """Returns the spec that `to_dict` wrote.

        Raises:
            ValueError: It is no such thing.
        """
        listed = config.get("features")
        if not isinstance(listed, list | tuple):
            raise ValueError(f'A feature spec is an object with a list "features"; received {listed!r:.60} instead.')
        unknown = sorted(map(repr, set(config) - {"features"}))
        if unknown:
            raise ValueError(
                f'A feature spec has "features" alone; received {", ".join(unknown):.60} too. Leave that out.'
            )
        return cls(tuple(feature_from_dict(feature) for feature in listed))

    def to_json(self, indent: int | None = 2) -> str:
        """Returns the spec as JSON that a person can edit."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        """Returns the spec that `to_json` wrote.

        Raises:
            ValueError: Not JSON, or not a spec.
        """
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A feature spec is JSON; {error} in {text[:60]!r}. Write one with to_json.") from error
        except RecursionError as error:
            raise ValueError(
                f"A feature spec is not nested so deep as {text[:60]!r}. Write one with to_json."
            ) from error
        if not isinstance(config, dict) or not isinstance(config.get("features"), list):
            raise ValueError(f'A feature spec is an object with a list "features"; received {text[:60]!r}.')
        return cls.from_dict(config)


class SpecPart(FeatureSpec):
    """Some features of a spec, whose bags may have their targets among the others; see `FeatureSpec`."""

    def _check_targets(self) -> None:
        """Accepts any target."""


def _categories(feature: Feature) -> tuple[Any, ...]:
    if isinstance(feature, NumericFeature):
        return (feature.boundaries,)
    return (feature.vocabulary, feature.free_ids, feature.num_hash_buckets, feature.vocabulary_size)


def _rows_of(feature: Feature) -> tuple[Any, ...]:
    if isinstance(feature, NumericFeature):
        return ()
    return (feature.embedding_dim, feature.frozen, feature.compression)


def _own_rows(feature: Categories) -> Iterator[str]:
    """What is of its own in a feature's rows."""
    if feature.embedding_dim is not None:
        yield f"embedding_dim {feature.embedding_dim}"
    if feature.frozen:
        yield "frozen"
    if feature.compression is not None:
        yield f"{feature.compression.kind} to {sum(feature.compression.sizes(feature.num_ids)):,} rows"


def _described(feature: Feature) -> tuple[str, str, str, str]:
    if isinstance(feature, NumericFeature) and not feature.num_ids:
        how = f"{'log, ' if feature.log else ''}mean {feature.mean:.6g}, std {feature.std:.6g}"
        how += f", {feature.encoding.name}" if feature.encoding is not None else ""
        how += f", {len(feature.boundaries)} boundaries" if feature.boundaries else ""
        return feature.name, "number", "-", how
    if isinstance(feature, NumericFeature):
        return (
            feature.name,
            "bucketised number",
            str(feature.num_ids),
            f"{len(feature.boundaries or ())} boundaries",
        )
    if feature.vocabulary is not None:
        known = feature.known_values
        shown = ", ".join(map(str, known[:5])) + (", …" if len(known) > 5 else "")
        how = f"vocabulary of {'strings' if feature.dtype == 'string' else 'integers'}: {shown}"
        how += f" ({len(feature.free_ids)} free)" if feature.free_ids else ""
    else:
        how = "hashed" if feature.num_hash_buckets else "ids"
    how += "".join(f"; {part}" for part in _own_rows(feature))
    if isinstance(feature, CategoricalFeature):
        return feature.name, "category", str(feature.num_ids), how
    kind = f"bag ({feature.combiner})" if feature.combiner else "positions"
    if feature.target is not None:
        how += f"; history of {feature.target}"
    if feature.attends:
        settings = feature.attention or Attention()
        how += f", attention by {settings}"
    return feature.name, kind, str(feature.num_ids), how
