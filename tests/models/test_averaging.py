"""Averages of weights are those of a loop in float64 that walks all rows in every step, whatever that leaves out."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.features.compression import MultiHash
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.keys import IDS
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import layers_inside
from nfm_tfrs.models.averaging import Averages
from nfm_tfrs.models.label_start import start_at_batches
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.runs.saving import load_model

PAIR = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=30)]
SEVERAL = [
    CategoricalFeature("a", vocabulary_size=9, embedding_dim=2),
    CategoricalFeature("b", vocabulary_size=30, compression=MultiHash(num_rows=7)),
    CategoricalFeature("still", vocabulary_size=4, frozen=True),
    MultiCategoricalFeature("bag", vocabulary_size=6, combiner="mean"),
]
DECAY = 0.6  # whose warm-up ends at step 12


def batches(count=20, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    bag = tf.ragged.constant([list(rng.integers(0, 6, n % 3)) for n in range(count * rows)], dtype=tf.int64)
    sizes = {"a": 9, "b": 30, "still": 4}
    columns = {name: rng.integers(0, size, count * rows) for name, size in sizes.items()}
    labels = rng.integers(0, 2, count * rows).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(({**columns, "bag": bag}, labels)).batch(rows)


def model_of(optimizer, features=PAIR, averaging=DECAY, dtype="float32", **compiled):
    keras.utils.set_random_seed(3)
    model = RankingModel(
        features, embedding_dim=4, hidden_units=(5,), batch_norm=True, dropout=0.3, embedding_stddev=0.5, dtype=dtype
    )
    model.compile(optimizer, averaging=averaging, **compiled)
    return model


def averaged(model):
    """The weights that are averaged: those that are trained, and statistics."""
    norms = [layer for layer in layers_inside(model) if isinstance(layer, keras.layers.BatchNormalization)]
    return [*model.trainable_variables, *(one for layer in norms for one in (layer.moving_mean, layer.moving_variance))]


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def loop(model, rows, decay=DECAY):
    """The averages of a model that is trained batch by batch: all of all weights, after each step that counts."""
    if isinstance(model, RankingModel):
        start_at_batches(model, rows)  # as `fit` does
    means = [one.astype(np.float64) for one in values(averaged(model))]
    taken, first = 0, int(model.optimizer.iterations)
    for number in range(len(rows)):
        model.fit(rows.skip(number).take(1), verbose=0)
        if int(model.optimizer.iterations) - first == taken:
            continue  # the loss scale has skipped it
        share = min(decay, (1 + taken) / (10 + taken))
        means = [share * mean + (1 - share) * now for mean, now in zip(means, values(averaged(model)), strict=True)]
        taken += 1
    return means


@pytest.mark.parametrize(
    ("optimizer", "features", "dtype"),
    [
        (lambda: LazyAdam(0.1), SEVERAL, "float32"),
        (lambda: LazyAdagrad(0.1, weight_decay=0.1), PAIR, "float32"),
        (lambda: keras.optimizers.Adagrad(0.1), PAIR, "float32"),
        (lambda: keras.optimizers.SGD(0.2, momentum=0.9), PAIR, "float32"),
        (lambda: keras.mixed_precision.LossScaleOptimizer(LazyAdam(0.1), initial_scale=2.0**24), PAIR, "mixed_float16"),
    ],
    ids=["adam, several tables", "adagrad that decays weights", "Keras' adagrad", "momentum", "scaled losses"],
)
def test_averages_are_those_of_a_loop_over_all_weights_and_change_nothing(optimizer, features, dtype):
    plain = model_of(optimizer(), features, averaging=None, dtype=dtype)
    expected = loop(plain, batches())
    model = model_of(optimizer(), features, dtype=dtype)
    model.fit(batches(), verbose=0)
    assert (int(model.optimizer.iterations) < 20) == (dtype == "mixed_float16")  # steps are skipped
    assert_equal(model.get_weights(), plain.get_weights())
    with model.averaging.in_place():
        for one, mean in zip(values(averaged(model)), expected, strict=True):
            np.testing.assert_allclose(one, mean, rtol=2e-5, atol=2e-6)
    assert_equal(model.get_weights(), plain.get_weights())


@pytest.mark.parametrize(
    ("optimizer", "by_row"),
    [
        (LazyAdam(0.1), True),
        (LazyAdam(0.1, lazy=False), False),
        (LazyAdam(0.1, use_ema=True), False),
        (LazyAdagrad(0.1, weight_decay=0.1), True),
        (keras.optimizers.Adagrad(0.1), True),
        (keras.optimizers.Adagrad(0.1, weight_decay=0.1), False),
        (keras.optimizers.SGD(0.1), True),
        (keras.optimizers.SGD(0.1, momentum=0.9), False),
        (keras.optimizers.Adam(0.1), False),
    ],
)
def test_rows_are_averaged_apart_where_the_optimizer_moves_them_alone(optimizer, by_row):
    model = model_of(optimizer, SEVERAL)
    model.averaging.build()
    assert len(model.averaging._clocks) == (4 if by_row else 1)  # the frozen table has none
    assert len(model.averaging._averages) == len(averaged(model))


def test_a_look_in_between_changes_no_more_than_the_rounding():
    one, other = model_of(LazyAdam(0.1)), model_of(LazyAdam(0.1))
    one.fit(batches(), verbose=0)
    for start in (0, 10):
        other.fit(batches().skip(start).take(10), verbose=0)
        with other.averaging.in_place():
            pass
    assert_equal(other.get_weights(), one.get_weights())
    with one.averaging.in_place(), other.averaging.in_place():
        for here, there in zip(values(averaged(one)), values(averaged(other)), strict=True):
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)


def test_absent_rows_are_not_walked():
    model = model_of(LazyAdagrad(0.1))
    model.averaging.build()
    model.averaging._averages[0].assign(tf.fill(model.embedding.table.shape, 7.0))
    model.train_on_batch({"a": np.array([1]), "b": np.array([2])}, np.array([1.0]))
    touched = {*model.encoder({"a": tf.constant([1]), "b": tf.constant([2])})[IDS].numpy().ravel()}
    walked = {*np.flatnonzero((model.averaging._averages[0].numpy() != 7.0).any(axis=1))}
    assert walked == touched


@pytest.mark.parametrize("steps", [1, 7, 8985, 9000, 10**6])
def test_the_clock_is_the_logarithm_of_the_product_of_all_decays(steps):
    model = model_of(LazyAdagrad(0.1), averaging=0.999)
    model.averaging.build()
    model.averaging._now()
    model.optimizer.iterations.assign(steps)
    decays = np.minimum(0.999, (1.0 + np.arange(steps)) / (10.0 + np.arange(steps)))
    assert float(model.averaging._now()) == pytest.approx(np.log(decays).sum(), rel=1e-9)


def test_duplicate_rows_of_a_layer_of_ones_own_are_averaged_once():
    class Own(TaskModel):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(9, 1, embeddings_initializer="ones")

        def call(self, columns, training=None):
            return self.embedding(columns["a"]) + self.embedding(columns["b"] % 9)

    def made(averaging):
        model = Own()
        model({"a": tf.constant([0]), "b": tf.constant([0])})
        model.compile(keras.optimizers.SGD(0.5), averaging=averaging)
        return model

    expected = loop(made(None), batches())
    model = made(DECAY)
    model.fit(batches(), verbose=0)
    assert len(model.averaging._clocks) == 2  # the layer's rows have one
    with model.averaging.in_place():
        np.testing.assert_allclose(model.embedding.embeddings, expected[0], rtol=2e-5)


def test_a_model_without_averages_has_nothing_of_them():
    model = model_of(LazyAdam(0.1), averaging=None)
    model.fit(batches(2), verbose=0)
    assert model.averaging is None
    assert "averaging" not in model.get_compile_config()
    assert not [name for name in vars(model) if "averag" in name]
    compiled = model_of(LazyAdam(0.1))
    compiled.compile(LazyAdam(0.1))
    assert not [name for name in vars(compiled) if "averag" in name]


def test_statistics_are_taken_over_batches_anew_and_all_else_stays(monkeypatch):
    monkeypatch.setattr("nfm_tfrs.models.averaging.BATCHES", 3)
    model = model_of(LazyAdam(0.1))
    model.fit(batches(3), verbose=0)
    norm = next(layer for layer in layers_inside(model) if isinstance(layer, keras.layers.BatchNormalization))
    dropped = [part.dropout_state for part in model.submodules if isinstance(part, Dropout) and part.built]
    before, states = model.get_weights(), values(dropped)
    with model.averaging.in_place():
        first = norm.moving_mean.numpy()
        kernel = model.get_weights()
        means = []
        for columns, _ in batches(4).take(3):
            # A young norm's first momentum is 0.1: what is left of a mean 0 is a tenth.
            norm.moving_mean.assign(tf.zeros_like(norm.moving_mean))
            norm.moving_variance.assign(tf.ones_like(norm.moving_variance))
            norm.warmed_steps.assign(0.0)
            model(columns, training=True)
            means.append(norm.moving_mean.numpy() / 0.9)
        model.set_weights(kernel)
    for state, value in zip(dropped, states, strict=True):
        state.assign(value)
    with model.averaging.in_place(batches(4)):
        np.testing.assert_allclose(norm.moving_mean, np.mean(means, axis=0), rtol=1e-4, atol=1e-6)
        assert norm.momentum == 0.99
        assert not np.allclose(norm.moving_mean, first)
    assert_equal(model.get_weights(), before)
    assert_equal(values(dropped), states)
    with model.averaging.in_place():
        np.testing.assert_array_equal(norm.moving_mean, first)


def test_what_fails_inside_leaves_the_weights():
    model = model_of(LazyAdam(0.1))
    model.fit(batches(3), verbose=0)
    before = model.get_weights()
    with pytest.raises(KeyError), model.averaging.in_place():
        raise KeyError
    assert_equal(model.get_weights(), before)


def test_checkpoints_hold_the_averages_and_go_on_exactly(tmp_path):
    model, whole = model_of(LazyAdam(0.1)), model_of(LazyAdam(0.1))
    for one in (model, whole):
        one.fit(batches(5), verbose=0)
    model.save_weights(tmp_path / "weights")
    loaded = model_of(LazyAdam(0.1))
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.averaging.build()
    loaded.load_weights(tmp_path / "weights").expect_partial()
    assert_equal(values(loaded.averaging.variables), values(whole.averaging.variables))
    for one, other in zip(layers_inside(loaded), layers_inside(whole), strict=True):
        if isinstance(one, Dropout):
            one.dropout_state.assign(other.dropout_state)
    for one in (loaded, whole):
        one.fit(batches(5, seed=1), verbose=0)
    assert_equal(loaded.get_weights(), whole.get_weights())
    assert_equal(values(loaded.averaging.variables), values(whole.averaging.variables))


def test_files_hold_the_decay_and_averaging_begins_anew(tmp_path):
    model = model_of(LazyAdam(0.1))
    model.fit(batches(5), verbose=0)
    size = sum(array.nbytes for array in (*model.get_weights(), *values(model.optimizer.variables)))
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        held = h5py.File(io.BytesIO(file.read("model.weights.h5")))
        found = []
        held.visititems(lambda name, one: found.append(one.nbytes) if isinstance(one, h5py.Dataset) else None)
    assert size <= sum(found) <= size + 100  # the keys of dropout
    loaded = load_model(tmp_path / "model.keras", compile=True)
    assert loaded.averaging.decay == DECAY
    loaded.averaging.build()
    assert all(np.isinf(clock).all() for clock in values(loaded.averaging._clocks))
    assert int(loaded.averaging._start) == -1


def test_reset_begins_anew_at_the_weights_of_then():
    model = model_of(LazyAdagrad(0.1))
    model.fit(batches(9), verbose=0)
    model.averaging.reset()
    plain = model_of(LazyAdagrad(0.1), averaging=None)
    plain.fit(batches(9), verbose=0)
    expected = loop(plain, batches(4, seed=1))
    model.fit(batches(4, seed=1), verbose=0)
    with model.averaging.in_place():
        for one, mean in zip(values(averaged(model)), expected, strict=True):
            np.testing.assert_allclose(one, mean, rtol=2e-5, atol=2e-6)


def anew_after(change):
    """Averages of a model that has trained, was changed, and trained on; and those of a loop from the change on."""
    model, plain = model_of(LazyAdam(0.1)), model_of(LazyAdam(0.1), averaging=None)
    for one in (model, plain):
        one.fit(batches(9), verbose=0)
        change(one)
    expected = loop(plain, batches(4, seed=1))
    model.fit(batches(4, seed=1), verbose=0)
    with model.averaging.in_place():
        found = values(averaged(model))
    for one, mean in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, mean, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_averaging_begins_anew_at_weights_that_are_loaded_from_a_file_without_averages(suffix, tmp_path):
    path = str(tmp_path / f"early{suffix}")
    early = model_of(LazyAdam(0.1))
    early.fit(batches(2), verbose=0)
    early.save_weights(path)
    anew_after(lambda model: model.load_weights(path))


def test_averaging_begins_anew_at_weights_that_are_set():
    early = model_of(LazyAdam(0.1)).get_weights()
    anew_after(lambda model: model.set_weights(early))


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_averaging_begins_anew_where_the_optimizer_counts_fewer_steps(steps):
    anew_after(lambda model: model.optimizer.iterations.assign(steps))


def test_a_checkpoint_of_before_has_its_averages_also_in_a_model_that_went_on(tmp_path):
    model = model_of(LazyAdam(0.1))
    model.fit(batches(5), verbose=0)
    model.save_weights(tmp_path / "weights")
    before = values(model.averaging.variables)
    model.fit(batches(5, seed=1), verbose=0)
    model.load_weights(tmp_path / "weights").expect_partial()
    assert_equal(values(model.averaging.variables), before)


def test_a_block_in_a_block_has_the_averages_too():
    model = model_of(LazyAdagrad(0.1))
    model.fit(batches(5), verbose=0)
    own = model.get_weights()
    with model.averaging.in_place():
        means = model.get_weights()
        with model.averaging.in_place(batches(2)):
            inside = values(model.trainable_variables)
        assert_equal(model.get_weights(), means)
        assert_equal(inside, values(model.trainable_variables))
    assert_equal(model.get_weights(), own)


def test_weights_that_are_set_while_the_averages_are_in_place_are_the_averages():
    model = model_of(LazyAdagrad(0.1))
    model.fit(batches(5), verbose=0)
    own = model.get_weights()
    with model.averaging.in_place():
        raised = [array + 1 for array in values(model.trainable_variables)]
        higher = {one.ref(): value for one, value in zip(model.trainable_variables, raised, strict=True)}
        means = [higher.get(one.ref(), one.numpy()) for one in model.weights]
        model.set_weights(means)
        with pytest.raises(ValueError, match=r"^Averaging cannot begin anew inside of in_place, .* Leave it first\.$"):
            model.averaging.reset()
    assert_equal(model.get_weights(), own)
    with model.averaging.in_place():
        assert_equal(values(model.trainable_variables), raised)


@pytest.mark.parametrize("decay", [0, 1.0, -0.1, True, "0.9", float("nan")])
def test_decays_that_do_not_average_are_refused(decay):
    with pytest.raises(
        ValueError, match=r"^averaging must be above 0 and below 1, such as 0\.999; received .* Leave it"
    ):
        model_of("lazyadam", averaging=decay)


def test_several_replicas_are_refused(monkeypatch):
    monkeypatch.setattr(TaskModel, "_most_steps", 1)  # as on several replicas
    line = r"^On several replicas weights are not averaged; received averaging=0\.9\. Leave it out\.$"
    with pytest.raises(ValueError, match=line):
        model_of("lazyadam", averaging=0.9)


def test_a_model_without_weights_is_refused():
    class Own(TaskModel):
        def call(self, columns, training=None):
            return columns["a"]

    model = Own()
    model.compile("adam", averaging=0.9)
    with pytest.raises(
        ValueError, match=r"^Averages begin at a model's weights; Own has none yet\. Call it on a batch"
    ):
        model.averaging.build()
    assert isinstance(model.averaging, Averages)


def test_a_model_without_features_is_told_to_learn_them():
    model = RankingModel()
    model.compile("lazyadam", averaging=0.9)
    line = (
        r"^Averages begin at a model's weights; RankingModel does not know its features yet\. Pass features=, or call"
    )
    with pytest.raises(ValueError, match=line):
        model.train_on_batch(*next(iter(batches(1))))
    with pytest.raises(ValueError, match=line), model.averaging.in_place():
        pass


@pytest.mark.parametrize("averaging", [None, DECAY])
def test_keras_opens_a_saved_model_folder(averaging, tmp_path):
    model = model_of(LazyAdagrad(0.1), averaging=averaging)
    model.fit(batches(2), verbose=0)
    model.save(tmp_path / "saved")
    opened = keras.models.load_model(tmp_path / "saved", compile=False)
    columns = next(iter(batches(1)))[0]
    np.testing.assert_allclose(opened(columns), model(columns), rtol=1e-6)
