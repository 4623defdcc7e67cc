"""The one place that decides which Keras, TensorFlow, TFRS and KerasTuner the rest of the package uses."""

from tfrs_registry import legacy_keras

legacy_keras.require()

import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402

keras = tf.keras

__all__ = ["keras", "tf", "tfrs"]
