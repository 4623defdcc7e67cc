"""Raw columns to ids, in the graph; the same look-ups encode whole Arrow columns once, value by distinct value."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.bag import INT_MISSING, UINT64_MISSING, Bag, Columns
from nfm_tfrs.features.feature import (
    FLOAT32_MAX,
    LARGEST_UNBENT,
    CategoricalFeature,
    Feature,
    MultiCategoricalFeature,
    NumericFeature,
)
from nfm_tfrs.features.host import finite_floats, host_bag, integers, local_rows, rows_of_integers, unsigned
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key, weights_key
from nfm_tfrs.features.lengths import check_lengths
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import own_line


def encoded_signature(spec: FeatureSpec) -> dict[str, Any]:
    """Returns the type of an encoded batch of any size: what `FeatureEncoder` returns, as tensor specs."""
    signature: dict[str, Any] = {
        IDS: tf.TensorSpec([None, len(spec.single)], tf.int64),
        NUMBERS: tf.TensorSpec([None, len(spec.numbers)], tf.float32),
    }
    for bag in spec.bags:
        signature[bag_key(bag.name)] = tf.RaggedTensorSpec([None, None], tf.int64)
        if bag.weights:
            signature[weights_key(bag.name)] = tf.RaggedTensorSpec([None, None], tf.float32)
    return signature


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FeatureEncoder(keras.layers.Layer):
    """Encodes a batch of raw columns into rows of the fused table; an encoded batch passes unchanged.

    Args:
        features: The `FeatureSpec`, or what its `to_dict` returned.

    Returns:
        A dict of "encoded/ids" int64 `[batch, single-valued features]`, "encoded/numbers" float32
        `[batch, numbers]` (standardised, NaN where missing), and for each bag "encoded/bag/NAME" ragged int64 and,
        where it is weighted, "encoded/weights/NAME" ragged float32, both `[batch, None]`.

    Raises:
        ValueError: A column is missing, of the wrong rank, of another type than declared or, where this is known before
            a step runs, of another length than the others; a bag's weights are not as long as the bag.

    Example:
        >>> encoder = FeatureEncoder(FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo"])]))
        >>> encoder({"city": tf.constant(["Oslo", "Paris"])})["encoded/ids"].numpy().tolist()
        [[2], [0]]
    """

    def __init__(self, features: FeatureSpec | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # float16 would turn a raw 70000 into infinity
        self.features = features if isinstance(features, FeatureSpec) else FeatureSpec.from_dict(features)
        tables: dict[str, Any] = {}
        with tf.init_scope():
            for feature in self.features:
                if not isinstance(feature, NumericFeature) and feature.vocabulary is not None:
                    tables.setdefault(feature.table, _lookup_table(feature))
        self._tables = tables  # assigned whole: Keras refuses to save a dict that changes later
        self._local_rows: dict[str, np.ndarray] | None = None  # made by `encode_arrays`: a batch needs none

    @property
    def tables(self) -> dict[str, Any]:
        """The look-up tables of vocabularies, by the name of the embedding table."""
        return self._tables

    def call(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return self.encode(columns, self.features)

    def encode(self, columns: Mapping[str, Any], features: FeatureSpec) -> dict[str, Any]:
        """Encodes the columns of some of the features, to what `call` makes of them among all.

        Args:
            columns: Raw columns as tensors, or an encoded batch, which passes unchanged.
            features: Features of this encoder, in its order.

        Returns:
            What `call` returns, of these features alone: rows of the table of all.
        """
        with own_line():
            return self._encoded(columns, features)

    def _encoded(self, columns: Mapping[str, Any], features: FeatureSpec) -> dict[str, Any]:
        if not isinstance(columns, Mapping):
            raise ValueError(
                f"The model reads a dict of columns; received {type(columns).__name__}. Give {{name: values}}."
            )
        if IDS in columns:
            check_lengths(features, columns)
            return dict(columns)
        columns = {name: _column(columns, name) for name in features.columns}
        check_lengths(features, columns)
        dense = {f.name: _dense(f, columns[f.name]) for f in (*features.single, *features.numbers)}
        bags = [(f, *self._bag(f, columns)) for f in features.bags]
        batch = tf.shape(next(iter(dense.values())))[0] if dense else bags[0][1].nrows()
        encoded = {
            IDS: self._single(features.single, dense) if features.single else tf.zeros([batch, 0], tf.int64),
            NUMBERS: _numbers(features.numbers, dense, batch),
        }
        for feature, ids, weights in bags:
            encoded[bag_key(feature.name)] = ids
            if weights is not None:
                encoded[weights_key(feature.name)] = weights
        return encoded

    def encode_arrays(self, arrays: Mapping[str, Any]) -> Columns:
        """Encodes whole Arrow columns, as `checked_arrays` returns them.

        Hashes and looks up each distinct value once; integers of a dense vocabulary index an array instead.

        Returns:
            Columns with the keys, and bit for bit the values, that `call` gives for the same rows.
        """
        if self._local_rows is None:
            self._local_rows = _local_rows(self.features)
        rows = len(next(iter(arrays.values())))
        ids: np.ndarray = np.empty([rows, len(self.features.single)], np.int64)
        for position, feature in enumerate(self.features.single):
            ids[:, position] = self._whole_rows(feature, arrays[feature.name])
        numbers: np.ndarray = np.empty([rows, len(self.features.numbers)], np.float32)
        for position, number in enumerate(self.features.numbers):
            numbers[:, position] = standardised_numbers(number, _numbers_of(arrays[number.name]))
        encoded: Columns = {IDS: ids, NUMBERS: numbers}
        for bag in self.features.bags:
            values, splits, weights = host_bag(bag, arrays)
            encoded[bag_key(bag.name)] = Bag(self._whole_rows(bag, values), splits)
            if weights is not None:
                encoded[weights_key(bag.name)] = weights
        return encoded

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features.to_dict()}

    def _single(self, features: Sequence[Feature], columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Rows of single-valued features, int64 [batch, features]."""
        # Ids side by side: of few rows an operation a column takes longer than all of the work.
        ids = [f for f in features if isinstance(f, CategoricalFeature) and f.vocabulary_size is not None]
        names = [feature.name for feature in ids]
        others = [feature for feature in features if feature.name not in names]
        parts = []
        if ids:
            signed = tf.stack([_signed(_of_declared_type(f, columns[f.name])) for f in ids], axis=1)
            sizes = tf.constant([f.num_ids for f in ids], tf.int64)
            parts.append(_rows_of_ids(signed, sizes))
        if others:
            parts.append(tf.stack([self._ids(f, columns[f.name]) for f in others], axis=1))
        names += [feature.name for feature in others]
        rows = tf.concat(parts, axis=1) + tf.constant([self.features.offsets[name] for name in names], tf.int64)
        order = [names.index(feature.name) for feature in features]
        return rows if order == sorted(order) else tf.gather(rows, order, axis=1)

    def _rows(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Rows of the fused table, int64, shaped as `values`: the feature's first row for unknown and missing ones."""
        return self.features.offsets[feature.name] + self._ids(feature, values)

    def _ids(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Rows counted from the feature's first one, which is that of unknown and missing values."""
        values = _of_declared_type(feature, values)
        if isinstance(feature, NumericFeature):
            limits = tf.constant(feature.boundaries, tf.float32)
            ids = 1 + tf.searchsorted(limits, tf.reshape(values, [-1]), side="right", out_type=tf.int64)
            ids = tf.reshape(ids, tf.shape(values))
        elif feature.vocabulary is not None:
            ids = self._tables[feature.table].lookup(_signed(values))
            # What means missing is in no vocabulary, but for negative integers: they have the bits of large ones.
            if values.dtype != tf.int64 or max(feature.vocabulary) <= tf.int64.max:
                return ids
        elif feature.num_hash_buckets is not None:
            text = values if values.dtype == tf.string else tf.as_string(values)
            ids = 1 + tf.strings.to_hash_bucket_fast(text, feature.num_hash_buckets)
        else:
            return _rows_of_ids(_signed(values), feature.vocabulary_size)
        return tf.where(_present(values), ids, 0)

    def _bag(self, feature: MultiCategoricalFeature, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        column = columns[feature.name]
        values: Any = _ragged(feature.name, column)
        weights: Any = None
        if feature.weights:
            weights = values.with_values(_weight_values(feature, column, columns[feature.weights]))
        present = values.with_values(_present(_of_declared_type(feature, values.values)))
        values, weights = (x if x is None else tf.ragged.boolean_mask(x, present) for x in (values, weights))
        if feature.max_length is not None:
            values, weights = (x if x is None else x[:, : feature.max_length] for x in (values, weights))
        return values.with_values(self._rows(feature, values.values)), weights

    def _whole_rows(self, feature: Feature, array: Any) -> np.ndarray:
        """What `_rows` gives for a whole Arrow column, its nulls missing."""
        if isinstance(feature, NumericFeature):
            return self._rows(feature, tf.constant(_numbers_of(array))).numpy()
        offset = self.features.offsets[feature.name]
        # A table of 26 columns, ns a row: 490 by distinct value, 150 through `local`, 130 by adding.
        if feature.vocabulary_size is not None:
            values = integers(array)
            known = unsigned(values) < feature.vocabulary_size
            return np.where(known, values + (1 + offset), offset)
        if (local := (self._local_rows or {}).get(feature.table)) is not None:
            positions = np.minimum(unsigned(integers(array)), len(local) - 1)
            rows: np.ndarray = local.take(positions.view(np.int64))
            rows += offset
            return rows
        encoded = array.dictionary_encode()  # a dictionary stays as it is
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        kind = tf.uint64 if distinct.dtype == np.uint64 else tf.int64
        if feature.dtype == "string" or distinct.dtype == object:
            kind = tf.string
        rows = np.append(self._rows(feature, tf.constant(distinct, kind)).numpy(), offset)
        return rows[encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)]


def _lookup_table(feature: CategoricalFeature | MultiCategoricalFeature) -> Any:
    if feature.dtype == "string":
        keys = tf.constant(feature.vocabulary, tf.string)
    else:
        keys = tf.constant(np.array(feature.vocabulary, np.uint64).view(np.int64))
    ids = tf.constant(local_rows(feature))
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, ids), default_value=0)


def _local_rows(spec: FeatureSpec) -> dict[str, np.ndarray]:
    """What `rows_of_integers` gives for the vocabulary of each table, where it gives anything."""
    of_table = {feature.table: feature for feature in spec if not isinstance(feature, NumericFeature)}
    return {table: rows for table, feature in of_table.items() if (rows := rows_of_integers(feature)) is not None}


def _column(columns: Mapping[str, Any], name: str) -> Any:
    if name not in columns:
        raise missing_column(name, columns, reader="the model")
    column = columns[name]
    if isinstance(column, tf.RaggedTensor | tf.SparseTensor):
        return column
    return tf.convert_to_tensor(column)


def _dense(feature: Feature, column: Any) -> tf.Tensor:
    """One value an example, [batch], from [batch], [batch, 1] or a sparse [batch, 1]."""
    if isinstance(column, tf.RaggedTensor):
        raise ValueError(
            f"Feature {feature.name!r} takes one value an example; received a ragged column. "
            "Declare a MultiCategoricalFeature."
        )
    if isinstance(column, tf.SparseTensor):
        if column.shape.rank == 2 and column.shape[1] not in (1, None):
            raise ValueError(
                f"Feature {feature.name!r} takes one value an example; received a sparse column of shape "
                f"{column.shape}. Declare a MultiCategoricalFeature."
            )
        values = _of_declared_type(feature, column.values)
        wide = column.values.dtype == tf.float64  # stays it: finite numbers beyond float32 shall not become infinite
        column = column.with_values(column.values if wide else values)
        missing = {tf.string: "", tf.float32: np.nan, tf.float64: np.nan, tf.uint64: UINT64_MISSING}.get(
            column.dtype, INT_MISSING
        )
        column = tf.sparse.to_dense(column, default_value=missing)
    if column.shape.rank is None:  # traced for [batch] and [batch, 1] alike
        column = _one_a_row(feature, column)
    if column.shape.rank == 2 and column.shape[1] in (1, None):
        column = tf.reshape(column, [tf.shape(column)[0]])  # not [-1]: a bag of a length known too late shall fail
    if column.shape.rank != 1:
        raise ValueError(
            f"Feature {feature.name!r} takes one value an example, [batch] or [batch, 1]; "
            f"received shape {column.shape}. Declare a MultiCategoricalFeature, or reshape the column."
        )
    return column


def _one_a_row(feature: Feature, column: tf.Tensor) -> tf.Tensor:
    """A column whose rank is known at run time alone, as [batch]."""
    rows = tf.shape(column)[0]
    message = (
        f"Feature {feature.name!r} takes one value an example, [batch] or [batch, 1]. "
        "Declare a MultiCategoricalFeature, or reshape the column."
    )
    with _checked(tf.debugging.assert_equal(tf.size(column), rows, message)):
        return tf.reshape(column, [rows])


def _checked(check: Any) -> Any:
    """Makes what is inside wait for an assertion, which is None where it ran at once."""
    return tf.control_dependencies([] if check is None else [check])


def _weight_values(feature: MultiCategoricalFeature, column: Any, weights: Any) -> tf.Tensor:
    """The weights of a bag's values, float32, in the order of the values."""
    if any(isinstance(column, kind) != isinstance(weights, kind) for kind in (tf.RaggedTensor, tf.SparseTensor)):
        raise ValueError(
            f"Weights {feature.weights!r} must be laid out as the bag {feature.name!r}: both dense, ragged or sparse; "
            f"received {type(weights).__name__} and {type(column).__name__}. Convert one of them."
        )
    if isinstance(column, tf.SparseTensor):  # by index: a weight of zero may have been left out
        dense = tf.sparse.to_dense(weights, validate_indices=False)
        return tf.cast(tf.gather_nd(dense, column.indices), tf.float32)
    return tf.cast(_ragged(str(feature.weights), weights).values, tf.float32)


def _ragged(name: str, column: Any) -> tf.RaggedTensor:
    """A bag an example, [batch, None], from ragged, sparse (holes closed), padded [batch, length] or [batch]."""
    if isinstance(column, tf.SparseTensor):
        rows = column.indices[:, 0]
        return tf.RaggedTensor.from_value_rowids(column.values, rows, nrows=column.dense_shape[0], validate=False)
    if isinstance(column, tf.Tensor):
        if column.shape.rank is None:  # traced for [batch] and [batch, length] alike
            rows = tf.shape(column)[0]
            message = f"Bag {name!r} must be [batch, length] or ragged. Reshape the column."
            with _checked(tf.debugging.assert_less(tf.rank(column), 3, message)):
                column = tf.reshape(column, [rows, tf.size(column) // tf.maximum(rows, 1)])
        if column.shape.rank not in (1, 2):
            raise ValueError(f"Bag {name!r} must be [batch, length] or ragged; received shape {column.shape}.")
        column = tf.expand_dims(column, 1) if column.shape.rank == 1 else column
        return tf.RaggedTensor.from_tensor(column)
    if column.ragged_rank != 1 or column.values.shape.rank != 1:
        raise ValueError(f"Bag {name!r} must have one ragged dimension, [batch, None]; received {column.shape}.")
    return column


def _of_declared_type(feature: Feature, values: tf.Tensor) -> tf.Tensor:
    if isinstance(feature, NumericFeature):
        if values.dtype == tf.string:
            raise ValueError(f"Feature {feature.name!r} is a number; received strings. Convert the column.")
        numbers = tf.cast(values, tf.float32)
        for mark in feature.missing_values:
            marked = tf.cast(values, tf.float64) == mark
            if abs(mark) <= FLOAT32_MAX:  # the column may have been written in float32
                marked = tf.logical_or(marked, numbers == tf.cast(mark, tf.float32))
            numbers = tf.where(marked, np.nan, numbers)
        return numbers
    received = "string" if values.dtype == tf.string else "int64"
    if values.dtype.is_floating:
        raise ValueError(
            f"Feature {feature.name!r} is a category; received {values.dtype.name}. Cast the column to int64 or string."
        )
    if feature.dtype not in (None, received):
        raise ValueError(
            f"Feature {feature.name!r} was declared {feature.dtype}; received {values.dtype.name}. "
            "Convert the column, or declare the feature anew."
        )
    return values if values.dtype in (tf.string, tf.uint64) else tf.cast(values, tf.int64)


def _signed(values: tf.Tensor) -> tf.Tensor:
    """The bits of uint64 as int64, whose kernels there are: ids from 2⁶³ on are the negative numbers then."""
    return tf.bitcast(values, tf.int64) if values.dtype == tf.uint64 else values


def _rows_of_ids(ids: tf.Tensor, sizes: Any) -> tf.Tensor:
    """The row of each id below its feature's size, counted from the feature's first, which is that of all others."""
    return tf.where((ids >= 0) & (ids < sizes), ids + 1, 0)


def _present(values: tf.Tensor) -> tf.Tensor:
    if values.dtype == tf.string:
        return tf.not_equal(values, "")
    if values.dtype == tf.uint64:
        return tf.not_equal(values, tf.constant(UINT64_MISSING, tf.uint64))
    return tf.logical_not(tf.math.is_nan(values)) if values.dtype.is_floating else values >= 0


def _numbers(features: Sequence[NumericFeature], columns: Mapping[str, tf.Tensor], batch: Any) -> tf.Tensor:
    """The numbers that stay numbers, standardised, float32 [batch, features]."""
    if not features:
        return tf.zeros([batch, 0], tf.float32)
    parts = [_finite_number(feature, columns[feature.name]) for feature in features]
    if len({part.dtype for part in parts}) > 1:
        parts = [tf.cast(part, tf.float64) for part in parts]
    return _standardised(features, tf.stack(parts, axis=1))


def _finite_number(feature: NumericFeature, values: tf.Tensor) -> tf.Tensor:
    """The number as float32, or as float64: a finite number beyond float32 is no infinity."""
    narrow = _of_declared_type(feature, values)
    if values.dtype != tf.float64:
        return narrow
    return tf.where(tf.math.is_inf(narrow), values, tf.cast(narrow, tf.float64))


def _standardised(features: Sequence[NumericFeature], values: tf.Tensor) -> tf.Tensor:
    """Numbers [batch, features], standardised, float32."""
    # float64: in float32 the last bit follows from the batch a value is in, and from whether a graph is optimised.
    values = tf.cast(values, tf.float64)
    infinite = tf.math.is_inf(values)
    logs = [feature.log for feature in features]
    if any(logs):
        logged = tf.sign(values) * tf.math.log1p(tf.abs(values))
        values = logged if all(logs) else tf.where(logs, logged, values)
    means, deviations = ([getattr(feature, name) for feature in features] for name in ("mean", "std"))
    values = (values - tf.constant(means, tf.float64)) / tf.constant(deviations, tf.float64)
    size = tf.abs(values)
    beyond = tf.sign(values) * LARGEST_UNBENT * (2 - LARGEST_UNBENT / tf.maximum(size, LARGEST_UNBENT))
    bent = tf.logical_and(size > LARGEST_UNBENT, tf.logical_not(infinite))
    return tf.cast(tf.where(bent, beyond, values), tf.float32)


def _numbers_of(array: Any) -> np.ndarray:
    return finite_floats(array.fill_null(float("nan")).to_numpy(zero_copy_only=False))


def standardised_numbers(feature: NumericFeature, values: np.ndarray) -> np.ndarray:
    """Returns numbers as the model sees them, float32 `[n]`, bit for bit as in the graph.

    Args:
        feature: The number.
        values: The column's, float32 `[n]`, or float64 where some are beyond float32; NaN where missing.
    """
    standardised = (values.astype(np.float64) - feature.mean) / feature.std
    # NumPy's log1p and TensorFlow's differ in the last bit.
    if feature.log or (np.abs(standardised) > LARGEST_UNBENT).any():
        wide = _finite_number(feature, tf.constant(values))[:, None]
        return _standardised([feature], wide)[:, 0].numpy()
    return standardised.astype(np.float32)
