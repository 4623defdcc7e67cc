"""Instance-guided masks: each example decides which elements of its embeddings and hidden layers count."""

from typing import Any, Literal, get_args

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.keras_compat import keras, tf

Kind = Literal["serial", "parallel"]
EPSILON = 1e-6  # not Keras' 1e-3: ten times the variance of fresh embeddings


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class MaskBlock(InteractionBlock):
    """The MaskBlocks of MaskNet.

        mask(V) = W_d2 ReLU(W_d1 V + β_1) + β_2,  V = [v_1, …, v_n]
        parallel: o_k = ReLU(LN(W_k (mask_k(V) ⊙ LN_EMB(V)))), all from the embeddings; f(V) = [o_1, …, o_K]
        serial:   o_1 as above; o_{k+1} = ReLU(LN(W_{k+1} (mask_{k+1}(V) ⊙ o_k))); f(V) = o_K

    LN_EMB normalises each field's embedding by itself, with one scale and shift for all. Normalisation and products
    are float32; the matrix products are in the compute dtype. Fields whose mask is False are zero vectors, before
    LN_EMB and behind it.

    Args:
        kind: Variant of the block, by its line above. `mode`, its name in version 0.1.0, is taken too.
        num_blocks: Number K of MaskBlocks.
        block_units: Width of each o.
        reduction_ratio: Width of a mask's hidden layer divided by the width of the mask.

    Returns:
        float32 `[batch, block_units]` (serial) or `[batch, num_blocks · block_units]` (parallel).

    Raises:
        ValueError: An argument out of range; at build, an unknown number of fields.

    Example:
        >>> MaskBlock(num_blocks=2, block_units=4)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 8])

    Reference:
        Wang et al., MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided Mask,
        DLP-KDD 2021, sections 3.2 to 3.4.
    """

    min_fields = 1

    def __init__(
        self,
        kind: Kind = "parallel",
        *,
        num_blocks: int = 3,
        block_units: int = 64,
        reduction_ratio: float = 2.0,
        **kwargs: Any,
    ) -> None:
        kind = kwargs.pop("mode", kind)  # as configs saved by version 0.1.0 call it
        super().__init__(**kwargs)
        self.kind = arguments.choice("kind", kind, get_args(Kind))
        self.num_blocks = arguments.count("num_blocks", num_blocks)
        self.block_units = arguments.count("block_units", block_units)
        self.reduction_ratio = arguments.positive("reduction_ratio", reduction_ratio)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        units = input_shape[1] * input_shape[2]
        serial, numbers = self.kind == "serial", range(self.num_blocks)
        masked = [self.block_units if serial and number else units for number in numbers]
        policy = self.dtype_policy
        self._embedding_norm = keras.layers.LayerNormalization(epsilon=EPSILON, dtype="float32", name="embedding_norm")
        self._aggregations = [
            keras.layers.Dense(max(1, int(width * self.reduction_ratio)), "relu", dtype=policy) for width in masked
        ]
        self._projections = [keras.layers.Dense(width, dtype=policy) for width in masked]
        self._hidden = [keras.layers.Dense(self.block_units, use_bias=False, dtype=policy) for _ in numbers]
        self._norms = [keras.layers.LayerNormalization(epsilon=EPSILON, dtype="float32") for _ in numbers]

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)
        vector, normalised = flat(embeddings), flat(present(self._embedding_norm(embeddings), mask))
        outputs: list[Any] = []
        for number, (hidden, norm) in enumerate(zip(self._hidden, self._norms, strict=True)):
            guide = self._projections[number](self._aggregations[number](vector))
            source = outputs[-1] if outputs and self.kind == "serial" else normalised
            product = hidden(tf.cast(guide, tf.float32) * source)
            outputs.append(tf.nn.relu(norm(tf.cast(product, tf.float32))))
        return outputs[-1] if self.kind == "serial" else tf.concat(outputs, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "num_blocks": self.num_blocks,
            "block_units": self.block_units,
            "reduction_ratio": self.reduction_ratio,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {
            "kind": hp.Choice("kind", ["serial", "parallel"], default="parallel"),
            "num_blocks": hp.Int("num_blocks", 1, 4, default=3),
            "block_units": hp.Choice("block_units", [32, 64, 128], default=64),
        }
