"""What a model reads: the columns, how they are found, and how their values become ids."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.features.attention import Attention as Attention
    from nfm_tfrs.features.compression import MultiHash as MultiHash
    from nfm_tfrs.features.compression import QuotientRemainder as QuotientRemainder
    from nfm_tfrs.features.encoder import FeatureEncoder as FeatureEncoder
    from nfm_tfrs.features.feature import CategoricalFeature as CategoricalFeature
    from nfm_tfrs.features.feature import MultiCategoricalFeature as MultiCategoricalFeature
    from nfm_tfrs.features.feature import NumericFeature as NumericFeature
    from nfm_tfrs.features.infer import infer_features as infer_features
    from nfm_tfrs.features.number_encoders import AutoDis as AutoDis
    from nfm_tfrs.features.number_encoders import Buckets as Buckets
    from nfm_tfrs.features.number_encoders import Periodic as Periodic
    from nfm_tfrs.features.number_encoders import Piecewise as Piecewise
    from nfm_tfrs.features.spec import FeatureSpec as FeatureSpec
    from nfm_tfrs.migration.feature_columns import embedding_dim as embedding_dim
    from nfm_tfrs.migration.sequence import SequenceFeatures as SequenceFeatures

lazy.show(
    __name__,
    {
        "nfm_tfrs.features.attention": ("Attention",),
        "nfm_tfrs.features.compression": ("MultiHash", "QuotientRemainder"),
        "nfm_tfrs.features.encoder": ("FeatureEncoder",),
        "nfm_tfrs.features.feature": ("CategoricalFeature", "MultiCategoricalFeature", "NumericFeature"),
        "nfm_tfrs.features.infer": ("infer_features",),
        "nfm_tfrs.features.number_encoders": ("AutoDis", "Buckets", "Periodic", "Piecewise"),
        "nfm_tfrs.features.spec": ("FeatureSpec",),
        "nfm_tfrs.migration.feature_columns": ("embedding_dim",),
        "nfm_tfrs.migration.sequence": ("SequenceFeatures",),
    },
)
