"""Dropout whose masks follow from a key and a number of steps, both of them weights: a checkpoint holds all of it."""

from collections.abc import Mapping
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights

_WORDS = 2**16  # a mask compares words of 16 bits: half the random numbers, a rate exact to 1/65,536


# The name is Keras': a `.keras` file finds the layers of a list by the names of their classes.
@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Dropout(LaterWeights, keras.layers.Layer):
    """Dropout without a state of its own beside its weights.

        y = x m / (1 - rate),  m_i = 1 with probability 1 - rate, a function of (key, t) alone

    The key is the layer's, drawn once from TensorFlow's global seed; t counts the calls in training. Both are one
    weight, so that a training which goes on from a checkpoint drops what it would have dropped. Keras' layer keeps
    its state in TensorFlow's kernels, where no checkpoint reaches. Each replica has masks of its own.

    Args:
        rate: Share of the inputs that are dropped, rounded to 1/65,536.
        seed: The key; drawn if not given.
        **kwargs: As in `tf.keras.layers.Layer`.

    Returns:
        The shape and dtype of the input, which comes back as it is outside of training.

    Raises:
        ValueError: The rate is not from 0 to below 1.

    Example:
        >>> layer = Dropout(0.5, seed=1)
        >>> layer(tf.ones([1, 8]), training=True).numpy().max()
        2.0

    Reference:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014, section 4; the
        numbers are those of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011 (Philox).
    """

    later_weights: Mapping[str, float | None] = {"dropout_state": None}

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = arguments.share("rate", rate)
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        # Each replica counts for itself, as its batches do.
        self.dropout_state = self.add_weight(
            name="dropout_state",
            shape=[2],
            dtype=tf.int64,
            initializer=self._first_state,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        training = keras.backend.learning_phase() if training is None else training
        if isinstance(training, bool | int):
            return self._dropped(inputs) if training else inputs
        return tf.cond(tf.cast(training, tf.bool), lambda: self._dropped(inputs), lambda: tf.identity(inputs))

    def _dropped(self, inputs: tf.Tensor) -> tf.Tensor:
        dropped = min(round(self.rate * _WORDS), _WORDS - 1)
        key, step = tf.unstack(tf.convert_to_tensor(self.dropout_state))
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else tf.cast(context.replica_id_in_sync_group, tf.int64)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        size = tf.size(inputs)
        integers = tf.random.stateless_uniform(
            [(size + 1) // 2], [key, step * replicas + replica], None, None, tf.int32, alg="philox"
        )
        words = tf.reshape(tf.bitcast(integers, tf.uint16), [-1])[:size]
        kept = tf.reshape(words, tf.shape(inputs)) >= tf.constant(dropped, tf.uint16)
        self.dropout_state.assign_add([0, 1])
        return tf.where(kept, inputs * tf.cast(_WORDS / (_WORDS - dropped), inputs.dtype), tf.zeros([], inputs.dtype))

    def _first_state(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        del shape, kwargs
        # TensorFlow's seed, which `keras.utils.set_random_seed` sets: a draw of Keras' own would shift what the
        # initializers of the layers behind this one draw.
        key = tf.random.uniform([], maxval=tf.int64.max, dtype=dtype) if self.seed is None else self.seed
        return tf.stack([tf.cast(key, dtype), tf.zeros([], dtype)])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
