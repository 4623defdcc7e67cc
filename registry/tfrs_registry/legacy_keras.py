"""Makes TensorFlow use the Keras that TFRS needs, or says in one line what to put first."""

import os
import sys


def ensure() -> None:
    """Set `TF_USE_LEGACY_KERAS` if nobody set it and TensorFlow is not imported yet."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def require() -> None:
    """Check that TFRS can be used."""
    ensure()
