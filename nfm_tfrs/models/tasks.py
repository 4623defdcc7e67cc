"""Ranking tasks on logits, checked: TFRS's own default expects probabilities."""

from typing import Any

from nfm_tfrs.keras_compat import keras, tfrs
from nfm_tfrs.training_metrics import AUC, LogLoss

_LISTS = ("metrics", "prediction_metrics", "label_metrics", "loss_metrics")
_ATTRIBUTES = dict(
    zip(_LISTS, ("_ranking_metrics", "_prediction_metrics", "_label_metrics", "_loss_metrics"), strict=True)
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
    if isinstance(task, dict):
        lists = {key: [keras.metrics.deserialize(metric) for metric in task[key]] for key in _LISTS}
        return tfrs.tasks.Ranking(loss=keras.losses.deserialize(task["loss"]), **lists)
    if not isinstance(task, tfrs.tasks.Ranking):
        raise ValueError(f'task must be "binary", "regression" or a tfrs.tasks.Ranking; received {task!r}.')
    _check_loss(task._loss)
    for metric in task._ranking_metrics:
        _check_metric(metric)
    return task


def task_config(task: Any) -> str | dict[str, Any]:
    """Returns what `ranking_task` takes to make the same task again, as plain JSON types."""
    if task.name in ("binary", "regression"):
        return task.name
    lists = {key: [keras.metrics.serialize(metric) for metric in getattr(task, _ATTRIBUTES[key])] for key in _LISTS}
    return {"loss": keras.losses.serialize(task._loss), **lists}


def _named(loss: Any, metrics: list[Any], name: str) -> Any:
    return tfrs.tasks.Ranking(loss=loss, metrics=metrics, name=name)


def _check_loss(loss: Any) -> None:
    name = type(loss).__name__
    if getattr(loss, "reduction", "none") != "none":
        raise ValueError(
            f"The task's loss must keep one loss an example; received {name} with reduction {loss.reduction!r}. Write "
            f'tfrs.tasks.Ranking(loss=tf.keras.losses.{name}({_logits(loss)}reduction="none")).'
        )
    if _logits(loss) and not loss.get_config().get("from_logits"):
        raise ValueError(
            f"The model returns logits; received a {name} that expects probabilities. Write "
            f'tfrs.tasks.Ranking(loss=tf.keras.losses.{name}(from_logits=True, reduction="none")).'
        )


def _logits(loss: Any) -> str:
    return "from_logits=True, " if "from_logits" in loss.get_config() else ""


def _check_metric(metric: Any) -> None:
    name = type(metric).__name__
    from_logits = {
        keras.metrics.AUC: lambda: metric._from_logits,
        keras.metrics.BinaryCrossentropy: lambda: metric.get_config().get("from_logits"),
    }
    for kind, expects_logits in from_logits.items():
        if type(metric) is kind and not expects_logits():
            raise ValueError(
                f"The model returns logits; received a metric {name} that expects probabilities. "
                f"Write tf.keras.metrics.{name}(from_logits=True)."
            )
    for argument in ("threshold", "thresholds"):
        limit = metric.get_config().get(argument) if isinstance(metric, _thresholded()) else None
        limits = limit if isinstance(limit, list | tuple) else [limit]
        if limit is not None and limits == [0.5]:
            raise ValueError(
                f"The model returns logits; received a metric {name} that cuts probabilities at 0.5. "
                f"Write tf.keras.metrics.{name}({argument}=0.0)."
            )


def _thresholded() -> tuple[type, ...]:
    return (keras.metrics.BinaryAccuracy, keras.metrics.Precision, keras.metrics.Recall)
