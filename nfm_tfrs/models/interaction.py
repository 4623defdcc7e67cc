"""The interaction of a model: blocks by their names or as they are, and back to what a config can hold."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.serial import deserialized, serialized
from tfrs_registry import UnknownComponentError, blocks, list_blocks

Interaction = str | Mapping[str, Any] | InteractionBlock


def interaction_blocks(interaction: Interaction | Sequence[Interaction], policy: str) -> list[InteractionBlock]:
    """Returns the blocks that `interaction`, one or a list, names, describes (`interaction_config`) or is.

    Args:
        interaction: A registered name, `{"name": …, "config": {…}}`, or a block; or a list of these.
        policy: The dtype policy of a block whose config names none.

    Raises:
        ValueError: It is none of these, an empty list, or a list that holds one block twice.
        LookupError: No block of that name is installed.
    """
    if not isinstance(interaction, list | tuple):
        return [_block(interaction, policy)]
    found = [_block(one, policy) for one in interaction]
    if not found or len({id(block) for block in found}) < len(found):
        raise ValueError(
            f"interaction must list one block or more, each once; received {interaction!r}. "
            "Make another block for a second copy."
        )
    return found


def _block(interaction: Any, policy: str) -> InteractionBlock:
    if isinstance(interaction, str):
        return _named(policy, interaction)
    if isinstance(interaction, Mapping) and "class_name" in interaction:
        return deserialized(interaction, keras.layers)
    if _is_description(interaction):
        return _named(policy, **interaction)
    if not (isinstance(interaction, keras.layers.Layer) and "mask" in signature(interaction.call).parameters):
        raise ValueError(
            "interaction must be a block's name, {'name': …, 'config': {…}} or an InteractionBlock; "
            f"received {interaction!r}."
        )
    return interaction


def interaction_config(interaction: Any, policy: str) -> Any:
    """Returns a registered block by its name and the distribution to install for it, any other as Keras writes it.

    Of a list, a list of these.
    """
    if isinstance(interaction, list | tuple):
        return [interaction_config(block, policy) for block in interaction]
    name = blocks.name_of(type(interaction))
    if name is None:
        return serialized(interaction, keras.layers)
    config = interaction.get_config()
    if interaction.dtype_policy.name == policy:
        config.pop("dtype", None)  # it follows the model's
    return {"name": name, "config": config, "provider": blocks.provider(name)}


def _is_description(interaction: Any) -> bool:
    if not isinstance(interaction, Mapping) or not isinstance(interaction.get("config", {}), Mapping):
        return False
    return {"name"} <= set(interaction) <= {"name", "config", "provider"}


def _named(policy: str, name: str, config: Mapping[str, Any] | None = None, provider: str = "") -> InteractionBlock:
    if provider and name not in list_blocks():
        remedy = "Register it first" if provider == "this process" else f"Install {provider}, which it came with"
        raise UnknownComponentError(f"The model's block {name!r:.60} is not installed. {remedy}.")
    try:
        block: InteractionBlock = blocks.create(name, **{"dtype": policy, **(config or {})})
    except TypeError as error:
        why = str(error).rstrip(".")
        raise TypeError(f"The block {name!r} cannot be made with {dict(config or {})!s:.200}: {why}.") from error
    return block
