"""Two gated multi-layer perceptrons whose outputs meet in a bilinear fusion."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class TwoStream(InteractionBlock):
    """FinalMLP: feature selection, two streams, bilinear fusion over heads.

        o_s = MLP_s(2 σ(gate_s(x_s)) ⊙ [v_1, …, v_n]), s = 1, 2
        y = b + w_1ᵀ o_1 + w_2ᵀ o_2 + Σ_h o_1hᵀ W_h o_2h

    where o_sh is the h-th chunk of o_s, gate_s has one hidden layer, and x_s is the stream's context: the embeddings
    of chosen fields, or a learnt vector. Gates and fusion are float32; the streams' matrix products are in the compute
    dtype. Fields whose mask is False count as zero vectors.

    Args:
        first_units: Widths of the layers of stream 1.
        second_units: Widths of the layers of stream 2.
        num_heads: Number of chunks that each stream's output is cut into.
        first_context: The fields that gate stream 1, as of the user, by their positions on axis 1, from 0 (the order is
            `FusedEmbedding`'s); with none a vector is learnt.
        second_context: Numbers of the fields that gate stream 2, such as the item's.
        gate_units: Width of the hidden layer of each gate.
        activation: The streams' activation, by its Keras name.

    Returns:
        A logit, float32 `[batch, 1]`.

    Raises:
        ValueError: An argument out of range, or a stream whose last width num_heads does not divide; at build, an
            unknown number of fields, or a context field that is not there.

    Example:
        >>> TwoStream(first_units=[8], second_units=[4], num_heads=2)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 1])

    Reference:
        Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, AAAI 2023:
        stream-specific feature selection and stream-level interaction aggregation.
    """

    min_fields = 1
    returns_logit = True

    def __init__(
        self,
        first_units: Sequence[int] = (64, 64),
        second_units: Sequence[int] = (64, 64),
        *,
        num_heads: int = 1,
        first_context: Sequence[int] = (),
        second_context: Sequence[int] = (),
        gate_units: int = 64,
        activation: str = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.first_units = arguments.layers("first_units", first_units)
        self.second_units = arguments.layers("second_units", second_units)
        self.num_heads = arguments.count("num_heads", num_heads)
        self.first_context = arguments.positions("first_context", first_context)
        self.second_context = arguments.positions("second_context", second_context)
        self.gate_units = arguments.count("gate_units", gate_units)
        self.activation = arguments.activation("activation", activation)
        for argument, units in (("first_units", self.first_units), ("second_units", self.second_units)):
            if units[-1] % num_heads:
                raise ValueError(
                    f"num_heads must divide the streams' last widths; received {num_heads} for {argument}={units}."
                )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        fields, dim = input_shape[1], input_shape[2]
        for argument, context in (("first_context", self.first_context), ("second_context", self.second_context)):
            if any(field >= fields for field in context):
                raise ValueError(f"{argument} must be numbers of fields below {fields}; received {context}.")
        # Four lists, not lists of lists: Keras saves no layer that is two lists deep.
        self._first_gate, self._second_gate = self._gate_layers(fields * dim), self._gate_layers(fields * dim)
        self._first_stream, self._second_stream = self._stream(self.first_units), self._stream(self.second_units)
        self._first_learnt = None if self.first_context else self.add_float32_weight("first_learnt", [1, dim])
        self._second_learnt = None if self.second_context else self.add_float32_weight("second_learnt", [1, dim])
        first, second = self.first_units[-1], self.second_units[-1]
        self._linear = self.add_float32_weight("linear", [first + second, 1])
        self._bias = self.add_float32_weight("bias", [1], "zeros")
        heads = [self.num_heads, first // self.num_heads, second // self.num_heads]
        self._fusion = self.add_float32_weight("fusion", heads)

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)
        outputs = []
        for context, learnt, gate_layers, stream in (
            (self.first_context, self._first_learnt, self._first_gate, self._first_stream),
            (self.second_context, self._second_learnt, self._second_gate, self._second_stream),
        ):
            gate = flat(tf.gather(embeddings, context, axis=1)) if context else learnt
            for layer in gate_layers:
                gate = layer(gate)
            hidden = 2.0 * tf.sigmoid(gate) * flat(embeddings)
            for layer in stream:
                hidden = layer(hidden)
            outputs.append(tf.cast(hidden, tf.float32))
        logit = tf.matmul(tf.concat(outputs, axis=1), self._linear) + self._bias
        first, second = (tf.reshape(o, [-1, self.num_heads, o.shape[1] // self.num_heads]) for o in outputs)
        through = tf.matmul(first[:, :, None, :], self._fusion)[:, :, 0, :]  # [batch, heads, second / heads]
        return logit + tf.reduce_sum(through * second, axis=[1, 2])[:, None]

    def _stream(self, widths: Sequence[int]) -> list[Any]:
        return [keras.layers.Dense(width, self.activation, dtype=self.dtype_policy) for width in widths]

    def _gate_layers(self, units: int) -> list[Any]:
        return [
            keras.layers.Dense(self.gate_units, "relu", dtype="float32"),
            keras.layers.Dense(units, dtype="float32"),
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "first_units": list(self.first_units),
            "second_units": list(self.second_units),
            "num_heads": self.num_heads,
            "first_context": list(self.first_context),
            "second_context": list(self.second_context),
            "gate_units": self.gate_units,
            "activation": self.activation,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        width = hp.Choice("units", [32, 64, 128], default=64)
        layers = hp.Int("num_layers", 1, 3, default=2)
        return {
            "first_units": [width] * layers,
            "second_units": [width] * layers,
            "num_heads": hp.Choice("num_heads", [1, 2, 4], default=1),
        }
