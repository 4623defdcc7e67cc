"""Products of all pairs of field embeddings, summed, with a learnt gate on each dimension."""

import math
from typing import Any

import tensorflow as tf

from nfm_tfrs.blocks.base import InteractionBlock, present


class GatedPairs(InteractionBlock):
    """Bi-Interaction with a gate g on each dimension.

        f(V) = σ(g) ⊙ Σ_{i<j} v_i ⊙ v_j

    Args:
        initial_gate: What σ(g) starts from, between 0 (nothing passes) and 1 (everything does).

    Returns:
        float32 `[batch, dim]`.

    Raises:
        ValueError: initial_gate is not between 0 and 1.
    """

    dynamic_fields = True  # no weight depends on the number of fields
    numeric_range = (1e-4, 30.0)  # the sums are float32 whatever the policy

    def __init__(self, initial_gate: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < initial_gate < 1:
            raise ValueError(f"initial_gate must be between 0 and 1; received {initial_gate!r}.")
        self.initial_gate = initial_gate

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)  # checks the shape
        start = math.log(self.initial_gate / (1 - self.initial_gate))
        self.gate = self.add_float32_weight("gate", [input_shape[-1]], tf.keras.initializers.Constant(start))

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)  # float32 [batch, fields, dim], zero where the mask is False
        total = tf.reduce_sum(embeddings, axis=1)  # [batch, dim]
        pairs = 0.5 * (tf.square(total) - tf.reduce_sum(tf.square(embeddings), axis=1))
        return tf.sigmoid(self.gate) * pairs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_gate": self.initial_gate}

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {"initial_gate": hp.Float("initial_gate", 0.1, 0.9, default=0.5)}
