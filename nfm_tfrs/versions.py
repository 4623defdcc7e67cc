"""Which versions of which packages made what is written."""

import platform
from importlib import metadata

__version__ = metadata.version("nfm-tfrs")

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-tuner", "numpy")


def versions() -> dict[str, str]:
    """Returns the installed versions of what decides on results, Python's among them, by name."""
    return {package: metadata.version(package) for package in PACKAGES} | {"python": platform.python_version()}
