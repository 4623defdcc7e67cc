"""Objects as plain JSON and back: of what a file names only what is known is made, and nothing is imported for it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.keras_compat.private import SCALED_OPTIMIZER, looked_up_by
from nfm_tfrs.trust import is_trusted
from tfrs_registry import Registry, RegistryError, blocks, models

DEPTH = 64  # of lists and dicts in each other; a config of ours has seven
LONGEST = 10_000  # characters of a text that is no value of a vocabulary
_LARGEST = 2**64  # whole numbers are below it: ids have 64 bits
_FAMILIES = (
    *("initializers", "regularizers", "constraints", "losses", "metrics", "optimizers", "mixed_precision"),
    *("optimizers.schedules", "optimizers.legacy", "optimizers.experimental", "activations"),
)
_SPECIAL = ("__tensor__", "__numpy__", "__bytes__")  # data alone


def serialized(thing: Any, kind: Any) -> dict[str, Any]:
    """Returns a layer, loss or metric as plain JSON types.

    Args:
        thing: What to write.
        kind: `keras.layers`, `keras.losses` or `keras.metrics`.
    """
    cls = type(thing)
    if is_keras(cls.__module__):
        written: dict[str, Any] = kind.serialize(thing)
        return written
    # Not by Keras, which leaves the module out while it writes a SavedModel.
    name = keras.saving.get_registered_name(cls)
    return {"module": cls.__module__, "class_name": cls.__name__, "registered_name": name, "config": thing.get_config()}


def deserialized(config: Mapping[str, Any], kind: Any) -> Any:
    """Returns what `serialized` wrote, blocks of this process among it: a file is checked before, as a whole.

    Raises:
        ValueError: It names what is not known; see `check_known`.
    """
    if (cls := _registered(config) or _defined(config)) is not None and not is_keras(config.get("module") or "keras"):
        return cls.from_config(config["config"])
    check_known(config)
    if is_keras(config.get("module") or "keras"):
        with only_known():
            return kind.deserialize(dict(config))
    return class_of(config).from_config(config["config"])


def check_known(written: Any) -> None:
    """Checks that a config names only what is known: nothing is made or imported for that but installed plugins.

    Known are classes that are registered with Keras in this process, what an installed package
    offers in the registry, and Keras' own initializers, regularizers, constraints, losses, metrics, optimizers,
    their schedules and dtype policies. Inside `trusting(True)` everything is.

    Args:
        written: What was read, plain JSON types.

    Raises:
        ValueError: It names anything else, is nested too deeply, or holds a name or whole number out of bounds.
    """
    if not is_trusted():
        _check(written, 0)


def only_known() -> AbstractContextManager[None]:
    """Returns a context in which Keras looks nothing up but what is known; see `check_known`, which asks beforehand."""
    return nullcontext() if is_trusted() else looked_up_by(_check_class)


def is_keras(module: str) -> bool:
    """Returns whether a module is of Keras itself, as it writes its modules."""
    return module.partition(".")[0] in ("builtins", "keras", "tf_keras")


def _check(written: Any, depth: int, *, values: bool = False) -> None:
    """Checks a part of a config; `values` says that its texts are those of a vocabulary, of any length."""
    if depth > DEPTH:
        raise ValueError(f"A config is nested more than {DEPTH} levels deep. Save the model again.")
    if isinstance(written, Mapping):
        if "class_name" in written or "registered_name" in written:
            _check_class(written)
        for name, part in written.items():
            _check_value(name)
            _check(part, depth + 1, values=values or name == "vocabulary")
    elif isinstance(written, list | tuple):
        for part in written:
            _check(part, depth + 1, values=values)
    else:
        _check_value(written, values=values)


def _check_value(value: Any, *, values: bool = False) -> None:
    if isinstance(value, str) and len(value) > LONGEST and not values:
        raise ValueError(
            f"A config holds a text of {len(value):,} characters ({_shown(value)}), where {LONGEST:,} are the most. "
            "Shorten it."
        )
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError("A config holds a whole number of more than 64 bits. Save the model again.")


def _check_class(written: Mapping[str, Any]) -> None:
    """Checks what Keras would look up for this: a function by its config, a class by the name that it registered."""
    module, name, config = written.get("module"), written.get("class_name"), written.get("config")
    registered = config if name == "function" else written.get("registered_name", name)
    if isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None:
        return
    if name in _SPECIAL or (name != "function" and _offered(module, name) is not None):
        return
    if isinstance(name, str) and _of_keras(module, name, config):
        return
    raise ValueError(
        f"The config names {_shown(module)}.{_shown(name)}, which is not registered in this process, offered by an "
        "installed package, or one of Keras' own that may be loaded. Import what registers it first, or say trust=True "
        "(--trust) if you know where the file comes from."
    )


def _registered(written: Mapping[str, Any]) -> Any:
    name = written.get("registered_name") or written.get("class_name")
    return keras.saving.get_registered_object(name) if isinstance(name, str) else None


def _defined(written: Mapping[str, Any], base: Any = InteractionBlock) -> Any:
    """The block of this name and module that this process has defined."""
    for cls in base.__subclasses__():
        if (cls.__module__, cls.__name__) == (written.get("module"), written.get("class_name")):
            return cls
        if (found := _defined(written, cls)) is not None:
            return found
    return None


def _offered(module: Any, name: Any) -> Any:
    """The class of this address, if an installed package offers it as a model or block; it is imported by that name."""
    for registry in (models, blocks):
        if (found := _component(registry, f"{module}:{name}")) is not None:
            return registry.load(found)
    return None


def _component(registry: Registry, target: str) -> str | None:
    for name in registry.names():
        try:
            if registry.spec(name).target == target:
                return name
        except RegistryError:  # of a broken plugin, which is not asked for
            continue
    return None


def _of_keras(module: Any, name: str, config: Any) -> bool:
    """Whether Keras has such a class among those that may be loaded, or such an activation, loss or metric."""
    if (module, name) == SCALED_OPTIMIZER:
        return True
    family = str(module or "builtins").removeprefix("keras.")
    if family not in ("builtins", *_FAMILIES):  # Keras would import any other module, of its own or not
        return False
    if name == "function":
        functions = (keras.activations, keras.losses, keras.metrics)
        return isinstance(config, str) and any(callable(vars(place).get(config)) for place in functions)
    places = [getattr(keras, family) for family in _FAMILIES if "." not in family]
    places += [keras.optimizers.schedules, keras.optimizers.legacy]
    return any(isinstance(vars(place).get(name), type) for place in places)


def class_of(config: Mapping[str, Any]) -> Any:
    """Returns the class that a config names, if it is registered or offered by a package; else None."""
    found = _registered(config) or _offered(config.get("module"), config.get("class_name"))
    if found is None and is_trusted():
        try:
            found = getattr(import_module(config["module"]), config["class_name"])
        except (ImportError, AttributeError, KeyError) as error:
            raise ValueError(f"What the config names is not there: {error}. Install or correct its package.") from error
    return found


def _shown(name: Any) -> str:
    text = " ".join(name.split()) if isinstance(name, str) else repr(name)
    return text if len(text) <= 60 else text[:60] + "…"
