"""The pairwise term of a Factorization Machine with a weight for each pair of fields."""

from typing import Any

import numpy as np

from nfm_tfrs.blocks.base import InteractionBlock, field_pairs, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FieldWeightedFM(InteractionBlock):
    """FwFM: inner products of all pairs of field embeddings, weighed by pair of fields.

        y(V) = Σ_{i<j} r_ij ⟨v_i, v_j⟩

    With every r_ij = 1, where it starts, it is FM. Fields whose mask is False count as zero vectors.

    Returns:
        A logit, float32 `[batch, 1]` under every dtype policy.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with a known number of fields, two or more.

    Example:
        >>> FieldWeightedFM()(tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).numpy().tolist()
        [[67.0]]

    Reference:
        Pan et al., Field-weighted Factorization Machines for Click-Through Rate Prediction in Display Advertising,
        WWW 2018, section 3.
    """

    returns_logit = True
    numeric_range = (1e-4, 30.0)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        pairs = len(field_pairs(input_shape[1]))
        self.strengths = self.add_float32_weight("strengths", [pairs], "ones")

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)
        fields = embeddings.shape[1]
        # Σ_i ⟨v_i, Σ_{j>i} r_ij v_j⟩: one product with the strictly upper matrix of strengths, and no tensor of pairs.
        strengths = tf.scatter_nd(np.array(field_pairs(fields)), self.strengths, [fields, fields])
        others = tf.matmul(tf.transpose(embeddings, [0, 2, 1]), strengths, transpose_b=True)  # [batch, dim, fields]
        products = tf.transpose(others, [0, 2, 1]) * embeddings
        return tf.reduce_sum(flat(products), axis=1, keepdims=True)
