import numpy as np
import pytest

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.tower import Tower

INPUTS = np.random.default_rng(0).normal(size=[6, 4]).astype(np.float32)


def random_weights(tower):
    rng = np.random.default_rng(1)
    for variable in tower.variables:
        variable.assign(
            rng.uniform(0.5, 1.5, variable.shape) * rng.choice([1, -1] if "dense" in variable.name else [1])
        )


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_each_layer_is_dense_then_norm_then_activation(batch_norm, activation):
    tower = Tower((5, 3), activation, batch_norm=batch_norm, dropout=0.5)
    tower(INPUTS)
    random_weights(tower)
    hidden = INPUTS.astype(np.float64)
    values = [variable.numpy() for variable in tower.trainable_variables]
    moving = [variable.numpy() for variable in tower.non_trainable_variables]
    for layer in range(2):
        kernel, bias, *scale = values[layer * (4 if batch_norm else 2) :][: 4 if batch_norm else 2]
        hidden = hidden @ kernel + bias
        if batch_norm:
            mean, variance, _ = moving[3 * layer : 3 * layer + 3]
            hidden = (hidden - mean) / np.sqrt(variance + 1e-3) * scale[0] + scale[1]
        hidden = np.maximum(hidden, 0) if activation == "relu" else np.tanh(hidden)
    np.testing.assert_allclose(tower(INPUTS, training=False), hidden, rtol=1e-4, atol=1e-5)


def test_without_layers_the_input_passes_unchanged():
    np.testing.assert_array_equal(Tower((), batch_norm=True, dropout=0.5)(INPUTS, training=True), INPUTS)


def test_training_drops_outputs_and_moves_the_averages():
    tower = Tower((200,), batch_norm=True, batch_norm_momentum=0.05, dropout=0.4)
    tower(INPUTS)
    mean = tower.non_trainable_variables[0]
    before = mean.numpy()
    dense = INPUTS @ tower.trainable_variables[0].numpy()
    outputs = tower(INPUTS, training=True).numpy()
    np.testing.assert_allclose(mean, 0.05 * before + 0.95 * dense.mean(axis=0), rtol=1e-4, atol=1e-5)
    kept = outputs[:, (dense.std(axis=0) > 0)]
    assert 0.6 < (kept == 0).mean() < 0.8  # half are negative before relu; of the rest 0.4 are dropped


def test_half_precision_computes_in_it_and_keeps_float32_weights():
    tower = Tower((5,), batch_norm=True, dtype="mixed_float16")
    assert tower(INPUTS).dtype == tf.float16
    assert {variable.dtype for variable in tower.variables} == {tf.float32}


def test_the_tower_survives_its_config():
    tower = Tower((5, 3), "tanh", batch_norm=True, batch_norm_momentum=0.9, dropout=0.1, name="top")
    again = keras.layers.deserialize(keras.layers.serialize(tower))
    assert again.get_config() == tower.get_config()
