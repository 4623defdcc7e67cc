"""Neural Factorization Machines and interchangeable interaction blocks for TensorFlow Recommenders."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy
from tfrs_registry import legacy_keras

if TYPE_CHECKING:
    from nfm_tfrs import blocks as blocks
    from nfm_tfrs import data as data
    from nfm_tfrs import features as features
    from nfm_tfrs import metrics as metrics
    from nfm_tfrs import models as models
    from nfm_tfrs import serving as serving
    from nfm_tfrs import training as training
    from nfm_tfrs import tuning as tuning
    from nfm_tfrs.blocks.base import InteractionBlock as InteractionBlock
    from nfm_tfrs.blocks.bi_interaction import BiInteraction as BiInteraction
    from nfm_tfrs.data.drift import check_drift as check_drift
    from nfm_tfrs.features.attention import Attention as Attention
    from nfm_tfrs.features.compression import MultiHash as MultiHash
    from nfm_tfrs.features.compression import QuotientRemainder as QuotientRemainder
    from nfm_tfrs.features.encoder import FeatureEncoder as FeatureEncoder
    from nfm_tfrs.features.feature import CategoricalFeature as CategoricalFeature
    from nfm_tfrs.features.feature import MultiCategoricalFeature as MultiCategoricalFeature
    from nfm_tfrs.features.feature import NumericFeature as NumericFeature
    from nfm_tfrs.features.growth import Growth as Growth
    from nfm_tfrs.features.infer import infer_features as infer_features
    from nfm_tfrs.features.number_encoders import AutoDis as AutoDis
    from nfm_tfrs.features.number_encoders import Buckets as Buckets
    from nfm_tfrs.features.number_encoders import Periodic as Periodic
    from nfm_tfrs.features.number_encoders import Piecewise as Piecewise
    from nfm_tfrs.features.spec import FeatureSpec as FeatureSpec
    from nfm_tfrs.models.grow import grow as grow
    from nfm_tfrs.models.nfm import NFM as NFM
    from nfm_tfrs.models.pretrained import load_pretrained as load_pretrained
    from nfm_tfrs.models.ranking import RankingModel as RankingModel
    from nfm_tfrs.models.refresh import refreshed as refreshed
    from nfm_tfrs.optimizers import LazyAdagrad as LazyAdagrad
    from nfm_tfrs.optimizers import LazyAdam as LazyAdam
    from nfm_tfrs.runs.saving import load_model as load_model
    from nfm_tfrs.versions import __version__ as __version__

# Before anything here imports TensorFlow, which reads the variable once.
legacy_keras.ensure()

lazy.show(
    __name__,
    {
        "nfm_tfrs.blocks.base": ("InteractionBlock",),
        "nfm_tfrs.blocks.bi_interaction": ("BiInteraction",),
        "nfm_tfrs.data.drift": ("check_drift",),
        "nfm_tfrs.features.attention": ("Attention",),
        "nfm_tfrs.features.compression": ("MultiHash", "QuotientRemainder"),
        "nfm_tfrs.features.encoder": ("FeatureEncoder",),
        "nfm_tfrs.features.feature": ("CategoricalFeature", "MultiCategoricalFeature", "NumericFeature"),
        "nfm_tfrs.features.growth": ("Growth",),
        "nfm_tfrs.features.infer": ("infer_features",),
        "nfm_tfrs.features.number_encoders": ("AutoDis", "Buckets", "Periodic", "Piecewise"),
        "nfm_tfrs.features.spec": ("FeatureSpec",),
        "nfm_tfrs.models.grow": ("grow",),
        "nfm_tfrs.models.nfm": ("NFM",),
        "nfm_tfrs.models.pretrained": ("load_pretrained",),
        "nfm_tfrs.models.ranking": ("RankingModel",),
        "nfm_tfrs.models.refresh": ("refreshed",),
        "nfm_tfrs.optimizers": ("LazyAdagrad", "LazyAdam"),
        "nfm_tfrs.runs.saving": ("load_model",),
        "nfm_tfrs.versions": ("__version__",),
    },
    packages=("blocks", "data", "features", "metrics", "models", "serving", "training", "tuning"),
)
