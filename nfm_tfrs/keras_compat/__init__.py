"""The one importer of TensorFlow, its Keras, TFRS and KerasTuner for the rest of the package."""

import wrapt

from nfm_tfrs.keras_compat.packages import keras, tf, tfrs
from nfm_tfrs.keras_compat.private import forgotten_gradients, in_xla
from nfm_tfrs.keras_compat.tuner import load_keras_tuner, name_the_remedy

__all__ = ["forgotten_gradients", "in_xla", "keras", "load_keras_tuner", "tf", "tfrs"]

wrapt.register_post_import_hook(name_the_remedy, "keras_tuner.src.engine.tuner")
