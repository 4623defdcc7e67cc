"""A step whose loss is not finite moves no weight, and says where it was."""

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.stop import LossNotFinite, Place, finite_step, moved_forward, own_words

FEATURES = [CategoricalFeature("a", vocabulary_size=5), CategoricalFeature("b", vocabulary_size=5)]
ROWS = {"a": np.arange(40) % 5, "b": np.arange(40) % 4}
LABELS = (np.arange(40) % 2).astype(np.float32)


def model(optimizer=None, eager=True, **arguments):
    keras.utils.set_random_seed(0)
    made = RankingModel(FEATURES, embedding_dim=2, hidden_units=(3,), batch_norm=True, **arguments)
    made.compile(optimizer or keras.optimizers.SGD(0.1), run_eagerly=eager)
    return made


def data(batch_size=2):
    return tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).batch(batch_size)


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


class Weights(keras.callbacks.Callback):
    """What a model weighs after each epoch."""

    def __init__(self):
        super().__init__()
        self.after = []

    def on_epoch_end(self, epoch, logs=None):
        self.after.append(self.model.get_weights())


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A rate of 0 that, from a step on, is one with which weights overflow the logit."""

    def __init__(self, last):
        self.last = last

    def __call__(self, step):
        return tf.where(step < self.last, 0.0, 1e37)


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graph"])
def test_a_step_that_diverges_moves_nothing_and_names_its_place(eager):
    one, weights = model(keras.optimizers.SGD(Falling(30)), eager), Weights()
    with pytest.raises(
        LossNotFinite,
        match=r"^The average .*moving_variance:0 is infinite, NaN or too large to be squared in batch 12 of epoch 2, ",
    ):
        one.fit(data(), epochs=3, callbacks=[weights], verbose=0)
    assert len(weights.after) == 1
    assert all(np.isfinite(weight).all() for weight in one.get_weights())
    assert int(one.optimizer.iterations) == 31


def test_the_averages_of_normalisations_are_put_back():
    one = model()
    before = one.get_weights()
    one.embedding.table.assign(one.embedding.table + np.inf)  # as a batch overflows
    with pytest.raises(LossNotFinite, match="The loss is nan in the batch, which moved no weight"):
        one.train_step(({name: column[:4] for name, column in ROWS.items()}, LABELS[:4]))
    one.embedding.table.assign(before[0])
    assert any("moving" in variable.name for variable in one.non_trainable_variables)
    assert {variable.name for variable, _ in moved_forward(one)} == {v.name for v in one.non_trainable_variables}
    for variable in one.non_trainable_variables:
        assert np.isfinite(variable).all()


@pytest.mark.parametrize(
    "given", [lambda one: one, lambda one: [one], lambda one: (one,)], ids=["one", "list", "tuple"]
)
def test_callbacks_are_taken_as_keras_takes_them(given):
    weights, one = Weights(), model()
    one.fit(data(20), callbacks=given(weights), verbose=0)
    assert len(weights.after) == 1
    assert one._place.epoch is None


def test_a_list_of_callbacks_that_is_made_already_stays_as_it_is():
    made = keras.callbacks.CallbackList([])
    with Place().followed(model(), arguments := {"callbacks": made}):
        assert arguments["callbacks"] is made


@pytest.mark.parametrize("scaled", [False, True])
def test_xla_goes_on_with_gradients_of_zero_and_the_averages_of_before(scaled):
    average, weight = tf.Variable(1.0, trainable=False), tf.Variable([1.0, 2.0])

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        before = [(average, average.read_value())]
        average.assign(x)
        sparse = tf.IndexedSlices([x], [0], weight.shape)
        steps = tf.constant(0)
        guarded = finite_step(
            x,
            [tf.ones(2), sparse, None],
            [weight] * 3,
            before,
            tf.constant(1),
            Place().words(True),
            steps,
            scaled=scaled,
        )
        with guarded as (dense, rows, none):
            assert none is None
            return dense, rows.values

    for x, gradient, kept in ((3.0, 1.0, 3.0), (np.nan, 0.0, 3.0), (np.inf, 0.0, 3.0)):
        dense, rows = step(tf.constant(x, tf.float32))
        assert dense.numpy().tolist() == [gradient] * 2
        assert rows.numpy().tolist() == [3.0 * gradient]
        assert average.numpy() == kept


def stepped(loss, gradient, scaled=False):
    average, weight = tf.Variable(1.0, trainable=False), tf.Variable([1.0, 2.0], name="weight")

    @tf.function(autograph=False)
    def step(loss, gradient):
        before = [(average, average.read_value())]
        average.assign(5.0)
        words, steps = Place().words(True), tf.constant(0)
        with finite_step(loss, [gradient], [weight], before, tf.constant(1), words, steps, scaled=scaled) as (found,):
            return found

    with own_words():
        try:
            return step(tf.constant(loss), tf.constant(gradient)).numpy().tolist(), average.numpy()
        finally:
            stepped.average = average.numpy()


def test_large_gradients_are_taken():
    assert stepped(0.5, [1e18, -1e18]) == (pytest.approx([1e18, -1e18]), 5.0)


@pytest.mark.parametrize("gradient", [np.nan, np.inf, -np.inf, 1e20])
def test_a_gradient_that_is_not_finite_stops_the_step_too_and_puts_the_averages_back(gradient):
    with pytest.raises(
        LossNotFinite,
        match=r"^The gradient of weight:0, variable 0, is infinite, NaN or too large to be squared in the batch, ",
    ):
        stepped(0.5, [1.0, gradient])
    assert stepped.average == 1.0


def test_gradients_of_a_scaled_loss_may_overflow_but_the_loss_may_not():
    assert stepped(0.5, [1.0, np.inf], scaled=True) == ([1.0, np.inf], 5.0)
    with pytest.raises(LossNotFinite, match="The loss is inf in the batch"):
        stepped(np.inf, [1.0, 1.0], scaled=True)


def test_an_epoch_that_xla_compiles_is_said_to_have_diverged_at_its_end():
    one = model()
    follow = []
    arguments = {"callbacks": follow}
    with one._place.followed(one, arguments):
        (callback,) = arguments["callbacks"]
        callback.set_model(one)
        callback.on_epoch_end(0, {"loss": np.nan})  # a step of its own has stopped, or was not asked to
        one.jit_compile = True
        with pytest.raises(
            LossNotFinite, match=r"The loss is nan in epoch 2, whose steps of such a loss moved no weig"
        ):
            callback.on_epoch_end(1, {"loss": np.nan})
    assert follow == []


def test_other_errors_of_tensorflow_stay_as_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError), own_words():
        tf.reshape([1, 2], [3])
