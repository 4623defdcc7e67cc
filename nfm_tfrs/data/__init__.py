"""From files and frames to batches: reading, labels, splits and `tf.data`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nfm_tfrs.data.label import Label, check_binary
from nfm_tfrs.data.read import iterate_batches, read_table
from nfm_tfrs.data.split import Parts, Split, parse_split

if TYPE_CHECKING:
    from nfm_tfrs.data.dataset import batches, plain_errors
    from nfm_tfrs.data.encoded import prepare
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
    "prepare",
    "read_table",
    "stream",
]

# Loaded on first use: these need TensorFlow, and reading a file does not.
_HOMES = {
    "batches": "nfm_tfrs.data.dataset",
    "plain_errors": "nfm_tfrs.data.dataset",
    "prepare": "nfm_tfrs.data.encoded",
    "stream": "nfm_tfrs.data.streaming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
