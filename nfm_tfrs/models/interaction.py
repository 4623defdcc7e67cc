"""The interaction of a model: a block by its name or as it is, and back to what a config can hold."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.tasks import deserialized, serialized
from tfrs_registry import UnknownComponentError, blocks, get_block, list_blocks


def interaction_block(interaction: str | Mapping[str, Any] | InteractionBlock, policy: str) -> InteractionBlock:
    """Returns the block that `interaction` names, describes (`interaction_config`) or is.

    Args:
        interaction: A registered name, `{"name": …, "config": {…}}`, or a block.
        policy: The dtype policy of a block whose config names none.

    Raises:
        ValueError: It is none of these.
        LookupError: No block of that name is installed.
    """
    if isinstance(interaction, str):
        return _named(policy, interaction)
    if isinstance(interaction, Mapping) and "class_name" in interaction:
        return deserialized(interaction, keras.layers)
    if isinstance(interaction, Mapping) and {"name"} <= set(interaction) <= {"name", "config", "provider"}:
        return _named(policy, **interaction)
    if not (isinstance(interaction, keras.layers.Layer) and "mask" in signature(interaction.call).parameters):
        raise ValueError(
            "interaction must be a block's name, {'name': …, 'config': {…}} or an InteractionBlock; "
            f"received {interaction!r}."
        )
    return interaction


def interaction_config(block: InteractionBlock, policy: str) -> dict[str, Any]:
    """Returns a registered block by its name and the distribution to install for it, any other as Keras writes it."""
    name = blocks.name_of(type(block))
    if name is None:
        return serialized(block, keras.layers)
    config = block.get_config()
    if block.dtype_policy.name == policy:
        config.pop("dtype", None)  # it follows the model's
    return {"name": name, "config": config, "provider": blocks.provider(name)}


def _named(policy: str, name: str, config: Mapping[str, Any] | None = None, provider: str = "") -> InteractionBlock:
    if provider and name not in list_blocks():
        remedy = "Register it first" if provider == "this process" else f"Install {provider}, which it came with"
        raise UnknownComponentError(f"The model's block {name!r} is not installed. {remedy}.")
    return get_block(name, **{"dtype": policy, **(config or {})})
