"""Compressed interaction network: vector-wise products of growing degree, compressed layer by layer."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, present
from nfm_tfrs.blocks.half import half_matmul
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class CIN(InteractionBlock):
    """The compressed interaction network of xDeepFM over X⁰ = V.

        X^k_h = φ(Σ_i Σ_j W^{k,h}_ij (X^{k-1}_i ⊙ X⁰_j) + b^k_h);  f(V) = [Σ_d X^1_hd, …, Σ_d X^K_hd]

    Products and sums over dim are float32; the compression is a matrix product in the compute dtype. Fields whose
    mask is False count as zero vectors.

    Args:
        layer_sizes: Number of feature maps of each layer.
        split_half: Whether half of each layer's maps but the last's goes to the output only, the other half to the
            next layer only.
        activation: Keras' name of the activation φ.

    Returns:
        float32 `[batch, maps]`, the maps that go to the output.

    Raises:
        ValueError: layer_sizes is empty, or odd where it is split; at build, an unknown number of fields.

    Example:
        >>> CIN([4, 4], split_half=False)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 8])

    Reference:
        Lian et al., xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems, KDD 2018,
        eq. 6 to 8, where φ is the identity; split_half, the bias and other φ are those of later code.
    """

    numeric_range = (1e-4, 1.0)

    def __init__(
        self,
        layer_sizes: Sequence[int] = (128, 128),
        *,
        split_half: bool = True,
        activation: str = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.layer_sizes = arguments.layers("layer_sizes", layer_sizes)
        self.split_half = arguments.switch("split_half", split_half)
        self.activation = arguments.activation("activation", activation)
        if split_half and any(size % 2 for size in self.layer_sizes[:-1]):
            raise ValueError(
                f"split_half needs even layer_sizes but for the last; received {self.layer_sizes}. "
                "Make them even, or set split_half=False."
            )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        width = fields = input_shape[1]
        self._kernels, self._biases = [], []
        for number, size in enumerate(self.layer_sizes):
            self._kernels.append(self.add_float32_weight(f"kernel_{number}", [width * fields, size]))
            self._biases.append(self.add_float32_weight(f"bias_{number}", [size], "zeros"))
            width = size // 2 if self.split_half else size

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        fields, dim = embeddings.shape[1:]
        first = tf.transpose(present(embeddings, mask), [0, 2, 1])  # [batch, dim, fields], as all maps
        maps, width, kept = first, fields, []
        activation = keras.activations.get(self.activation)
        for number, (kernel, size) in enumerate(zip(self._kernels, self.layer_sizes, strict=True)):
            products = maps[:, :, :, None] * first[:, :, None, :]  # [batch, dim, width, fields]
            products = tf.reshape(products, [-1, width * fields])
            compressed = activation(half_matmul(products, kernel, self.compute_dtype) + self._biases[number])
            maps, width = tf.reshape(compressed, [-1, dim, size]), size
            if self.split_half and number + 1 < len(self._kernels):
                width = size // 2
                maps, output = tf.split(maps, 2, axis=2)
                kept.append(output)
            else:
                kept.append(maps)
        return tf.concat([tf.reduce_sum(output, axis=1) for output in kept], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer_sizes": list(self.layer_sizes),
            "split_half": self.split_half,
            "activation": self.activation,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        size = hp.Choice("layer_size", [16, 32, 64, 128], default=128)
        return {"layer_sizes": [size] * hp.Int("num_layers", 1, 3, default=2)}
