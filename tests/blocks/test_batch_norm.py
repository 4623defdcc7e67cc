"""BatchNorm's averages arrive at once, and those that came from elsewhere stay."""

import json

import numpy as np
import pytest

from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.keras_compat import keras, tf

BATCHES = np.random.default_rng(0).normal(3.0, 2.0, [60, 8, 2]).astype(np.float32)


def averages(batches, momentum, *, mean=0.0, variance=1.0, steps=0):
    """The moving averages after these batches, in float64."""
    for number, batch in enumerate(batches.astype(np.float64), start=steps):
        share = 1 - min(momentum, (1 + number) / (10 + number))
        mean = mean + share * (batch.mean(axis=0) - mean)
        variance = variance + share * (batch.var(axis=0) - variance)
    return mean, variance


def moved(norm, batches):
    for batch in batches:
        norm(batch, training=True)
    return norm.moving_mean.numpy(), norm.moving_variance.numpy()


@pytest.mark.parametrize("momentum", [0.99, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 60])
def test_the_momentum_warms_up_to_its_own(momentum, steps):
    found = moved(BatchNormalization(momentum=momentum), BATCHES[:steps])

    np.testing.assert_allclose(found, averages(BATCHES[:steps], momentum), rtol=1e-5)


def test_forty_steps_suffice_for_a_variance_of_3e_6():
    batches = 1e-3 * (BATCHES - 3.0)

    _, variance = moved(BatchNormalization(), batches[:40])

    np.testing.assert_allclose(variance, [3.5e-6, 3.5e-6], rtol=0.5)


def test_averages_that_were_set_count_as_arrived():
    norm = BatchNormalization()
    norm.build([None, 2])
    norm.set_weights([np.ones(2), np.zeros(2), np.full(2, 5.0), np.full(2, 7.0)])  # as version 0.1.0 had them

    found = moved(norm, BATCHES[:3])

    np.testing.assert_allclose(found, averages(BATCHES[:3], 0.99, mean=5.0, variance=7.0, steps=10**6), rtol=1e-5)
    assert np.abs(found[0] - 5.0).max() < 0.2


@pytest.mark.parametrize("initial", [(0.0, 7.0), (5.0, 1.0)])
def test_one_of_both_averages_is_enough(initial):
    norm = BatchNormalization()
    norm.build([None, 2])
    norm.set_weights([np.ones(2), np.zeros(2), np.full(2, initial[0]), np.full(2, initial[1])])

    assert np.abs(moved(norm, BATCHES[:1])[0] - initial[0]).max() < 0.1


def test_a_list_of_todays_length_goes_on_where_it_was():
    one, other = BatchNormalization(), BatchNormalization()
    moved(one, BATCHES[:5])
    other.build([None, 2])
    other.set_weights(one.get_weights())

    np.testing.assert_array_equal(moved(one, BATCHES[5:9]), moved(other, BATCHES[5:9]))
    assert one.warmed_steps.numpy() == 9.0


@pytest.mark.parametrize("channels", [1, 7])
def test_outputs_and_gradients_are_those_of_keras(channels):
    rng = np.random.default_rng(1)
    inputs, upstream = (tf.constant(rng.normal(2.0, 3.0, [64, channels]).astype(np.float32)) for _ in range(2))
    found = []
    for norm in (BatchNormalization(), keras.layers.BatchNormalization()):
        norm.build([None, channels])
        norm.gamma.assign(np.linspace(0.5, 2, channels))
        norm.beta.assign(np.linspace(-1, 1, channels))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = norm(inputs, training=True)
        found.append([outputs, *tape.gradient(outputs, [inputs, norm.gamma, norm.beta], output_gradients=upstream)])

    for own, of_keras in zip(*found, strict=True):
        np.testing.assert_allclose(own, of_keras, rtol=1e-4, atol=1e-5)


def test_what_is_no_tower_goes_keras_way():
    inputs = tf.random.stateless_normal([6, 3, 2], [1, 2], 5.0)
    own, of_keras = BatchNormalization(), keras.layers.BatchNormalization(momentum=0.1)

    np.testing.assert_allclose(own(inputs, training=True), of_keras(inputs, training=True), rtol=1e-5)
    np.testing.assert_allclose(own.moving_mean, of_keras.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(own.moving_variance, of_keras.moving_variance, rtol=1e-5)


def test_inference_and_a_frozen_layer_count_no_steps():
    norm = BatchNormalization()
    norm(BATCHES[0], training=False)
    norm(BATCHES[0])
    norm.trainable = False
    norm(BATCHES[0], training=True)

    assert norm.warmed_steps.numpy() == 0.0
    np.testing.assert_array_equal(norm.moving_mean, [0.0, 0.0])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_counts_as_python_does(jit_compile):
    norm, alone = BatchNormalization(), BatchNormalization()
    norm.build([None, 2])
    step = tf.function(lambda batch: norm(batch, training=True), jit_compile=jit_compile, autograph=False)
    for batch in BATCHES[:5]:
        step(tf.constant(batch))

    np.testing.assert_allclose(moved(alone, BATCHES[:5]), [norm.moving_mean, norm.moving_variance], rtol=1e-6)
    assert norm.warmed_steps.numpy() == 5.0


def test_the_config_is_keras_own():
    norm = BatchNormalization(momentum=0.9, name="norm")
    norm(BATCHES[0], training=True)

    assert json.loads(json.dumps(norm.get_config())) == {
        **keras.layers.BatchNormalization(momentum=0.9, name="norm").get_config(),
        "axis": [1],  # as Keras writes it once the layer is built
    }


def test_half_precision_keeps_float32_weights():
    norm = BatchNormalization(dtype="mixed_float16")

    assert norm(BATCHES[0], training=True).dtype == tf.float16
    assert {weight.dtype for weight in norm.weights} == {tf.float32}


REPLICAS = """
import json
import numpy as np
from nfm_tfrs.keras_compat import tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from nfm_tfrs.blocks.batch_norm import BatchNormalization

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    norm = BatchNormalization()
    norm.build([None, 1])

@tf.function
def step():
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill([4, 1], 1.0 + 2.0 * context.replica_id_in_sync_group)
    )
    strategy.run(lambda batch: norm(batch, training=True), args=(values,))

for _ in range(5):
    step()
found = {"steps": float(norm.warmed_steps.numpy()), "mean": norm.moving_mean.numpy().tolist()}
norm.set_weights(norm.get_weights())
step()
print(json.dumps({**found, "momentum": norm.momentum, "later": float(norm.warmed_steps.numpy())}))
"""


@pytest.mark.slow
def test_replicas_count_each_step_once(run_python):
    found = json.loads(run_python(REPLICAS).stdout)

    share = np.prod([(1 + step) / (10 + step) for step in range(5)])
    assert found["mean"] == pytest.approx([2.0 * (1 - share)], rel=1e-5)  # of 1 and 3, which the replicas had
    assert (found["steps"], found["later"], found["momentum"]) == (5.0, 6.0, 0.99)
