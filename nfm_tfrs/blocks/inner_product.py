"""The inner product of every pair of field embeddings."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, field_pairs, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class InnerProduct(InteractionBlock):
    """The pairs' inner products, of IPNN and DLRM.

        f(V)_{ij} = ⟨v_i, v_j⟩, i < j

    Fields whose mask is False count as zero vectors.

    Args:
        self_interaction: Whether to return ⟨v_i, v_i⟩ too, behind the pairs.

    Returns:
        float32 `[batch, fields · (fields - 1) / 2]`, pairs in the order (0, 1), (0, 2), …, (1, 2), …; with
        `self_interaction`, `fields` more.

    Raises:
        ValueError: self_interaction is no bool; at build, an unknown number of fields or less than two.

    Example:
        >>> InnerProduct()(tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).numpy().tolist()
        [[11.0, 17.0, 39.0]]

    Reference:
        Qu et al., Product-based Neural Networks for User Response Prediction, ICDM 2016, section III.B (IPNN);
        Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019,
        section 2.
    """

    numeric_range = (1e-4, 30.0)

    def __init__(self, self_interaction: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.self_interaction = arguments.switch("self_interaction", self_interaction)

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)  # float32: sums over dim overflow in half precision
        fields = embeddings.shape[1]
        pairs = field_pairs(fields) + ([(i, i) for i in range(fields)] if self.self_interaction else [])
        # All fields · fields of them by one product: gathering the pairs' embeddings first is 8 times as slow.
        products = tf.matmul(embeddings, embeddings, transpose_b=True)  # [batch, fields, fields]
        products = tf.reshape(products, [-1, fields * fields])
        return tf.gather(products, [i * fields + j for i, j in pairs], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "self_interaction": self.self_interaction}

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {"self_interaction": hp.Boolean("self_interaction", default=False)}
