"""The parts a model trains, is chosen and is judged on, encoded once."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.data.labels import Label, check_binary, example_weights
from nfm_tfrs.data.pipeline.batches import batches
from nfm_tfrs.features.check import Bag, Columns, checked_arrays
from nfm_tfrs.features.encoder import IDS, NUMBERS, FeatureEncoder, bag_key
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf


@dataclass(frozen=True)
class Rates:
    """How many of a feature's values are missing (null, NaN, "", negative) and how many unknown.

    Args:
        name: The feature.
        values: Number of values; of a bag, those that are there.
        missing: Share of missing values; of a bag, of examples whose bag is empty.
        unknown: Share of values that are there but were not in the vocabulary.
    """

    name: str
    values: int
    missing: float
    unknown: float


@dataclass(frozen=True)
class EncodedPart:
    """Some rows of a table, encoded once: what `batches` and the metrics need.

    Args:
        columns: Encoded columns, as `FeatureEncoder.encode_arrays` returns them.
        labels: `[n]` float32; None where the rows have none.
        weights: `[n]` float32; None where all count alike.
        rates: Missing and unknown values, feature by feature.
    """

    columns: Columns
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    rates: list[Rates] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns[IDS])

    def dataset(self, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> tf.data.Dataset:
        """Returns the part as batches of (columns, label[, weight]); see `batches`."""
        return batches(self.columns, self.labels, self.weights, batch_size=batch_size, shuffle=shuffle, seed=seed)


def encode_part(
    table: pa.Table,
    encoder: FeatureEncoder,
    label: Label | None = None,
    *,
    weight: str | None = None,
    binary: bool = True,
) -> EncodedPart:
    """Encodes a table's features and computes its labels.

    Args:
        table: The rows.
        encoder: Of the features to read.
        label: The label; None leaves labels out.
        weight: The column of example weights.
        binary: Whether the label must be 0 or 1.

    Raises:
        ValueError: A column is missing, of another type, or out of range; a label is missing or not binary.
    """
    arrays = checked_arrays(table, encoder.features)
    columns = encoder.encode_arrays(arrays)
    labels = None
    if label is not None:
        labels = label.values(table)
        if binary:
            check_binary(labels, label)
    weights = None if weight is None else example_weights(table, weight)
    return EncodedPart(columns, labels, weights, _rates(arrays, columns, encoder.features))


@dataclass(frozen=True)
class Prepared:
    """The parts of some data, encoded.

    Args:
        encoder: Encodes the features.
        tables: The parts as they came, by name; from a cache, the columns that it keeps.
        encoded: The same rows, encoded, by the same names.
    """

    encoder: FeatureEncoder
    tables: dict[str, pa.Table]
    encoded: dict[str, EncodedPart]

    @property
    def features(self) -> FeatureSpec:
        """What a model of these parts reads."""
        return self.encoder.features

    @property
    def train(self) -> EncodedPart:
        """The rows to train on."""
        return self.encoded["train"]

    @property
    def valid(self) -> EncodedPart:
        """The rows to choose on."""
        return self.encoded["valid"]

    @property
    def test(self) -> EncodedPart:
        """The rows to judge on, once."""
        return self.encoded["test"]


def encode_tables(
    tables: dict[str, pa.Table], encoder: FeatureEncoder, label: str, *, weight: str | None = None, binary: bool = True
) -> Prepared:
    """Encodes parts that are tables of their own; see `prepare` for the arguments.

    Raises:
        ValueError: The label or the weight is a feature too, the rows to train or choose on are of one class, or a
            column does not fit; see `encode_part`.
    """
    target = Label.parse(label)
    for column, role in ((target.column, "label"), (weight, "weight")):
        if column in encoder.features.columns:
            raise ValueError(f"Column {column!r} is the {role} and a feature. Take it out of the features.")
    encoded = {name: encode_part(part, encoder, target, weight=weight, binary=binary) for name, part in tables.items()}
    for name in ("train", "valid"):
        if binary and name in encoded:
            _check_both_classes(name, encoded[name], target)
    return Prepared(encoder, tables, encoded)


def _check_both_classes(name: str, part: EncodedPart, label: Label) -> None:
    counted = part.labels if part.weights is None else np.asarray(part.labels)[part.weights > 0]
    if counted is None or len(np.unique(counted)) < 2:
        raise ValueError(
            f"The {name} rows need positives and negatives of a weight above 0; label {str(label)!r} gives one class "
            f"in their {len(part)} rows. Give other rows, another split or another label."
        )


def _rates(arrays: dict[str, pa.Array], columns: Columns, spec: FeatureSpec) -> list[Rates]:
    rates = []
    ids, numbers = np.asarray(columns[IDS]), np.asarray(columns[NUMBERS])
    first_rows = (ids == [spec.offsets[feature.name] for feature in spec.single]).sum(axis=0)  # a fourth of by column
    for feature, first_row in zip(spec.single, first_rows.tolist(), strict=True):
        array = arrays[feature.name]
        missing = array.null_count + _count_missing(array)
        rates.append(_shares(feature.name, len(array), missing, first_row - missing))
    for number, missing in zip(spec.numbers, np.isnan(numbers).sum(axis=0).tolist(), strict=True):
        rates.append(_shares(number.name, len(numbers), missing, 0))
    for bag in spec.bags:
        values = columns[bag_key(bag.name)]
        assert isinstance(values, Bag)
        unknown = (values.values == spec.offsets[bag.name]).mean() if len(values.values) else 0.0
        empty = (np.diff(values.row_splits) == 0).mean() if len(values) else 0.0
        rates.append(Rates(bag.name, len(values.values), float(empty), float(unknown)))
    order = {name: position for position, name in enumerate(spec.names)}
    return sorted(rates, key=lambda rate: order[rate.name])


def _shares(name: str, values: int, missing: int, unknown: int) -> Rates:
    return Rates(name, values, missing / max(values, 1), unknown / max(values, 1))


def _count_missing(array: pa.Array) -> int:
    """Values that are there but mean missing: empty strings, negative integers, NaN."""
    if pa.types.is_dictionary(array.type):
        meant = pc.equal(array.dictionary, "").take(array.indices)
    elif pa.types.is_string(array.type):
        meant = pc.equal(array, "")
    else:
        meant = pc.is_nan(array) if pa.types.is_floating(array.type) else pc.less(array, 0)
    return pc.sum(meant).as_py() or 0
