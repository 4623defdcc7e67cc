"""How good predictions are: exact on the host, streaming while training, and how sure one may be."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.evidence import Difference as Difference
    from nfm_tfrs.metrics.bootstrap import paired_bootstrap as paired_bootstrap
    from nfm_tfrs.metrics.constant import constant_prediction as constant_prediction
    from nfm_tfrs.metrics.constant import constant_report as constant_report
    from nfm_tfrs.metrics.constant import no_better as no_better
    from nfm_tfrs.metrics.divergence import Distance as Distance
    from nfm_tfrs.metrics.divergence import jensen_shannon as jensen_shannon
    from nfm_tfrs.metrics.divergence import sample_distance as sample_distance
    from nfm_tfrs.metrics.exact import Calibration as Calibration
    from nfm_tfrs.metrics.exact import GroupedAUC as GroupedAUC
    from nfm_tfrs.metrics.exact import auc as auc
    from nfm_tfrs.metrics.exact import auc_of as auc_of
    from nfm_tfrs.metrics.exact import calibration as calibration
    from nfm_tfrs.metrics.exact import evaluate_binary as evaluate_binary
    from nfm_tfrs.metrics.exact import evaluate_regression as evaluate_regression
    from nfm_tfrs.metrics.exact import grouped_auc as grouped_auc
    from nfm_tfrs.metrics.exact import log_loss as log_loss
    from nfm_tfrs.metrics.interval import intervals as intervals
    from nfm_tfrs.metrics.streaming import AUC as AUC
    from nfm_tfrs.metrics.streaming import LogLoss as LogLoss

lazy.show(
    __name__,
    {
        "nfm_tfrs.evidence": ("Difference",),
        "nfm_tfrs.metrics.bootstrap": ("paired_bootstrap",),
        "nfm_tfrs.metrics.constant": ("constant_prediction", "constant_report", "no_better"),
        "nfm_tfrs.metrics.divergence": ("Distance", "jensen_shannon", "sample_distance"),
        "nfm_tfrs.metrics.exact": (
            "Calibration",
            "GroupedAUC",
            "auc",
            "auc_of",
            "calibration",
            "evaluate_binary",
            "evaluate_regression",
            "grouped_auc",
            "log_loss",
        ),
        "nfm_tfrs.metrics.interval": ("intervals",),
        "nfm_tfrs.metrics.streaming": ("AUC", "LogLoss"),
    },
)
