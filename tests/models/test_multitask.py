import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel

FEATURES = [CategoricalFeature("user", vocabulary_size=9), CategoricalFeature("film", vocabulary_size=9)]
ROWS = {
    "user": np.arange(9),
    "film": np.arange(9)[::-1].copy(),
    "clicked": (np.arange(9) % 2).astype(np.float32),
    "rating": np.arange(9, dtype=np.float32),
}


class TwoTasks(tfrs.Model):
    """A user's own model, with the `train_step` of TFRS and tasks of its own."""

    def __init__(self):
        super().__init__()
        self.clicks = NFM(FEATURES, embedding_dim=4, embedding_l2=0.1, name="clicks")
        self.ratings = RankingModel(FEATURES, embedding_dim=4, task="regression", name="ratings")
        self.click_task = tfrs.tasks.Ranking(
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[keras.metrics.AUC(name="auc", from_logits=True)],
        )
        self.rating_task = tfrs.tasks.Ranking(loss=keras.losses.MeanSquaredError())

    def compute_loss(self, inputs, training=False):
        clicks = self.clicks(inputs, training=training)
        ratings = self.ratings(inputs, training=training)
        return self.click_task(inputs["clicked"][:, None], clicks) + self.rating_task(
            inputs["rating"][:, None], ratings
        )


class OurTasks(tfrs.Model):
    """A user's own model that asks ours for the loss, and so for the metrics."""

    def __init__(self):
        super().__init__()
        self.ranker = RankingModel(FEATURES, embedding_dim=4, label="clicked")

    def compute_loss(self, inputs, training=False):
        return 2.0 * self.ranker.compute_loss(inputs, training=training)


def rows(batch_size=9):
    return tf.data.Dataset.from_tensor_slices(ROWS).batch(batch_size)


def test_models_inside_a_users_own_train_with_its_tasks():
    keras.utils.set_random_seed(0)
    model = TwoTasks()
    model.compile(keras.optimizers.Adagrad(0.5))
    before = [model.clicks.embedding.table.numpy(), model.ratings.embedding.table.numpy()]
    first = model.evaluate(rows(), return_dict=True, verbose=0)
    history = model.fit(rows(), epochs=20, verbose=0).history
    assert history["total_loss"][-1] < first["total_loss"] / 2
    for table, after in zip(before, [model.clicks.embedding.table, model.ratings.embedding.table], strict=True):
        assert not np.allclose(table, after)


def test_only_the_users_own_metrics_are_reported():
    model = TwoTasks()
    model.compile(keras.optimizers.SGD(0.0))
    report = model.evaluate(rows(), return_dict=True, verbose=0)
    assert set(report) == {"auc", "loss", "regularization_loss", "total_loss"}
    clicks, ratings = (part(ROWS).numpy()[:, 0] for part in (model.clicks, model.ratings))
    expected = np.mean(np.logaddexp(0, clicks) - ROWS["clicked"] * clicks) + np.mean((ratings - ROWS["rating"]) ** 2)
    assert report["loss"] == pytest.approx(expected, rel=1e-5)
    assert report["regularization_loss"] > 0
    assert report["total_loss"] == pytest.approx(report["loss"] + report["regularization_loss"], rel=1e-6)
    assert np.isfinite(report["auc"])


def test_asking_ours_for_the_loss_reports_its_metrics_too():
    model = OurTasks()
    model.compile(keras.optimizers.SGD(0.0))
    report = model.evaluate(rows(), return_dict=True, verbose=0)
    logits = model.ranker(ROWS).numpy()[:, 0]
    log_loss = np.mean(np.logaddexp(0, logits) - ROWS["clicked"] * logits)
    assert report["loss"] == pytest.approx(2 * log_loss, rel=1e-5)
    assert report["log_loss"] == pytest.approx(log_loss, rel=1e-5)
    assert 0 <= report["auc"] <= 1
    again = model.evaluate(rows(), return_dict=True, verbose=0)  # metrics start anew
    assert again == report
