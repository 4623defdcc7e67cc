"""Opens what was saved, in a fresh process."""

import importlib
import importlib.util
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models import nfm, presets

# Modules of version 0.1.0 whose classes Keras writes with their module, and where these classes are now.
_MOVED = {
    "nfm_tfrs.embedding": "nfm_tfrs.embedding.table",
    "nfm_tfrs.features.sequence": "nfm_tfrs.migration.sequence",
    "nfm_tfrs.training_metrics": "nfm_tfrs.metrics.streaming",
}

__all__ = ["load_model", "nfm", "presets"]  # imported so that Keras finds the models by their registered names


def load_model(path: str | Path, **kwargs: Any) -> Any:
    """Opens a model saved as a `.keras` file or as a SavedModel folder, blocks of other packages included.

    Args:
        path: The file or folder.
        **kwargs: As for `tf.keras.models.load_model`, `compile=False` for instance.

    Returns:
        The model, with its weights and, if it was compiled, its optimizer; of a `.keras` file with the optimizer's
        state, while a SavedModel's optimizer starts anew, as in Keras.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: It is neither of the two.
        ModuleNotFoundError: A package that the model needs is not installed.
        LookupError: The model's block is not installed; the message says which package brought it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}. Check the path.")
    if path.is_dir():
        if not (path / "saved_model.pb").exists():
            raise ValueError(
                f"{path} is not a saved model: it has no saved_model.pb. Give a .keras file or a SavedModel."
            )
    else:
        for module in _modules(_config(path)):
            _import(module, path)
    return keras.models.load_model(path, **kwargs)


def _config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{path} is not a saved model, or it is cut short ({error}). Give a whole .keras file."
        ) from error


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
    if package in ("builtins", "keras", "tf_keras"):
        return
    if package != "__main__" and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"The model in {path} needs the module {module!r}, which is not installed. "
            "Install the package it belongs to."
        )
    importlib.import_module(module)
