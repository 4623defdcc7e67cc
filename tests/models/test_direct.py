"""Inference outside of graphs: what `model(x)` and `predict_on_batch` return without Keras, and when they do not."""

import copy
import gc
import threading
import weakref
from typing import ClassVar

import numpy as np
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel

FEATURES = [
    CategoricalFeature("a", vocabulary=["x", "y"]),
    MultiCategoricalFeature("tags", vocabulary_size=5),
    NumericFeature("n"),
]
REPEATS = 9  # one more than it takes


def columns(rows=4):
    rng = np.random.default_rng(rows)
    return {
        "a": tf.constant(rng.choice(["x", "y", "z"], rows)),
        "tags": tf.RaggedTensor.from_row_lengths(rng.integers(5, size=2 * rows), [2] * rows),
        "n": tf.constant(rng.normal(size=rows).astype(np.float32)),
        "unread": tf.zeros([rows]),
    }


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return RankingModel(FEATURES, embedding_dim=4, hidden_units=(8,), dropout=0.5)


@pytest.fixture
def calls(monkeypatch):
    """Grows with each call of the dense part by Keras, or by a trace."""
    found, scored = [], RankingModel._scored
    monkeypatch.setattr(RankingModel, "_scored", lambda *parts: found.append(1) or scored(*parts))
    return found


def repeated(model, x, **arguments):
    for _ in range(REPEATS):
        outputs = model(x, **arguments)
    return outputs


def ways(model, x, calls):
    """How many of two further calls went Keras' way."""
    before = len(calls)
    model(x)
    model(x, training=False)
    return len(calls) - before


def test_repeated_calls_return_what_keras_returns_for_any_number_of_rows(model, calls):
    expected = {rows: keras.Model.__call__(model, columns(rows)) for rows in (0, 1, 4, 50)}
    repeated(model, columns())

    assert ways(model, columns(), calls) == 0
    for rows, values in expected.items():
        np.testing.assert_allclose(model(columns(rows)), values, atol=1e-6)
        np.testing.assert_allclose(model.predict_on_batch(columns(rows)), values, atol=1e-6)


def test_arrays_and_encoded_batches_are_taken_too(model, calls):
    arrays = {name: column if name == "tags" else column.numpy() for name, column in columns().items()}
    arrays["n"] = arrays["n"][:, None]
    for x in (arrays, model.encoder(columns())):
        expected = keras.Model.__call__(model, x)
        repeated(model, x)

        assert ways(model, x, calls) == 0
        np.testing.assert_allclose(model(x), expected, atol=1e-6)


def test_weights_that_change_are_seen_without_a_further_trace(model, calls):
    model.compile()
    repeated(model, columns())
    before = model(columns()).numpy()
    data = tf.data.Dataset.from_tensors((columns(), tf.constant([1.0, 0.0, 1.0, 1.0])))
    for _ in range(2):
        model.fit(data, epochs=1, verbose=0)
        model.evaluate(data, verbose=0)
        model.predict(data, verbose=0)

        assert ways(model, columns(), calls) == 0
    assert not np.array_equal(model(columns()), before)
    np.testing.assert_allclose(model(columns()), keras.Model.__call__(model, columns()), atol=1e-6)


@pytest.mark.parametrize("change", ["tower", "activation", "compile"])
def test_what_changes_the_graph_is_seen(model, calls, change):
    repeated(model, columns())
    if change == "tower":
        model._tower = keras.layers.Dense(8)
    elif change == "activation":
        model._tower._layers[1].activation = keras.activations.tanh
    else:
        model.compile(jit_compile=True)
    expected = keras.Model.__call__(model, columns())

    assert ways(model, columns(), calls) > 0
    np.testing.assert_allclose(model(columns()), expected, atol=1e-6)
    repeated(model, columns())
    np.testing.assert_allclose(model(columns()), expected, atol=1e-6)


def test_training_drops_out(model):
    repeated(model, columns())
    assert not np.array_equal(repeated(model, columns(), training=True), model(columns()))


def test_a_tape_sees_the_variables(model):
    repeated(model, columns())
    with tf.GradientTape() as tape:
        outputs = model(columns())
    assert all(part is not None for part in tape.gradient(outputs, model.trainable_variables))


def test_inside_a_function_or_a_strategy_keras_calls(model, calls):
    repeated(model, columns())
    before = len(calls)

    tf.function(lambda x: model(x))(columns())
    assert len(calls) == before + 1
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model(columns())
    assert len(calls) == before + 2


def test_functions_that_are_run_eagerly_are_left_alone(model, calls):
    repeated(model, columns())
    tf.config.run_functions_eagerly(True)
    try:
        assert ways(model, columns(), calls) == 2
    finally:
        tf.config.run_functions_eagerly(False)


def test_a_call_of_ones_own_is_called_each_time():
    calls = []

    class Own(RankingModel):
        def call(self, columns, training=None):
            calls.append(1)
            return super().call(columns, training=training)

    model = Own(FEATURES, embedding_dim=4)
    repeated(model, columns())
    model.predict_on_batch(columns())
    assert len(calls) >= REPEATS + 1


class Penalized(InteractionBlock):
    def call(self, embeddings, mask=None):
        self.add_loss(tf.reduce_sum(embeddings**2))
        return tf.reduce_sum(embeddings, axis=1)


def test_a_call_that_leaves_losses_leaves_them_each_time():
    model = RankingModel(FEATURES, embedding_dim=4, interaction=Penalized())
    repeated(model, columns())
    (loss,) = model.losses
    model(columns(50))
    assert model.losses[0] > loss


def test_the_losses_of_a_table_are_left_each_time():
    model = RankingModel(FEATURES, embedding_dim=4, embedding_l2=1.0)
    repeated(model, columns())
    (loss,) = model.losses
    model(columns(50))
    assert model.losses[0] != loss


def test_the_blocks_of_other_packages_are_called_each_time(calls):
    class Scaled(InteractionBlock):
        scale: ClassVar = [1.0]

        def call(self, embeddings, mask=None):
            return self.scale[0] * tf.reduce_sum(embeddings, axis=1)

    model = RankingModel(FEATURES, embedding_dim=4, interaction=Scaled(), hidden_units=())
    repeated(model, columns())
    assert ways(model, columns(), calls) == 2


@pytest.mark.parametrize("functional", [False, True])
def test_inside_another_model_it_trains_where_that_one_does(model, functional):
    repeated(model, columns())
    if functional:
        outer = keras.Sequential([model])
    else:

        class Outer(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = model

            def call(self, x):
                return self.inner(x)

        outer = Outer()
    x = columns()
    del x["unread"]
    for _ in range(REPEATS):
        outer(x)
    assert not np.array_equal(outer(x, training=True), outer(x, training=True))


def test_a_call_with_more_arguments_gets_them():
    class Own(RankingModel):
        def call(self, columns, training=None, extra=None):
            outputs = super().call(columns, training=training)
            return outputs if extra is None else outputs + extra

    model = Own(FEATURES, embedding_dim=4)
    extra = tf.constant([[1.0], [2.0], [3.0], [4.0]])
    np.testing.assert_allclose(model(columns(), extra=extra), model(columns()) + extra, atol=1e-6)


def test_a_model_that_is_run_eagerly_is_left_alone(model, calls):
    repeated(model, columns())
    model.compile(run_eagerly=True)
    assert ways(model, columns(), calls) == 2


def test_a_number_beyond_float32_is_refused_by_predict_however_warm_the_model_is(model):
    beyond = {**columns(), "n": np.array([1e39, 1.0, 2.0, 3.0])}
    for _ in range(2):
        for predict in (model.predict_on_batch, lambda x: model.predict(x, verbose=0)):
            with pytest.raises(ValueError, match="Column 'n' is inf in row 0 of the batch"):
                predict(beyond)
        for _ in range(REPEATS):
            model.predict_on_batch({**columns(), "n": np.array([1.0, 1.0, 2.0, 3.0])})


def test_a_subclass_may_predict_batches_by_predict(model):
    class Own(RankingModel):
        def predict_on_batch(self, x):
            return self.predict(x, verbose=0)

    own = Own(FEATURES, embedding_dim=4)
    for _ in range(REPEATS):
        assert own.predict_on_batch(columns()).shape == (4, 1)


@pytest.mark.parametrize("features", [None, FEATURES])
def test_a_copy_calls_itself(features):
    x = columns(50)
    del x["unread"]
    model = copy.deepcopy(RankingModel(features, embedding_dim=4))
    model.adapt(x)
    repeated(model, columns())
    assert model._directly._model is model


def test_no_optimizer_is_kept(model):
    model.compile("adam")
    repeated(model, columns())
    optimizer = weakref.ref(model.optimizer)
    model.compile("sgd")
    repeated(model, columns())
    gc.collect()
    assert optimizer() is None


def test_traces_are_bounded(model, calls):
    for width in range(1, 30):
        tags = tf.constant(np.zeros([4, width], np.int64))
        for _ in range(REPEATS):
            model({**columns(), "tags": tags})
    assert model._directly._traces == 16


def test_what_is_wrong_is_said_in_the_same_words_whether_traced_or_not(model):
    del_a = {name: column for name, column in columns().items() if name != "a"}
    infinite = {**columns(), "n": tf.fill([4], np.inf)}
    for _ in range(2):
        for _ in range(REPEATS):
            with pytest.raises(ValueError, match="no column 'a'"):
                model(del_a)
            with pytest.raises(ValueError, match="Column 'n' is inf in row 0 of the batch"):
                model.predict_on_batch(infinite)
        repeated(model, columns())
        model.predict_on_batch(columns())


def test_columns_of_other_types_go_keras_way(model, calls):
    repeated(model, columns())
    listed = {**columns(), "tags": columns()["tags"].to_sparse()}
    expected = model(columns())

    np.testing.assert_allclose(repeated(model, listed), expected, atol=1e-6)
    assert ways(model, listed, calls) == 2


def test_threads_share_one_trace(model, calls):
    expected = keras.Model.__call__(model, columns())
    start, wrong = threading.Barrier(8), []

    def run():
        start.wait()
        for _ in range(50):
            found = model(columns())
            if not np.allclose(found, expected, atol=1e-6):
                wrong.append(found)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert ways(model, columns(), calls) == 0


@pytest.mark.parametrize(("given", "direct"), [({}, True), ({"batch_size": 4}, True), ({"batch_size": 3}, False)])
def test_one_batch_of_predict_is_called_directly(model, calls, given, direct):
    expected = keras.Model.__call__(model, columns()).numpy()
    for _ in range(REPEATS):
        np.testing.assert_allclose(model.predict(columns(), verbose=0, **given), expected, atol=1e-6)

    assert bool(model._predicted_directly._traced) is direct
    assert model.predict(columns(), verbose=0, steps=1, **given).shape[0] <= 4


def test_a_step_of_ones_own_predicts(model):
    model.predict_step = lambda x: tf.zeros([4, 1])
    for _ in range(REPEATS):
        assert not model.predict_on_batch(columns()).any()
