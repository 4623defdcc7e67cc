"""BatchNorm whose moving averages arrive within a few steps: their momentum warms up."""

from collections.abc import Mapping
from typing import Any

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights

_ARRIVED = 1e6  # steps at which any momentum below 0.99999 has warmed up


# The name is Keras': a `.keras` file finds the layers of a list by the names of their classes.
@keras.utils.register_keras_serializable(package="nfm_tfrs")
class BatchNormalization(LaterWeights, keras.layers.BatchNormalization):
    """Keras' BatchNormalization, with another momentum of the moving averages while they are young.

        momentum_t = min(momentum, (1 + t) / (10 + t)),  t the steps of training before

    A momentum of 0.99 leaves two thirds of the initial mean 0 and variance 1 in the averages after 40 steps, which is
    far from what the interactions of small embeddings need; with this one they hold 1e-9 of it.

    The number of steps t is a weight. Files and lists of version 0.1.0 lack it, and so does who sets the averages by
    hand: averages that are not the initial ones while t is 0 count as arrived, and move with the full momentum.

    Args:
        momentum: Momentum of averages that have arrived.
        **kwargs: As in Keras, with the channels on the last axis.

    Returns:
        As Keras' layer: the shape of the input.

    Example:
        >>> norm = BatchNormalization()
        >>> _ = norm(tf.fill([8, 1], 5.0), training=True)
        >>> norm.moving_mean.numpy()
        array([4.5], dtype=float32)
    """

    later_weights: Mapping[str, float] = {"warmed_steps": 0.0}
    momentum: Any

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        # float32: one dtype for all weights, and exact to 2^24, where the momentum has long arrived. Each replica
        # counts for itself, as it keeps averages of its own: joined once they are read.
        self.warmed_steps = self.add_weight(
            name="warmed_steps",
            shape=[],
            dtype=tf.float32,
            initializer="zeros",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            experimental_autocast=False,
        )

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        training = keras.backend.learning_phase() if training is None else training
        if not self.trainable or (isinstance(training, bool | int) and not training):
            return super().call(inputs, training=False, mask=mask)
        steps = self._steps()
        full = self.momentum
        # Keras reads the attribute when it writes what moves the averages, and takes a tensor for a number.
        self.momentum = tf.minimum(float(full), (1.0 + steps) / (10.0 + steps))
        try:
            outputs = super().call(inputs, training=training, mask=mask)
        finally:
            self.momentum = full
        self.warmed_steps.assign(steps + tf.cast(training, tf.float32))
        return outputs

    def _steps(self) -> tf.Tensor:
        """Steps of training before this one; many where averages came from elsewhere."""
        steps = tf.convert_to_tensor(self.warmed_steps)
        moved = tf.logical_or(tf.reduce_any(self.moving_mean != 0.0), tf.reduce_any(self.moving_variance != 1.0))
        return tf.where(tf.logical_and(tf.equal(steps, 0.0), moved), _ARRIVED, steps)
