"""What version 0.1.0 has saved still opens, and says the same; tests/yesterday holds it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs import load_model
from nfm_tfrs.keras_compat import tf

YESTERDAY = Path(__file__).parents[1] / "yesterday"


def rows():
    columns = json.loads((YESTERDAY / "models.json").read_text())["columns"]
    return {
        "user": tf.constant(columns["user"]),
        "city": tf.constant(columns["city"]),
        "genres": tf.ragged.constant(columns["genres"], tf.string, ragged_rank=1),
        "price": tf.constant([np.nan if price is None else price for price in columns["price"]], tf.float32),
    }


@pytest.mark.parametrize(("name", "kind"), [("deepfm", "RankingModel"), ("nfm", "NFM")])
def test_a_model_of_version_0_1_0_opens_and_says_the_same(name, kind):
    model = load_model(YESTERDAY / f"{name}.keras")
    assert type(model).__name__ == kind  # presets were no classes then
    expected = json.loads((YESTERDAY / "models.json").read_text())["logits"][name]
    np.testing.assert_allclose(model(rows())[:, 0], expected, rtol=1e-5)
    rate = model.optimizer.learning_rate.numpy()
    assert rate == pytest.approx(0.05)
    assert model.optimizer.iterations.numpy() == 10
    history = model.fit(tf.data.Dataset.from_tensors((rows(), tf.ones([4]))), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_saved_model_of_version_0_1_0_opens_and_says_the_same(tmp_path):
    shutil.unpack_archive(YESTERDAY / "nfm.zip", tmp_path)
    model = load_model(tmp_path / "saved_model")
    expected = json.loads((YESTERDAY / "models.json").read_text())["logits"]["nfm.zip"]
    np.testing.assert_allclose(model(rows())[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("weights", ["checkpoint/w", "nfm.weights.h5"])
def test_weights_of_version_0_1_0_load_and_say_the_same(tmp_path, weights):
    shutil.unpack_archive(YESTERDAY / "nfm.zip", tmp_path)
    model = load_model(YESTERDAY / "nfm.keras")
    model.load_weights(tmp_path / weights)
    expected = json.loads((YESTERDAY / "models.json").read_text())["logits"]["nfm.zip"]
    np.testing.assert_allclose(model(rows())[:, 0], expected, rtol=1e-5)
