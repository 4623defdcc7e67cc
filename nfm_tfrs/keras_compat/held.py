"""Variables that a layer or a model holds without their being weights of it."""

from typing import Any

from nfm_tfrs.keras_compat.packages import tf


class Held(tf.train.Checkpoint):
    """Variables, by name, that TensorFlow's checkpoints and SavedModels hold, and Keras does not count as weights.

    Keras makes weights of the variables that a layer holds itself. A plain `tf.train.Checkpoint` makes a counter of its
    own when a SavedModel is written, for which it has no setter when Keras reads the folder.
    """

    save_counter: Any = None
