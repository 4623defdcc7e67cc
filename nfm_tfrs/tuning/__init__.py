"""Search over models and blocks; after this import, plain `import keras_tuner` accepts any TFRS model."""

from typing import TYPE_CHECKING, Any

import wrapt

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.tuning.finalists import Found as Found
    from nfm_tfrs.tuning.hypermodel import RankingHyperModel as RankingHyperModel
    from nfm_tfrs.tuning.hypermodel import keras_tuner as keras_tuner
    from nfm_tfrs.tuning.search import search as search
    from nfm_tfrs.tuning.settings import Budget as Budget
    from nfm_tfrs.tuning.settings import Finals as Finals
    from nfm_tfrs.tuning.settings import Schedule as Schedule
    from nfm_tfrs.tuning.settings import Space as Space
    from nfm_tfrs.tuning.workers import Workers as Workers


def _bridge(keras_tuner: Any) -> None:
    from nfm_tfrs.keras_compat import load_keras_tuner  # imports TensorFlow, as KerasTuner has

    load_keras_tuner()


wrapt.register_post_import_hook(_bridge, "keras_tuner")

lazy.show(
    __name__,
    {
        "nfm_tfrs.tuning.finalists": ("Found",),
        "nfm_tfrs.tuning.hypermodel": ("RankingHyperModel", "keras_tuner"),
        "nfm_tfrs.tuning.search": ("search",),
        "nfm_tfrs.tuning.settings": ("Budget", "Finals", "Schedule", "Space"),
        "nfm_tfrs.tuning.workers": ("Workers",),
    },
)
