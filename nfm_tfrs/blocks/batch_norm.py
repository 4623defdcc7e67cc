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
        if self._is_plain(inputs, training, mask):
            momentum = self._momentum_after(steps)
            outputs, *moments = _normalised(inputs, self.gamma, self.beta, self.epsilon)
            for average, value in zip((self.moving_mean, self.moving_variance), moments, strict=True):
                average.assign_sub((average - value) * (1.0 - momentum))
            self.warmed_steps.assign(steps + 1.0)
            return outputs
        # Keras reads the attribute when it writes what moves the averages, and takes a tensor for a number.
        self.momentum = self._momentum_after(steps)
        try:
            outputs = super().call(inputs, training=training, mask=mask)
        finally:
            self.momentum = full
        self.warmed_steps.assign(steps + tf.cast(training, tf.float32))
        return outputs

    def _is_plain(self, inputs: tf.Tensor, training: Any, mask: Any) -> bool:
        """Whether this is training on all rows of float32 `[batch, channels]`, as in any tower."""
        learned = self.center and self.scale and not (self.renorm or self.synchronized or self.virtual_batch_size)
        known = training is True or (isinstance(training, int) and training == 1)
        return learned and known and mask is None and inputs.shape.rank == 2 and inputs.dtype == tf.float32

    def _momentum_after(self, steps: tf.Tensor) -> tf.Tensor:
        """The momentum of a step behind so many: far lower at first, so that the averages arrive."""
        return tf.minimum(float(self.momentum), (1.0 + steps) / (10.0 + steps))

    def _steps(self) -> tf.Tensor:
        """Steps of training before this one; many where averages came from elsewhere."""
        steps = tf.convert_to_tensor(self.warmed_steps)
        moved = tf.logical_or(tf.reduce_any(self.moving_mean != 0.0), tf.reduce_any(self.moving_variance != 1.0))
        return tf.where(tf.logical_and(tf.equal(steps, 0.0), moved), _ARRIVED, steps)


def _normalised(inputs: tf.Tensor, gamma: Any, beta: Any, epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The normalised inputs, [batch, channels], and their means and variances, [channels].

    Its gradient is written out: with n rows, x̂ the normalised inputs and g the gradient of the outputs,

        dx = γ / σ · (g - Σ g / n - x̂ Σ (g x̂) / n)

    which takes three quarters of the time of the gradients of the single operations. Sums over rows are products.
    """
    # Of several replicas one may be left without rows: its gradients are 0, and `models/stop.py` keeps its averages.
    rows = tf.cast(tf.maximum(tf.shape(inputs)[0], 1), tf.float32)

    @tf.custom_gradient
    def normalised(inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
        mean = column_sums(inputs) / rows
        centred = inputs - mean
        variance = column_sums(centred * centred) / rows
        inverse = tf.math.rsqrt(variance + epsilon)

        def gradient(upstream: tf.Tensor, *_: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            of_beta = column_sums(upstream)
            of_gamma = column_sums(upstream * centred) * inverse
            scale = gamma * inverse
            of_inputs = upstream * scale - (centred * (scale * inverse * of_gamma / rows) + scale * of_beta / rows)
            return of_inputs, of_gamma, of_beta

        return (centred * (gamma * inverse) + beta, mean, variance), gradient

    return normalised(inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


def column_sums(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of each column, `[columns]`, of float32 `[rows, columns]`: by a product, where that is exact."""
    if tf.config.get_visible_devices("GPU"):  # whose products round to TF32
        return tf.reduce_sum(values, axis=0)
    return tf.matmul(tf.ones([1, tf.shape(values)[0]]), values)[0]
