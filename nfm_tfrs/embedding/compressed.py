"""Embeddings that are made of several rows of a small table: which rows those are, and what they make."""

from collections.abc import Sequence

from nfm_tfrs.features.compression import PRIME, Compression, MultiHash
from nfm_tfrs.keras_compat import tf


def rows_of_ids(compression: Compression, ids: tf.Tensor, num_ids: int) -> list[tf.Tensor]:
    """Returns the rows that each embedding is made of, int64 tensors of the shape of the ids.

    Args:
        compression: How the table is compressed.
        ids: int64 of any shape, counted from the feature's unknown values, which are 0.
        num_ids: Number of ids of the feature.
    """
    known = ids > 0
    number = tf.maximum(ids - 1, 0)
    if isinstance(compression, MultiHash):
        low, high = number % PRIME, number // PRIME
        hashes = [((a * low + b * high + c) % PRIME) % compression.num_rows for a, b, c in compression.factors]
        return [tf.where(known, one + 1, 0) for one in hashes]
    remainders, _ = compression.sizes(num_ids)
    first = remainders + 1  # of the rows of quotients, that of unknown values
    return [
        tf.where(known, number % remainders + 1, 0),
        tf.where(known, number // remainders + (first + 1), first),
    ]


def combined(compression: Compression, rows: Sequence[tf.Tensor], dim: int) -> tf.Tensor:
    """Returns what rows make together, `[..., width]`.

    Args:
        compression: How the table is compressed.
        rows: Those of each embedding, each `[..., width]`.
        dim: Length of an embedding; first-order weights, behind it, are added.
    """
    if isinstance(compression, MultiHash) or compression.operation == "sum":
        return tf.add_n(list(rows))
    one, other = rows
    product = one[..., :dim] * other[..., :dim]
    return product if one.shape[-1] == dim else tf.concat([product, one[..., dim:] + other[..., dim:]], axis=-1)
