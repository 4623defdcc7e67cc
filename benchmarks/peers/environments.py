"""Which virtual environment of `benchmarks/.venvs` runs which peer; `benchmarks/setup_peers.sh` makes them.

Standard library only.
"""

from pathlib import Path

from lib.places import BENCHMARKS

DIRECTORY = BENCHMARKS / ".venvs"

VENVS = {
    "version_0_1_0": "version_0_1_0",
    "deepctr": "tensorflow",
    "tutorial": "tensorflow",
    "tfrs_cross": "tensorflow",
    "keras_rs": "keras_rs",
    "deepctr_torch": "torch",
    "fuxictr": "torch",
    "torchfm": "torch",
    "fbgemm": "torch",
}


def python(peer: str) -> Path:
    """The interpreter that runs this peer, installed or not."""
    return DIRECTORY / VENVS[peer] / "bin" / "python"


def installed() -> list[str]:
    """The peers whose environment has been set up, in the order of `VENVS`."""
    return [peer for peer, venv in VENVS.items() if (DIRECTORY / venv / "complete").exists()]
