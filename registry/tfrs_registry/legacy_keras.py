"""Makes TensorFlow use the Keras that TFRS needs, or says in one line what to put first."""

import os
import sys
from importlib import metadata, util
from pathlib import Path
from types import ModuleType

from tfrs_registry.errors import LegacyKerasError

_VARIABLE = "TF_USE_LEGACY_KERAS"
_COUNTED = ("1", "true", "True")  # any other value means Keras 3 to TensorFlow
# Each of these names in TensorFlow resolves its Keras by itself, on its first use.
_RESOLVED_LATE = ("keras", "losses", "metrics", "optimizers", "initializers")


def ensure() -> None:
    """Choose TFRS's Keras where that is still open; never imports TensorFlow, never raises.

    Sets `TF_USE_LEGACY_KERAS` if nobody has. A process that already uses Keras 3, asks for it, or
    lacks tf-keras is left as it is: `require` reports it once Keras is needed.
    """
    folder = _api_folder()
    if folder is None or os.environ.get(_VARIABLE, "1") not in _COUNTED or _keras_3_in_use():
        return
    os.environ.setdefault(_VARIABLE, "1")
    tensorflow = sys.modules.get("tensorflow")
    path = [] if tensorflow is None else list(getattr(tensorflow, "__path__", []))
    if tensorflow is not None and path and path[0] != folder:
        # TensorFlow read the variable for `from tensorflow.keras import …` when it was imported, and
        # reads it again for `tf.keras` when that is first used: without this the two would differ.
        tensorflow.__path__ = [folder, *(entry for entry in path if entry != folder)]


def require() -> None:
    """Check, by the state of this moment, that TFRS will find the Keras it needs.

    Raises:
        LegacyKerasError: it will not; the message is one line that says what to do.
    """
    ensure()
    _require_matching_packages()
    value = os.environ.get(_VARIABLE, "1")
    if value not in _COUNTED:
        raise LegacyKerasError(
            f"{_VARIABLE} is {value!r}, so TensorFlow uses Keras 3, but TFRS needs Keras 2; unset it, or put "
            f"first: import os; os.environ[{_VARIABLE!r}] = '1'"
        )
    if _keras_3_in_use():
        raise LegacyKerasError(
            "TensorFlow already uses Keras 3 in this process, but TFRS needs Keras 2; "
            "restart it, and put first, above every other import: import tfrs_registry"
        )


def _require_matching_packages() -> None:
    tensorflow = _installed_version("tensorflow", "tensorflow-cpu", "tf-nightly")
    if util.find_spec("tensorflow") is None:
        raise LegacyKerasError("TFRS needs TensorFlow, which is not installed; run: pip install tensorflow tf-keras")
    minor = None if tensorflow is None else tensorflow.split(".")[:2]
    remedy = "pip install tf-keras" if minor is None else f"pip install 'tf-keras~={'.'.join(minor)}.0'"
    if _api_folder() is None:
        raise LegacyKerasError(f"TFRS needs tf-keras, which is not installed; run: {remedy}")
    tf_keras = _installed_version("tf-keras", "tf-keras-nightly")
    if minor and tf_keras and tf_keras.split(".")[:2] != minor:
        raise LegacyKerasError(f"tf-keras {tf_keras} does not fit TensorFlow {tensorflow}; run: {remedy}")


def _installed_version(*distributions: str) -> str | None:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _api_folder() -> str | None:
    """The folder in which `tensorflow.keras` is tf-keras; None if tf-keras is not installed."""
    try:
        spec = util.find_spec("tf_keras")
    except ValueError:  # a module without a spec, put into sys.modules by hand
        return None
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / "api" / "_v2")


def _keras_3_in_use() -> bool:
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    late = [vars(tensorflow).get(name) for name in _RESOLVED_LATE]
    modules = [*late, sys.modules.get("tensorflow.keras")]
    return any(isinstance(module, ModuleType) and _holds_keras_3(module) for module in modules)


def _holds_keras_3(module: ModuleType) -> bool:
    # vars, not getattr: an attribute access would make a lazy module choose its Keras here and now.
    homes = (getattr(value, "__module__", None) for value in list(vars(module).values()))
    return any(isinstance(home, str) and home.split(".")[0] == "keras" for home in homes)
