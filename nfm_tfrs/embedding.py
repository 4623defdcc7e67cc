"""One table for all features: ids to field embeddings and the first-order term, with one gather."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nfm_tfrs.features.encoder import IDS, NUMBERS, bag_key, weights_key
from nfm_tfrs.features.feature import MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf


class FieldEmbeddings(NamedTuple):
    """What `FusedEmbedding` returns.

    Attributes:
        embeddings: `[batch, fields, dim]` in the compute dtype; zero where the mask is False.
        mask: bool `[batch, fields]`, False for an empty bag or an unfilled position; None if every field is there.
        first_order: float32 `[batch, 1]`, the sum of the fields' first-order weights; None without them.
    """

    embeddings: tf.Tensor
    mask: tf.Tensor | None
    first_order: tf.Tensor | None


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FusedEmbedding(keras.layers.Layer):
    """Embeds an encoded batch. Each row of the table is an embedding and, behind it, a first-order weight.

    Fields come in this order: single-valued features, numbers, positions of bags that are not pooled, pooled bags;
    each group in the order of the spec. A number x is the field x·v; where it is missing, a vector of its own.
    Rows of unknown and missing values start at zero, and so do the first-order weights.

    Args:
        features: The `FeatureSpec`, or what its `to_dict` returned.
        embedding_dim: Length of an embedding.
        linear: Whether rows hold a first-order weight.
        numbers: Whether numbers are fields; each then has two rows, missing and present, behind the features'.
        stddev: Standard deviation of the normal initial embeddings. Far below 1e-2 the products of embeddings drown
            in the epsilon of a BatchNormalization behind the interaction.
        l2: Adds l2 · (1/batch) Σ ‖v‖² over the distinct rows v of the batch to the layer's losses.

    Raises:
        ValueError: embedding_dim below 1, or a negative l2 or stddev.
    """

    def __init__(
        self,
        features: FeatureSpec | dict[str, Any],
        embedding_dim: int,
        *,
        linear: bool = True,
        numbers: bool = True,
        stddev: float = 0.01,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # the table, and the standardised numbers, stay float32
        if embedding_dim < 1 or not l2 >= 0 or not stddev >= 0:
            raise ValueError(
                "FusedEmbedding needs embedding_dim of 1 or more, l2 and stddev of 0 or more; "
                f"received {embedding_dim}, {l2}, {stddev}."
            )
        self.features = features if isinstance(features, FeatureSpec) else FeatureSpec.from_dict(features)
        self.embedding_dim = embedding_dim
        self.linear = linear
        self.numbers = numbers
        self.stddev = stddev
        self.l2 = l2

    @property
    def num_fields(self) -> int | None:
        """Number of fields; None if it follows the longest bag of a batch."""
        lengths = [_num_fields(bag) for bag in self.features.bags]
        if None in lengths:
            return None
        numbers = len(self.features.numbers) if self.numbers else 0
        return len(self.features.single) + numbers + sum(length or 0 for length in lengths)

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return self.features.num_rows + (2 * len(self.features.numbers) if self.numbers else 0)

    def build(self, input_shape: Any) -> None:
        # float32 whatever the policy: half precision would lose small updates.
        self.table = self.add_weight(
            "table",
            [self.num_rows, self.embedding_dim + self.linear],
            tf.float32,
            initializer=self._initial_table,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, encoded: Mapping[str, Any]) -> FieldEmbeddings:
        ids, scale, mask = self._unpooled(encoded)
        pooled = [bag for bag in self.features.bags if bag.combiner is not None]
        bags = [encoded[bag_key(bag.name)] for bag in pooled]
        flat = tf.concat([tf.reshape(ids, [-1]), *(bag.values for bag in bags)], axis=0)
        rows = tf.gather(self.table, flat)  # [looked up, dim + linear]
        sizes = [tf.size(ids), *(tf.size(bag.values) for bag in bags)]
        first, *others = tf.split(rows, tf.stack(sizes)) if bags else [rows]
        width = self.embedding_dim + self.linear
        fields = [tf.reshape(first, [tf.shape(ids)[0], _width(ids), width])]  # [batch, fields, dim + linear]
        if scale is not None:
            fields[0] *= scale[:, :, None]
        for feature, bag, values in zip(pooled, bags, others, strict=True):
            weights = encoded[weights_key(feature.name)].values if feature.weights else None
            fields.append(_pool(values, bag, weights, str(feature.combiner))[:, None, :])
        together = tf.concat(fields, axis=1) if len(fields) > 1 else fields[0]
        if bags:
            filled = [(bag.row_lengths() > 0)[:, None] for bag in bags]
            mask = tf.concat([tf.ones(tf.shape(ids), tf.bool) if mask is None else mask, *filled], axis=1)
        if self.l2:
            self.add_loss(self._distinct_l2(encoded, ids))
        if not self.linear:
            return FieldEmbeddings(tf.cast(together, self.compute_dtype), mask, None)
        embeddings, weights = tf.split(together, [self.embedding_dim, 1], axis=2)
        first_order = tf.reduce_sum(weights, axis=1)  # [batch, 1]
        return FieldEmbeddings(tf.cast(embeddings, self.compute_dtype), mask, first_order)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": self.features.to_dict(),
            "embedding_dim": self.embedding_dim,
            "linear": self.linear,
            "numbers": self.numbers,
            "stddev": self.stddev,
            "l2": self.l2,
        }

    def _initial_table(self, shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        first_rows = [[offset] for offset, _ in self.features.tables.values()]
        first_rows += [[row] for row in range(self.features.num_rows, self.num_rows, 2)]
        table = tf.random.normal([shape[0], self.embedding_dim], stddev=self.stddev, dtype=dtype)
        if first_rows:
            table = tf.tensor_scatter_nd_update(table, first_rows, tf.zeros([len(first_rows), self.embedding_dim]))
        return tf.pad(table, [[0, 0], [0, int(self.linear)]])

    def _unpooled(self, encoded: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
        """Ids, scale and mask, each [batch, fields], of the fields that are one row each."""
        ids = [encoded[IDS]]
        scale: list[tf.Tensor | None] = [None]
        mask: list[tf.Tensor | None] = [None]
        if self.numbers and self.features.numbers:
            number_ids, values = self._number_rows(encoded[NUMBERS])
            ids.append(number_ids)
            scale.append(values)
            mask.append(None)
        for feature in self.features.bags:
            if feature.combiner is None:
                bag = encoded[bag_key(feature.name)]
                shape = [None, feature.max_length]
                filled = tf.ones_like(bag, tf.bool).to_tensor(False, shape=shape)
                weights = encoded[weights_key(feature.name)].to_tensor(0.0, shape=shape) if feature.weights else None
                ids.append(bag.to_tensor(self.features.offsets[feature.name], shape=shape))
                scale.append(tf.cast(filled, tf.float32) if weights is None else weights)
                mask.append(filled)
        return tf.concat(ids, axis=1), _joined(scale, ids, tf.float32), _joined(mask, ids, tf.bool)

    def _number_rows(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        missing = tf.math.is_nan(numbers)
        first = tf.range(self.features.num_rows, self.num_rows, 2, dtype=tf.int64)  # rows of missing numbers
        return first + tf.cast(~missing, tf.int64), tf.where(missing, 1.0, numbers)

    def _distinct_l2(self, encoded: Mapping[str, Any], ids: tf.Tensor) -> tf.Tensor:
        used = [tf.reshape(encoded[IDS], [-1]), *(encoded[bag_key(bag.name)].values for bag in self.features.bags)]
        if self.numbers and self.features.numbers:
            used.append(tf.reshape(self._number_rows(encoded[NUMBERS])[0], [-1]))
        distinct = tf.unique(tf.concat(used, axis=0)).y
        vectors = tf.gather(self.table, distinct)[:, : self.embedding_dim]
        batch = tf.cast(tf.maximum(tf.shape(ids)[0], 1), tf.float32)
        return self.l2 * tf.reduce_sum(tf.square(vectors)) / batch


def _num_fields(bag: MultiCategoricalFeature) -> int | None:
    return 1 if bag.combiner is not None else bag.max_length


def _width(ids: tf.Tensor) -> Any:
    return tf.shape(ids)[1] if ids.shape[1] is None else ids.shape[1]


def _joined(parts: list[tf.Tensor | None], ids: list[tf.Tensor], dtype: Any) -> tf.Tensor | None:
    """The parts side by side, ones where a part is None; None if every part is."""
    if all(part is None for part in parts):
        return None
    filled = [tf.ones(tf.shape(i), dtype) if part is None else part for part, i in zip(parts, ids, strict=True)]
    return tf.concat(filled, axis=1)


def _pool(rows: tf.Tensor, bag: tf.RaggedTensor, weights: tf.Tensor | None, combiner: str) -> tf.Tensor:
    """Bags of rows, [values, width], to one row each, [batch, width]; an empty bag is zero."""
    row_ids, batch = bag.value_rowids(), bag.nrows()
    if weights is not None:
        rows *= weights[:, None]
    if combiner == "max":
        largest = tf.math.unsorted_segment_max(rows, row_ids, batch)
        return tf.where((bag.row_lengths() > 0)[:, None], largest, 0.0)
    # num_segments: without it trailing empty bags are dropped.
    total = tf.sparse.segment_sum(rows, tf.range(tf.size(row_ids)), row_ids, num_segments=batch)
    if combiner == "sum":
        return total
    if weights is None:
        size = tf.cast(bag.row_lengths(), tf.float32)
        divisor = size if combiner == "mean" else tf.sqrt(size)
    else:
        measure = weights if combiner == "mean" else tf.square(weights)
        divisor = tf.math.unsorted_segment_sum(measure, row_ids, batch)
        divisor = divisor if combiner == "mean" else tf.sqrt(divisor)
    return tf.math.divide_no_nan(total, divisor[:, None])
