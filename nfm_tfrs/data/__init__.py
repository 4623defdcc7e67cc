"""From files and frames to batches: reading, labels, splits and `tf.data`."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.data.drift import Drift as Drift
    from nfm_tfrs.data.drift import FeatureDrift as FeatureDrift
    from nfm_tfrs.data.drift import check_drift as check_drift
    from nfm_tfrs.data.history.rule import History as History
    from nfm_tfrs.data.history.stream import stream_histories as stream_histories
    from nfm_tfrs.data.history.table import histories as histories
    from nfm_tfrs.data.labels import read_labels as read_labels
    from nfm_tfrs.data.labels import read_weights as read_weights
    from nfm_tfrs.data.moments import moments as moments
    from nfm_tfrs.data.parts import EncodedPart as EncodedPart
    from nfm_tfrs.data.parts import Prepared as Prepared
    from nfm_tfrs.data.pipeline.batches import batches as batches
    from nfm_tfrs.data.pipeline.batches import plain_errors as plain_errors
    from nfm_tfrs.data.pipeline.streaming import stream as stream
    from nfm_tfrs.data.prepare import prepare as prepare
    from nfm_tfrs.data.prepare import prepare_files as prepare_files
    from nfm_tfrs.data.readers.table import iterate_batches as iterate_batches
    from nfm_tfrs.data.readers.table import read_table as read_table
    from nfm_tfrs.data.split import Parts as Parts
    from nfm_tfrs.data.split import Split as Split
    from nfm_tfrs.data.split import parse_split as parse_split
    from nfm_tfrs.features.rates import Rates as Rates
    from nfm_tfrs.target import Label as Label
    from nfm_tfrs.target import Target as Target

lazy.show(
    __name__,
    {
        "nfm_tfrs.data.drift": ("Drift", "FeatureDrift", "check_drift"),
        "nfm_tfrs.data.history.table": ("histories",),
        "nfm_tfrs.data.history.rule": ("History",),
        "nfm_tfrs.data.history.stream": ("stream_histories",),
        "nfm_tfrs.data.labels": ("read_labels", "read_weights"),
        "nfm_tfrs.data.moments": ("moments",),
        "nfm_tfrs.data.parts": ("EncodedPart", "Prepared"),
        "nfm_tfrs.features.rates": ("Rates",),
        "nfm_tfrs.data.pipeline.batches": ("batches", "plain_errors"),
        "nfm_tfrs.data.pipeline.streaming": ("stream",),
        "nfm_tfrs.data.prepare": ("prepare", "prepare_files"),
        "nfm_tfrs.data.readers.table": ("iterate_batches", "read_table"),
        "nfm_tfrs.data.split": ("Parts", "Split", "parse_split"),
        "nfm_tfrs.target": ("Label", "Target"),
    },
)
