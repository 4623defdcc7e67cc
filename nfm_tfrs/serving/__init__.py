"""Out of the process: exports for TensorFlow Serving, plain TensorFlow and ONNX, and a fast scorer of them."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.serving.export import Export as Export
    from nfm_tfrs.serving.export import export as export
    from nfm_tfrs.serving.parity import Parity as Parity
    from nfm_tfrs.serving.parity import check_parity as check_parity
    from nfm_tfrs.serving.rows import encode as encode
    from nfm_tfrs.serving.scorer import Scorer as Scorer
    from nfm_tfrs.serving.scorer import load as load
    from nfm_tfrs.serving.signature import Signature as Signature

lazy.show(
    __name__,
    {
        "nfm_tfrs.serving.export": ("Export", "export"),
        "nfm_tfrs.serving.parity": ("Parity", "check_parity"),
        "nfm_tfrs.serving.rows": ("encode",),
        "nfm_tfrs.serving.scorer": ("Scorer", "load"),
        "nfm_tfrs.serving.signature": ("Signature",),
    },
)
