"""What ONNX takes beside this package."""

from importlib import util

_PACKAGES = ("onnx", "tf2onnx", "onnxruntime")


def check_installed() -> None:
    """Refuses to go on without the packages of the extra `onnx`.

    Raises:
        ModuleNotFoundError: One of them is not installed.
    """
    missing = [name for name in _PACKAGES if util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'ONNX needs {", ".join(missing)}, which is not installed. Install it: pip install "nfm-tfrs[onnx]".'
        )
