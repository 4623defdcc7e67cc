"""Weights that a layer got in a later version: files and lists that lack them load, and leave these as at first."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from nfm_tfrs.keras_compat.packages import tf
from nfm_tfrs.keras_compat.private import hidden_weight, own_weights

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # under which a checkpoint of TensorFlow holds its objects


class LaterWeights:
    """A layer, or what holds some, whose weights earlier versions of this package did not all have.

    It stands before the Keras class: `class Norm(LaterWeights, keras.layers.Layer)`. What was saved without the later
    weights (a `.keras` or `.weights.h5` file, a checkpoint of TensorFlow, a list for `set_weights`) still loads.
    """

    later_weights: Mapping[str, float] = {}  # the attribute of each, and the value of one that nothing was loaded into

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the weights as Keras does, from a list of today's length or of one without the later weights."""
        weights = list(weights)
        later = _later(self)
        held: list[Any] = self.weights  # type: ignore[attr-defined]
        if len(weights) == sum(id(weight) not in later for weight in held):
            given = iter(weights)
            weights = [np.float32(later[id(weight)]) if id(weight) in later else next(given) for weight in held]
        super().set_weights(weights)  # type: ignore[misc]

    def load_own_variables(self, store: Any) -> None:
        """Loads the layer's own weights as Keras does, with or without the later ones."""
        own, later = own_weights(self), _own_later(self)
        found = {name: store[name] for name in store.keys()}  # noqa: SIM118
        numbered = sum(name.isdigit() for name in found)
        if later and numbered == len(own) - len(later):
            given = iter([found.pop(str(number)) for number in range(numbered)])
            values = [np.float32(later[id(weight)]) if id(weight) in later else next(given) for weight in own]
            found |= {str(number): value for number, value in enumerate(values)}
        super().load_own_variables(found)  # type: ignore[misc]


@contextmanager
def older_file(model: Any, path: Any) -> Iterator[None]:
    """While weights are loaded inside: later weights that the file lacks are not looked for, and are as at first then.

    For checkpoints of TensorFlow and Keras' old HDF5 files; others are read by `load_own_variables`.

    Args:
        model: What the file is loaded into.
        path: The path that it is loaded from.
    """
    held = _names_in(str(path))
    if held is None:
        yield
        return
    missing = [
        (part, name, value)
        for part in (model, *model.submodules)
        for name, value in getattr(part, "later_weights", {}).items()
        if getattr(part, name, None) is not None and f"/{name}/" not in held
    ]
    with ExitStack() as hidden:
        for part, name, _ in missing:
            hidden.enter_context(hidden_weight(part, getattr(part, name)))
        yield
    for part, name, value in missing:
        getattr(part, name).assign(value)


def _names_in(path: str) -> str | None:
    """The names of all weights in a checkpoint or an old HDF5 file, between slashes; None of other files."""
    if Path(f"{path}.index").exists():
        names = [name for name, _ in tf.train.list_variables(path)] + _attributes_in(path)
    elif path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5") and Path(path).is_file():
        import h5py

        names = []
        with h5py.File(path, "r") as file:
            file.visit(lambda name: names.append(name.removesuffix(":0")))
    else:
        return None
    return "".join(f"/{name}/" for name in names)


def _attributes_in(path: str) -> list[str]:
    """The attributes of all objects in a checkpoint: of a weight deep inside, its variable's name says a number."""
    reader = tf.train.load_checkpoint(path)
    if not reader.has_tensor(_GRAPH):
        return []
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
    return [child.local_name for node in graph.nodes for child in node.children]


def _own_later(layer: Any) -> dict[int, float]:
    """The first values of a layer's own later weights, by their identity; none before it is built."""
    later: Mapping[str, float] = getattr(layer, "later_weights", {})
    return {id(getattr(layer, name)): value for name, value in later.items() if getattr(layer, name, None) is not None}


def _later(layer: Any) -> dict[int, float]:
    """The same of a layer and all layers inside it."""
    return {weight: value for part in (layer, *layer.submodules) for weight, value in _own_later(part).items()}
