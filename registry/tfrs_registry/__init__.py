"""Models and interaction blocks by name, from every package installed; never imports TensorFlow itself."""

from collections.abc import Iterable
from typing import Any

from tfrs_registry import legacy_keras
from tfrs_registry.discovery import ComponentSpec
from tfrs_registry.errors import (
    BrokenPluginError,
    LegacyKerasError,
    NameClashError,
    PluginWarning,
    RegistryError,
    UnknownComponentError,
)
from tfrs_registry.protocols import Block, Model
from tfrs_registry.registry import Registry

__all__ = [
    "Block",
    "BrokenPluginError",
    "ComponentSpec",
    "LegacyKerasError",
    "Model",
    "NameClashError",
    "PluginWarning",
    "Registry",
    "RegistryError",
    "UnknownComponentError",
    "blocks",
    "get_block",
    "get_model",
    "list_blocks",
    "list_models",
    "models",
    "refresh",
]

# Before anything imports TensorFlow, which reads the variable once.
legacy_keras.ensure()

models = Registry("tfrs_registry.models", before_load=legacy_keras.require)
blocks = Registry("tfrs_registry.blocks", before_load=legacy_keras.require)


def get_model(name: str, /, **config: Any) -> Model:
    """A model by its registered name, made with the rest of the arguments.

    ```python
    model = get_model("nfm", features=features, embedding_dim=64)
    ```

    Raises:
        RegistryError: the name is unknown, or its package cannot deliver it.
        LegacyKerasError: TensorFlow uses a Keras that TFRS cannot use.
    """
    model: Model = models.create(name, **config)
    return model


def list_models(pattern: str = "*", *, tags: Iterable[str] = ()) -> list[str]:
    """The names of the models that match a glob pattern (`"*nfm*"`) and carry all the tags."""
    return models.names(pattern, tags=tags)


def get_block(name: str, /, **config: Any) -> Block:
    """An interaction block by its registered name, made with the rest of the arguments.

    ```python
    block = get_block("bi_interaction")
    ```

    Raises:
        RegistryError: the name is unknown, or its package cannot deliver it.
        LegacyKerasError: TensorFlow uses a Keras that TFRS cannot use.
    """
    block: Block = blocks.create(name, **config)
    return block


def list_blocks(pattern: str = "*", *, tags: Iterable[str] = ()) -> list[str]:
    """The names of the blocks that match a glob pattern and carry all the tags."""
    return blocks.names(pattern, tags=tags)


def refresh() -> None:
    """Look again at what is installed, after an install in this process."""
    models.refresh()
    blocks.refresh()
