"""Callbacks take the better value of this package's metrics for the best, and see each step where they ask for it."""

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.callbacks import directions, look_at_steps, set_directions
from nfm_tfrs.models.ranking import RankingModel

KINDS = {
    "ModelCheckpoint": lambda monitor, mode: keras.callbacks.ModelCheckpoint("best.keras", monitor, mode=mode),
    "EarlyStopping": lambda monitor, mode: keras.callbacks.EarlyStopping(monitor, min_delta=0.01, mode=mode),
    "ReduceLROnPlateau": lambda monitor, mode: keras.callbacks.ReduceLROnPlateau(monitor, mode=mode),
}
BETTER = {
    "binary": {"auc": "max", "log_loss": "min", "loss": "min", "regularization_loss": "min", "total_loss": "min"},
    "regression": {"rmse": "min", "mae": "min", "loss": "min", "regularization_loss": "min", "total_loss": "min"},
}


def model(task="binary"):
    features = [CategoricalFeature(name, vocabulary_size=4) for name in ("u", "v")]
    made = RankingModel(features, embedding_dim=2, hidden_units=(), task=task)
    made.compile()
    return made


def better(made):
    return directions([made._loss, made._regularization_loss, made._total_loss], made.task, made._task_name)


def dataset(rows=32):
    columns = {"u": np.arange(rows) % 4, "v": np.arange(rows) % 3}
    return tf.data.Dataset.from_tensor_slices((columns, (np.arange(rows) % 2).astype(np.float32))).batch(2)


def takes(callback, value, best):
    """Whether the callback takes a value for better than the best so far, once training has begun."""
    callback.on_train_begin()
    if isinstance(callback, keras.callbacks.EarlyStopping):
        return bool(callback._is_improvement(value, best))
    return bool(callback.monitor_op(value, best))


@pytest.mark.parametrize("task", BETTER)
def test_each_metric_of_ours_has_a_direction(task):
    made = model(task)

    assert better(made) == BETTER[task]
    assert set(BETTER[task]) == {metric.name for metric in made.metrics}


@pytest.mark.filterwarnings("ignore:.* took the ")
@pytest.mark.parametrize("mode", ["auto", "min", "max"])
@pytest.mark.parametrize("prefix", ["", "val_"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_better_value_is_the_best_whatever_the_mode(kind, prefix, mode):
    for metrics in BETTER.values():
        for metric, direction in metrics.items():
            callback = KINDS[kind](prefix + metric, mode)
            set_directions([callback], metrics)
            assert takes(callback, 0.8, 0.7) is (direction == "max"), (metric, mode)
            assert takes(callback, 0.7, 0.8) is (direction == "min"), (metric, mode)


def test_a_wrong_mode_is_said_once_and_a_right_one_never():
    wrong, right = KINDS["ModelCheckpoint"]("val_auc", "auto"), KINDS["ReduceLROnPlateau"]("val_loss", "auto")
    message = (
        "ModelCheckpoint took the smallest 'val_auc' for the best; it takes the largest from now on. "
        'Write mode="max".'
    )

    with pytest.warns(UserWarning, match="took the") as said:
        set_directions([right, wrong, wrong], BETTER["binary"])

    assert [str(one.message) for one in said] == [message]
    assert wrong.best == -np.inf


def test_a_threshold_of_the_user_stays():
    callback = keras.callbacks.ModelCheckpoint("best.keras", "val_auc", initial_value_threshold=0.7)

    with pytest.warns(UserWarning, match="took the smallest"):
        set_directions([callback], BETTER["binary"])

    assert callback.best == 0.7


@pytest.mark.parametrize(("monitor", "mode", "value"), [("val_auc", "min", 0.705), ("val_log_loss", "max", 0.695)])
def test_a_turned_callback_asks_for_as_large_a_step_as_before(monitor, mode, value):
    callback = KINDS["EarlyStopping"](monitor, mode)

    with pytest.warns(UserWarning, match="took the"):
        set_directions([callback], BETTER["binary"])

    assert not takes(callback, value, 0.7)


def test_metrics_and_callbacks_of_the_user_are_not_touched():
    class Score(keras.metrics.Mean):
        def update_state(self, labels, predictions, sample_weight=None):
            super().update_state(predictions)

    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")
    known = better(model(tfrs.tasks.Ranking(loss=loss, metrics=[Score(name="auc")])))
    checkpoint, own = KINDS["ModelCheckpoint"]("val_auc", "min"), keras.callbacks.ModelCheckpoint("x", "val_loss")
    own.monitor_op = lambda value, best: True
    set_directions([checkpoint, own], known)

    assert "auc" not in known
    assert checkpoint.monitor_op is np.less
    assert own.monitor_op(1, 2)


def test_fit_sets_the_direction_before_training_begins():
    class Spy(keras.callbacks.ReduceLROnPlateau):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            self.seen = bool(self.monitor_op(0.8, 0.7))

    spy = Spy("auc")
    with pytest.warns(UserWarning, match="Spy took the smallest 'auc'") as said:
        model().fit(dataset(4), verbose=0, callbacks=[spy])

    assert spy.seen
    assert said[0].filename == __file__


class Counting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


class OldStyle(keras.callbacks.Callback):
    def on_batch_begin(self, batch, logs=None):
        pass


class Stopping(keras.callbacks.EarlyStopping):
    def on_epoch_end(self, epoch, logs=None):
        pass


OF_STEPS = {
    "own": Counting,
    "old style": OldStyle,
    "lambda": lambda: keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: None),
    "checkpoint": lambda: keras.callbacks.ModelCheckpoint("x", save_freq=3),
}
OF_EPOCHS = {
    "nan": keras.callbacks.TerminateOnNaN,
    "history": keras.callbacks.History,
    "bar": keras.callbacks.ProgbarLogger,
    "stopping": lambda: keras.callbacks.EarlyStopping("loss"),
    "own of epochs": lambda: Stopping("loss"),
    "checkpoint": lambda: keras.callbacks.ModelCheckpoint("x"),
    "lambda": lambda: keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    "board": lambda: keras.callbacks.TensorBoard("x"),
}


@pytest.mark.parametrize("kind", OF_STEPS)
def test_a_callback_that_looks_at_steps_is_known(kind):
    assert look_at_steps([keras.callbacks.History(), OF_STEPS[kind]()])
    assert look_at_steps(OF_STEPS[kind]())


@pytest.mark.parametrize("kind", OF_EPOCHS)
def test_callbacks_of_keras_leave_several_steps_at_a_time(kind):
    assert not look_at_steps([OF_EPOCHS[kind]()])
    assert not look_at_steps(None)


@pytest.mark.parametrize(("steps", "seen"), [("auto", 16), (4, 4)])
def test_a_callback_of_the_users_own_sees_each_step_unless_a_number_was_given(steps, seen):
    made, callback = model(), Counting()
    made.compile(steps_per_execution=steps)
    made.fit(dataset(), verbose=0, callbacks=[callback])

    assert callback.count == seen
