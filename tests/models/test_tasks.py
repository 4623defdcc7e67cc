import json

import numpy as np
import pytest

from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.metrics.streaming import AUC, LogLoss
from nfm_tfrs.models.tasks import ranking_task, task_config

LOGITS = {"from_logits": True, "reduction": "none"}


def ranking(loss=None, metrics=(), **arguments):
    loss = keras.losses.BinaryCrossentropy(**LOGITS) if loss is None else loss
    return tfrs.tasks.Ranking(loss=loss, metrics=list(metrics), **arguments)


class OfSigmoid(keras.metrics.Precision):
    """A metric on probabilities that has been taught logits."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(y_true, tf.sigmoid(y_pred), sample_weight)


def names(task):
    return [metric.name for metric in task._ranking_metrics]


def test_binary_is_cross_entropy_on_logits_with_auc_and_log_loss():
    task = ranking_task("binary")
    losses = task(labels=tf.constant([[1.0], [0.0]]), predictions=tf.constant([[2.0], [-3.0]]))
    np.testing.assert_allclose(losses, np.log1p(np.exp([-2.0, -3.0])), rtol=1e-6)  # 0.127 and 0.049, not 0
    assert names(task) == ["auc", "log_loss"]


def test_regression_is_squared_error_with_rmse_and_mae():
    task = ranking_task("regression")
    losses = task(labels=tf.constant([[1.0], [5.0]]), predictions=tf.constant([[3.0], [4.0]]))
    assert losses.numpy().tolist() == [4.0, 1.0]
    assert {m.name: float(m.result()) for m in task.metrics} == pytest.approx({"rmse": 2.5**0.5, "mae": 1.5})


def test_a_task_on_logits_is_taken_as_it_is():
    metrics = [
        AUC(),
        LogLoss(),
        keras.metrics.AUC(from_logits=True),
        keras.metrics.BinaryCrossentropy(from_logits=True),
        keras.metrics.BinaryAccuracy(threshold=0.0),
        keras.metrics.Precision(thresholds=0.0),
        keras.metrics.Recall(thresholds=0.0),
        keras.metrics.MeanSquaredError(),
        keras.metrics.MeanMetricWrapper(keras.metrics.binary_crossentropy, from_logits=True),
        OfSigmoid(),
    ]
    task = ranking(metrics=metrics, label_metrics=[keras.metrics.Mean("rate")])
    assert ranking_task(task) is task
    task(labels=tf.constant([[1.0], [0.0]]), predictions=tf.constant([[2.0], [-3.0]]))  # and each can be updated
    assert float(task._ranking_metrics[-1].result()) == 1.0


@pytest.mark.parametrize("name", ["BinaryCrossentropy", "BinaryFocalCrossentropy"])
def test_a_loss_on_probabilities_is_refused(name):
    task = ranking(getattr(keras.losses, name)(reduction="none"))
    message = rf"received a {name} that expects probabilities. .*losses.{name}\(from_logits=True, reduction=\"none\""
    with pytest.raises(ValueError, match=message):
        ranking_task(task)


def test_the_default_task_is_refused_with_the_line_to_write():
    line = r'Write tfrs.tasks.Ranking\(loss=tf.keras.losses.BinaryCrossentropy\(from_logits=True, reduction="none"\)\)'
    with pytest.raises(ValueError, match=line):
        ranking_task(tfrs.tasks.Ranking())


@pytest.mark.parametrize("reduction", ["auto", "sum", "sum_over_batch_size"])
@pytest.mark.parametrize(
    ("name", "line"), [("MeanSquaredError", r"\(reduction="), ("BinaryCrossentropy", r"\(from_logits=True, reduction=")]
)
def test_a_loss_that_reduces_the_batch_is_refused(name, line, reduction):
    message = f"one loss an example; received {name} with reduction '{reduction}'. Write .*{name}{line}\"none\""
    with pytest.raises(ValueError, match=message):
        ranking_task(ranking(getattr(keras.losses, name)(reduction=reduction)))


@pytest.mark.parametrize("loss", ["mse", keras.losses.mean_squared_error])
def test_a_loss_that_is_no_keras_loss_is_refused(loss):
    with pytest.raises(ValueError, match=r"must be a tf.keras.losses.Loss; received .* Write tfrs.tasks.Ranking"):
        ranking_task(ranking(loss))


class OwnAUC(keras.metrics.AUC):
    """A subclass expects what its base does."""


class OwnAccuracy(keras.metrics.BinaryAccuracy):
    """A subclass expects what its base does."""


EXPECTS = "received a metric {} that expects probabilities. Write {}\\(from_logits=True\\)"
CUTS = "received a metric {} that cuts probabilities at 0.5. Write {}\\(threshold=0.0\\)"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (keras.metrics.AUC(), EXPECTS.format("AUC", "tf.keras.metrics.AUC")),
        (OwnAUC(), EXPECTS.format("OwnAUC", "OwnAUC")),
        (keras.metrics.BinaryCrossentropy(), EXPECTS.format("BinaryCrossentropy", "tf.keras.metrics.BinaryCrosse.*")),
        (keras.metrics.MeanMetricWrapper(keras.losses.binary_crossentropy), "MeanMetricWrapper that expects prob"),
        (keras.metrics.BinaryAccuracy(), CUTS.format("BinaryAccuracy", "tf.keras.metrics.BinaryAccuracy")),
        (OwnAccuracy(), CUTS.format("OwnAccuracy", "OwnAccuracy")),
        (keras.metrics.MeanMetricWrapper(keras.metrics.binary_accuracy), "MeanMetricWrapper that cuts probabilities"),
        ("AUC", "metrics must be tf.keras.metrics; received 'AUC'"),
        (keras.metrics.binary_accuracy, "metrics must be tf.keras.metrics; received <function"),
    ],
)
def test_a_metric_on_probabilities_is_refused(metric, message):
    with pytest.raises(ValueError, match=message):
        ranking_task(ranking(metrics=[metric]))


@pytest.mark.parametrize("name", ["Precision", "Recall", "TruePositives", "FalseNegatives"])
@pytest.mark.parametrize("arguments", [{}, {"thresholds": 0.5}, {"thresholds": [0.5]}], ids=str)
def test_a_metric_that_cuts_at_one_half_is_refused(name, arguments):
    message = f"metric {name} that cuts probabilities at 0.5. Write tf.keras.metrics.{name}\\(thresholds=0.0\\)"
    with pytest.raises(ValueError, match=message):
        ranking_task(ranking(metrics=[getattr(keras.metrics, name)(**arguments)]))


@pytest.mark.parametrize(
    "metric",
    [keras.metrics.PrecisionAtRecall(0.5), keras.metrics.SensitivityAtSpecificity(0.5), keras.metrics.F1Score()],
)
def test_a_metric_that_takes_probabilities_only_is_refused(metric):
    message = f"metric {type(metric).__name__} that expects probabilities. Leave it out, or give it tf.sigmoid"
    with pytest.raises(ValueError, match=message):
        ranking_task(ranking(metrics=[metric]))


@pytest.mark.parametrize("task", ["auc", None, 3, keras.losses.BinaryCrossentropy(**LOGITS)])
def test_anything_else_is_no_task(task):
    with pytest.raises(ValueError, match='task must be "binary", "regression" or a tfrs'):
        ranking_task(task)


# --- config ----------------------------------------------------------------------------------------------------------


def test_a_task_survives_json():
    task = ranking(
        loss=keras.losses.Huber(delta=0.3, reduction="none"),
        metrics=[keras.metrics.AUC(name="roc", from_logits=True, num_thresholds=7), AUC(), LogLoss(name="ll")],
        prediction_metrics=[keras.metrics.Mean("mean_prediction")],
        label_metrics=[keras.metrics.Mean("mean_label")],
        loss_metrics=[keras.metrics.Mean("mean_loss")],
        name="clicks",
    )
    again = ranking_task(json.loads(json.dumps(task_config(task))))
    assert again.name == "clicks"
    assert again._loss.get_config() == task._loss.get_config()
    assert names(again) == ["roc", "auc", "ll"]
    assert again._ranking_metrics[0].get_config() == task._ranking_metrics[0].get_config()
    assert [m[0].name for m in (again._prediction_metrics, again._label_metrics, again._loss_metrics)] == [
        "mean_prediction",
        "mean_label",
        "mean_loss",
    ]


@keras.utils.register_keras_serializable(package="tests")
class Doubled(tfrs.tasks.Ranking):
    """A task of one's own, which says itself how it is written down."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(loss=keras.losses.MeanSquaredError(reduction="none"), **kwargs)
        self.factor = factor

    def call(self, labels, predictions, **kwargs):
        return self.factor * super().call(labels, predictions, **kwargs)

    def get_config(self):
        return {"factor": self.factor, "name": self.name}


def test_a_task_class_of_ones_own_survives_json():
    again = ranking_task(json.loads(json.dumps(task_config(Doubled(3.0)))))
    assert (type(again), again.factor) == (Doubled, 3.0)
