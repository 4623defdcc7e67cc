"""What a model reads: the columns, how they are found, and how their values become ids."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfm_tfrs.features.encoder import FeatureEncoder
    from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
    from nfm_tfrs.features.feature_columns import embedding_dim
    from nfm_tfrs.features.sequence import SequenceFeatures
    from nfm_tfrs.features.spec import FeatureSpec

# Loaded on first use: describing columns must not import TensorFlow.
_HOMES = {
    "CategoricalFeature": "nfm_tfrs.features.feature",
    "FeatureEncoder": "nfm_tfrs.features.encoder",
    "FeatureSpec": "nfm_tfrs.features.spec",
    "MultiCategoricalFeature": "nfm_tfrs.features.feature",
    "NumericFeature": "nfm_tfrs.features.feature",
    "SequenceFeatures": "nfm_tfrs.features.sequence",
    "embedding_dim": "nfm_tfrs.features.feature_columns",
}

__all__ = [
    "CategoricalFeature",
    "FeatureEncoder",
    "FeatureSpec",
    "MultiCategoricalFeature",
    "NumericFeature",
    "SequenceFeatures",
    "embedding_dim",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
