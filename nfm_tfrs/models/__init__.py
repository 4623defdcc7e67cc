"""Ranking models: one open model, and faces of it with a paper's defaults."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.models.ensemble import EnsembleModel as EnsembleModel
    from nfm_tfrs.models.ensemble import ensemble_of as ensemble_of
    from nfm_tfrs.models.nfm import NFM as NFM
    from nfm_tfrs.models.presets import AFM as AFM
    from nfm_tfrs.models.presets import AFN as AFN
    from nfm_tfrs.models.presets import DCN as DCN
    from nfm_tfrs.models.presets import DLRM as DLRM
    from nfm_tfrs.models.presets import FM as FM
    from nfm_tfrs.models.presets import GDCN as GDCN
    from nfm_tfrs.models.presets import PNN as PNN
    from nfm_tfrs.models.presets import AutoInt as AutoInt
    from nfm_tfrs.models.presets import DCNv2 as DCNv2
    from nfm_tfrs.models.presets import DeepFM as DeepFM
    from nfm_tfrs.models.presets import FiBiNET as FiBiNET
    from nfm_tfrs.models.presets import FinalMLP as FinalMLP
    from nfm_tfrs.models.presets import FmFM as FmFM
    from nfm_tfrs.models.presets import FwFM as FwFM
    from nfm_tfrs.models.presets import MaskNet as MaskNet
    from nfm_tfrs.models.presets import WideDeep as WideDeep
    from nfm_tfrs.models.presets import XDeepFM as XDeepFM
    from nfm_tfrs.models.presets import with_defaults as with_defaults
    from nfm_tfrs.models.ranking import RankingModel as RankingModel
    from nfm_tfrs.models.task_model import TaskModel as TaskModel

lazy.show(
    __name__,
    {
        "nfm_tfrs.models.ensemble": ("EnsembleModel", "ensemble_of"),
        "nfm_tfrs.models.nfm": ("NFM",),
        "nfm_tfrs.models.presets": (
            "AFM",
            "AFN",
            "AutoInt",
            "DCN",
            "DCNv2",
            "DLRM",
            "DeepFM",
            "FM",
            "FiBiNET",
            "FinalMLP",
            "FmFM",
            "FwFM",
            "GDCN",
            "MaskNet",
            "PNN",
            "WideDeep",
            "XDeepFM",
            "with_defaults",
        ),
        "nfm_tfrs.models.ranking": ("RankingModel",),
        "nfm_tfrs.models.task_model": ("TaskModel",),
    },
)
