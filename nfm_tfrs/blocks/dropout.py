"""Dropout whose masks follow from a key and a number of steps alone: a checkpoint holds both."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.held import Held

_WORDS = 2**16  # a mask compares bytes, a quarter of the random numbers; limits by row make the rate exact to 1/65,536
STATE = "dropout_state"


# The name is Keras': a `.keras` file finds the layers of a list by the names of their classes.
@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Dropout(keras.layers.Layer):
    """Dropout without a state but for its key and its step.

        y = x m / (1 - rate),  m_i = 1 with probability 1 - rate, a function of (key, t) alone

    The key is the layer's, drawn once from TensorFlow's global seed; t counts the calls in training. `.keras` and
    `.weights.h5` files and checkpoints hold both, so that a training which goes on drops what it would have dropped;
    Keras' layer keeps its state in TensorFlow's kernels, where nothing reaches it. They are no weights: models with
    and without dropout exchange lists of weights. Each replica has masks of its own. `tf.recompute_grad` around this
    layer would draw anew.

    Args:
        rate: Share of the inputs that are dropped, rounded to 1/65,536.
        seed: The key, an integer from 0 to below 2⁶³; drawn if not given.
        **kwargs: As in `tf.keras.layers.Layer`.

    Returns:
        The shape and dtype of the input, which comes back as it is outside of training.

    Raises:
        ValueError: The rate is not from 0 to below 1, or the seed none.

    Example:
        >>> layer = Dropout(0.5, seed=1)
        >>> float(tf.reduce_max(layer(tf.ones([1, 8]), training=True)))
        2.0

    Reference:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014, section 4; the
        numbers are those of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011 (Philox).
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = arguments.share("rate", rate)
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
            raise ValueError(f"seed must be an integer from 0 to below 2^63; received {seed!r:.60}.")
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        with tf.init_scope():
            # TensorFlow's seed, which `keras.utils.set_random_seed` sets: a draw of Keras' own would shift what the
            # initializers of the layers behind this one draw.
            key = tf.random.uniform([], maxval=tf.int64.max, dtype=tf.int64) if self.seed is None else self.seed
            # Each replica counts for itself, as its batches do.
            state = tf.Variable(
                lambda: tf.stack([tf.cast(key, tf.int64), 0]),
                trainable=False,
                name=STATE,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._held = Held(dropout_state=state)  # Keras makes a weight of a variable that it holds itself
        super().build(input_shape)

    @property
    def dropout_state(self) -> Any:
        """The key and the step, an int64 variable `[2]`, once the layer is built."""
        return self._held.dropout_state

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        training = keras.backend.learning_phase() if training is None else training
        if isinstance(training, bool | int):
            return self._dropped(inputs) if training else inputs
        return tf.cond(tf.cast(training, tf.bool), lambda: self._dropped(inputs), lambda: tf.identity(inputs))

    def _dropped(self, inputs: tf.Tensor) -> tf.Tensor:
        # At least two words are kept: float16 holds the scale then.
        dropped = min(round(self.rate * _WORDS), _WORDS - 2)
        key, step = tf.unstack(tf.convert_to_tensor(self.dropout_state))
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else tf.cast(context.replica_id_in_sync_group, tf.int64)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        size, rows = tf.size(inputs), tf.shape(inputs)[0]
        integers = tf.random.stateless_uniform(
            [(size + rows + 3) // 4], [key, step * replicas + replica], None, None, tf.int32, alg="philox"
        )
        drawn = tf.reshape(tf.bitcast(integers, tf.uint8), [-1])
        # A byte for each input and one for each row, whose limit is one more in so many of 256 rows.
        limit, more = divmod(dropped, 256)
        kind = tf.uint8 if limit < 255 else tf.uint16  # which holds 256
        limits = tf.cast(limit + tf.cast(drawn[size : size + rows] < tf.constant(more, tf.uint8), tf.int32), kind)
        limits = tf.reshape(limits, tf.concat([[rows], tf.ones_like(tf.shape(inputs)[1:])], axis=0))
        kept = tf.cast(tf.reshape(drawn[:size], tf.shape(inputs)), kind) >= limits
        self.dropout_state.assign_add([0, 1])
        return tf.where(kept, inputs * tf.cast(_WORDS / (_WORDS - dropped), inputs.dtype), tf.zeros([], inputs.dtype))

    def save_own_variables(self, store: Any) -> None:
        """Saves the key and the step."""
        store[STATE] = self.dropout_state.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved; files of version 0.1.0 hold nothing, and leave both as they are."""
        if STATE in store.keys():  # noqa: SIM118
            self.dropout_state.assign(store[STATE][()])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
