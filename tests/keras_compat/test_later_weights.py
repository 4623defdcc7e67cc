"""What was saved before a layer had all its weights of today still loads."""

from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.blocks.logarithmic import Logarithmic
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.tower import Tower

YESTERDAY = Path(__file__).parents[1] / "yesterday"
LATER = ("warmed_steps", "label_mean", "label_scale")
FEATURES = [CategoricalFeature("a", vocabulary_size=3), CategoricalFeature("b", vocabulary_size=3)]
ROWS = {"a": np.array([0, 1, 2, 0]), "b": np.array([1, 2, 0, 0])}
LABELS = np.array([0.0, 1.0, 1.0, 1.0], np.float32)


def norm():
    layer = BatchNormalization()
    layer.build([None, 3])
    return layer


def tower():
    layer = Tower((3, 2), batch_norm=True)
    layer(tf.ones([2, 4]))
    return layer


def block():
    layer = Logarithmic(neurons=2)
    layer(tf.ones([2, 3, 4]))
    return layer


def model():
    """As the files of yesterday hold it, trained for a step."""
    return RankingModel(
        FEATURES,
        embedding_dim=2,
        interaction={"name": "logarithmic", "config": {"neurons": 2}},
        hidden_units=(2,),
        batch_norm=True,
        interaction_batch_norm=True,
        name="model",
    )


def random_weights(layer):
    rng = np.random.default_rng(0)
    return [rng.uniform(0.5, 1.5, weight.shape).astype(np.float32) for weight in layer.weights]


def is_later(weight):
    return any(name in weight.name for name in LATER)


@pytest.mark.parametrize(("make", "later"), [(norm, 1), (tower, 2), (block, 2), (model, 6)])
def test_a_list_without_the_later_weights_leaves_them_as_at_first(make, later):
    layer = make()
    values = random_weights(layer)
    layer.set_weights(values)
    earlier = [value for value, weight in zip(values, layer.weights, strict=True) if not is_later(weight)]
    assert len(values) - len(earlier) == later

    layer.set_weights(earlier)

    for weight, value in zip(layer.weights, values, strict=True):
        expected = float("scale" in weight.name) if is_later(weight) else value
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("make", [norm, tower, block, model])
def test_a_list_of_any_other_length_is_refused(make):
    layer = make()
    with pytest.raises(ValueError, match="weights"):
        layer.set_weights(layer.get_weights()[:-3])


def trained():
    keras.utils.set_random_seed(1)
    found = model()
    found.compile(keras.optimizers.SGD(0.5))
    found.fit(ROWS, LABELS, batch_size=2, epochs=2, verbose=0)
    return found


@pytest.mark.parametrize("path", ["later.weights.h5", "later/checkpoint", "later.h5"])
def test_files_of_version_0_1_0_open_as_averages_that_have_arrived(path, caplog):
    found = trained()  # what was loaded before is no longer there
    expected = np.load(YESTERDAY / "later.npz")
    assert found.label_mean.numpy() != 0.0

    caplog.clear()
    found.load_weights(YESTERDAY / path)

    assert not caplog.records  # TensorFlow would say there what it missed
    np.testing.assert_allclose(found(ROWS)[:, 0], expected["logits"], rtol=1e-6)
    norm = found._interaction_batch_norm
    before = norm.moving_mean.numpy()
    np.testing.assert_array_equal(before, expected["moving_mean"])
    found.fit(ROWS, LABELS, verbose=0)
    assert norm.warmed_steps.numpy() > 1e5
    assert (found.label_mean.numpy(), found.label_scale.numpy()) == (0.0, 1.0)


@pytest.mark.parametrize("path", ["own.weights.h5", "own/checkpoint", "own.keras", "own.h5"])
def test_files_of_today_bring_their_later_weights(path, tmp_path):
    found = trained()
    found.save(tmp_path / path) if path.endswith(".keras") else found.save_weights(tmp_path / path)
    again = model()

    again.load_weights(tmp_path / path)

    for weight, value in zip(again.weights, found.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, value)
    assert again._interaction_batch_norm.warmed_steps.numpy() == 4.0
    assert again.label_mean.numpy() == pytest.approx(np.log(3.0))
