"""How a model is trained, evaluated and used."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.runs.checkpoint import Checkpoints as Checkpoints
    from nfm_tfrs.training.evaluate import evaluate as evaluate
    from nfm_tfrs.training.evaluate import evaluate_constant as evaluate_constant
    from nfm_tfrs.training.evaluate import judge as judge
    from nfm_tfrs.training.evaluate import predict as predict
    from nfm_tfrs.training.fit import fit as fit
    from nfm_tfrs.training.recipe import Best as Best
    from nfm_tfrs.training.recipe import Recipe as Recipe
    from nfm_tfrs.training.recipe import Trained as Trained
    from nfm_tfrs.training.repeat import repeat_run as repeat_run
    from nfm_tfrs.training.statistics import adapt_statistics as adapt_statistics

lazy.show(
    __name__,
    {
        "nfm_tfrs.runs.checkpoint": ("Checkpoints",),
        "nfm_tfrs.training.evaluate": ("evaluate", "evaluate_constant", "judge", "predict"),
        "nfm_tfrs.training.fit": ("fit",),
        "nfm_tfrs.training.recipe": ("Best", "Recipe", "Trained"),
        "nfm_tfrs.training.repeat": ("repeat_run",),
        "nfm_tfrs.training.statistics": ("adapt_statistics",),
    },
)
