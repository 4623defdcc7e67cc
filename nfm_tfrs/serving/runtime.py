"""What runs an export: TensorFlow alone a SavedModel, onnxruntime an ONNX file."""

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.serving.rows import Arrays
from nfm_tfrs.serving.signature import Signature
from nfm_tfrs.written import first_line

MODEL = "model.onnx"


def check_installed(*packages: str) -> None:
    """Refuses to go on without packages of the extra `onnx`.

    Raises:
        ModuleNotFoundError: One of them is not installed.
    """
    for name in packages:
        if util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f'ONNX needs {name}, which is not installed. Install it: pip install "nfm-tfrs[onnx]".'
            )


def as_tensor(values: np.ndarray) -> Any:
    """Returns an array as TensorFlow's tensor; objects are strings."""
    from nfm_tfrs.keras_compat import tf

    return tf.constant(values, tf.string) if values.dtype == object else tf.constant(values)


def opened(folder: Path, signature: Signature) -> "SavedModel | Onnx":
    """Returns what runs the export in a folder.

    Raises:
        ModuleNotFoundError: What runs it is not installed.
        ValueError: It is damaged.
    """
    return Onnx(folder, signature) if signature.form == "onnx" else SavedModel(folder, signature)


class SavedModel:
    """A SavedModel in TensorFlow; nothing of this package is in it.

    Args:
        folder: The export's folder.
        signature: What it takes and gives.
    """

    def __init__(self, folder: Path, signature: Signature) -> None:
        from nfm_tfrs.keras_compat import tf

        try:
            self._loaded = tf.saved_model.load(str(folder))
            found = set(self._loaded.signatures)
        except Exception as error:  # of a damaged file TensorFlow raises anything
            raise ValueError(f"{folder} is not opened: {first_line(error)}. Export the model anew.") from error
        if not {*signature.names} <= found:
            raise ValueError(
                f"{folder} is not opened: it lacks signature {min({*signature.names} - found)}. Export the model anew."
            )

    def function(self, name: str) -> Any:
        """Returns a signature, called with tensors by the names of its inputs."""
        return self._loaded.signatures[name]

    def run(self, name: str, arrays: Arrays) -> Mapping[str, np.ndarray]:
        """Returns the outputs of a signature, by their names."""
        tensors = {key: as_tensor(values) for key, values in arrays.items()}
        return {key: value.numpy() for key, value in self.function(name)(**tensors).items()}


class Onnx:
    """An ONNX file in onnxruntime, on one thread.

    Args:
        folder: The export's folder.
        signature: What it takes and gives.
    """

    def __init__(self, folder: Path, signature: Signature) -> None:
        check_installed("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One thread, which does not spin: idle threads of onnxruntime slow TensorFlow beside it down four times.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own have no common class
            raise ValueError(f"{folder / MODEL} is not opened: {first_line(error)}. Export the model anew.") from error
        self._outputs = list(signature.outputs)
        self._read = {one.name for one in self._session.get_inputs()}

    def run(self, name: str, arrays: Arrays) -> Mapping[str, np.ndarray]:
        """Returns the outputs of the only signature, by their names."""
        del name
        fed = {key: values for key, values in arrays.items() if key in self._read}
        return dict(zip(self._outputs, self._session.run(self._outputs, fed), strict=True))
