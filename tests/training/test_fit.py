"""Training stops at the best epoch, judges exactly, and draws what happened."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.runs.curves import draw_curves
from nfm_tfrs.training import fit, judge, predict


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 12, 600), rng.integers(0, 9, 600)
    table = pa.table({"user": user, "item": item, "y": ((user * item) % 3 + rng.normal(0, 0.8, 600) < 0.7).astype(int)})
    return prepare(table, "y", parse_split("random"))


@pytest.fixture(scope="module")
def run(data):
    keras.utils.set_random_seed(0)
    model = NFM(data.features, embedding_dim=4, hidden_units=(8,))
    model.compile(keras.optimizers.Adagrad(0.5))
    history = fit(
        model,
        data.train.dataset(64, shuffle=True),
        data.valid.dataset(64),
        epochs=12,
        patience=2,
    )
    return model, history


def test_the_best_epoch_on_validation_is_kept(data, run):
    model, history = run
    found = model.evaluate(data.valid.dataset(64), return_dict=True, verbose=0)
    assert found["auc"] == pytest.approx(max(history["val_auc"]), abs=1e-6)
    assert judge(model, data.valid)["auc"] == pytest.approx(found["auc"], abs=2e-3)  # two pairs in one bin
    assert np.argmax(history["val_auc"]) < len(history["val_auc"]) - 1  # it went on for a while and came back


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A small rate that from a step on is one with which weights overflow the logit."""

    def __init__(self, last):
        self.last = last

    def __call__(self, step):
        return tf.where(step < self.last, 0.05, 1e37)


def test_a_callback_that_looks_at_averaged_weights_is_told_that_it_keeps_the_others(data, tmp_path):
    model = NFM(data.features, embedding_dim=2, hidden_units=())
    model.compile(averaging=0.9)
    keeping = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), monitor="averaged_val_auc", mode="max")
    line = (
        r"^averaged_val_auc is the score of .*, and ModelCheckpoint keeps the others\. Let it look at val_auc, or take"
    )
    with pytest.warns(UserWarning, match=line):
        fit(model, data.train.dataset(64), data.valid.dataset(64), epochs=1, patience=1, callbacks=[keeping])


@pytest.mark.parametrize("steps", [0, 20])
def test_a_training_that_diverges_keeps_the_best_epoch_where_there_was_one(data, steps):
    keras.utils.set_random_seed(0)
    model = NFM(data.features, embedding_dim=4, hidden_units=(8,))
    model.compile(keras.optimizers.Adagrad(Falling(steps)), run_eagerly=True)
    rows = data.train.dataset(64, shuffle=True)
    assert 8 <= len(rows) < 10
    if not steps:
        with pytest.raises(LossNotFinite, match=r"The (loss|gradient of) .* in batch 2 of epoch 1, which moved no wei"):
            fit(model, rows, data.valid.dataset(64), epochs=5, patience=5)
        return
    with pytest.warns(UserWarning, match=r"The .* of epoch 3, .* Lower the learning rate\. Epoch \d, the best so"):
        history = fit(model, rows, data.valid.dataset(64), epochs=5, patience=5)
    assert len(history["val_auc"]) == 2
    assert judge(model, data.valid)["auc"] == pytest.approx(max(history["val_auc"]), abs=1e-4)


def test_an_epoch_without_a_finite_score_is_no_best_one(data):
    keras.utils.set_random_seed(0)
    model = NFM(data.features, embedding_dim=4, hidden_units=(8,))
    rows = data.train.dataset(64, shuffle=True)
    model.compile(
        keras.optimizers.Adagrad(Falling(len(rows) - 1)), run_eagerly=True
    )  # the last step of the first epoch
    with pytest.raises(LossNotFinite, match=r"in batch 1 of epoch 2, which moved no weight"):
        fit(model, rows, data.valid.dataset(64), epochs=5, patience=5)


def test_a_validation_loss_that_is_never_finite_is_said(data):
    keras.utils.set_random_seed(0)
    model = NFM(data.features, embedding_dim=4, hidden_units=(8,))
    rows = data.train.dataset(64, shuffle=True)
    model.compile(keras.optimizers.Adagrad(Falling(len(rows) - 1)), run_eagerly=True)
    with pytest.raises(ValueError, match=r"Training diverged: the validation loss was (nan|inf) after epoch 1\. Lower"):
        fit(model, rows, data.valid.dataset(64), epochs=1, patience=5)


def test_judging_equals_scikit_learn_on_the_predictions(data, run):
    logits = predict(run[0], data.test, batch_size=7)
    assert logits.shape == (len(data.test),)
    assert judge(run[0], data.test)["auc"] == pytest.approx(roc_auc_score(data.test.labels, logits))


def test_curves_are_drawn_side_by_side(run, tmp_path):
    draw_curves([run[1]], tmp_path / "curves.png", ["loss", "auc"])
    from matplotlib.image import imread

    image = imread(tmp_path / "curves.png")
    assert image.shape[1] == pytest.approx(2 * 5 * 120, abs=4)
    assert image[..., :3].std() > 0.05  # something is on it
