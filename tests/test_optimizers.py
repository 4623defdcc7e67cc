import inspect
import json
import re
import warnings

import numpy as np
import pytest

from nfm_tfrs.configuration import OPTIMIZERS
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam, named_optimizer, optimizer_of
from nfm_tfrs.runs.saving import load_model

LAZY = [LazyAdam, LazyAdagrad]
DENSE = {LazyAdam: keras.optimizers.Adam, LazyAdagrad: keras.optimizers.Adagrad}
ROWS, WIDTH = 7, 3
RATE = 0.1


def table(shape=(ROWS, WIDTH), dtype=np.float32):
    return np.random.default_rng(9).normal(size=shape).astype(dtype)


def batches(steps=20, seed=0):
    """Ids and values of each step: ids repeat; 0 comes in the first step and then in every seventh, 6 never."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        ids = np.append(rng.integers(1, 6, 8), [] if step % 7 else [0, 0]).astype(np.int64)
        yield ids, rng.normal(size=[len(ids), WIDTH]).astype(np.float32)


def merged(ids, values):
    """The distinct ids, and the values of each added up in float64."""
    distinct = sorted(set(ids.tolist()))
    return distinct, np.array([np.sum(values[ids == i].astype(np.float64), axis=0) for i in distinct])


def slices(ids, values, variable):
    return tf.IndexedSlices(tf.constant(values), tf.constant(ids), tf.constant(variable.shape.as_list(), tf.int64))


def applied(optimizer, variable, graph):
    """What applies ids and values to a variable: in one graph for any number of them, or eagerly."""
    optimizer.build([variable])

    def apply(ids, values):
        gradient = tf.IndexedSlices(values, ids, tf.constant(variable.shape.as_list(), tf.int64))
        optimizer.apply_gradients([(gradient, variable)])

    if not graph:
        return lambda ids, values: apply(tf.constant(ids), tf.constant(values))
    values = tf.TensorSpec([None, *variable.shape[1:]], variable.dtype)
    return tf.function(apply, autograph=False, input_signature=[tf.TensorSpec([None], tf.int64), values])


def trained(optimizer, steps, start=None, graph=True):
    """The table after the steps; `start` replaces the initial one."""
    variable = tf.Variable(table() if start is None else start)
    apply = applied(optimizer, variable, graph)
    for ids, values in steps:
        apply(ids, values)
    return variable.numpy()


def float64_adam(steps, rate=lambda step: RATE, decay=0.0):
    w, m, v = table().astype(np.float64), np.zeros([ROWS, WIDTH]), np.zeros([ROWS, WIDTH])
    for step, (ids, values) in enumerate(steps, start=1):
        for row, gradient in zip(*merged(ids, values), strict=True):
            w[row] *= 1 - rate(step) * decay
            m[row] = 0.9 * m[row] + 0.1 * gradient
            v[row] = 0.999 * v[row] + 0.001 * gradient**2
            alpha = rate(step) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            w[row] -= alpha * m[row] / (np.sqrt(v[row]) + 1e-7)
    return w


def float64_adagrad(steps, rate=lambda step: RATE, decay=0.0):
    w, a = table().astype(np.float64), np.full([ROWS, WIDTH], 0.1)
    for step, (ids, values) in enumerate(steps, start=1):
        for row, gradient in zip(*merged(ids, values), strict=True):
            w[row] *= 1 - rate(step) * decay
            a[row] += gradient**2
            w[row] -= rate(step) * gradient / np.sqrt(a[row] + 1e-7)
    return w


FLOAT64 = {LazyAdam: float64_adam, LazyAdagrad: float64_adagrad}


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# --- the equations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("lazy", LAZY)
def test_20_steps_equal_float64_row_by_row(lazy, graph):
    assert_close(trained(lazy(RATE), batches(), graph=graph), FLOAT64[lazy](batches()))


def test_20_steps_of_adagrad_equal_keras():
    keras_adagrad = trained(keras.optimizers.Adagrad(RATE), batches(), graph=False)
    assert_close(trained(LazyAdagrad(RATE), batches()), keras_adagrad)


@pytest.mark.parametrize("lazy", LAZY)
def test_it_equals_keras_where_every_row_is_in_every_batch(lazy):
    rng = np.random.default_rng(1)
    full = [(rng.permutation(np.append(np.arange(ROWS), [2, 2])), rng.normal(size=[9, WIDTH])) for _ in range(20)]
    full = [(ids.astype(np.int64), values.astype(np.float32)) for ids, values in full]
    assert_close(trained(lazy(RATE), full), trained(DENSE[lazy](RATE), full, graph=False))


def test_adam_that_is_not_lazy_equals_keras_on_rows_that_are_absent():
    keras_adam = trained(keras.optimizers.Adam(RATE), batches(), graph=False)
    assert_close(trained(LazyAdam(RATE, lazy=False), batches()), keras_adam)
    assert np.abs(trained(LazyAdam(RATE), batches()) - keras_adam).max() > 0.01


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("arguments", [{}, {"weight_decay": 0.1}, {"use_ema": True, "ema_momentum": 0.5}], ids=str)
@pytest.mark.parametrize("lazy", LAZY)
def test_dense_variables_train_as_in_keras(lazy, arguments, shape):
    tables = []
    for optimizer in (lazy(RATE, **arguments), DENSE[lazy](RATE, **arguments)):
        variable = tf.Variable(table(shape))
        for seed in range(5):
            gradient = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        optimizer.finalize_variable_values([variable])
        tables.append(variable.numpy())
    assert_close(*tables)


@pytest.mark.parametrize("lazy", LAZY)
def test_only_the_rows_of_the_batch_move_and_so_do_their_slots(lazy):
    optimizer, variable = lazy(RATE, weight_decay=0.1), tf.Variable(table())
    apply = applied(optimizer, variable, graph=True)
    for ids, values in batches(3):
        apply(ids, values)
    before = [part.numpy() for part in (variable, *optimizer.variables[1:])]  # the first counts the steps
    apply(np.array([5, 2, 5]), np.ones([3, WIDTH], np.float32))
    after = [part.numpy() for part in (variable, *optimizer.variables[1:])]
    assert len(before) == (3 if lazy is LazyAdam else 2)
    for one, other in zip(before, after, strict=True):
        assert np.flatnonzero((one != other).any(axis=1)).tolist() == [2, 5]


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 2, 3), (ROWS, 40)])
@pytest.mark.parametrize("lazy", LAZY)
def test_rows_of_any_shape_are_merged(lazy, shape):
    values = np.random.default_rng(3).normal(size=[4, *shape[1:]]).astype(np.float32)
    repeated = trained(lazy(RATE), [(np.array([1, 4, 1, 1]), values)], start=table(shape))
    distinct = np.stack([values[0] + values[2] + values[3], values[1]])
    assert_close(repeated, trained(lazy(RATE), [(np.array([1, 4]), distinct)], start=table(shape)))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("lazy", LAZY)
def test_other_dtypes_train_too(lazy, dtype):
    steps = [(ids, values.astype(dtype)) for ids, values in batches(3)]
    expected = trained(DENSE[lazy](RATE, epsilon=1e-3), [steps[0]], table(dtype=dtype), graph=False)
    assert_close(trained(lazy(RATE, epsilon=1e-3), [steps[0]], table(dtype=dtype)), expected, 1e-2)
    assert np.isfinite(trained(lazy(RATE, epsilon=1e-3), steps, table(dtype=dtype))).all()


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("lazy", LAZY)
def test_a_batch_without_ids_moves_nothing_and_counts_as_a_step(lazy, graph):
    optimizer = lazy(RATE, weight_decay=0.1)
    none = (np.zeros([0], np.int64), np.zeros([0, WIDTH], np.float32))
    np.testing.assert_array_equal(trained(optimizer, [none], graph=graph), table())
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize("lazy", LAZY)
def test_a_variable_without_a_gradient_stays(lazy):
    optimizer = lazy(RATE, weight_decay=0.1)
    one, other = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    optimizer.apply_gradients([(tf.ones([2]), one), (None, other)])
    np.testing.assert_array_equal(other, [1.0, 2.0])
    assert (one.numpy() < [1.0, 2.0]).all()


# --- clipping, decay, schedules --------------------------------------------------------------------------------------

CLIPS = {
    "clipnorm": lambda parts, limit: [part * min(1, limit / np.linalg.norm(part)) for part in parts],
    "clipvalue": lambda parts, limit: [np.clip(part, -limit, limit) for part in parts],
    "global_clipnorm": lambda parts, limit: [
        part * min(1, limit / np.sqrt(sum(np.square(p).sum() for p in parts))) for part in parts
    ],
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("lazy", LAZY)
def test_occurrences_of_a_row_are_added_up_before_they_are_clipped(lazy, clip):
    ids, limit = np.array([1, 4, 1]), 1.0
    values = np.array([[3.0] * WIDTH, [0.2] * WIDTH, [-2.9] * WIDTH], np.float32)
    dense = np.array([0.5, -0.7], np.float32)

    def step(optimizer, sparse, other):
        variable, beside = tf.Variable(table()), tf.Variable([1.0, 1.0])
        optimizer.apply_gradients([(slices(*sparse, variable), variable), (tf.constant(other), beside)])
        return variable.numpy(), beside.numpy()

    epsilon = {"epsilon": 1.0}  # else a first step is the same for a gradient of any length
    got = step(lazy(RATE, **{clip: limit}, **epsilon), (ids, values), dense)
    distinct, sums = merged(ids, values)
    rows, other = CLIPS[clip]([sums, dense], limit)
    expected = step(lazy(RATE, **epsilon), (np.array(distinct), np.float32(rows)), np.float32(other))
    for one, two in zip(got, expected, strict=True):
        assert_close(one, two, 1e-6)
    rows, other = CLIPS[clip]([values, dense], limit)
    too_early = step(lazy(RATE, **epsilon), (ids, np.float32(rows)), np.float32(other))
    assert np.abs(too_early[0] - got[0]).max() > 1e-4


@pytest.mark.parametrize("lazy", LAZY)
def test_weights_of_touched_rows_decay_and_no_others(lazy):
    got = trained(lazy(RATE, weight_decay=0.3), batches())
    assert_close(got, FLOAT64[lazy](batches(), decay=0.3))
    np.testing.assert_array_equal(got[6], table()[6])
    assert np.abs(got - trained(lazy(RATE), batches())).max() > 0.1


@pytest.mark.parametrize("excluded", [{"var_list": None}, {"var_names": ["kept"]}])
@pytest.mark.parametrize("lazy", LAZY)
def test_excluded_variables_do_not_decay(lazy, excluded):
    names = ["kept_rows", "kept_dense", "rows", "dense"]
    found = []
    for decay in (None, 0.3):
        variables = [tf.Variable(table(), name=name) for name in names]
        optimizer = lazy(RATE, weight_decay=decay)
        optimizer.exclude_from_weight_decay(**{k: value or variables[:2] for k, value in excluded.items()})
        sparse = slices(np.array([1, 1]), np.ones([2, WIDTH], np.float32), variables[0])
        optimizer.apply_gradients(zip([sparse, tf.ones([ROWS, WIDTH])] * 2, variables, strict=True))
        found.append([variable.numpy() for variable in variables])
    same = [np.array_equal(one, other) for one, other in zip(*found, strict=True)]
    assert same == [True, True, False, False]


@pytest.mark.parametrize("lazy", LAZY)
def test_a_schedule_is_followed(lazy):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, decay_steps=3, decay_rate=0.5)
    got = trained(lazy(schedule, weight_decay=0.1), batches())
    assert_close(got, FLOAT64[lazy](batches(), lambda step: 0.2 * 0.5 ** ((step - 1) / 3), decay=0.1))


@pytest.mark.parametrize("lazy", LAZY)
def test_a_rate_set_between_steps_counts_from_then_on(lazy):
    optimizer, variable = lazy(RATE), tf.Variable(table())
    apply = applied(optimizer, variable, graph=True)
    for step, (ids, values) in enumerate(batches(6), start=1):
        optimizer.learning_rate = 0.1 if step < 4 else 0.02
        apply(ids, values)
    assert_close(variable, FLOAT64[lazy](batches(6), lambda step: 0.1 if step < 4 else 0.02))
    assert apply.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (LazyAdam, {"learning_rate": -0.1}, "learning_rate must be a number of 0 or more; received -0.1."),
        (LazyAdagrad, {"weight_decay": -1.0}, "weight_decay must be a number of 0 or more; received -1.0."),
        (LazyAdam, {"beta_1": 1.0}, "beta_1 must be at least 0 and below 1; received 1.0."),
        (LazyAdam, {"beta_2": -0.5}, "beta_2 must be at least 0 and below 1; received -0.5."),
        (LazyAdam, {"epsilon": -1e-7}, "epsilon must be a number of 0 or more; received -1e-07."),
        (LazyAdam, {"lazy": 1}, "lazy must be True or False; received 1."),
        (
            LazyAdagrad,
            {"initial_accumulator_value": -0.1},
            "initial_accumulator_value must be a number of 0 or more; received -0.1.",
        ),
        (
            LazyAdagrad,
            {"jit_compile": True},
            "XLA cannot compile a row-wise optimizer; received jit_compile=True. Leave it out.",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused(make, arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**arguments)


def test_wide_merged_rows_keep_their_width():
    seen = []

    class Seen(LazyAdagrad):
        def update_rows(self, gradient, rows, variable, indices):
            seen.append(gradient.shape)
            return super().update_rows(gradient, rows, variable, indices)

    variable = tf.Variable(tf.ones([5, 40]))
    optimizer = Seen(0.1)
    optimizer.build([variable])
    tf.function(lambda ids: optimizer.apply_gradients([(tf.IndexedSlices(tf.ones([3, 40]), ids), variable)]))(
        tf.constant([2, 0, 2], tf.int64)
    )
    assert [shape[1] for shape in seen] == [40]


def test_steps_are_not_compiled_where_keras_own_are(monkeypatch):
    config = inspect.getmodule(keras.optimizers.Optimizer).tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda *_: ["GPU"])
    assert keras.optimizers.Adam().jit_compile
    assert not any(lazy().jit_compile for lazy in LAZY)


# --- loss scaling ----------------------------------------------------------------------------------------------------


def scaled_training(lazy, steps):
    """Trains a table under loss scaling; returns it, its optimizer and a step that takes scaled gradients."""
    optimizer = keras.mixed_precision.LossScaleOptimizer(lazy(RATE), initial_scale=2.0**10)
    variable = tf.Variable(table())
    optimizer.build([variable])

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, WIDTH], tf.float32)]
    )
    def apply(ids, values):
        scaled = tf.IndexedSlices(values * optimizer.loss_scale, ids, tf.constant([ROWS, WIDTH], tf.int64))
        (gradient,) = optimizer.get_unscaled_gradients([scaled])
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply_gradients([(gradient, variable)])

    for ids, values in steps:
        apply(ids, values)
    return variable, optimizer, apply


@pytest.mark.parametrize("lazy", LAZY)
def test_loss_scaling_changes_nothing_and_keeps_absent_rows(lazy):
    variable, _, _ = scaled_training(lazy, batches())
    assert_close(variable, FLOAT64[lazy](batches()))


@pytest.mark.parametrize("lazy", LAZY)
def test_an_overflow_moves_nothing_slots_included(lazy):
    variable, optimizer, apply = scaled_training(lazy, batches(3))
    parts = [variable, *optimizer.inner_optimizer.variables[1:]]  # the first counts steps, this one too, as in Keras
    before = [part.numpy() for part in parts]
    apply(np.array([1, 2]), np.array([[np.inf] * WIDTH, [1.0] * WIDTH], np.float32))
    for one, other in zip(before, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(optimizer.loss_scale) == 2.0**9


@pytest.mark.parametrize(("lazy", "policy"), [(LazyAdam, "mixed_float16"), (LazyAdagrad, "float32")])
def test_a_keras_model_of_its_own_trains_in_one_graph(lazy, policy):
    keras.utils.set_random_seed(0)
    ids = keras.Input([3], dtype=tf.int64)
    embedding = keras.layers.Embedding(50, 4, dtype=keras.mixed_precision.Policy(policy))
    output = keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(embedding(ids)))
    model = keras.Model(ids, output)
    optimizer = lazy(RATE)
    model.compile(keras.mixed_precision.LossScaleOptimizer(optimizer) if policy != "float32" else optimizer, "mse")
    before = embedding.get_weights()[0]
    model.fit(np.ones([2, 3], np.int64), np.ones(2), verbose=0)
    graphs = model.train_function.experimental_get_tracing_count()
    model.fit(np.array([[2, 5, 1], [2, 1, 7]]), np.ones(2), verbose=0)  # more distinct ids than before
    moved = np.flatnonzero((embedding.get_weights()[0] != before).any(axis=1))
    assert moved.tolist() == [1, 2, 5, 7]
    assert model.train_function.experimental_get_tracing_count() == graphs


# --- Keras' interface ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.3, keras.optimizers.schedules.CosineDecay(0.3, 5)])
@pytest.mark.parametrize(
    ("lazy", "arguments"),
    [
        (
            LazyAdam,
            {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3, "weight_decay": 0.1, "clipnorm": 2.0, "name": "mine"},
        ),
        (LazyAdam, {"lazy": False, "use_ema": True, "ema_momentum": 0.8}),
        (LazyAdagrad, {"initial_accumulator_value": 0.5, "epsilon": 1e-3, "clipvalue": 0.7, "global_clipnorm": 2.0}),
    ],
)
def test_it_survives_its_config(lazy, arguments, rate):
    optimizer = lazy(rate, **arguments)
    config = optimizer.get_config()
    assert arguments.items() <= config.items()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copies = [
            lazy.from_config(dict(config)),
            keras.optimizers.get(keras.optimizers.serialize(optimizer)),
            keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer), default=float))),
        ]
    for copy in copies:
        assert type(copy) is lazy
        assert copy.get_config() == config
        np.testing.assert_array_equal(trained(copy, batches(3)), trained(lazy(rate, **arguments), batches(3)))


def test_keras_takes_an_optimizer_as_it_is():
    optimizer = LazyAdam(RATE)
    assert keras.optimizers.get(optimizer) is optimizer


@pytest.mark.parametrize("lazy", LAZY)
def test_training_goes_on_from_a_checkpoint_to_the_same_bits(lazy, tmp_path):
    steps = list(batches(8))
    uninterrupted = trained(lazy(RATE), steps)
    optimizer, variable = lazy(RATE), tf.Variable(table())
    apply = applied(optimizer, variable, graph=True)
    for ids, values in steps[:5]:
        apply(ids, values)
    path = tf.train.Checkpoint(variable=variable, optimizer=optimizer).write(str(tmp_path / "at"))
    for restored_early in (True, False):  # before and after the slots are there
        optimizer, variable = lazy(RATE), tf.Variable(table() * 0)
        checkpoint = tf.train.Checkpoint(variable=variable, optimizer=optimizer)
        if restored_early:
            status = checkpoint.read(path)
        apply = applied(optimizer, variable, graph=True)
        if not restored_early:
            status = checkpoint.read(path)
        status.assert_consumed()
        for ids, values in steps[5:]:
            apply(ids, values)
        np.testing.assert_array_equal(variable, uninterrupted)


# --- in a model ------------------------------------------------------------------------------------------------------

FEATURES = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]


def data():
    """Four batches of two rows, each with ids of its own."""
    ids = np.arange(8)
    return tf.data.Dataset.from_tensor_slices(({"a": ids, "b": 8 - ids // 2}, ids % 2)).batch(2)


@pytest.fixture(scope="module")
def half_way(tmp_path_factory):
    """By optimizer: a model's file after one epoch of two, and the weights after both."""
    found = {}
    for lazy in LAZY:
        keras.utils.set_random_seed(0)
        model = RankingModel(FEATURES, embedding_dim=4, embedding_stddev=0.5, task="regression")
        schedule = keras.optimizers.schedules.ExponentialDecay(RATE, 3, 0.5)
        model.compile(lazy(schedule, weight_decay=0.1, clipnorm=1.0), steps_per_execution=1)
        model.fit(data(), verbose=0)
        path = tmp_path_factory.mktemp("saved") / f"{lazy.__name__}.keras"
        model.save(path)
        model.fit(data(), verbose=0)
        found[lazy] = path, [weight.tolist() for weight in model.get_weights()]
    return found


@pytest.mark.parametrize("lazy", LAZY)
def test_a_saved_model_trains_on_to_the_same_bits(half_way, lazy):
    path, weights = half_way[lazy]
    model = load_model(path)
    assert type(model.optimizer) is lazy
    model.fit(data(), verbose=0)
    assert [weight.tolist() for weight in model.get_weights()] == weights


ELSEWHERE = """
import json, os
import numpy as np
import nfm_tfrs
from nfm_tfrs.keras_compat import keras, load_keras_tuner, tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

ids = np.arange(8)
data = tf.data.Dataset.from_tensor_slices(({"a": ids, "b": 8 - ids // 2}, ids % 2)).batch(2)
model = nfm_tfrs.load_model(os.environ["SAVED"])
model.fit(data, verbose=0)
resumed = [weight.tolist() for weight in model.get_weights()]

from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam, named_optimizer

rng = np.random.default_rng(0)
steps = [[(rng.integers(0, 6, size), rng.normal(size=[size, 3])) for size in (5, 7)] for _ in range(4)]  # a replica's


def trained(strategy, lazy, scaled):
    with strategy.scope():
        table = tf.Variable(np.linspace(-1, 1, 24).reshape(8, 3), dtype=tf.float32)
        dense = tf.Variable([1.0, 2.0])
        inner = optimizer = lazy(0.1, weight_decay=0.1, global_clipnorm=2.0)
        if scaled:
            optimizer = keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=1024.0)
        optimizer.build([table, dense])

    @tf.function(autograph=False, reduce_retracing=True)
    def step(ids, values, other):
        def apply(ids, values, other):
            scale = optimizer.loss_scale if scaled else 1.0
            gradients = [tf.IndexedSlices(values * scale, ids, tf.constant([8, 3], tf.int64)), other * scale]
            if scaled:
                gradients = optimizer.get_unscaled_gradients(gradients)
            optimizer.apply_gradients(zip(gradients, [table, dense]))
        strategy.run(apply, (ids, values, other))

    replicas = strategy.num_replicas_in_sync
    for parts in steps:
        shares = parts if replicas == 2 else [tuple(np.concatenate(both) for both in zip(*parts))]
        shares = [(i, np.float32(v), np.float32([v.sum(), i.sum()])) for i, v in shares]
        step(*(strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group][k])) for k in range(3)))
    return [part.numpy().tolist() for part in (table, dense, *inner.variables)]


both = [tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()]
replicas = {
    f"{lazy.__name__}, scaled: {scaled}": [trained(strategy, lazy, scaled) for strategy in both]
    for lazy in (LazyAdam, LazyAdagrad) for scaled in (False, True)
}

keras_tuner = load_keras_tuner()


def build(hp):
    model = nfm_tfrs.RankingModel([nfm_tfrs.NumericFeature(name) for name in "ab"], task="regression")
    model.compile(LazyAdam(hp.Float("rate", 0.01, 0.1)), steps_per_execution=1)
    return model


tuner = keras_tuner.RandomSearch(build, "val_loss", max_trials=1, directory="search")
tuner.search(data, validation_data=data, verbose=0)
scores = [trial.score for trial in tuner.oracle.trials.values()]

a = rng.integers(0, 5, 24)
bags = tf.RaggedTensor.from_row_lengths(rng.integers(0, 5, 36), np.repeat([0, 1, 2, 3], 6))
joined = tf.data.Dataset.from_tensor_slices(({"a": a, "b": bags}, a % 2)).batch(8)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
features = [
    nfm_tfrs.CategoricalFeature("a", vocabulary_size=9), nfm_tfrs.MultiCategoricalFeature("b", vocabulary_size=9)
]
models = []
for strategy in both[::-1]:
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = nfm_tfrs.RankingModel(features, embedding_dim=4, embedding_stddev=0.5, task="regression")
        model.compile(LazyAdam(0.1))
    try:
        model.fit(joined.with_options(options), epochs=2, verbose=0)
        models.append([weight.tolist() for weight in model.get_weights()])
    except tf.errors.InvalidArgumentError as error:
        models.append(error.message)
print(json.dumps({"resumed": resumed, "replicas": replicas, "scores": scores, "models": models}))
"""


@pytest.fixture(scope="module")
def elsewhere(half_way, run_python):
    """What another process finds: one for all, since it takes seconds to start."""
    return json.loads(run_python(ELSEWHERE, SAVED=str(half_way[LazyAdam][0])).stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_saved_model_trains_on_to_the_same_bits_in_another_process(half_way, elsewhere):
    assert elsewhere["resumed"] == half_way[LazyAdam][1]


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("lazy", LAZY)
def test_two_replicas_train_as_one_on_the_joined_batch(elsewhere, lazy, scaled):
    two, one = elsewhere["replicas"][f"{lazy.__name__}, scaled: {scaled}"]
    for together, alone in zip(two, one, strict=True):
        assert_close(together, alone)


@pytest.mark.slow
def test_a_model_trains_on_replicas_that_differ_in_the_number_of_distinct_ids(elsewhere):
    one, two = elsewhere["models"]
    assert not isinstance(two, str), two
    for together, alone in zip(two, one, strict=True):
        assert_close(together, alone)


@pytest.mark.slow
def test_keras_tuner_searches_with_it(elsewhere):
    (score,) = elsewhere["scores"]
    assert score > 0


def test_lazy_adam_moves_bfloat16_rows_too():
    variable = tf.Variable(tf.ones([3, 2], tf.bfloat16))
    gradient = tf.IndexedSlices(tf.ones([1, 2], tf.bfloat16), [1], [3, 2])
    LazyAdam(0.125).apply_gradients([(gradient, variable)])
    np.testing.assert_allclose(tf.cast(variable, tf.float32), [[1, 1], [0.875, 0.875], [1, 1]], rtol=0.01)


@pytest.mark.parametrize(
    ("name", "rate", "made"),
    [("lazyadam", 0.5, LazyAdam), ("LazyAdagrad", None, LazyAdagrad), ("Adam", 0.25, keras.optimizers.Adam)],
)
def test_an_optimizer_is_known_by_its_name(name, rate, made):
    optimizer = named_optimizer(name, rate)
    assert type(optimizer) is made
    assert float(optimizer.learning_rate) == pytest.approx(rate or 0.05)


def test_an_optimizer_that_there_is_not_is_refused():
    for made in (named_optimizer, optimizer_of):
        with pytest.raises(ValueError, match=r"^There is no optimizer 'lazyadm'; did you mean 'lazyadam'"):
            made("lazyadm")


@pytest.mark.parametrize("name", [*OPTIMIZERS, "LazyAdam", "LAZYADAGRAD", "Adam"])
def test_a_model_is_compiled_with_an_optimizer_by_its_name_in_any_case(name):
    model = RankingModel([CategoricalFeature(n, vocabulary_size=2) for n in "ab"], embedding_dim=2, hidden_units=())
    model.compile(name)
    assert type(model.optimizer).__name__.lower() == name.lower()


def test_rates_may_be_numbers_of_numpy():
    assert float(LazyAdam(np.float32(0.25), weight_decay=np.float64(0.5)).learning_rate) == 0.25


NOT_NEGATIVE = ("epsilon", "clipnorm", "clipvalue", "global_clipnorm", "weight_decay")


@pytest.mark.parametrize("name", ["lazyadagrad", "lazyadam", "adagrad", "adam", "adamw"])
@pytest.mark.parametrize("argument", NOT_NEGATIVE)
@pytest.mark.parametrize("value", ["abc", -1, float("nan"), float("inf"), True, [1.0]])
def test_a_number_of_an_optimizer_is_one_of_0_or_more(name, argument, value):
    with pytest.raises(ValueError, match=r".") as caught:
        named_optimizer(name, 0.1, **{argument: value})
    assert str(caught.value) == f"{argument} must be a number of 0 or more; received {value!r}."
    assert getattr(named_optimizer(name, 0.1, **{argument: 0.5}), argument) == 0.5


@pytest.mark.parametrize(
    ("name", "argument"),
    [("adam", "beta_1"), ("lazyadam", "beta_2"), ("rmsprop", "rho"), ("adadelta", "rho"), ("sgd", "ema_momentum")],
)
@pytest.mark.parametrize("value", ["abc", -0.1, 1, None])
def test_a_decay_of_an_optimizer_is_below_1(name, argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must be at least 0 and below 1; received "):
        named_optimizer(name, 0.1, **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument", "value", "line"),
    [
        ("sgd", "momentum", "x", "momentum must be a number of 0 or more; received 'x'."),
        ("ftrl", "l1_regularization_strength", None, "l1_regularization_strength must be a number of 0 or more; re"),
        ("adagrad", "initial_accumulator_value", "x", "initial_accumulator_value must be a number of 0 or more; re"),
        ("adam", "amsgrad", "x", "amsgrad must be True or False; received 'x'."),
    ],
)
def test_further_arguments_of_an_optimizer_are_numbers_and_switches(name, argument, value, line):
    with pytest.raises(ValueError, match=r".") as caught:
        named_optimizer(name, 0.1, **{argument: value})
    assert str(caught.value).startswith(line)


def test_a_power_below_0_and_no_clipping_are_taken():
    assert named_optimizer("ftrl", 0.1, learning_rate_power=-0.25, clipnorm=None).learning_rate_power == -0.25
