"""Multi-head self-attention between field embeddings."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class SelfAttention(InteractionBlock):
    """The interacting layers of AutoInt, stacked.

        α^h_ij = softmax over j of ⟨Q_h e_i, K_h e_j⟩;  ẽ_i = [Σ_j α^1_ij V_1 e_j, …, Σ_j α^H_ij V_H e_j]
        e'_i = ReLU(ẽ_i + R e_i)

    Projections are in the compute dtype; attention and sums are float32. Fields whose mask is False are attended by
    none, and their e' is zero.

    Args:
        num_layers: Number of layers.
        num_heads: Heads H of each.
        attention_dim: Length of a head's queries, keys and values.
        residual: Whether R e_i is added.
        scaled: Whether to divide the scores by √attention_dim, as Transformers do and the paper does not.

    Returns:
        float32 `[batch, fields · num_heads · attention_dim]`.

    Raises:
        ValueError: An argument out of range; at build, an unknown number of fields or less than two.

    Example:
        >>> SelfAttention(num_layers=1, num_heads=2, attention_dim=4)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 24])

    Reference:
        Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019,
        eq. 5 to 8.
    """

    def __init__(
        self,
        num_layers: int = 3,
        num_heads: int = 2,
        attention_dim: int = 8,
        *,
        residual: bool = True,
        scaled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_layers = arguments.count("num_layers", num_layers)
        self.num_heads = arguments.count("num_heads", num_heads)
        self.attention_dim = arguments.count("attention_dim", attention_dim)
        self.residual = arguments.switch("residual", residual)
        self.scaled = arguments.switch("scaled", scaled)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        width, dim = self.num_heads * self.attention_dim, input_shape[2]
        names = ["query", "key", "value"] + ["residual"] * self.residual
        self._projections = [
            [self.add_weight(f"{name}_{number}", [width if number else dim, width]) for name in names]
            for number in range(self.num_layers)
        ]

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        fields, width = embeddings.shape[1], self.num_heads * self.attention_dim
        x = present(embeddings, mask)
        for projections in self._projections:
            half = tf.reshape(tf.cast(x, self.compute_dtype), [-1, x.shape[2]])
            # One product for all projections.
            projected = tf.matmul(half, tf.concat([tf.convert_to_tensor(p) for p in projections], axis=1))
            projected = tf.reshape(tf.cast(projected, tf.float32), [-1, fields, len(projections) * width])
            query, key, value, *residual = tf.split(projected, len(projections), axis=2)
            attended = self._attended(self._heads(query), self._heads(key), self._heads(value), mask)
            attended = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [-1, fields, width])
            x = present(tf.nn.relu(attended + residual[0] if residual else attended), mask)
        return flat(x)

    def _heads(self, vectors: tf.Tensor) -> tf.Tensor:
        """[batch, fields, heads · dim] → [batch, heads, fields, dim]"""
        shape = [-1, vectors.shape[1], self.num_heads, self.attention_dim]
        return tf.transpose(tf.reshape(vectors, shape), [0, 2, 1, 3])

    def _attended(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        scores = tf.matmul(query, key, transpose_b=True)  # [batch, heads, fields, fields]
        if self.scaled:
            scores *= self.attention_dim**-0.5
        if mask is not None:
            scores = tf.where(mask[:, None, None, :], scores, scores.dtype.min)
        return tf.matmul(tf.nn.softmax(scores), value)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "attention_dim": self.attention_dim,
            "residual": self.residual,
            "scaled": self.scaled,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {
            "num_layers": hp.Int("num_layers", 1, 3, default=3),
            "num_heads": hp.Choice("num_heads", [1, 2, 4], default=2),
            "attention_dim": hp.Choice("attention_dim", [8, 16, 32], default=8),
            "residual": hp.Boolean("residual", default=True),
        }
