"""Writes a SavedModel whose signatures have the columns' names, whatever these are."""

import itertools
import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.served import Served
from nfm_tfrs.serving.signature import Input, Signature, inputs_of

Functions = dict[str, Any]


def signatures_of(served: Served, names: Sequence[str]) -> Functions:
    """Returns the signatures as concrete functions.

    Args:
        served: What they compute.
        names: Which of `serving_default`, `examples` and `rank`.

    Returns:
        The functions by their names; inputs whose names are none of Python's have others until `rename_inputs`.
    """
    with served.model.without_xla():  # what XLA compiled would be compiled anew for each number of rows
        return {name: _traced(served, name) for name in names}


def signatures_of_model(model: Any) -> tuple[Sequence[Input], Functions]:
    """Returns the inputs and the signatures of a model as it is, for Keras to save beside its own."""
    names = set(model.features.columns)
    # Where a column has the name of a bag's lengths the bag is padded: a model can always be saved.
    padded = [bag.name for bag in model.features.bags if f"{bag.name}_lengths" in names]
    inputs = inputs_of(model.features, padded=[bag.name for bag in model.features.bags] if padded else ())
    return inputs, signatures_of(Served(model, inputs), ("serving_default", "examples"))


def check_names(signature: Signature) -> None:
    """Refuses names of inputs that TensorFlow's functions cannot be called by in Python, or that are ONNX' outputs.

    Raises:
        ValueError: One is, or two are one name of Python's.
    """
    inputs = signature.inputs
    if signature.form == "onnx":
        taken = [one.name for one in inputs if one.name in signature.outputs or re.match("(encoder|dense)/", one.name)]
        if taken:
            raise ValueError(f"{taken[0]!r} is a name of the ONNX file's own. Rename the column.")
        return
    if any(one.name == "self" for one in inputs):
        raise ValueError("TensorFlow calls its functions self, and an input is called so. Rename the column.")
    names = [re.sub(r"\W", "_", one.name, flags=re.ASCII) for one in inputs]
    alike = [one.name for one, name in zip(inputs, names, strict=True) if names.count(name) > 1]
    if alike:
        raise ValueError(f"The inputs {', '.join(map(repr, alike))} are one name to TensorFlow. Rename a column.")


def specs_of(inputs: Sequence[Input]) -> dict[str, Any]:
    """Returns the columns that a model reads as tensor specs, for Keras, by the inputs of its export."""
    found: dict[str, Any] = {}
    for one in inputs:
        dtype = tf.as_dtype(one.dtype)
        if one.kind == "value":
            found[one.column] = tf.TensorSpec([None], dtype)
        elif one.kind != "lengths":
            found[one.column] = tf.RaggedTensorSpec([None, None], dtype)
    return found


def write_saved_model(served: Served, folder: Path, functions: Functions) -> None:
    """Writes a SavedModel of these signatures, of their variables and vocabularies alone.

    Args:
        served: What they compute.
        folder: A new folder.
        functions: What `signatures_of` returned.
    """
    module = tf.Module()
    # Not the model: it would take half a minute, and ten times the size.
    variables = {id(variable): variable for one in functions.values() for variable in one.graph.variables}
    module.weights = list(variables.values())
    module.vocabularies = [*served.model.encoder.tables.values(), *_resources(served.model)]
    try:
        tf.saved_model.save(module, str(folder), signatures=functions)
    except AssertionError as error:
        raise ValueError(
            f"The call of {type(served.model).__name__} reads a table or a variable that no layer holds. Assign it to "
            "an attribute of the model."
        ) from error
    rename_inputs(folder, served.inputs)


def rename_inputs(folder: Path, inputs: Sequence[Input]) -> None:
    """Gives the inputs of a SavedModel's signatures their own names, which may be no names of Python's.

    Args:
        folder: The SavedModel's, on this machine; nothing happens where it is elsewhere.
        inputs: What the signatures were traced for.
    """
    path = folder / "saved_model.pb"
    if not path.exists():
        return
    written = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    names = {traced: one.name for traced, one in zip(_traced_names(inputs), inputs, strict=True)}
    for graph in written.meta_graphs:
        for definition in graph.signature_def.values():
            _rename_keys(definition, "inputs", names)
        for node in graph.object_graph_def.nodes:
            if node.HasField("bare_concrete_function"):
                keywords = node.bare_concrete_function.argument_keywords
                keywords[:] = [names.get(name, name) for name in keywords]
    path.write_bytes(written.SerializeToString())


def _resources(model: Any) -> list[Any]:
    """Tables and the like that layers of a user's own hold."""
    values = [value for part in (model, *model.submodules) for value in vars(part).values()]
    return [value for value in values if isinstance(value, tf.saved_model.experimental.TrackableResource)]


def _traced(served: Served, name: str) -> Any:
    if name == "examples":
        given = tf.TensorSpec([None], tf.string, "examples")
        return _function(lambda examples: served.of_examples(examples)).get_concrete_function(given)
    user = served.user if name == "rank" else ()
    specs = [
        _spec(one, traced, once=one.feature in user)
        for one, traced in zip(served.inputs, _traced_names(served.inputs), strict=True)
    ]
    compute = served.ranked if name == "rank" else served.default

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return compute({one.name: tensor for one, tensor in zip(served.inputs, tensors, strict=True)})

    return _function(serve).get_concrete_function(*specs)


def _function(compute: Any) -> Any:
    return tf.function(compute, autograph=False)


def _traced_names(inputs: Sequence[Input]) -> list[str]:
    """The names that inputs are traced with: their own, or others where Python or TensorFlow has no such name."""
    own = {one.name for one in inputs}
    alike = Counter(one.name.lower() for one in inputs)  # TensorFlow tells names apart by more than their case
    found = []
    for at, one in enumerate(inputs):
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", one.name) and not keyword.iskeyword(one.name)
        plain = plain and one.name != "self" and alike[one.name.lower()] == 1
        other = next(name for name in (f"input_{at}{'_' * more}" for more in itertools.count()) if name not in own)
        found.append(one.name if plain else other)
    return found


def _spec(one: Input, name: str, *, once: bool) -> Any:
    rows = 1 if once and one.shape[0] == "rows" else None
    return tf.TensorSpec([rows, None] if one.padded else [rows], tf.as_dtype(one.dtype), name)


def _rename_keys(message: Any, field: str, names: Mapping[str, str]) -> None:
    """Renames the keys of a map of a protocol buffer."""
    copied = [
        (names.get(key, key), type(value), value.SerializeToString()) for key, value in getattr(message, field).items()
    ]
    message.ClearField(field)
    for key, kind, value in copied:
        getattr(message, field)[key].CopyFrom(kind.FromString(value))
