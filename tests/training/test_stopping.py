"""A training stops as Keras would stop it, keeps the better of its weights, and goes back where its rate is divided."""

import numpy as np
import pytest

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.averaging import averages_of
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.training.fit import fit
from nfm_tfrs.training.schedules import Plateau
from nfm_tfrs.training.stopping import EarlyStopping, Looks, best_epoch

NAN = float("nan")


# --- what follows from looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "sign", "patience", "plateau", "expected"),
    [
        ([0.5, 0.6, 0.6, 0.5], 1, 2, None, ["better", "better", "go on", "stop"]),
        ([0.5, 0.6, 0.4, 0.4], -1, 2, None, ["better", "go on", "better", "go on"]),
        ([NAN, NAN, 0.1, NAN], 1, 1, None, ["go on", "stop", "better", "stop"]),
        (
            [0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5],
            1,
            3,
            Plateau(factor=2.0, looks=2, drops=2),
            ["better", "go on", "drop", "better", "go on", "drop", "go on", "go on", "stop"],
        ),
        # One rate after the other, whatever the patience.
        ([0.5, 0.4, 0.4, 0.4], 1, 1, Plateau(factor=2.0, looks=2, drops=1), ["better", "go on", "drop", "stop"]),
    ],
)
def test_looks_say_what_follows(scores, sign, patience, plateau, expected):
    looks = Looks(patience, sign, plateau)
    assert [looks.look(score, first=not number) for number, score in enumerate(scores)] == expected


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", ["max", "min"])
def test_which_epoch_was_kept_is_what_its_history_tells(seed, mode):
    rng = np.random.default_rng(seed)
    history = {"val_auc": rng.integers(0, 4, 7) / 3.0}
    if seed % 2:
        history["averaged_val_auc"] = rng.integers(0, 4, 7) / 3.0
    for scores in history.values():
        scores[rng.random(7) < 0.3] = np.nan
    best, found = None, (0, False)
    for epoch in range(7):
        for name, scores in history.items():
            score = scores[epoch] if mode == "max" else -scores[epoch]
            if not np.isnan(score) and (best is None or score > best):
                best, found = score, (epoch, name != "val_auc")
    assert best_epoch(history, "val_auc", mode) == found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", ["max", "min"])
def test_without_a_plateau_keras_decides_the_same(seed, mode):
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random(12) < 0.1, np.nan, rng.integers(0, 6, 12) / 5)

    def told(stopping):
        stopping.set_model(Counting())
        stopping.on_train_begin()
        for epoch, score in enumerate(scores):
            stopping.model.epoch = epoch
            stopping.on_epoch_end(epoch, {"val_auc": score})
            if stopping.model.stop_training:
                break
        stopping.on_train_end()
        found = (stopping.wait, stopping.best, stopping.best_epoch, stopping.best_weights, stopping.stopped_epoch)
        return (*found, stopping.model.epoch)

    patience = seed % 4
    keras_own = keras.callbacks.EarlyStopping("val_auc", mode=mode, patience=patience, restore_best_weights=True)
    assert told(EarlyStopping("val_auc", mode=mode, patience=patience)) == told(keras_own)


class Counting:
    """A model whose weights are the epoch."""

    stop_training = False

    def get_weights(self):
        return self.epoch

    def set_weights(self, weights):
        self.epoch = weights


# --- a training -------------------------------------------------------------------------------------------------------


class Line(TaskModel):
    """logit = w x, with the scores that a test names instead of those of its validation rows, epoch by epoch."""

    def __init__(self, raw, averaged=()):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self({"x": tf.zeros([1, 1])})
        self._raw, self._of_averages = iter(raw), iter(averaged)
        self._inside = False

    def call(self, columns, training=None):
        return self.dense(columns["x"])

    def evaluate(self, *args, **kwargs):
        found = super().evaluate(*args, **kwargs)
        scores = self._of_averages if averages_of(self) is not None and self._inside else self._raw
        return {**found, "auc": next(scores)}

    def fit(self, *args, **kwargs):
        if (averages := averages_of(self)) is not None:
            exchange = averages._exchange

            def exchanged():
                self._inside = not self._inside
                exchange()

            averages._exchange = exchanged
        return super().fit(*args, **kwargs)


def weight(model):
    return float(model.dense.kernel.numpy()[0, 0])


ROWS = tf.data.Dataset.from_tensors(({"x": tf.ones([4, 1])}, tf.ones([4]))).repeat(2)


class Seen(keras.callbacks.Callback):
    """Keeps weight and rate as they are behind each epoch, before `fit` goes back."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))

    def on_test_begin(self, logs=None):
        self.weights.append(weight(self.model))


def trained(model, optimizer, epochs, **arguments):
    compiled = {"averaging": arguments.pop("averaging")} if "averaging" in arguments else {}
    model.compile(optimizer, **compiled)
    seen = Seen()
    history = fit(model, ROWS, ROWS, epochs=epochs, callbacks=[seen], **{"patience": 9, **arguments})
    return seen, history


def test_a_plateau_goes_back_to_the_best_epoch_and_divides_the_rate():
    raw = [0.5, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    model = Line(raw)
    optimizer = keras.optimizers.SGD(1.0, momentum=0.9)
    told = {"plateau": Plateau(factor=4.0, looks=2, drops=2), "patience": 3}
    seen, history = trained(model, optimizer, 20, **told)
    # Best in the second; divided behind the fourth and the sixth, and ended by the patience behind the ninth.
    assert len(history["loss"]) == 9
    assert seen.rates == [1.0] * 4 + [0.25] * 2 + [0.0625] * 3
    expected, w, m, best = [], 0.0, 0.0, None
    for epoch, rate in enumerate(seen.rates):
        if epoch in (4, 6):
            w, m = best
        for _ in range(2):
            m = 0.9 * m - rate * -(1 - 1 / (1 + np.exp(-w)))
            w += m
        expected.append(w)
        best = (w, m) if epoch == 1 else best
    np.testing.assert_allclose(seen.weights, expected, rtol=1e-5)
    assert weight(model) == pytest.approx(expected[1], rel=1e-5)


def test_averages_are_judged_beside_the_weights_and_the_better_is_kept():
    raw, averaged = [0.5, 0.6, 0.5, 0.5], [0.4, 0.55, 0.7, 0.6]
    model = Line(raw, averaged)
    seen, history = trained(model, keras.optimizers.SGD(1.0), 4, averaging=0.9)
    assert history["val_auc"] == raw
    assert history["averaged_val_auc"] == averaged
    # That of the third epoch, in a loop over its six steps.
    mean, w, means, weights = 0.0, 0.0, [], []
    for step in range(8):
        w += 1 - 1 / (1 + np.exp(-w))
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * w
        means.append(mean)
        weights.append(w)
    assert weight(model) == pytest.approx(means[5], rel=1e-5)
    assert seen.weights == pytest.approx(weights[1::2], rel=1e-5)
    assert not np.isfinite(model.averaging._clocks[0].numpy())  # averaging begins anew
    losses = [np.log1p(np.exp(-one)) for one in means[1::2]]
    assert history["averaged_val_loss"] == pytest.approx(losses, rel=1e-5)


def test_where_the_weights_are_better_they_are_kept():
    model = Line([0.5, 0.8, 0.5], [0.4, 0.7, 0.6])
    seen, _ = trained(model, keras.optimizers.SGD(1.0), 3, averaging=0.9)
    assert weight(model) == seen.weights[1]


def test_statistics_are_taken_anew_for_less_than_three_passes(monkeypatch):
    found = []
    monkeypatch.setattr("nfm_tfrs.models.averaging._recompute", lambda model, batches: found.append(batches))
    trained(Line([0.5] * 4, [0.5] * 4), keras.optimizers.SGD(1.0), 4, averaging=0.9, calibration=["batch"])
    assert found == [["batch"], ["batch"], (), ()]


def test_a_plateau_under_a_schedule_is_refused():
    model = Line([0.5])
    rate = keras.optimizers.schedules.CosineDecay(1.0, 10)
    line = r"^A plateau divides a constant rate; received a SGD whose rate follows a schedule\. Give it a number\.$"
    with pytest.raises(ValueError, match=line):
        trained(model, keras.optimizers.SGD(rate), 1, plateau=Plateau())
