"""Products of all pairs of field embeddings, averaged with learnt attention."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, field_pairs, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class AttentionFM(InteractionBlock):
    """Attention-based pooling of AFM.

        f(V) = Σ_{i<j} a_ij (v_i ⊙ v_j),  a = softmax over the pairs of hᵀ ReLU(W (v_i ⊙ v_j) + b)

    The paper's pᵀ is the head of the model. Pairs with a field whose mask is False get no attention; where no pair is
    left, the result is zero.

    Args:
        attention_units: Width of the attention network, the number of rows of W.

    Returns:
        float32 `[batch, dim]`.

    Raises:
        ValueError: attention_units below 1; at build, an unknown number of fields or less than two.

    Example:
        >>> AttentionFM(attention_units=4)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 5])

    Reference:
        Xiao et al., Attentional Factorization Machines, IJCAI 2017, eq. 4 and 5.
    """

    numeric_range = (1e-4, 30.0)

    def __init__(self, attention_units: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention_units = arguments.count("attention_units", attention_units)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        # float32: small enough to cost nothing, and the scores decide between pairs.
        self._hidden = keras.layers.Dense(self.attention_units, "relu", dtype="float32", name="attention")
        self._score = keras.layers.Dense(1, use_bias=False, dtype="float32", name="score")

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        fields, dim = embeddings.shape[1:]
        pairs = field_pairs(fields)
        # A product a pair: gathering all pairs and multiplying once takes half as long again, and twice the memory.
        vectors = tf.split(present(embeddings, mask), fields, axis=1)
        products = tf.concat([vectors[i] * vectors[j] for i, j in pairs], axis=1)  # [batch, pairs, dim]
        scores = self._score(self._hidden(tf.reshape(products, [-1, dim])))
        scores = tf.reshape(scores, [-1, len(pairs)])  # [batch, pairs]
        if mask is not None:
            first, second = zip(*pairs, strict=True)
            there = tf.logical_and(tf.gather(mask, first, axis=1), tf.gather(mask, second, axis=1))
            scores = tf.where(there, scores, scores.dtype.min)
        # Where no pair is there, all weigh the same, and their products are zero.
        return tf.matmul(tf.nn.softmax(scores)[:, None, :], products)[:, 0, :]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attention_units": self.attention_units}

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {"attention_units": hp.Choice("attention_units", [4, 8, 16, 32], default=8)}
