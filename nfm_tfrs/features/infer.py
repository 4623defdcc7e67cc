"""Features read off data: one pass of counts and moments, then one plain decision a column."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.check import is_list, is_text
from nfm_tfrs.features.feature import (
    RESERVED_PREFIX,
    CategoricalFeature,
    Feature,
    MultiCategoricalFeature,
    NumericFeature,
)

MIN_COUNT = 5  # chosen on validation: benchmarks/quality/movielens.py
MAX_VOCABULARY = 1_000_000
WEIGHTS_OF = b"weights_of"  # field metadata: the bag column whose weights a column holds


@dataclass(frozen=True)
class Inference:
    """What decides how a column becomes a feature.

    Args:
        columns: The columns to use, in order; all that are not excluded if not given.
        exclude: Columns to leave out: labels, weights, what a split needs.
        min_count: Values seen less often become unknown.
        max_vocabulary: A column with more kept values than this is hashed into twice as many buckets.
    """

    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    min_count: int = MIN_COUNT
    max_vocabulary: int = MAX_VOCABULARY

    def __post_init__(self) -> None:
        for argument in ("columns", "exclude"):
            if isinstance(getattr(self, argument), str):
                raise ValueError(f"{argument} must be a list of column names; received {getattr(self, argument)!r}.")
        if self.min_count < 1:
            raise ValueError(f"min_count must be 1 or more; received {self.min_count!r}.")


def features_from_batches(batches: Iterable[pa.RecordBatch], rules: Inference) -> list[Feature]:
    """Returns the features of a stream of record batches of one schema.

    Strings, integers and booleans are categories (an integer column whose values are mostly unique is a number),
    floats are standardised numbers (logged when non-negative and skewed), lists are mean-pooled bags.

    Raises:
        ValueError: No row, a named column that is not there, or no column that can be used.
    """
    columns: dict[str, _Column] = {}
    schema: pa.Schema | None = None
    for batch in batches:
        if schema is None:
            schema = batch.schema
            columns = {field.name: _Column(field) for field in _chosen(schema, rules)}
        for name, column in columns.items():
            column.update(batch.column(name))
    if schema is not None and not columns:
        raise ValueError(
            f"No column is left to be a feature: {', '.join(rules.exclude)} are excluded of "
            f"{', '.join(schema.names) or 'none'}. Name the features' columns, or give features=."
        )
    if not any(column.rows for column in columns.values()):
        raise ValueError("Features cannot be inferred from data without a row. Give at least one row, or features=.")
    weights = {bag: name for name, column in columns.items() if (bag := _weights_of(column.field)) in columns}
    features: list[Feature] = []
    for name, column in columns.items():
        if name in weights.values():
            continue
        feature = column.feature(rules, weights.get(name))
        if isinstance(feature, str):
            warnings.warn(f"Column {name!r} is left out: {feature}.", stacklevel=2)
        else:
            features.append(feature)
    if not features:
        raise ValueError(f"None of the columns {', '.join(columns)} can be used. Lower min_count, or give features=.")
    return features


def features_from_parquet(path: str | Path, rules: Inference) -> list[Feature]:
    """Returns the features of a Parquet file, read batch by batch.

    Raises:
        ValueError: It is cut short or no Parquet file; else as `features_from_batches`.
    """
    try:
        # Through a small buffer: Arrow otherwise holds a row group's columns whole, and one may be the whole file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            wanted = [field.name for field in _chosen(file.schema_arrow, rules)]
            return features_from_batches(file.iter_batches(columns=wanted, use_threads=False), rules)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file; it may be truncated. Write it again.") from error


def features_from_dataset(dataset: Any, rules: Inference) -> list[Feature]:
    """Returns the features of one pass over a batched tf.data.Dataset of dicts, or of tuples that begin with one."""
    if int(dataset.cardinality()) == -1:
        raise ValueError("Features cannot be inferred from a dataset that repeats without end. Give one pass of it.")
    return features_from_batches(_record_batches(dataset, rules), rules)


def _record_batches(dataset: Any, rules: Inference) -> Iterator[pa.RecordBatch]:
    specs = dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else dataset.element_spec
    if not isinstance(specs, dict):
        raise ValueError(
            f"Features are inferred from a dict of columns; received {type(specs).__name__}. "
            "Give batches of {name: tensor}, or features=."
        )
    specs = {
        name: spec for name, spec in specs.items() if name in (rules.columns or specs) and name not in rules.exclude
    }
    for name, spec in specs.items():
        if spec.shape.rank not in (1, 2):
            raise ValueError(
                f"Column {name!r} must be [batch] or [batch, length]; received shape {spec.shape}. Batch the dataset."
            )
    # From the spec, not the batch: the longest bag of one batch may have one value, that of the next more.
    single = {name for name, spec in specs.items() if spec.shape.rank == 1 or spec.shape[1:] == [1]}
    for element in dataset:
        columns = element[0] if isinstance(element, tuple) else element
        yield pa.RecordBatch.from_pydict({name: _to_arrow(name, columns[name], name in single) for name in specs})


def _to_arrow(name: str, values: Any, single: bool) -> pa.Array:
    if hasattr(values, "row_splits"):
        splits, flat = values.row_splits.numpy(), values.flat_values.numpy()
    elif hasattr(values, "dense_shape"):
        rows, shape = values.indices.numpy()[:, 0], values.dense_shape.numpy()
        splits = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
        flat = values.values.numpy()
        if single:
            places = np.where(np.diff(splits) > 0, splits[:-1], len(flat))
            return _flat_to_arrow(name, flat).take(pa.array(places, mask=places == len(flat)))
    else:
        array = np.asarray(values)
        flat, length = array.reshape(-1), 1 if array.ndim == 1 else array.shape[1]
        splits = np.arange(len(array) + 1) * length
    flat = _flat_to_arrow(name, flat)
    return flat if single else pa.ListArray.from_arrays(pa.array(splits, pa.int32()), flat)


def _flat_to_arrow(name: str, array: np.ndarray) -> pa.Array:
    if array.dtype == object:  # TensorFlow's strings
        try:
            return pa.array(array, pa.binary()).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise ValueError(f"Column {name!r} holds bytes that are not UTF-8. Decode them first.") from error
    return pa.array(array.astype(np.float32) if array.dtype.kind == "V" else array)  # V: bfloat16, unknown to Arrow


def _chosen(schema: pa.Schema, rules: Inference) -> list[pa.Field]:
    for name in rules.columns or ():
        if name not in schema.names:
            raise missing_column(name, schema.names)
    index = {name for name in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)}
    for name in sorted(index) if not rules.columns else ():
        warnings.warn(f"Column {name!r} is left out: it is the index of a pandas DataFrame.", stacklevel=2)
    names = list(rules.columns or (name for name in schema.names if name not in index))
    names = [name for name in names if name not in rules.exclude]
    chosen = [schema.field(name) for name in names]
    if rules.columns:  # weights come along with their bag
        chosen += [field for field in schema if _weights_of(field) in names and field.name not in names]
    return chosen


def _weights_of(field: pa.Field) -> str | None:
    bag = (field.metadata or {}).get(WEIGHTS_OF)
    return None if bag is None else bag.decode()


class _Column:
    """Counts of the values of one column, or its moments."""

    def __init__(self, field: pa.Field) -> None:
        self.field = field
        self.rows = 0
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        self.is_bag = is_list(kind)
        self.type = kind.value_type if self.is_bag else kind
        if pa.types.is_dictionary(self.type):
            self.type = self.type.value_type
        self.is_string = is_text(self.type)
        self.is_integer = pa.types.is_integer(self.type) or pa.types.is_boolean(self.type)
        self.is_number = pa.types.is_floating(self.type) or pa.types.is_decimal(self.type)
        self.counts: list[pa.Table] = []
        self.raw, self.logged = _Moments(), _Moments()

    def update(self, array: pa.Array) -> None:
        self.rows += len(array)
        values = array
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if self.is_bag:
            values = values.flatten()
        if self.is_string or self.is_integer:
            values = self._cast(values).drop_null()
            counted = values.value_counts()
            self.counts.append(pa.table({"value": counted.field("values"), "count": counted.field("counts")}))
            if sum(len(table) for table in self.counts) > 4_000_000:
                self.counts = [self._counted()]
        if self.is_integer or self.is_number:
            numbers = values.cast(pa.float64(), safe=False).drop_null().to_numpy(zero_copy_only=False)
            numbers = numbers[np.isfinite(numbers)]
            self.raw.update(numbers)
            self.logged.update(np.sign(numbers) * np.log1p(np.abs(numbers)))

    def _cast(self, values: pa.Array) -> pa.Array:
        try:
            return values.cast(pa.string() if self.is_string else pa.int64())
        except pa.ArrowInvalid as error:
            raise ValueError(f"Column {self.field.name!r}: {error}. Turn its values into strings.") from error

    def feature(self, rules: Inference, weights: str | None) -> Feature | str:
        """Returns the column's feature, or why it has none."""
        if not self.field.name or self.field.name.startswith(RESERVED_PREFIX):
            return f"its name is empty or begins with {RESERVED_PREFIX!r}, which is reserved"
        if self.is_number:
            return "a list of floats is neither a bag of categories nor a number" if self.is_bag else self._numeric()
        if not (self.is_string or self.is_integer):
            return f"its type {self.field.type} is not a string, a number or a list of them"
        table = self._counted()
        known = pc.not_equal(table["value"], "") if self.is_string else pc.greater_equal(table["value"], 0)
        table = table.filter(known)
        if len(table) == 0:
            return "every value is missing"
        if self.is_integer and not self.is_bag and self.rows >= 100 and len(table) > self.rows / 2:
            return self._numeric()
        kept = table.filter(pc.greater_equal(table["count"], rules.min_count))
        if len(kept) == 0:
            return (
                f"no value is seen {rules.min_count} times (the most frequent {pc.max(table['count'])} times in "
                f"{self.rows} rows); lower min_count"
            )
        kept = kept.sort_by([("count", "descending"), ("value", "ascending")])
        how: dict[str, Any] = {"vocabulary": tuple(kept["value"].to_pylist())}
        if len(kept) > rules.max_vocabulary:
            how = {"num_hash_buckets": 2 * len(kept), "dtype": "string" if self.is_string else "int64"}
        if self.is_bag:
            return MultiCategoricalFeature(self.field.name, weights=weights, **how)
        return CategoricalFeature(self.field.name, **how)

    def _numeric(self) -> Feature | str:
        if not self.raw.count or self.raw.std == 0:
            return "every value is missing" if not self.raw.count else "every value is the same"
        log = self.raw.low >= 0 and self.raw.std > 2 * self.raw.mean
        moments = self.logged if log else self.raw
        return NumericFeature(self.field.name, mean=moments.mean, std=moments.std, log=log)

    def _counted(self) -> pa.Table:
        if not self.counts:
            return pa.table(
                {
                    "value": pa.array([], pa.string() if self.is_string else pa.int64()),
                    "count": pa.array([], pa.int64()),
                }
            )
        summed = pa.concat_tables(self.counts).group_by("value").aggregate([("count", "sum")])
        return pa.table({"value": summed["value"], "count": summed["count_sum"]})


class _Moments:
    """Mean and standard deviation by Chan's pairwise update, exact enough for a mean far from 0."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.low = 0, 0.0, 0.0, math.inf

    def update(self, numbers: np.ndarray) -> None:
        if not len(numbers):
            return
        count, mean = len(numbers), float(numbers.mean())
        total, delta = self.count + count, mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum()) + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count, self.low = total, min(self.low, float(numbers.min()))

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count)
