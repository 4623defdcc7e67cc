"""Whether the columns of a batch have as many rows as each other, and a bag's weights the lengths of its bags."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.features.feature import RESERVED_PREFIX
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf


def check_lengths(spec: FeatureSpec, columns: Mapping[str, Any]) -> None:
    """Checks what is known before a step runs: static shapes and, where TensorFlow runs eagerly, the bags' lengths.

    Args:
        spec: The features.
        columns: All that `spec` reads, as tensors, or an encoded batch.

    Raises:
        ValueError: Two columns differ in rows, or a bag and its weights in the length of a row.
    """
    shapes = {name: tf.TensorShape(columns[name].shape) for name in read_names(spec, columns)}
    known = {name: shape[0] for name, shape in shapes.items() if shape.rank and shape[0] is not None}
    if (line := unequal_rows(list(known), list(known.values()))) is not None:
        raise ValueError(line)
    for name, weights, *lengths in _bag_lengths(spec, columns) if tf.executing_eagerly() else ():
        line = unequal_bags(name, weights, *(np.asarray(length) for length in lengths))
        if line is not None:
            raise ValueError(line)


def read_names(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[str]:
    """Returns the names of what a model of these features reads of a raw or an encoded batch."""
    if f"{RESERVED_PREFIX}ids" in columns:
        return [name for name in columns if name.startswith(RESERVED_PREFIX)]
    return [name for name in spec.columns if name in columns]


def rows_of(column: Any) -> tf.Tensor:
    """Returns the number of rows of a dense, ragged or sparse column of one dimension or more, an int64 scalar."""
    if isinstance(column, tf.RaggedTensor):
        return tf.cast(column.nrows(), tf.int64)
    if isinstance(column, tf.SparseTensor):
        return column.dense_shape[0]
    return tf.shape(column, tf.int64)[0]


def same_bags(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[tuple[str, str, tf.Tensor, list[tf.Tensor]]]:
    """Returns of each weighted bag whether its weights are as long, row by row, in the graph.

    Args:
        spec: The features.
        columns: All that `spec` reads, as tensors, or an encoded batch.

    Returns:
        The bag, its weights, a bool scalar, and the lengths of the rows of both, int64 `[batch]`.
    """
    return [
        # Not tf.equal, which fails where the numbers of rows differ.
        (name, weights, tf.reduce_all(tf.raw_ops.Equal(x=one, y=other, incompatible_shape_error=False)), [one, other])
        for name, weights, one, other in _bag_lengths(spec, columns)
    ]


def unequal_rows(names: Sequence[str], rows: Sequence[int]) -> str | None:
    """Returns the line about columns of these numbers of rows; None where all are equal."""
    for name, count in zip(names, rows, strict=True):
        if count != rows[0]:
            first = _shown(names[0])
            return (
                f"{_shown(name)} has {count} row{'s' * (count != 1)}, but {first[0].lower()}{first[1:]} has {rows[0]}. "
                "Give all columns, the label and the weight one value, or one bag, for each row."
            )
    return None


def unequal_bags(
    name: str, weights: str, bag_lengths: np.ndarray, weight_lengths: np.ndarray, *, batch: str = "the batch"
) -> str | None:
    """Returns the line about a bag and its weights whose rows have these lengths, `[rows]`; None where all agree."""
    if len(bag_lengths) != len(weight_lengths):
        return unequal_rows([name, weights], [len(bag_lengths), len(weight_lengths)])
    different = bag_lengths != weight_lengths
    if not different.any():
        return None
    at = int(np.argmax(different))
    return (
        f"Column {weights!r} weighs {name!r}, but row {at} of {batch} has {weight_lengths[at]} weights for "
        f"{bag_lengths[at]} values. Give each value one weight."
    )


def _bag_lengths(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[tuple[str, str, tf.Tensor, tf.Tensor]]:
    """Of each bag with weights: both names, and the lengths of their rows, int64 [batch]."""
    pairs = [(bag.name, bag.weights) for bag in spec.bags if bag.weights and bag.weights in columns]
    return [
        (name, weights, _lengths(columns[name]), _lengths(columns[weights]))
        for name, weights in pairs
        if _have_lengths(columns[name], columns[weights])
    ]


def _have_lengths(bag: Any, weights: Any) -> bool:
    # A sparse weight of zero may have been left out: those are looked up by their index. Of two layouts the model
    # refuses one, and so it does a rank that is no bag's.
    alike = isinstance(bag, tf.RaggedTensor) == isinstance(weights, tf.RaggedTensor)
    dense = not isinstance(bag, tf.SparseTensor) and not isinstance(weights, tf.SparseTensor)
    return alike and dense and bag.shape.rank in (1, 2) and weights.shape.rank in (1, 2)


def _lengths(column: Any) -> tf.Tensor:
    if isinstance(column, tf.RaggedTensor):
        return tf.cast(column.row_lengths(), tf.int64)
    shape = tf.shape(column, tf.int64)
    length = shape[1] if column.shape.rank == 2 else tf.constant(1, tf.int64)
    return tf.fill(shape[:1], length)


def _shown(name: str) -> str:
    return name if name in ("The label", "The weight") else f"Column {name!r}"
