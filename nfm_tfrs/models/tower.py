"""The dense layers behind, or before, the interaction."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights
from nfm_tfrs.models.members import MemberDense


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Tower(LaterWeights, keras.layers.Layer):
    """Dense → BatchNorm → activation → dropout, layer after layer: `[batch, inputs]` → `[batch, hidden_units[-1]]`.

    Of several members each has its own layers on its own columns: `[batch, members · inputs]` →
    `[batch, members · hidden_units[-1]]`.

    Args:
        hidden_units: Widths; with none the input passes unchanged.
        activation: Name of the activation.
        batch_norm: Whether to normalise before each activation.
        batch_norm_momentum: Momentum of its moving averages, to which it warms up.
        dropout: Share of each layer's outputs dropped in training.
        members: Number of members.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        activation: str = "relu",
        *,
        batch_norm: bool = False,
        batch_norm_momentum: float = 0.99,
        dropout: float = 0.0,
        members: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.dropout = dropout
        self.members = members
        layers: list[Any] = []
        for units in self.hidden_units:
            if members == 1:
                layers.append(keras.layers.Dense(units, dtype=self.dtype_policy))
            else:
                layers.append(MemberDense(units, members, dtype=self.dtype_policy))
            if batch_norm:
                layers.append(BatchNormalization(momentum=batch_norm_momentum, dtype=self.dtype_policy))
            layers.append(keras.layers.Activation(activation, dtype=self.dtype_policy))
            if dropout:
                layers.append(Dropout(dropout, dtype=self.dtype_policy))
        self._layers = layers

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        for layer in self._layers:
            if isinstance(layer, BatchNormalization | Dropout):
                inputs = layer(inputs, training=training)
            elif self.members > 1 and isinstance(layer, keras.layers.Activation):
                # Of one member at a time: a softmax is over its own columns.
                units = inputs.shape[1]
                apart = layer(tf.reshape(inputs, [-1, self.members, units // self.members]))
                inputs = tf.reshape(apart, [-1, units])
            else:
                inputs = layer(inputs)
        return inputs

    @property
    def first_weights(self) -> tuple[Any, Any]:
        """Kernel `[inputs, units]` and bias `[units]` of the first of its layers, one at least; of several members both
        have them on the first axis."""
        return self._layers[0].kernel, self._layers[0].bias

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **({"members": self.members} if self.members > 1 else {}),
            "hidden_units": list(self.hidden_units),
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "dropout": self.dropout,
        }
