"""Dropout's masks: their rate, and that they follow from the key and the step alone."""

import json

import numpy as np
import pytest

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel

FEATURES = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
RNG = np.random.default_rng(0)
ROWS = {name: RNG.integers(9, size=64) for name in ("a", "b")}
LABELS = RNG.integers(2, size=64).astype(np.float32)


def masks(layer, steps, shape=(4, 32)):
    return np.array([layer(tf.ones(shape), training=True).numpy() for _ in range(steps)])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_the_share_that_is_dropped_and_the_mean_stays(rate):
    found = Dropout(rate, seed=3)(tf.ones([1000, 1001]), training=True).numpy()

    error = 5 * np.sqrt(rate * (1 - rate) / found.size)
    assert np.mean(found == 0) == pytest.approx(rate, abs=error)
    np.testing.assert_allclose(found[found != 0], 1 / (1 - rate), rtol=1e-4)
    assert np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1] == pytest.approx(0, abs=5e-3)


def test_the_rate_is_exact_to_a_65536th():
    found = Dropout(1 - 3 / 65536, seed=1)(tf.ones([65536, 64]), training=True).numpy()
    assert 192 - 70 < np.count_nonzero(found) < 192 + 70  # five standard deviations of 14
    assert found.max() == pytest.approx(65536 / 3)


def test_float16_holds_the_scale_of_any_rate():
    found = Dropout(0.9999999, seed=1, dtype="mixed_float16")(tf.ones([65536, 64]), training=True).numpy()
    assert set(np.unique(found)) == {0.0, 32768.0}


@pytest.mark.parametrize("seed", [1.5, -1, 2**63, "a"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to below 2\^63; received"):
        Dropout(0.5, seed=seed)


@pytest.mark.parametrize("rate", [1.0, -0.1, "half"])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must be at least 0 and below 1; received"):
        Dropout(rate)


def test_masks_follow_from_the_key_and_the_step_alone():
    one, other = masks(Dropout(0.5, seed=1), 3), masks(Dropout(0.5, seed=1), 3)

    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one, axis=0)) == 3
    assert not np.array_equal(one[0], masks(Dropout(0.5, seed=2), 1)[0])


def test_keys_are_drawn_from_the_global_seed_and_leave_initial_weights_alone():
    def drawn(layers):
        keras.utils.set_random_seed(5)
        return [masks(layer, 1) for layer in layers], keras.initializers.GlorotUniform()([2, 2]).numpy()

    (one, other), kernel = drawn([Dropout(0.5), Dropout(0.5)])
    again = drawn([Dropout(0.5), Dropout(0.5)])[0]

    np.testing.assert_array_equal([one, other], again)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(kernel, drawn([])[1])


def test_outside_of_training_nothing_changes_and_no_step_is_counted():
    layer = Dropout(0.5, seed=1)
    ones = tf.ones([2, 3])
    for training in (False, None, tf.constant(False)):
        np.testing.assert_array_equal(layer(ones, training=training), ones)
    assert layer.dropout_state.numpy().tolist() == [1, 0]

    assert not np.array_equal(layer(ones, training=tf.constant(True)), ones)
    assert layer.dropout_state.numpy().tolist() == [1, 1]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_drops_what_python_does(jit_compile):
    layer = Dropout(0.3, seed=1)
    layer.build(None)
    run = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile, autograph=False)

    found = [run(tf.ones([4, 32])).numpy() for _ in range(3)]

    np.testing.assert_array_equal(np.array(found) != 0, masks(Dropout(0.3, seed=1), 3) != 0)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_shapes_and_dtypes_stay(shape, dtype):
    layer = Dropout(0.5, seed=1, dtype=dtype)
    run = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec(None, tf.float32)])

    found = run(tf.ones(shape))

    assert found.dtype == layer.compute_dtype
    assert found.shape == shape
    assert set(np.unique(found.numpy().astype(np.float32))) <= {0.0, 2.0}


def test_what_is_dropped_has_no_gradient_and_no_value():
    layer = Dropout(0.5, seed=1)
    inputs = tf.Variable([1.0, np.nan, 3.0, np.inf] * 8)
    with tf.GradientTape() as tape:
        outputs = layer(inputs, training=True)
    kept = masks(Dropout(0.5, seed=1), 1, [32])[0]

    np.testing.assert_array_equal(outputs, np.where(kept == 0, 0.0, inputs.numpy() * 2))
    np.testing.assert_array_equal(tape.gradient(outputs, inputs), kept)


REPLICAS = """
import json
from nfm_tfrs.keras_compat import tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from nfm_tfrs.blocks.dropout import Dropout

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = Dropout(0.5)
    layer.build(None)

@tf.function
def step():
    return strategy.run(lambda: layer(tf.ones([40]), training=True))

masks = [part.numpy().tolist() for _ in range(2) for part in strategy.experimental_local_results(step())]
print(json.dumps([masks, layer.dropout_state.numpy().tolist()[1]]))
"""


@pytest.mark.slow
def test_each_replica_has_masks_of_its_own(run_python):
    masks, steps = json.loads(run_python(REPLICAS).stdout)

    assert len(np.unique(masks, axis=0)) == 4
    assert steps == 2


def model():
    keras.utils.set_random_seed(1)
    found = RankingModel(FEATURES, embedding_dim=4, hidden_units=(8,), dropout=0.5, interaction_dropout=0.5)
    found.compile(keras.optimizers.SGD(0.5))
    return found


def trained(found, epochs, **arguments):
    data = tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).batch(4)
    found.fit(data, epochs=epochs, verbose=0, **arguments)
    return [weight.numpy() for weight in found.trainable_variables]


def test_dropout_does_not_depend_on_the_steps_an_execution():
    one = model()
    one.compile(keras.optimizers.SGD(0.5), steps_per_execution=1)

    for value, other in zip(trained(one, 2), trained(model(), 2), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("path", ["own.keras", "own.weights.h5", "own/checkpoint"])
def test_a_training_goes_on_with_the_masks_it_would_have_had(path, tmp_path):
    whole = trained(model(), 3)
    first = model()
    trained(first, 2)
    first.save(tmp_path / path) if path.endswith(".keras") else first.save_weights(tmp_path / path)
    second = model()
    second.load_weights(tmp_path / path)
    keys = [layer.dropout_state.numpy().tolist() for layer in second.submodules if isinstance(layer, Dropout)]

    for value, expected in zip(trained(second, 3, initial_epoch=2), whole, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert len(keys) == 2
    assert all(key > 0 and step == 32 for key, step in keys)
    assert keys[0][0] != keys[1][0]


@pytest.mark.parametrize("path", ["own.h5", "own.weights.h5", "own/checkpoint"])
@pytest.mark.parametrize("rates", [((0.0, 0.0), (0.5, 0.5)), ((0.5, 0.0), (0.0, 0.0)), ((0.5, 0.0), (0.5, 0.5))])
def test_models_of_other_rates_exchange_weights(rates, path, tmp_path, caplog):
    one, other = (
        RankingModel(FEATURES, embedding_dim=4, hidden_units=(8,), dropout=tower, interaction_dropout=interaction)
        for tower, interaction in rates
    )
    one.save_weights(tmp_path / path)
    caplog.clear()
    other.load_weights(tmp_path / path)
    np.testing.assert_array_equal(other(ROWS), one(ROWS))
    other.set_weights(one.get_weights())
    assert not caplog.records


def test_a_step_that_is_refused_drops_nothing_out():
    found = model()
    state = found._interaction_dropout.dropout_state
    before = state.numpy().tolist()
    found._bias.assign([np.nan])
    with pytest.raises(ValueError, match="The loss is nan"):
        trained(found, 1)
    assert state.numpy().tolist() == before


@pytest.mark.parametrize("rate", [1 / 1024, 0.2, 1 - 1 / 1024])
def test_rates_between_those_of_bytes_are_exact(rate):
    found = Dropout(rate, seed=7)(tf.ones([4096, 1024]), training=True).numpy()

    error = 5 * np.sqrt(rate * (1 - rate) / found.size + 2**-18 / len(found))  # a row's limit is one more or not
    assert np.mean(found == 0) == pytest.approx(rate, abs=error)


def test_rows_are_dropped_alike_often():
    found = np.mean(Dropout(0.2, seed=7)(tf.ones([4096, 1024]), training=True).numpy() == 0, axis=1)

    assert found.std() == pytest.approx(np.sqrt(0.2 * 0.8 / 1024 + 0.2 * 0.8 / 256**2), rel=0.05)
