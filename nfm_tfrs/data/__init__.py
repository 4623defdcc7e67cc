"""From files and frames to batches: reading, labels, splits and `tf.data`."""

from typing import TYPE_CHECKING, Any

from nfm_tfrs.data.label import Label, check_binary
from nfm_tfrs.data.read import iterate_batches, read_table
from nfm_tfrs.data.split import Parts, Split, parse_split

if TYPE_CHECKING:
    from nfm_tfrs.data.dataset import batches, plain_errors
    from nfm_tfrs.data.streaming import stream

__all__ = [
    "Label",
    "Parts",
    "Split",
    "batches",
    "check_binary",
    "iterate_batches",
    "parse_split",
    "plain_errors",
    "read_table",
    "stream",
]


def __getattr__(name: str) -> Any:
    # Late, since these need TensorFlow and reading a file does not.
    if name in ("batches", "plain_errors"):
        from nfm_tfrs.data import dataset

        return getattr(dataset, name)
    if name == "stream":
        from nfm_tfrs.data.streaming import stream

        return stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
