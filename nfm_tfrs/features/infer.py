"""Features read off data: one pass of counts and moments over any source."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nfm_tfrs import arguments
from nfm_tfrs.features.bag import HISTORY_OF, WEIGHTS_OF
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.column import ColumnCounts, Kind
from nfm_tfrs.features.feature import CategoricalFeature, Feature, NumericFeature
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.features.joined import warn_of_joined_values
from nfm_tfrs.features.number_encoders import NUMBER_ENCODERS
from nfm_tfrs.features.rates import Rates
from nfm_tfrs.features.spec import FeatureSpec

MIN_COUNT = 5  # chosen on validation: benchmarks/quality/movielens.py
MAX_VOCABULARY = 1_000_000


@dataclass(frozen=True)
class Inference:
    """What decides how a column becomes a feature.

    Args:
        columns: The columns to use, in order; all that are not excluded if not given.
        exclude: Columns to leave out: labels, weights, what a split needs.
        min_count: Values seen less often become unknown; a column that has no other is hashed into twice as many
            buckets as it has values, at most twice `max_vocabulary`.
        max_vocabulary: A column with more kept values than this is hashed into twice as many buckets.
        kinds: `"category"`, `"number"` or `"bag"` by column, where the column's type does not tell what it means: a
            year may be a category, an id that is unique in most rows as well. A bag of scalars has one value a row.
        label: The column that is the label; left out.
        number_encoder: The encoder of every number; see `NumericFeature`. The limits of `"buckets"` and `"piecewise"`
            are the percentiles 1, 3, …, 99 of the column, fewer where they repeat, and the smallest and the largest
            number where they are all one; `"linear"` keeps them for a model that takes another encoder. Numbers that
            are mostly huge, of which some mean a missing one elsewhere, stay linear.

    Raises:
        ValueError: A rule that cannot be.
    """

    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    min_count: int = MIN_COUNT
    max_vocabulary: int = MAX_VOCABULARY
    kinds: Mapping[str, Kind] | None = None
    label: str | None = None
    number_encoder: str | None = None

    def __post_init__(self) -> None:
        for argument in ("columns", "exclude"):
            if isinstance(getattr(self, argument), str):
                raise ValueError(f"{argument} must be a list of column names; received {getattr(self, argument)!r}.")
        if self.min_count < 1:
            raise ValueError(f"min_count must be 1 or more; received {self.min_count!r}.")
        if not isinstance(self.kinds, Mapping | None):
            raise ValueError(f'kinds must be a dict such as {{"year": "category"}}; received {self.kinds!r}.')
        for name, kind in (self.kinds or {}).items():
            arguments.choice(f"The kind of column {name!r}", kind, get_args(Kind))
        if self.number_encoder is not None:
            arguments.choice("number_encoder", self.number_encoder, NUMBER_ENCODERS)

    def uses(self, name: str) -> bool:
        """Whether a column is to be a feature."""
        return (not self.columns or name in self.columns) and name not in self.exclude and name != self.label

    def check(self, names: Sequence[str]) -> None:
        """Checks that the columns which the rules name are among `names`, and that those with a kind are used.

        Raises:
            ValueError: One is not.
        """
        for name in self.columns or ():
            if name not in names:
                raise arguments.missing_column(name, names)
        for name in self.kinds or ():
            if name not in names:
                raise arguments.missing_column(name, names, reader="kinds")
            if not self.uses(name):
                raise ValueError(
                    f"Column {name!r} has a kind, but is excluded or not among columns. Leave it out of kinds."
                )
        if self.label is not None and self.label not in names:
            raise arguments.missing_column(self.label, names, reader="the label")


def infer_features(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    min_count: int = MIN_COUNT,
    max_vocabulary: int = MAX_VOCABULARY,
    kinds: Mapping[str, Kind] | None = None,
    label: str | None = None,
    number_encoder: str | None = None,
    format: str | None = None,
) -> FeatureSpec:
    """Returns the features of any data, found in one pass over it.

    Strings, integers and booleans are categories (an integer column whose values are mostly unique is a number, with a
    warning, unless its name says that it holds ids: `id`, `uid`, `user_id`, `userId`, `item_key`), floats are
    standardised numbers (logged when non-negative and skewed; categories where they are whole and the name says ids,
    which pandas stores so where one is missing), lists are mean-pooled bags; those that `nfm_tfrs.data.histories` makes
    share the rows of their column, whose values alone make the vocabulary. A column that cannot be used is left out
    with a warning. Numbers of 10³⁰ or more, such as the largest float32, are missing ones, with a warning too, unless
    the column has more than 8 different ones.

    Args:
        source: What `nfm_tfrs.data.read_table` takes (files of any format, a DataFrame, a dict of columns, a list of
            dicts, an Arrow table), Arrow record batches of one schema, or a batched tf.data.Dataset of dicts, or of
            tuples that begin with one. Parquet files and datasets are read batch by batch.
        columns: The columns to use, in order; all that are not excluded if not given.
        exclude: Columns to leave out, such as weights.
        min_count: Values seen less often become unknown; a column that has no other is hashed into twice as many
            buckets as it has values, at most twice `max_vocabulary`.
        max_vocabulary: A column with more kept values than this is hashed into twice as many buckets.
        kinds: `"category"`, `"number"` or `"bag"` by column, where the column's type does not tell what it means.
        label: The column that is the label; left out.
        number_encoder: The encoder of every number: `"linear"`, `"buckets"`, `"piecewise"`, `"periodic"` or
            `"autodis"`; with the first three, limits of buckets at the percentiles 1, 3, …, 99 of the column.
        format: The files' format, where their suffix does not tell.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No row, a named column that is not there, a kind that is unknown or that the column cannot be, or no
            column that can be used.

    Example:
        >>> spec = infer_features({"year": [1999.0, 2001.0] * 5}, kinds={"year": "category"})
        >>> spec["year"].vocabulary
        (1999, 2001)
    """
    rules = Inference(columns, exclude, min_count, max_vocabulary, kinds, label, number_encoder)
    return FeatureSpec(tuple(feature for feature, _ in _features(row_batches(source, rules, format=format), rules)))


def infer_with_rates(table: pa.Table, rules: Inference) -> tuple[FeatureSpec, list[Rates]]:
    """Returns the features of a table, and the rates of missing and unknown values of each.

    Args:
        table: The rows.
        rules: What decides how a column becomes a feature.

    Raises:
        ValueError: See `infer_features`; or a number is infinite.
    """
    features, rates = zip(*_features(_checked(table.to_batches(), rules), rules), strict=True)
    gaps = [
        feature
        for feature, rate in zip(features, rates, strict=True)
        if isinstance(feature, NumericFeature) and rate.missing
    ]
    if gaps:  # infinite numbers are among those that are not measured
        checked_arrays(table, FeatureSpec(tuple(gaps)))
    return FeatureSpec(features), list(rates)


def row_batches(
    source: Any, rules: Inference, *, format: str | None = None, types: Mapping[str, str] | None = None
) -> Iterable[pa.RecordBatch]:
    """Returns the rows of what `infer_features` takes; Parquet and datasets without the columns that are not used.

    Args:
        source: The rows.
        rules: What names the columns that are used.
        format: The files' format, where their suffix does not tell.
        types: `"string"`, `"int64"` or `"number"` for columns of CSV files, whose types are guessed otherwise.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A named column is not there, or a file is not of its format.
    """
    if hasattr(source, "element_spec"):
        return _dataset_batches(source, rules)
    if isinstance(source, pa.RecordBatchReader | Iterator) or _is_batches(source):
        return _checked(source, rules)
    # Imported here: the readers stand above the features.
    from nfm_tfrs.data.readers.table import file_format, find_files, is_files, read_table

    if not is_files(source):
        return _checked(as_table(source).to_batches(), rules)
    paths = find_files(source, format=format)
    if (format or file_format(paths)) == "parquet":
        return _parquet_batches(paths, rules)
    return _checked(read_table(paths, format=format, types=types).to_batches(), rules)


def _checked(batches: Iterable[pa.RecordBatch], rules: Inference) -> Iterator[pa.RecordBatch]:
    for number, batch in enumerate(batches):
        if not number:
            rules.check(batch.schema.names)
        yield batch


def _is_batches(source: Any) -> bool:
    return isinstance(source, list | tuple) and bool(source) and isinstance(source[0], pa.RecordBatch)


def _features(batches: Iterable[pa.RecordBatch], rules: Inference) -> list[tuple[Feature, Rates]]:
    columns: dict[str, ColumnCounts] = {}
    kinds = rules.kinds or {}
    schema: pa.Schema | None = None
    for batch in batches:
        if schema is None:
            schema = batch.schema
            columns = _columns(_chosen(schema, rules), kinds, rules.number_encoder)
        positions = {name: position for position, name in enumerate(batch.schema.names)}
        for name, column in columns.items():
            column.update(batch.column(positions[name]))
    if schema is not None and not columns:
        raise ValueError(
            f"No column is left to be a feature: {', '.join(rules.exclude)} are excluded of "
            f"{', '.join(schema.names) or 'none'}. Name the features' columns, or give features=."
        )
    if not any(column.rows for column in columns.values()):
        raise ValueError("Features cannot be inferred from data without a row. Give at least one row, or features=.")
    weights = {
        bag: name
        for name, column in columns.items()
        if (bag := _weights_of(column.field)) in columns and name not in kinds
    }
    features: list[tuple[Feature, Rates]] = []
    made: dict[str, Feature | str] = {}
    # Histories last: each shares the rows of the column that it is of.
    for name in sorted(columns, key=lambda name: _history_of(columns[name].field) is not None):
        if name not in weights.values():
            made[name] = _feature(columns[name], rules, weights.get(name), made)
    for name, column in columns.items():
        feature = made.get(name)
        if feature is None:
            continue
        if isinstance(feature, str):
            warnings.warn(f"Column {name!r} is left out: {feature}.", stacklevel=2)
            continue
        features.append((feature, column.rates(feature)))
        if isinstance(feature, NumericFeature) and feature.missing_values:
            marks = ", ".join(f"{mark:.9g} ({column.marks[mark]:,} times)" for mark in feature.missing_values)
            warnings.warn(
                f"Column {name!r} holds {marks} in {column.rows:,} rows, which is taken as missing. Set it to null, or "
                "give the column's feature without missing_values.",
                stacklevel=2,
            )
    guessed = [repr(feature.name) for feature, _ in features if columns[feature.name].guessed_number]
    warn_of_joined_values([feature for feature, _ in features])
    if guessed:
        warnings.warn(
            f"{'Column' if len(guessed) == 1 else 'Columns'} {', '.join(guessed)} of integers became "
            f"{'a number' if len(guessed) == 1 else 'numbers'}, because most values differ. Say what each is with "
            "--category and --number, or kinds=.",
            stacklevel=2,
        )
    if not features:
        raise ValueError(f"None of the columns {', '.join(columns)} can be used. Give others, or features=.")
    return features


def _columns(
    fields: Iterable[pa.Field], kinds: Mapping[str, Kind], number_encoder: str | None
) -> dict[str, ColumnCounts]:
    """What counts the values of each column; the ids of a history may be floats, as those of its column may."""
    columns = {field.name: ColumnCounts(field, kinds.get(field.name), number_encoder) for field in fields}
    for name, column in columns.items():
        of = columns.get(_history_of(column.field) or "")
        if of is not None and (of.is_id or of.kind == "category") and pa.types.is_floating(column.type):
            columns[name] = ColumnCounts(column.field, "bag")
    return columns


def _feature(
    column: ColumnCounts, rules: Inference, weights: str | None, made: Mapping[str, Feature | str]
) -> Feature | str:
    """The feature of a column, or why it has none; a history is the bag of a category that is a feature too."""
    of = made.get(_history_of(column.field) or "")
    if isinstance(of, CategoricalFeature) and column.is_bag and weights is None:
        return column.history(of)
    return column.feature(min_count=rules.min_count, max_vocabulary=rules.max_vocabulary, weights=weights)


def _history_of(field: pa.Field) -> str | None:
    """The column whose earlier values a column of lists holds; None for any other."""
    return (field.metadata or {}).get(HISTORY_OF, b"").decode() or None


def _parquet_batches(paths: Sequence[Path], rules: Inference) -> Iterator[pa.RecordBatch]:
    wanted: list[str] = []
    for path in paths:
        try:
            # Through a small buffer: Arrow otherwise holds a row group's columns whole, and one may be the whole file.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                names = file.schema_arrow.names
                arguments.check_names(path, names)
                if not wanted:
                    rules.check(names)
                    wanted = [field.name for field in _chosen(file.schema_arrow, rules)]
                for name in sorted(set(wanted) - set(names)):
                    raise ValueError(f"{path}: {arguments.missing_column(name, names)}")
                yield from file.iter_batches(columns=wanted, use_threads=False)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a whole Parquet file; it may be truncated. Write it again.") from error


def _dataset_batches(dataset: Any, rules: Inference) -> Iterator[pa.RecordBatch]:
    if int(dataset.cardinality()) == -1:
        raise ValueError("Features cannot be inferred from a dataset that repeats without end. Give one pass of it.")
    specs = dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else dataset.element_spec
    if not isinstance(specs, dict):
        raise ValueError(
            f"Features are inferred from a dict of columns; received {type(specs).__name__}. "
            "Give batches of {name: tensor}, or features=."
        )
    rules.check(list(specs))
    specs = {name: spec for name, spec in specs.items() if rules.uses(name)}
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
    index = {name for name in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)}
    for name in sorted(index) if not rules.columns else ():
        warnings.warn(f"Column {name!r} is left out: it is the index of a pandas DataFrame.", stacklevel=2)
    names = list(rules.columns or (name for name in schema.names if name not in index))
    names = [name for name in names if rules.uses(name)]
    chosen = [schema.field(name) for name in names]
    if rules.columns:  # weights come along with their bag
        chosen += [field for field in schema if _weights_of(field) in names and field.name not in names]
    return chosen


def _weights_of(field: pa.Field) -> str | None:
    bag = (field.metadata or {}).get(WEIGHTS_OF)
    return None if bag is None else bag.decode()
