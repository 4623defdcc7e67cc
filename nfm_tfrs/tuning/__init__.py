"""Search over models and blocks; after this import, plain `import keras_tuner` accepts any TFRS model."""

from nfm_tfrs.keras_compat import load_keras_tuner

keras_tuner = load_keras_tuner()

__all__ = ["keras_tuner"]
