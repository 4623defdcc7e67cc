"""Ranking tasks on logits, checked: TFRS's own default expects probabilities."""

from inspect import signature
from typing import Any, get_args

from nfm_tfrs.keras_compat import keras, tfrs
from nfm_tfrs.keras_compat.private import Metrics, task_loss, task_metrics, wrapped_function
from nfm_tfrs.metrics.streaming import AUC, LogLoss
from nfm_tfrs.models.serial import deserialized, is_keras, serialized

_LISTS = get_args(Metrics)

_ON_PROBABILITIES = (  # no argument of theirs lets them take logits
    keras.metrics.FBetaScore,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SpecificityAtSensitivity,
)


def ranking_task(task: Any) -> Any:
    """Returns the `tfrs.tasks.Ranking` that `task` names, describes (`task_config`) or is.

    Raises:
        ValueError: An unknown name, or a task whose loss reduces the batch, or whose loss or metrics expect
            probabilities.
    """
    if task == "binary":
        return _named(keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"), [AUC(), LogLoss()], task)
    if task == "regression":
        metrics = [keras.metrics.RootMeanSquaredError("rmse"), keras.metrics.MeanAbsoluteError("mae")]
        return _named(keras.losses.MeanSquaredError(reduction="none"), metrics, task)
    if isinstance(task, dict) and "class_name" in task:
        return deserialized(task, keras.layers)
    if isinstance(task, dict):
        lists = {key: [deserialized(metric, keras.metrics) for metric in task[key]] for key in _LISTS}
        return tfrs.tasks.Ranking(loss=deserialized(task["loss"], keras.losses), name=task["name"], **lists)
    if not isinstance(task, tfrs.tasks.Ranking):
        raise ValueError(f'task must be "binary", "regression" or a tfrs.tasks.Ranking; received {task!r}.')
    _check_loss(task_loss(task))
    for metric in task_metrics(task):
        _check_metric(metric)
    return task


def task_config(task: Any) -> dict[str, Any]:
    """Returns what `ranking_task` takes to make the same task again, as plain JSON types."""
    if type(task) is not tfrs.tasks.Ranking:
        return serialized(task, keras.layers)
    lists = {key: [serialized(metric, keras.metrics) for metric in task_metrics(task, key)] for key in _LISTS}
    return {"name": task.name, "loss": serialized(task_loss(task), keras.losses), **lists}


def _named(loss: Any, metrics: list[Any], name: str) -> Any:
    return tfrs.tasks.Ranking(loss=loss, metrics=metrics, name=name)


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(
            f"The task's loss must be a tf.keras.losses.Loss; received {loss!r}. Write "
            'tfrs.tasks.Ranking(loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")).'
        )
    on_logits = "from_logits=True, " if "from_logits" in loss.get_config() else ""
    right = f'Write tfrs.tasks.Ranking(loss={_written(loss)}({on_logits}reduction="none")).'
    if loss.reduction != "none":
        raise ValueError(
            f"The task's loss must keep one loss an example; received {type(loss).__name__} with reduction "
            f"{loss.reduction!r}. {right}"
        )
    if on_logits and not loss.get_config()["from_logits"]:
        raise ValueError(
            f"The model returns logits; received a {type(loss).__name__} that expects probabilities. {right}"
        )


def _check_metric(metric: Any) -> None:
    if not isinstance(metric, keras.metrics.Metric):
        raise ValueError(
            f"A task's metrics must be tf.keras.metrics; received {metric!r}. "
            "Write tf.keras.metrics.AUC(from_logits=True), for instance."
        )
    if not is_keras(type(metric).update_state.__module__):
        return  # its own, which may take logits
    name, arguments = type(metric).__name__, metric.get_config()
    if isinstance(metric, keras.metrics.MeanMetricWrapper):  # with the defaults of its function
        function, given = wrapped_function(metric)
        arguments = {**{p.name: p.default for p in signature(function).parameters.values()}, **given}
    elif arguments.get("thresholds", 0.0) is None:  # Precision, TruePositives, …: the default is set elsewhere
        arguments["thresholds"] = metric.thresholds
    if isinstance(metric, _ON_PROBABILITIES):
        raise ValueError(
            f"The model returns logits; received a metric {name} that expects probabilities. "
            "Leave it out, or give it tf.sigmoid of them in an update_state of your own."
        )
    if arguments.get("from_logits") is False:
        raise ValueError(
            f"The model returns logits; received a metric {name} that expects probabilities. "
            f"Write {_written(metric)}(from_logits=True)."
        )
    for argument in ("threshold", "thresholds"):
        if arguments.get(argument) in (0.5, [0.5], (0.5,)):
            raise ValueError(
                f"The model returns logits; received a metric {name} that cuts probabilities at 0.5. "
                f"Write {_written(metric)}({argument}=0.0)."
            )


def _written(thing: Any) -> str:
    """The name of its class as a user writes it."""
    kind = "losses" if isinstance(thing, keras.losses.Loss) else "metrics"
    name = type(thing).__name__
    return f"tf.keras.{kind}.{name}" if getattr(getattr(keras, kind), name, None) is type(thing) else name
