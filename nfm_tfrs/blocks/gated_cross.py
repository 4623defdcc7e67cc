"""Crosses of bounded degree, each weighed by a gate."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class GatedCross(InteractionBlock):
    """The gated cross network of GDCN over c_0 = [v_1, …, v_n].

        c_{l+1} = c_0 ⊙ (W_l c_l + b_l) ⊙ σ(G_l c_l) + c_l

    The gate lets each layer drop the crosses that are noise. Products and sums over layers are float32; the matrix
    products are in the compute dtype. Fields whose mask is False are zero in c_0, and stay zero.

    Args:
        num_layers: Number of layers; the crosses reach degree `num_layers` + 1.

    Returns:
        float32 `[batch, fields · dim]`.

    Raises:
        ValueError: num_layers below 1; at build, an unknown number of fields.

    Example:
        >>> GatedCross(num_layers=2)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 15])

    Reference:
        Wang et al., Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction, CIKM 2023:
        the gated cross layer.
    """

    min_fields = 1
    numeric_range = (1e-4, 1.0)

    def __init__(self, num_layers: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_layers = arguments.count("num_layers", num_layers)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        units = input_shape[1] * input_shape[2]
        self._crosses = [keras.layers.Dense(units, dtype=self.dtype_policy) for _ in range(self.num_layers)]
        self._gates = [
            keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy) for _ in range(self.num_layers)
        ]

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        first = flat(present(embeddings, mask))  # [batch, fields · dim]
        x = first
        for cross, gate in zip(self._crosses, self._gates, strict=True):
            x = first * tf.cast(cross(x), tf.float32) * tf.sigmoid(tf.cast(gate(x), tf.float32)) + x
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers}

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {"num_layers": hp.Int("num_layers", 1, 4, default=3)}
