"""The parts a model trains, is chosen and is judged on, encoded once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.data.labels import read_labels, read_weights
from nfm_tfrs.data.pipeline.batches import batches
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.features.check import Bag, Columns, checked_arrays
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.host import means_missing
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key
from nfm_tfrs.features.rates import Rates
from nfm_tfrs.features.scale import raw_numbers, warn_of_raw_numbers
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.target import Target


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

    def take(self, rows: np.ndarray) -> "EncodedPart":
        """Returns some of the rows, without rates, which are of all.

        Args:
            rows: Numbers of the rows, in their order.
        """
        columns: Columns = {
            name: column.take(rows) if isinstance(column, Bag) else np.take(column, rows, axis=0)
            for name, column in self.columns.items()
        }
        labels, weights = (None if column is None else column[rows] for column in (self.labels, self.weights))
        return EncodedPart(columns, labels, weights)

    def dataset(
        self, batch_size: int, *, shuffle: bool = False, seed: int = 0, start: Position | None = None
    ) -> tf.data.Dataset:
        """Returns the part as batches of (columns, label[, weight]); see `batches`."""
        rows = (self.columns, self.labels, self.weights)
        return batches(*rows, batch_size=batch_size, shuffle=shuffle, seed=seed, start=start)


def encode_part(table: pa.Table, encoder: FeatureEncoder, target: Target | None = None) -> EncodedPart:
    """Encodes a table's features and computes its labels and weights.

    Args:
        table: The rows.
        encoder: The encoder of the features to read.
        target: What is predicted; None leaves labels and weights out.

    Raises:
        ValueError: A column is missing, of another type, or out of range; a label is missing or does not fit the task.
    """
    arrays = checked_arrays(table, encoder.features)
    columns = encoder.encode_arrays(arrays)
    labels = weights = None
    if target is not None:
        labels, weights = read_labels(table, target), read_weights(table, target)
    return EncodedPart(columns, labels, weights, rates_of(arrays, columns, encoder.features))


@dataclass(frozen=True)
class Prepared:
    """The parts of some data, encoded.

    Args:
        encoder: The encoder of the features.
        tables: The parts as they came, by name; from a cache, the columns that it keeps.
        encoded: The rows of each part, encoded, by the names of the parts.
        target: What is predicted; None where the parts have no labels.
        split: How the rows were divided, as a person writes it; None where nobody said it.
        streamed: The Parquet files of the training rows where they are too many for memory.
        histories: The histories that were made of the rows, as a person writes them.
    """

    encoder: FeatureEncoder
    tables: dict[str, pa.Table]
    encoded: dict[str, EncodedPart]
    target: Target | None = None
    split: str | None = None
    streamed: tuple[Path, ...] = ()
    histories: tuple[str, ...] = ()

    @property
    def features(self) -> FeatureSpec:
        """What a model of these parts reads."""
        return self.encoder.features

    @property
    def train(self) -> EncodedPart:
        """The rows to train on."""
        return self._part("train")

    @property
    def valid(self) -> EncodedPart:
        """The rows to choose on."""
        return self._part("valid")

    @property
    def test(self) -> EncodedPart:
        """The rows to judge on, once."""
        return self._part("test")

    def _part(self, name: str) -> EncodedPart:
        if name not in self.encoded:
            raise ValueError(
                f"There are no encoded {name} rows; the parts are {', '.join(self.encoded) or 'none'}. "
                "Prepare with a split that gives them."
            )
        return self.encoded[name]

    def without(self, part: str) -> "Prepared":
        """Returns the same without one part: rows that nobody may look at yet."""
        tables, encoded = ({k: v for k, v in parts.items() if k != part} for parts in (self.tables, self.encoded))
        return replace(self, tables=tables, encoded=encoded)


def encode_tables(tables: dict[str, pa.Table], encoder: FeatureEncoder, target: Target) -> Prepared:
    """Encodes parts that are tables of their own.

    Args:
        tables: The parts, by name.
        encoder: The encoder of the features.
        target: What is predicted.

    Raises:
        ValueError: The label or the weight is a feature too, the rows to train or choose on are of one class, or a
            column does not fit; see `encode_part`.
    """
    for column, role in zip(target.columns, ("label", "weight"), strict=False):
        if column in encoder.features.columns:
            raise ValueError(f"Column {column!r} is the {role} and a feature. Take it out of the features.")
    encoded = {name: encode_part(part, encoder, target) for name, part in tables.items()}
    if "train" in encoded:
        train = tables["train"]
        raw = raw_numbers(encoder.features, dict.fromkeys(train.column_names))
        warn_of_raw_numbers(encoder.features, {name: train.column(name).to_numpy() for name in raw})
    for name in ("train", "valid"):
        if name in encoded:
            labels = encoded[name].labels
            assert labels is not None
            target.check_both_classes(name, labels, encoded[name].weights)
    return Prepared(encoder, tables, encoded, target)


def fingerprint(*parts: EncodedPart) -> str:
    """Returns a hash of all rows, labels and weights."""
    state = hashlib.sha256()
    for part in parts:
        for name, column in sorted(part.columns.items()):
            state.update(name.encode())
            for array in (column.values, column.row_splits) if isinstance(column, Bag) else (column,):
                state.update(f"{array.dtype}{array.shape}".encode())
                state.update(np.ascontiguousarray(array).data)
        for target in (part.labels, part.weights):
            state.update(b"none" if target is None else np.ascontiguousarray(target).data)
    return state.hexdigest()


def rates_of(arrays: Mapping[str, pa.Array], columns: Columns, spec: FeatureSpec) -> list[Rates]:
    """Returns the missing and unknown values of each feature.

    Args:
        arrays: What `checked_arrays` returns.
        columns: The same rows encoded.
        spec: The features.
    """
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
    """Values that are there but mean missing: empty strings, negative integers, 2⁶⁴ - 1, NaN."""
    if pa.types.is_dictionary(array.type):
        meant = means_missing(array.dictionary).take(array.indices)
    else:
        meant = pc.is_nan(array) if pa.types.is_floating(array.type) else means_missing(array)
    return pc.sum(meant).as_py() or 0
