"""Opens what was saved, in a fresh process; what a file names is looked up, never run."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models import ensemble, nfm, presets
from nfm_tfrs.models.serial import check_known, class_of, is_keras, only_known
from nfm_tfrs.runs.contents import read_contents, read_folder_contents
from nfm_tfrs.trust import trusting
from nfm_tfrs.written import first_line
from tfrs_registry import RegistryError

# Modules of version 0.1.0 whose classes Keras writes with their module, and where these classes are now.
_MOVED = {
    "nfm_tfrs.embedding": "nfm_tfrs.embedding.table",
    "nfm_tfrs.features.sequence": "nfm_tfrs.migration.sequence",
    "nfm_tfrs.training_metrics": "nfm_tfrs.metrics.streaming",
}

_UNTOUCHED = -3e38  # what no weight is; a weight that still is has not been loaded

__all__ = ["ensemble", "load_model", "nfm", "presets"]  # imported so that the models are registered


def load_model(path: str | Path, *, compile: bool = True, trust: bool = False) -> Any:
    """Opens a model saved as a `.keras` file or as a SavedModel folder, blocks of other packages included.

    A file is data: nothing in it is run, and no module that it names is imported. Its classes are looked up: models and
    blocks in the registry, what else there is among Keras' own initializers, losses, metrics and optimizers. A class of
    your own is known once it is registered (`@tf.keras.saving.register_keras_serializable()`), by importing its module.

    Args:
        path: The file or folder.
        compile: Whether to compile the model as it was, where it was.
        trust: Whether to import and run whatever the file names. Only for files of your own: one by somebody else can
            then do with your machine whatever you can.

    Returns:
        The model, with its weights and, if it was compiled, its optimizer; of a `.keras` file with the optimizer's
        state, while a SavedModel's optimizer starts anew, as in Keras.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: It is neither of the two, is damaged, declares more weights than it has, or names what is not known.
        ModuleNotFoundError: With `trust`, a package that the model needs is not installed.
        LookupError: The model's block is not installed; the message says which package brought it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}. Check the path.")
    if path.is_dir() and (path / "signature.json").exists():
        raise ValueError(f"{path} is an export, which is no model any more. Open it with nfm_tfrs.serving.load.")
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise ValueError(f"{path} is not a saved model: it has no saved_model.pb. Give a .keras file or a SavedModel.")
    if path.is_file() and not str(path).endswith(".keras"):  # Keras opens other names as HDF5, whatever is in them
        raise ValueError(
            f"{path} is not opened: a model's file ends in .keras. Rename it, or give a SavedModel's folder."
        )
    if trust:
        return _trusted(path, compile)
    return _rebuilt(path, compile) if path.is_dir() else _opened(path, compile)


def _opened(path: Path, compile: bool) -> Any:
    """The model of a `.keras` file."""
    config = read_contents(path)
    with _one_line(path), _checked(config):
        return keras.models.load_model(path, compile=compile)


def _rebuilt(path: Path, compile: bool) -> Any:
    """The model of a SavedModel folder, made from its config: the graphs and code that the folder holds stay unread."""
    config = read_folder_contents(path)
    with _one_line(path), _checked(config):
        model = class_of(config).from_config(config["config"])
        _load(model, path / "variables" / "variables")
        training = config.get("training_config")
        if compile and training:
            model.compile(keras.optimizers.deserialize(training["optimizer_config"]))
    return model


@contextmanager
def _checked(config: Any) -> Iterator[None]:
    """Opens inside, once the config names only what is known, and has Keras look nothing else up."""
    _check_model(config)
    check_known(config)
    with only_known():
        yield


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Names the path and the reason in one line where it cannot be opened."""
    try:
        yield
    except RegistryError as error:  # which says what to install
        raise type(error)(f"{path} is not opened: {error}") from error
    except Exception as error:  # of a damaged file Keras raises anything
        raise ValueError(f"{path} is not opened: {first_line(error)}.") from error


def _load(model: Any, checkpoint: Path) -> None:
    """Loads all weights of a model just made; what else the checkpoint holds, the optimizer's, stays unread."""
    weights = [weight for weight in model.weights if weight.dtype.is_floating and weight.shape.num_elements()]
    for weight in weights:
        weight.assign(tf.fill(weight.shape, tf.cast(_UNTOUCHED, weight.dtype)))
    model.load_weights(checkpoint).expect_partial()
    if any(tf.reduce_all(weight == tf.cast(_UNTOUCHED, weight.dtype)) for weight in weights):
        raise ValueError(f"{checkpoint.parent.name} lacks weights of the model. Give the whole folder")


def _trusted(path: Path, compile: bool) -> Any:
    with trusting(True):
        if path.is_file():
            for module in _modules(read_contents(path)):
                _import(module, path)
        with _one_line(path):
            return keras.models.load_model(path, compile=compile)


def _check_model(config: Any) -> None:
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        raise ValueError("it holds no model. Give a model that nfm-tfrs saved.")
    found = class_of(config)
    if not (isinstance(found, type) and issubclass(found, keras.Model)):
        raise ValueError(
            f"its model is a {config.get('class_name')!r}, which is neither registered in this process nor offered by "
            "an installed package. Import what registers it first, or say trust=True (--trust) if you know where the "
            "file comes from."
        )


def _modules(config: Any) -> Iterator[str]:
    """Every module that a class in the config comes from, but for classes that Keras knows already."""
    if isinstance(config, dict):
        known = keras.saving.get_registered_object(config.get("registered_name")) is not None
        if isinstance(config.get("module"), str) and "class_name" in config and not known:
            yield config["module"]
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _modules(part)


def _import(module: str, path: Path) -> None:
    module = _MOVED.get(module, module)
    package = module.partition(".")[0]
    if is_keras(package):
        return
    if package != "__main__" and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"The model in {path} needs the module {module!r}, which is not installed. "
            "Install the package it belongs to."
        )
    importlib.import_module(module)
