"""Neural Factorization Machines and interchangeable interaction blocks for TensorFlow Recommenders."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from tfrs_registry import legacy_keras

if TYPE_CHECKING:
    from nfm_tfrs.blocks.base import InteractionBlock
    from nfm_tfrs.blocks.bi_interaction import BiInteraction
    from nfm_tfrs.features.encoder import FeatureEncoder
    from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
    from nfm_tfrs.features.spec import FeatureSpec
    from nfm_tfrs.models.nfm import NFM
    from nfm_tfrs.models.ranking import RankingModel
    from nfm_tfrs.models.saving import load_model
    from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam

    __version__: str

# Before anything here imports TensorFlow, which reads the variable once.
legacy_keras.ensure()

# Loaded on first use: importing the package must not import TensorFlow.
_HOMES = {
    "BiInteraction": "nfm_tfrs.blocks.bi_interaction",
    "CategoricalFeature": "nfm_tfrs.features.feature",
    "FeatureEncoder": "nfm_tfrs.features.encoder",
    "FeatureSpec": "nfm_tfrs.features.spec",
    "InteractionBlock": "nfm_tfrs.blocks.base",
    "LazyAdagrad": "nfm_tfrs.optimizers",
    "LazyAdam": "nfm_tfrs.optimizers",
    "MultiCategoricalFeature": "nfm_tfrs.features.feature",
    "NFM": "nfm_tfrs.models.nfm",
    "NumericFeature": "nfm_tfrs.features.feature",
    "RankingModel": "nfm_tfrs.models.ranking",
    "load_model": "nfm_tfrs.models.saving",
}

__all__ = [
    "NFM",
    "BiInteraction",
    "CategoricalFeature",
    "FeatureEncoder",
    "FeatureSpec",
    "InteractionBlock",
    "LazyAdagrad",
    "LazyAdam",
    "MultiCategoricalFeature",
    "NumericFeature",
    "RankingModel",
    "__version__",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = metadata.version("nfm-tfrs")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next access is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
