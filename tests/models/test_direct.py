"""Inference outside of graphs: what `model(x)` and `predict_on_batch` return without Keras, and when they do not."""

import threading

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


class LossInTraining(keras.layers.Dense):
    def call(self, inputs, training=None):
        if training:
            self.add_loss(tf.reduce_sum(inputs))
        return super().call(inputs)


def test_losses_of_training_are_gone_after_inference(model, calls):
    model._tower = LossInTraining(8)
    repeated(model, columns())
    assert ways(model, columns(), calls) == 0
    model(columns(), training=True)
    assert len(model.losses) == 1
    model(columns())
    assert model.losses == []


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


@pytest.mark.parametrize("given", [{}, {"batch_size": 4}, {"batch_size": 3}])
def test_one_batch_of_predict_is_predict_on_batch(model, monkeypatch, given):
    expected = model(columns()).numpy()
    batches, predict_on_batch = [], RankingModel.predict_on_batch
    monkeypatch.setattr(RankingModel, "predict_on_batch", lambda *x: batches.append(1) or predict_on_batch(*x))

    np.testing.assert_allclose(model.predict(columns(), verbose=0, **given), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(columns(), verbose=0, steps=1, **given)[:3], expected[:3], atol=1e-6)

    assert len(batches) == (given.get("batch_size") != 3)


def test_a_step_of_ones_own_predicts(model):
    model.predict_step = lambda x: tf.zeros([4, 1])
    for _ in range(REPEATS):
        assert not model.predict_on_batch(columns()).any()
