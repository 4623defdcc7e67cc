"""Members of a model, side by side: each has its own columns of `[batch, members · units]`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class MemberDense(keras.layers.Layer):
    """A dense layer of each member on its own columns: `[batch, members · inputs]` → `[batch, members · units]`.

        y_m = x_m W_m + b_m

    Args:
        units: Columns of each member's output.
        members: Number of members.
        use_bias: Whether there is a b.
    """

    def __init__(self, units: int, members: int, *, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.members = members
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        inputs = input_shape[-1] // self.members
        self.kernel = self.add_weight("kernel", [self.members, inputs, self.units], initializer=_glorot_of_each)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", [self.members, self.units], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.units == 1:  # a head: zeros cost less than a product of one column for each member
            own = tf.constant(np.eye(self.members)[:, None, :], self.compute_dtype)
            blocks = own * self.kernel  # [members, inputs, members]
            outputs = tf.matmul(inputs, tf.reshape(blocks, [-1, self.members]))
            return outputs if self.bias is None else tf.nn.bias_add(outputs, tf.reshape(self.bias, [-1]))
        # One product a member: a batched one with its two transpositions takes a fifth more on a CPU.
        parts = zip(tf.split(inputs, self.members, axis=1), tf.unstack(self.kernel), strict=True)
        outputs = tf.concat([tf.matmul(part, kernel) for part, kernel in parts], axis=1)
        return outputs if self.bias is None else tf.nn.bias_add(outputs, tf.reshape(self.bias, [-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "members": self.members, "use_bias": self.use_bias}


def _glorot_of_each(shape: Sequence[int], dtype: Any = None, **_: Any) -> tf.Tensor:
    # An initializer of each: one that is called again returns what it did.
    return tf.stack([keras.initializers.GlorotUniform()(shape[1:], dtype) for _ in range(shape[0])])


def copies(block: Any, members: int) -> list[Any]:
    """Returns new blocks of a block's config, one for each member behind the first, which has the block itself.

    Args:
        block: The block.
        members: Number of members.
    """
    config = block.get_config()
    return [
        type(block).from_config({**config, "name": f"{block.name}_of_member_{member}"}) for member in range(1, members)
    ]


def joined(parts: Sequence[tf.Tensor], members: int) -> tf.Tensor:
    """Returns outputs side by side, member by member: each `[batch, members · its units]`.

    Args:
        parts: One output or more.
        members: Number of members.
    """
    if members == 1:
        return tf.concat(parts, axis=1)
    if len(parts) == 1:
        return parts[0]
    apart = [tf.reshape(part, [-1, members, part.shape[1] // members]) for part in parts]
    together = tf.concat(apart, axis=2)
    return tf.reshape(together, [-1, members * together.shape[2]])


def flat_of_members(embeddings: tf.Tensor, members: int) -> tf.Tensor:
    """Returns `[batch, fields, members · dim]` as `[batch, members · fields · dim]`."""
    fields, width = embeddings.shape[1:]
    apart = tf.reshape(embeddings, [-1, fields, members, width // members])
    return tf.reshape(tf.transpose(apart, [0, 2, 1, 3]), [-1, fields * width])
