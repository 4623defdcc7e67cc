"""The one importer of TensorFlow, its Keras, TFRS and KerasTuner for the rest of the package."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tfrs_registry import legacy_keras

legacy_keras.require()

import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402
from tensorflow.python.framework.ops import gradient_registry  # noqa: E402
from tensorflow.python.ops import control_flow_util  # noqa: E402

keras = tf.keras

__all__ = ["forgotten_gradients", "in_xla", "keras", "load_keras_tuner", "tf", "tfrs"]

# Each of these took its Keras when it was imported; the later ones take it from the earlier.
_RELOAD_ORDER = (
    "keras_tuner.src.backend.keras",
    "keras_tuner.src.backend.ops",
    "keras_tuner.src.backend.random",
    "keras_tuner.src.engine.tuner_utils",
)


def in_xla() -> bool:
    """Returns whether what is being traced is for XLA, of which TensorFlow's public interface does not tell."""
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


@contextmanager
def forgotten_gradients() -> Iterator[None]:
    """Forgets what is traced inside, for models that end with it.

    TensorFlow registers each `tf.custom_gradient` that it traces under a name of its own, for good, and with it the
    graph: 30 MB a training. What was traced inside can be run afterwards, not differentiated once more.
    """
    registered = gradient_registry._registry
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith("CustomGradient-"):  # not what a module imported meanwhile has registered
                registered.pop(name, None)


def load_keras_tuner() -> ModuleType:
    """KerasTuner, working with the models of this package, whether it was imported before or not.

    KerasTuner decides once, at import, which Keras its models come from: Keras 3 where that is installed
    (keras-tuner#1039). Where it already decides for `tf.keras`, nothing is touched.

    Raises:
        ImportError: KerasTuner is not installed, or is built in a way this does not know.
    """
    keras_tuner = _import_without_keras_3()
    try:
        if not _accepts_our_models():
            sys.modules["keras_tuner.src.backend.config"]._MULTI_BACKEND = False  # type: ignore[attr-defined]
            for name in _RELOAD_ORDER:
                importlib.reload(sys.modules[name])
        accepted = _accepts_our_models()
    except (AttributeError, KeyError) as error:
        raise ImportError(_bridge_failure(keras_tuner)) from error
    if not accepted:
        raise ImportError(_bridge_failure(keras_tuner))
    return keras_tuner


def _import_without_keras_3() -> ModuleType:
    installed_keras: Any = importlib.import_module("keras")
    version = getattr(installed_keras, "version", None)
    # KerasTuner takes a Keras that has no version() for Keras 2, and then uses tf.keras.
    installed_keras.version = None
    try:
        return importlib.import_module("keras_tuner")
    finally:
        installed_keras.version = version


def _accepts_our_models() -> bool:
    config = sys.modules["keras_tuner.src.backend.config"]
    tuner_utils = sys.modules["keras_tuner.src.engine.tuner_utils"]
    return not config.multi_backend() and issubclass(tuner_utils.SaveBestEpoch, keras.callbacks.Callback)


def _bridge_failure(keras_tuner: ModuleType) -> str:
    version = getattr(keras_tuner, "__version__", "of unknown version")
    return f"KerasTuner {version} does not accept tf.keras models; run: pip install keras-tuner==1.4.8"
