"""TensorFlow, its legacy Keras and TFRS, imported in the one order that works."""

from tfrs_registry import legacy_keras

legacy_keras.require()

import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402

keras = tf.keras

__all__ = ["keras", "tf", "tfrs"]
