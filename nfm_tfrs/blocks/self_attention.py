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
        num_heads: Number H of heads of each layer.
        attention_dim: Length of a head's queries, keys and values.
        residual: Whether to add R e_i.
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
        x = present(embeddings, mask)
        for query, key, value, *residual in self._projections:
            # Head by head, each projection by itself: one product for all loses to the transposes behind it.
            projected = [tf.split(self._projected(x, kernel), self.num_heads, axis=2) for kernel in (query, key, value)]
            heads = [self._attended(q, k, v, mask) for q, k, v in zip(*projected, strict=True)]
            attended = tf.concat(heads, axis=2)
            if residual:
                attended += self._projected(x, residual[0])
            x = present(tf.nn.relu(attended), mask)  # [batch, fields, heads · dim]
        return flat(x)

    def _projected(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """[batch, fields, dim] → float32 [batch, fields, heads · dim]"""
        rows = tf.reshape(tf.cast(x, self.compute_dtype), [-1, x.shape[2]])
        return tf.cast(tf.reshape(tf.matmul(rows, kernel), [-1, x.shape[1], kernel.shape[1]]), tf.float32)

    def _attended(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """One head: three times [batch, fields, dim] → [batch, fields, dim]"""
        scores = tf.matmul(query, key, transpose_b=True)  # [batch, fields, fields]
        if self.scaled:
            scores *= self.attention_dim**-0.5
        if mask is not None:
            scores = tf.where(mask[:, None, :], scores, scores.dtype.min)
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
