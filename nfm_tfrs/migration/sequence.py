"""Sequences of ids to embeddings, position by position: what the `SequenceFeatures` of feature columns returns."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import MultiCategoricalFeature, feature_from_dict, feature_to_dict
from nfm_tfrs.features.keys import bag_key
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.migration.feature_columns import feature_from_column, listed


@dataclass(frozen=True)
class _Sequence:
    name: str
    feature: MultiCategoricalFeature
    dimension: int


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class SequenceFeatures(keras.layers.Layer):
    """Embeds each sequence column by itself, position by position.

    Reads a dict of SparseTensors, RaggedTensors or Tensors `[batch, steps]`; other keys are left alone. A missing
    value, negative or `""`, leaves a hole in its row; an unknown one has a vector of its own, which starts at zero.
    `tables[name]` holds the embeddings of an input, float32 `[ids + 1, dim]`: row 0 for unknown values, row i + 1 for
    id i.

    Missing values aside, the numbers are those of `tf.keras.experimental.SequenceFeatures`. A functional model with
    this layer saves as `.keras` as it is; a subclassed one needs a `build_from_config` that calls it on ids, as with
    any input that is not float: Keras builds it on floats otherwise.

    Args:
        columns: embedding_columns over sequence_categorical_columns; their dimensions may differ.

    Returns:
        Two dicts with the same keys, the columns' names ("seq_1_embedding"), in the order of `columns`: embeddings
        `[batch, steps, dim]` in the compute dtype, zero where there is no value; and lengths int64 `[batch]`, the
        position behind the last value of a row.

    Raises:
        ValueError: A column that is no embedding of a sequence, or is refused by `FeatureSpec.from_feature_columns`;
            two columns on one input; an input that is missing, or not `[batch, steps]`.

    Example:
        >>> seq = tf.feature_column.sequence_categorical_column_with_hash_bucket("seq", 10, tf.int64)
        >>> layer = SequenceFeatures([tf.feature_column.embedding_column(seq, dimension=8)])
        >>> embeddings, lengths = layer({"seq": tf.ragged.constant([[1100, 1101], [1103]])})
        >>> embeddings["seq_embedding"].shape, lengths["seq_embedding"].numpy().tolist()
        (TensorShape([2, 2, 8]), [2, 1])
    """

    def __init__(self, columns: Iterable[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = tuple(_sequence(column) for column in listed(columns))
        spec = FeatureSpec(tuple(column.feature for column in self.columns))  # refuses an input that is read twice
        self._encoders = [FeatureEncoder(FeatureSpec((feature,))) for feature in spec]

    def build(self, input_shape: Any) -> None:
        # Assigned whole: Keras refuses to save a dict that changes later.
        self.tables = {
            column.feature.name: self.add_weight(
                f"{column.feature.name}_embeddings",
                [column.feature.num_ids + 1, column.dimension],
                tf.float32,  # whatever the policy: half precision would lose small updates
                initializer=_initial_table,
            )
            for column in self.columns
        }
        super().build(input_shape)

    def call(self, inputs: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        embeddings, lengths = {}, {}
        for column, encoder in zip(self.columns, self._encoders, strict=True):
            name = column.feature.name
            if name not in inputs:
                raise missing_column(name, inputs, reader="SequenceFeatures")
            present = _present_values(name, inputs[name])
            # One value a bag: the encoder would close the holes of whole rows.
            rows = encoder({name: present.values[:, None]})[bag_key(name)].values
            vectors = tf.cast(tf.gather(self.tables[name], rows), self.compute_dtype)
            batch, steps = tf.unstack(present.dense_shape)
            embeddings[column.name] = tf.scatter_nd(present.indices, vectors, [batch, steps, column.dimension])
            behind = tf.math.unsorted_segment_max(present.indices[:, 1] + 1, present.indices[:, 0], batch)
            lengths[column.name] = tf.maximum(behind, 0)  # rows without a value come out as the lowest integer
        return embeddings, lengths

    def get_config(self) -> dict[str, Any]:
        columns = [
            {"name": column.name, "feature": feature_to_dict(column.feature), "dimension": column.dimension}
            for column in self.columns
        ]
        return {**super().get_config(), "columns": columns}


def _initial_table(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
    """As embedding_column starts, behind a row of zeros for unknown values."""
    known = tf.random.truncated_normal([shape[0] - 1, shape[1]], stddev=1 / math.sqrt(shape[1]), dtype=dtype)
    return tf.pad(known, [[1, 0], [0, 0]])


def _present_values(name: str, sequence: Any) -> tf.SparseTensor:
    """The values that are not missing, at their positions, sparse [batch, steps]."""
    if isinstance(sequence, tf.RaggedTensor):
        sequence = sequence.to_sparse()
    elif not isinstance(sequence, tf.SparseTensor):
        sequence = tf.convert_to_tensor(sequence)
    if sequence.shape.rank not in (2, None):
        raise ValueError(f"SequenceFeatures needs {name!r} as [batch, steps]; received shape {sequence.shape}.")
    if isinstance(sequence, tf.SparseTensor):
        return tf.sparse.retain(sequence, _present(sequence.values))
    indices = tf.where(_present(sequence))
    return tf.SparseTensor(indices, tf.gather_nd(sequence, indices), tf.shape(sequence, tf.int64))


def _present(values: tf.Tensor) -> tf.Tensor:
    return tf.not_equal(values, "") if values.dtype == tf.string else values >= 0


def _sequence(column: Any) -> _Sequence:
    if isinstance(column, dict):  # from get_config
        return _Sequence(column["name"], feature_from_dict(column["feature"]), column["dimension"])  # type: ignore[arg-type]
    feature = feature_from_column(column)
    if not isinstance(feature, MultiCategoricalFeature) or feature.combiner is not None:
        raise ValueError(
            f"SequenceFeatures takes embeddings of sequences; received {column.name!r}. "
            "Write embedding_column over a sequence_categorical_column_with_*, or use FeatureSpec.from_feature_columns."
        )
    return _Sequence(column.name, feature, column.dimension)
