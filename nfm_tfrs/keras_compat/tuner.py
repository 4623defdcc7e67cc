"""KerasTuner, made to accept the models of this package, and what it keeps to itself of its chief."""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import wrapt

from nfm_tfrs.keras_compat.packages import keras

# Each of these took its Keras when it was imported; the later ones take it from the earlier.
_RELOAD_ORDER = (
    "keras_tuner.src.backend.keras",
    "keras_tuner.src.backend.ops",
    "keras_tuner.src.backend.random",
    "keras_tuner.src.engine.tuner_utils",
)


def load_keras_tuner() -> ModuleType:
    """Returns KerasTuner, which takes the models of this package whether it was imported before or not.

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


def name_the_remedy(tuner: Any) -> None:
    """Lets KerasTuner's module of tuners say what to import, where it does not take a model for being of `tf.keras`."""
    if hasattr(tuner.Tuner, "_build_hypermodel"):
        wrapt.wrap_function_wrapper(tuner, "Tuner._build_hypermodel", _built)


def _built(build: Any, tuner: Any, args: Any, kwargs: Any) -> Any:
    model = build(*args, **kwargs)
    if isinstance(model, keras.Model) and not _accepts_our_models():
        raise sys.modules["keras_tuner"].errors.FatalTypeError(
            f"KerasTuner takes models of Keras 3 alone here; received a {type(model).__name__} of tf.keras. Write "
            "`import nfm_tfrs.tuning` before the search."
        )
    return model


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


def add_chief(oracle: Any, server: Any) -> None:
    """Lets a gRPC server hand out the trials of an oracle.

    KerasTuner's own chief serves at an address fixed before, blocks, and cannot tell a worker that has died.
    """
    # Here: no other search needs gRPC.
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)


def forget_oracle(oracle: Any) -> None:
    """Makes KerasTuner let go of an oracle, which it would keep for ever, with all the rows of a search."""
    module: Any = importlib.import_module("keras_tuner.src.engine.oracle")
    for kept in (module.LOCKS, module.THREADS):
        kept.pop(oracle, None)


def quiet_conditions() -> None:
    """Takes away a `print` forgotten in KerasTuner: a line for each condition that is sent between processes."""
    conditions: Any = importlib.import_module("keras_tuner.src.engine.conditions")
    conditions.print = lambda *_: None


# What is used, and what for: a test finds each name, or says with the docstring what is lost.
PRIVATE_NAMES: Mapping[str, Any] = {
    "keras_tuner.src.backend.config._MULTI_BACKEND": load_keras_tuner,
    "keras_tuner.src.backend.config.multi_backend": load_keras_tuner,
    "keras_tuner.src.engine.tuner_utils.SaveBestEpoch": load_keras_tuner,
    **dict.fromkeys(_RELOAD_ORDER, load_keras_tuner),
    "keras_tuner.src.engine.tuner.Tuner._build_hypermodel": name_the_remedy,
    "keras_tuner.src.protos.get_service_grpc": add_chief,
    "keras_tuner.src.distribute.oracle_chief.OracleServicer": add_chief,
    "keras_tuner.src.engine.oracle.LOCKS": forget_oracle,
    "keras_tuner.src.engine.oracle.THREADS": forget_oracle,
    "keras_tuner.src.engine.conditions": quiet_conditions,
}
