"""Each name that TensorFlow, its Keras and TFRS keep to themselves and this package needs, behind one function each."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from google.protobuf.message import DecodeError
from tensorflow.python.eager import record
from tensorflow.python.framework.ops import gradient_registry
from tensorflow.python.ops import control_flow_util
from tf_keras.protobuf import saved_metadata_pb2
from tf_keras.src.engine import base_layer_utils
from tf_keras.src.saving import serialization_lib

from nfm_tfrs.keras_compat.packages import tf

Method = TypeVar("Method", bound=Callable[..., Any])
Metrics = Literal["metrics", "prediction_metrics", "label_metrics", "loss_metrics"]

# What half precision wraps an optimizer in: Keras writes it with the module where it is, for it has no public name.
SCALED_OPTIMIZER = ("tf_keras.src.mixed_precision.loss_scale_optimizer", "LossScaleOptimizerV3")

# --- TensorFlow


def in_xla() -> bool:
    """Returns whether what is being traced is for XLA, of which TensorFlow's public interface does not tell."""
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def may_be_taped() -> bool:
    """Returns whether a gradient tape or a forward accumulator is open, which the public interface does not tell."""
    return bool(record.could_possibly_record())


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


def untracked(method: Method) -> Method:
    """Makes of what a method assigns to its model plain Python values, which Keras neither reports nor saves."""
    wrapped: Method = tf.__internal__.tracking.no_automatic_dependency_tracking(method)
    return wrapped


def is_feature_column(thing: Any) -> TypeGuard[Any]:
    """Returns whether this is a feature column of any kind, for which there is no public class."""
    return isinstance(thing, tf.__internal__.feature_column.FeatureColumn)


# --- Keras


_lookup: Callable[..., Any] = serialization_lib._retrieve_class_or_fn
_check: ContextVar[Callable[[Mapping[str, Any]], None] | None] = ContextVar("check", default=None)


def _checked_lookup(
    name: Any, registered_name: Any, module: Any, obj_type: str, full_config: Any, custom_objects: Any = None
) -> Any:
    if (check := _check.get()) is not None:
        kind = "function" if obj_type == "function" else name
        check({"module": module, "class_name": kind, "registered_name": registered_name, "config": name})
    return _lookup(name, registered_name, module, obj_type, full_config, custom_objects)


@contextmanager
def looked_up_by(check: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Asks `check` before Keras looks up, inside, a class or function that a config names; it may import it.

    Args:
        check: Called with `module`, `class_name`, `registered_name` and, of a function, its name as `config`; raises
            where this may not be looked up.
    """
    serialization_lib._retrieve_class_or_fn = _checked_lookup  # for good: other threads have no check, and see none
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def clear_losses(model: Any) -> None:
    """Forgets the losses that layers have added: those of a trace are tensors of its graph, of no use outside."""
    model._clear_losses()


def has_losses(layer: Any) -> bool:
    """Returns whether the layer, or one inside it, has added losses; `losses` counts those of regularizers too."""
    return any(part._losses or part._eager_losses for part in layer._flatten_layers())


def layers_inside(model: Any) -> list[Any]:
    """Returns all layers inside a model, and inside these; publicly `submodules` walks all attributes for them."""
    return list(model._flatten_layers(include_self=False))


def in_call() -> bool:
    """Returns whether a layer is being called, from whose call those inside it take whether they train."""
    return bool(base_layer_utils.call_context().in_call)


@functools.cache  # not at import: Keras' counters start the devices
def attributes_of_training() -> frozenset[str]:
    """Returns the attributes that Keras, `compile` and `fit` set on any model, and no inference reads."""
    ours = {"_auto_steps", "_huge_pages", "_huge_pages_asked", "averaging", "averages_held"}
    return frozenset(vars(tf.keras.Model())) | ours | {"_compile_config", "loss"}


@contextmanager
def own_line() -> Iterator[None]:
    """Lets what a layer raises inside stay one line: Keras wraps a page of the layer's arguments around it else."""
    try:
        yield
    except ValueError as error:
        vars(error).update(_keras_call_info_injected=True)  # as on what it has wrapped already
        raise


def own_weights(layer: Any) -> list[Any]:
    """Returns a layer's weights without those of the layers inside it, in the order in which a file numbers them."""
    return [*layer._trainable_weights, *layer._non_trainable_weights]


@contextmanager
def hidden_weight(layer: Any, weight: Any) -> Iterator[None]:
    """Takes a weight that is not trained out of a layer's list meanwhile; Keras fills the list from old HDF5 files."""
    before = layer._non_trainable_weights[:]
    layer._non_trainable_weights[:] = [one for one in before if one is not weight]
    try:
        yield
    finally:
        layer._non_trainable_weights[:] = before


def steps_per_execution(model: Any) -> Any:
    """Returns the variable with the number of steps that Keras runs at once, None before `compile`.

    Only `compile` sets it publicly, and would make the optimizer and the metrics anew.
    """
    return model._steps_per_execution


def steps_taken(model: Any) -> Any:
    """Returns the variable with the number of steps that `fit` has taken; the optimizer's leaves skipped ones out."""
    return model._train_counter


@contextmanager
def entered_at(model: Any, epoch: int, step: int) -> Iterator[None]:
    """Has `fit` begin, inside, with a step of an epoch; publicly it begins with the first one of an epoch.

    Keras asks for both where a callback of its own restores a training; it calls no callback of the steps before.

    Args:
        model: The model.
        epoch: Number of the epoch, counted from 0.
        step: Number of the step in it, counted from 0.
    """
    model._maybe_load_initial_counters_from_ckpt = lambda steps, initial: (epoch, step)
    try:
        yield
    finally:
        del model._maybe_load_initial_counters_from_ckpt


def random_layers(model: Any) -> list[Any]:
    """Returns Keras' layers that draw random numbers from a state which nothing can read, of dropout for instance."""
    kind = tf.keras.__internal__.layers.BaseRandomLayer
    return [layer for layer in layers_inside(model) if isinstance(layer, kind)]


def log_writers(callback: Any) -> list[Any]:
    """Returns the writers of files that a `TensorBoard` callback has opened; it flushes them only at its end."""
    return list(callback._writers.values())


def leave_logs(callback: Any) -> None:
    """Tells Keras that a callback does not look at the numbers of its batches, which it copies from tensors else."""
    callback._supports_tf_logs = True


def set_metrics(model: Any, metrics: Sequence[Any]) -> None:
    """Makes these the metrics that a model tracks, for a model around this one to report.

    An attribute would be tracked from the start: a model that never uses them would report them too.
    """
    model._metrics[:] = metrics


def wrapped_function(metric: Any) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Returns the function of a `MeanMetricWrapper` and its arguments; its config leaves out the defaults."""
    return metric._fn, metric._fn_kwargs


def loss_scale_state(optimizer: Any) -> tuple[Any, Any]:
    """Returns the variables of a dynamic loss scale, the scale and its count of good steps; public are its values."""
    state = optimizer._loss_scale
    return state.current_loss_scale, state.counter


def copy_weight_decay(old: Any, new: Any, variables: Iterable[tuple[Any, Any]]) -> None:
    """Excludes from an optimizer's weight decay what another one excludes; Keras lets nobody ask which that is.

    Args:
        old: The other optimizer.
        new: The optimizer, built or not.
        variables: What `old` trains, each with what `new` trains in its place.
    """
    kept = [there for here, there in variables if not old._use_weight_decay(here)]
    new._exclude_from_weight_decay = [new._var_key(variable) for variable in kept]


def saved_model_metadata(folder: Path) -> dict[str, Any]:
    """Returns what Keras wrote of a SavedModel's model: its class, `config` and `training_config`, plain JSON types.

    Publicly Keras reads it on the way to objects, and makes those that it names.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    metadata = saved_metadata_pb2.SavedMetadata()
    try:
        metadata.ParseFromString((folder / "keras_metadata.pb").read_bytes())
        written = next(json.loads(node.metadata) for node in metadata.nodes if node.node_path == "root")
    except (OSError, DecodeError, ValueError, StopIteration, RecursionError) as error:
        raise ValueError("it holds no Keras model, or is damaged. Give a model that nfm-tfrs saved.") from error
    name = written.get("class_name")
    found = {key: written.get(key) for key in ("config", "training_config")}
    return {"class_name": name, "registered_name": name, **found}


def set_save_spec(model: Any, inputs: Any) -> None:
    """Tells Keras what a model that it has never called takes, without which it writes no SavedModel.

    Args:
        model: The model; one that was called keeps what it was called with.
        inputs: Tensor specs.
    """
    model._set_save_spec(inputs)


# --- TFRS


def task_loss(task: Any) -> Any:
    """Returns the loss that a ranking task was made with."""
    return task._loss


def task_metrics(task: Any, kind: Metrics = "metrics") -> list[Any]:
    """Returns the metrics that a ranking task was given as one of its arguments; publicly all of them are one list."""
    attribute = "_ranking_metrics" if kind == "metrics" else f"_{kind}"
    metrics: list[Any] = getattr(task, attribute)
    return metrics


# What is used, and what for: a test finds each name, or says with the docstring what is lost.
PRIVATE_NAMES: Mapping[str, Any] = {
    "tensorflow.python.ops.control_flow_util.GraphOrParentsInXlaContext": in_xla,
    "tensorflow.python.eager.record.could_possibly_record": may_be_taped,
    "tensorflow.python.framework.ops.gradient_registry._registry": forgotten_gradients,
    "tensorflow.__internal__.tracking.no_automatic_dependency_tracking": untracked,
    "tensorflow.__internal__.feature_column.FeatureColumn": is_feature_column,
    "tf_keras.src.saving.serialization_lib._retrieve_class_or_fn": looked_up_by,
    "tf_keras.layers.Layer._clear_losses": clear_losses,
    "tf_keras.src.engine.base_layer_utils.call_context": in_call,
    "tf_keras.layers.Layer._saved_model_inputs_spec": attributes_of_training,
    "tf_keras.Model._set_save_spec": set_save_spec,
    "tf_keras.layers.Layer._losses": has_losses,
    "tf_keras.layers.Layer._eager_losses": has_losses,
    "tf_keras.layers.Layer._flatten_layers": has_losses,
    "tf_keras.layers.Layer._trainable_weights": own_weights,
    "tf_keras.layers.Layer._non_trainable_weights": own_weights,
    "tf_keras.Model._steps_per_execution": steps_per_execution,
    "tf_keras.Model._train_counter": steps_taken,
    "tf_keras.Model._maybe_load_initial_counters_from_ckpt": entered_at,
    "tensorflow.keras.__internal__.layers.BaseRandomLayer": random_layers,
    "tf_keras.callbacks.TensorBoard._writers": log_writers,
    "tf_keras.callbacks.TerminateOnNaN._supports_tf_logs": leave_logs,
    "tf_keras.layers.Layer._metrics": set_metrics,
    "tf_keras.metrics.MeanMetricWrapper._fn": wrapped_function,
    "tf_keras.metrics.MeanMetricWrapper._fn_kwargs": wrapped_function,
    "tf_keras.src.mixed_precision.loss_scale_optimizer.LossScaleOptimizerV3._loss_scale": loss_scale_state,
    "tf_keras.optimizers.Optimizer._use_weight_decay": copy_weight_decay,
    "tf_keras.optimizers.Optimizer._exclude_from_weight_decay": copy_weight_decay,
    "tf_keras.optimizers.Optimizer._var_key": copy_weight_decay,
    "tensorflow_recommenders.tasks.Ranking._loss": task_loss,
    "tensorflow_recommenders.tasks.Ranking._ranking_metrics": task_metrics,
    "tensorflow_recommenders.tasks.Ranking._prediction_metrics": task_metrics,
    "tensorflow_recommenders.tasks.Ranking._label_metrics": task_metrics,
    "tensorflow_recommenders.tasks.Ranking._loss_metrics": task_metrics,
}
