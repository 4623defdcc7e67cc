"""Explicit crosses of bounded degree: every layer multiplies by the input once more."""

from typing import Any, Literal, get_args

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.blocks.half import half_matmul
from nfm_tfrs.keras_compat import keras, tf

Kind = Literal["vector", "matrix", "low_rank", "mixture"]


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Cross(InteractionBlock):
    """The cross network of DCN and DCN V2 over x_0 = [v_1, …, v_n].

        vector:    x_{l+1} = x_0 (x_lᵀ w_l) + b_l + x_l
        matrix:    x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l
        low_rank:  x_{l+1} = x_0 ⊙ (U_l (V_lᵀ x_l) + b_l) + x_l
        mixture:   x_{l+1} = x_0 ⊙ Σ_e G_e(x_l) (U_le g(C_le g(V_leᵀ x_l)) + b_l) + x_l

    with g = tanh and G a softmax over the experts. Products and sums over layers are float32; the products with W, U
    and V, but for V of "mixture", are in the compute dtype. Fields whose mask is False are zero in x_0 and, but for the
    bias of "vector", stay zero.

    Args:
        num_layers: Number of layers; the crosses reach degree `num_layers` + 1.
        kind: Variant of the layers, by its line above.
        rank: Number of columns of U and V, for "low_rank", or of each expert's U and V, for "mixture".
        num_experts: Number of experts, for "mixture".

    Returns:
        float32 `[batch, fields · dim]`.

    Raises:
        ValueError: An argument out of range; at build, an unknown number of fields.

    Example:
        >>> Cross(num_layers=2, kind="low_rank", rank=4)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 15])

    Reference:
        vector: Wang et al., Deep & Cross Network for Ad Click Predictions, ADKDD 2017, eq. 3. The others: Wang et al.,
        DCN V2, WWW 2021, eq. 1 to 4.
    """

    min_fields = 1
    numeric_range = (1e-4, 30.0)

    def __init__(
        self, num_layers: int = 3, kind: Kind = "matrix", *, rank: int = 32, num_experts: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_layers = arguments.count("num_layers", num_layers)
        self.kind = arguments.choice("kind", kind, get_args(Kind))
        self.rank = arguments.count("rank", rank)
        self.num_experts = arguments.count("num_experts", num_experts)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        units = input_shape[1] * input_shape[2]
        layers, experts, rank = range(self.num_layers), self.num_experts, self.rank
        if self.kind == "vector":
            self._kernels = [self.add_float32_weight(f"kernel_{n}", [units, 1]) for n in layers]
        elif self.kind == "matrix":
            self._kernels = [self.add_float32_weight(f"kernel_{n}", [units, units]) for n in layers]
        else:
            width = rank if self.kind == "low_rank" else experts * rank
            self._v = [self.add_float32_weight(f"v_{n}", [units, width]) for n in layers]
            self._u = [self.add_float32_weight(f"u_{n}", [width, units]) for n in layers]
        if self.kind == "mixture":
            self._c = [self.add_float32_weight(f"c_{n}", [experts, rank, rank]) for n in layers]
            self._gates = [self.add_float32_weight(f"gate_{n}", [units, experts]) for n in layers]
        self._biases = [self.add_float32_weight(f"bias_{n}", [units], "zeros") for n in layers]

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        first = flat(present(embeddings, mask))  # [batch, fields · dim], as every x
        x = first
        for n, bias in enumerate(self._biases):
            if self.kind == "vector":
                x = first * tf.matmul(x, self._kernels[n]) + bias + x
            else:
                x = first * (self._product(n, x) + bias) + x
        return x

    def _product(self, n: int, x: tf.Tensor) -> tf.Tensor:
        """The matrix product of layer `n`, float32 [batch, fields · dim]."""
        if self.kind == "matrix":
            return half_matmul(x, self._kernels[n], self.compute_dtype)
        if self.kind == "low_rank":
            low = half_matmul(x, self._v[n], self.compute_dtype)  # [batch, rank]
        else:
            # float32: an error in what tanh is given can turn its sign
            low = tf.reshape(tf.tanh(tf.matmul(x, self._v[n])), [-1, self.num_experts, self.rank])
            low = tf.tanh(tf.matmul(low[:, :, None, :], self._c[n])[:, :, 0, :])
            # The gates add up to 1, so they may be applied before U and leave the bias alone.
            gates = tf.nn.softmax(tf.matmul(x, self._gates[n]))  # [batch, experts]
            low = tf.reshape(low * gates[:, :, None], [-1, self.num_experts * self.rank])
        return half_matmul(low, self._u[n], self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "kind": self.kind,
            "rank": self.rank,
            "num_experts": self.num_experts,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        kind = hp.Choice("kind", ["vector", "matrix", "low_rank", "mixture"], default="matrix")
        space = {"kind": kind, "num_layers": hp.Int("num_layers", 1, 4, default=3)}
        with hp.conditional_scope("kind", ["low_rank", "mixture"]):
            rank = hp.Choice("rank", [16, 32, 64], default=32)
        return {**space, "rank": rank} if kind in ("low_rank", "mixture") else space
