"""The pairwise term of a Factorization Machine with a matrix for each pair of fields."""

from typing import Any

import numpy as np

from nfm_tfrs.blocks.base import InteractionBlock, field_pairs, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FieldMatrixedFM(InteractionBlock):
    """FmFM: inner products of all pairs of field embeddings, the first taken through the pair's matrix.

        y(V) = Σ_{i<j} ⟨v_i M_ij, v_j⟩

    With every M_ij the identity, where it starts, it is FM; with r_ij times the identity, FwFM. Fields whose mask is
    False count as zero vectors.

    Returns:
        A logit, float32 `[batch, 1]` under every dtype policy.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with a known number of fields, two or more.

    Example:
        >>> FieldMatrixedFM()(tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).numpy().tolist()
        [[67.0]]

    Reference:
        Sun et al., FM²: Field-matrixed Factorization Machines for Recommender Systems, WWW 2021, section 3.
    """

    returns_logit = True
    numeric_range = (1e-4, 30.0)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        fields, dim = input_shape[1], input_shape[2]

        def identities(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
            return tf.eye(dim, batch_shape=shape[:1], dtype=dtype)

        shape = [len(field_pairs(fields)), dim, dim]
        self.matrices = self.add_float32_weight("matrices", shape, identities)

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        fields, dim = embeddings.shape[1:]
        vectors = flat(present(embeddings, mask))  # [batch, fields · dim]
        # One product with all matrices in their places of a strictly upper block matrix, instead of one a pair.
        blocks = tf.scatter_nd(np.array(field_pairs(fields)), self.matrices, [fields, fields, dim, dim])
        matrix = tf.reshape(tf.transpose(blocks, [0, 2, 1, 3]), [fields * dim, fields * dim])
        return tf.reduce_sum(tf.matmul(vectors, matrix) * vectors, axis=1, keepdims=True)
