"""Search over models and blocks; after this import, plain `import keras_tuner` accepts any TFRS model."""

from nfm_tfrs.keras_compat import load_keras_tuner

keras_tuner = load_keras_tuner()

from nfm_tfrs.tuning.finalists import Found  # noqa: E402
from nfm_tfrs.tuning.hypermodel import RankingHyperModel  # noqa: E402
from nfm_tfrs.tuning.search import Budget, search  # noqa: E402

__all__ = ["Budget", "Found", "RankingHyperModel", "keras_tuner", "search"]
