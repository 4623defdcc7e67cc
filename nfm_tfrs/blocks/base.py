"""The contract of an interaction block."""

from typing import Any

from nfm_tfrs.keras_compat import keras, tf


class InteractionBlock(keras.layers.Layer):
    """A layer from field embeddings `[batch, fields, dim]` to interactions `[batch, units]`.

    A subclass writes `call(embeddings, mask=None)` with `mask` bool `[batch, fields]` (None: every field is there)
    and, if it has arguments worth searching, `search_space`. It never sets `supports_masking`: Keras would pass the
    `[batch, fields]` mask on to the `[batch, units]` output.

    Attributes:
        min_fields: Fewest fields the block can work on.
        dynamic_fields: Whether the number of fields may be unknown when the block is built, and differ by batch.

    Raises:
        ValueError: At build, for a wrong rank, an unknown dim, too few fields, or an unknown number of fields.
    """

    min_fields = 2
    dynamic_fields = False

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3:
            raise ValueError(
                f"{self.name} needs [batch, fields, dim]; received shape {shape}. Stack the fields on axis 1."
            )
        fields, dim = shape[1], shape[2]
        if dim is None:
            raise ValueError(
                f"{self.name} needs a known embedding dim; received shape {shape}. Set the last dimension."
            )
        if fields is None and not self.dynamic_fields:
            raise ValueError(
                f"{self.name} needs a known number of fields; received shape {shape}. "
                "Give features with combiner=None a max_length."
            )
        if fields is not None and fields < self.min_fields:
            raise ValueError(f"{self.name} needs at least {self.min_fields} fields; received {fields}. Add a feature.")
        super().build(input_shape)

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        """Returns constructor arguments drawn from `hp`, anything with KerasTuner's `Int`, `Float`, `Choice`, …"""
        del hp
        return {}
