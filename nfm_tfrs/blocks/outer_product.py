"""The outer product of the summed field embeddings with themselves."""

from nfm_tfrs.blocks.base import InteractionBlock, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class OuterProduct(InteractionBlock):
    """The superposed outer products of OPNN.

        f(V) = Σ_i Σ_j v_i v_jᵀ = f_Σ f_Σᵀ,  f_Σ = Σ_i v_i

    A matrix for all pairs together, pairs of a field with itself included. Fields whose mask is False count as zero
    vectors.

    Returns:
        float32 `[batch, dim · dim]`, row by row.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with two fields or more.

    Example:
        >>> OuterProduct()(tf.constant([[[1.0, 2.0], [3.0, 4.0]]])).numpy().tolist()
        [[16.0, 24.0, 24.0, 36.0]]

    Reference:
        Qu et al., Product-based Neural Networks for User Response Prediction, ICDM 2016, section III.C (OPNN).
    """

    dynamic_fields = True
    numeric_range = (1e-4, 30.0)

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        total = tf.reduce_sum(present(embeddings, mask), axis=1)  # [batch, dim], float32: squares overflow
        dim = total.shape[1]
        return tf.reshape(total[:, :, None] * total[:, None, :], [-1, dim * dim])
