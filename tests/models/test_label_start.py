"""The output starts at the labels' mean: set once, from rows that are trained on all the same."""

import json

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.label_start import label_start
from nfm_tfrs.models.ranking import RankingModel

FEATURES = [CategoricalFeature("a", vocabulary_size=5), CategoricalFeature("b", vocabulary_size=3)]
RNG = np.random.default_rng(0)
ROWS = {"a": RNG.integers(0, 5, 40), "b": RNG.integers(0, 3, 40)}
NUMBERS = (150.0 + 10.0 * ROWS["a"] + RNG.normal(0, 5, 40)).astype(np.float32)
CLICKS = (np.arange(40) >= 24).astype(np.float32)  # 8 of the first 32
BATCH = 4
FIRST = 8 * BATCH


def model_of(task, optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, task=task, **{"embedding_dim": 2, "hidden_units": (4,), **arguments})
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


def start(model):
    return model.label_mean.numpy().item(), model.label_scale.numpy().item()


def dataset(labels, columns=ROWS):
    return tf.data.Dataset.from_tensor_slices((columns, labels)).batch(BATCH)


# --- what it is


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError])
def test_of_numbers_it_is_mean_and_standard_deviation(loss):
    assert label_start(loss(), NUMBERS) == pytest.approx((np.mean(NUMBERS), np.std(NUMBERS)), rel=1e-6)


def test_of_clicks_it_is_the_logit_of_their_rate():
    assert label_start(keras.losses.BinaryCrossentropy(), CLICKS) == pytest.approx((np.log(0.4 / 0.6), 1.0))


@pytest.mark.parametrize(("click", "logit"), [(0.0, -np.log(79)), (1.0, np.log(79))])
def test_a_rate_without_the_other_class_counts_half_a_row_of_it(click, logit):
    assert label_start(keras.losses.BinaryCrossentropy(), np.full(40, click)) == pytest.approx((logit, 1.0))


def test_weights_count():
    weights = np.array([3.0, 1.0, 0.0])
    found = label_start(keras.losses.MeanSquaredError(), [[1.0], [5.0], [900.0]], weights)
    assert found == pytest.approx((2.0, np.sqrt(3.0)))


@pytest.mark.parametrize(
    ("loss", "labels", "expected"),
    [
        (keras.losses.MeanSquaredError(), [7.0, 7.0], (7.0, 1.0)),
        (keras.losses.MeanSquaredError(), np.full(999, 0.1, np.float32), (0.1, 1.0)),
        (keras.losses.MeanSquaredError(), [1.0, np.nan], (0.0, 1.0)),
        (keras.losses.MeanSquaredError(), [1.0, np.inf], (0.0, 1.0)),
        (keras.losses.BinaryCrossentropy(), [], (0.0, 1.0)),
        (keras.losses.Huber(), [3.0, 5.0], (0.0, 1.0)),
        (keras.losses.BinaryFocalCrossentropy(), [1.0, 0.0, 0.0], (0.0, 1.0)),
    ],
)
def test_labels_and_losses_without_a_start_of_their_own(loss, labels, expected):
    with np.errstate(invalid="ignore"):
        assert label_start(loss, labels) == pytest.approx(expected)


# --- where it comes from


def one_shot(labels):
    """A dataset that gives its rows once."""
    batches = iter(list(dataset(labels)))
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=dataset(labels).element_spec)


class Batches(keras.utils.Sequence):
    def __init__(self, labels):
        self.batches = [tf.nest.map_structure(lambda part: part.numpy(), batch) for batch in dataset(labels)]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.batches[number]


SOURCES = {
    "dataset": lambda model, labels: model.fit(dataset(labels), verbose=0),
    "unknown length": lambda model, labels: model.fit(dataset(labels).filter(lambda *_: True), verbose=0),
    "one shot": lambda model, labels: model.fit(one_shot(labels), verbose=0),
    "generator": lambda model, labels: model.fit((batch for batch in list(dataset(labels))), verbose=0),
    "sequence": lambda model, labels: model.fit(Batches(labels), shuffle=False, verbose=0),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_eight_batches_tell_it_and_are_trained_on(source):
    model, told = model_of("regression"), model_of("regression")
    told.adapt_labels(NUMBERS[:FIRST])
    assert start(told) == pytest.approx((NUMBERS[:FIRST].mean(), NUMBERS[:FIRST].std()), rel=1e-6)

    SOURCES[source](model, NUMBERS)
    SOURCES["dataset"](told, NUMBERS)

    for one, other in zip(model.get_weights(), told.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_rows_tell_it_where_fit_holds_them():
    model, told = model_of("regression"), model_of("regression")
    told.adapt_labels(NUMBERS)
    model.fit(ROWS, NUMBERS, batch_size=BATCH, shuffle=False, verbose=0)
    told.fit(dataset(NUMBERS), verbose=0)
    for one, other in zip(model.get_weights(), told.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        (CLICKS + 1, None),
        (2 * CLICKS - 1, None),
        (CLICKS, -np.ones(40)),
        (CLICKS, np.ones(39)),
        (CLICKS, [np.nan] * 40),
    ],
    ids=["1 and 2", "-1 and 1", "negative weights", "fewer weights", "no weights"],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_the_step_refuses_leaves_the_start_alone(labels, weights, whole):
    model = model_of("binary")
    weights = None if weights is None else np.asarray(weights, np.float32)
    if whole:
        given = {"x": ROWS, "y": labels, "sample_weight": weights, "batch_size": 40}
    elif weights is None:
        given = {"x": tf.data.Dataset.from_tensors((ROWS, labels))}
    else:
        given = {"x": tf.data.Dataset.from_tensors((ROWS, labels, weights))}
    with pytest.raises(ValueError, match=r"label|weight"):
        model.fit(**given, verbose=0)
    assert start(model) == (0.0, 1.0)
    model.fit(dataset(CLICKS), verbose=0)
    assert start(model) == pytest.approx((np.log(0.25 / 0.75), 1.0))


@pytest.mark.parametrize("steps_per_execution", [1, 3, "auto"])
@pytest.mark.parametrize("rows", [40, 20])
def test_every_batch_is_a_step_whatever_steps_run_at_once(steps_per_execution, rows):
    model = model_of("regression")
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=steps_per_execution)
    columns = {name: values[:rows] for name, values in ROWS.items()}

    model.fit(dataset(NUMBERS[:rows], columns), epochs=2, verbose=0)

    assert model.optimizer.iterations.numpy() == 2 * rows / BATCH


def test_looking_at_labels_costs_no_further_trace():
    traces = {}
    for told in (True, False):
        model, traces[told] = model_of("regression"), []
        if told:
            model.adapt_labels(NUMBERS)
        step = model.train_step
        model.train_step = lambda batch, step=step, told=told: traces[told].append(1) or step(batch)
        model.fit(dataset(NUMBERS), epochs=2, verbose=0)

    assert len(traces[False]) == len(traces[True])


def test_the_label_may_lie_inside_and_classes_have_weights():
    inside, weighted = model_of("binary", label="click"), model_of("binary")
    columns = {**ROWS, "click": CLICKS}
    inside.fit(tf.data.Dataset.from_tensor_slices(columns).batch(BATCH), verbose=0)
    weighted.fit(ROWS, CLICKS, batch_size=BATCH, shuffle=False, class_weight={0: 1.0, 1: 3.0}, verbose=0)

    assert start(inside) == pytest.approx((np.log(8 / 24), 1.0))
    assert start(weighted) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_what_a_sorted_dataset_gives_is_bounded():
    model = model_of("binary")
    model.fit(dataset(np.zeros(40, np.float32)), verbose=0)
    assert start(model) == pytest.approx((-np.log(63), 1.0))


def test_a_task_of_ones_own_starts_as_its_loss_says():
    task = tfrs.tasks.Ranking(loss=keras.losses.MeanAbsoluteError(reduction="none"))
    model, other = model_of(task), model_of(tfrs.tasks.Ranking(loss=keras.losses.Huber(reduction="none")))
    for one in (model, other):
        one.fit(dataset(NUMBERS), verbose=0)

    assert start(model) == pytest.approx((NUMBERS[:FIRST].mean(), NUMBERS[:FIRST].std()), rel=1e-6)
    assert start(other) == (0.0, 1.0)


def test_one_batch_trained_alone_tells_it_too():
    model = model_of("regression")
    model.train_on_batch({name: values[:BATCH] for name, values in ROWS.items()}, NUMBERS[:BATCH])
    assert start(model)[0] == pytest.approx(NUMBERS[:BATCH].mean())


# --- once


def test_a_second_fit_and_a_model_that_was_told_keep_it():
    model = model_of("regression")
    model.fit(dataset(NUMBERS), verbose=0)
    before = start(model)
    model.fit(dataset(NUMBERS + 1000), verbose=0)
    model.adapt_labels(NUMBERS - 1000)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(dataset(NUMBERS - 1000), verbose=0)

    assert start(model) == before


def test_a_model_trained_from_zero_as_version_0_1_0_did_goes_on_from_there():
    model = model_of("binary")
    model._bias.assign([0.3])
    model.fit(dataset(CLICKS), verbose=0)
    model.adapt_labels(CLICKS)

    assert start(model) == (0.0, 1.0)


def test_a_model_without_features_is_told_nothing():
    with pytest.raises(ValueError, match="does not know its features yet"):
        RankingModel().adapt_labels([1.0])
    model = RankingModel()
    model.compile()
    with pytest.raises(ValueError, match="does not know its features yet"):
        model.train_on_batch(ROWS, CLICKS)


# --- what it does


def test_a_prediction_is_mean_plus_scale_times_the_output():
    model = model_of("regression")
    plain = model(ROWS).numpy()
    model.adapt_labels(NUMBERS)

    np.testing.assert_allclose(model(ROWS), NUMBERS.mean() + NUMBERS.std() * plain, rtol=1e-6)


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError])
def test_the_unit_of_the_label_changes_nothing_but_the_unit(loss):
    def trained(labels):
        task = tfrs.tasks.Ranking(loss=loss(reduction="none"), metrics=[keras.metrics.RootMeanSquaredError("rmse")])
        model = model_of(task, embedding_l2=0.1)
        return model, model.fit(dataset(labels), epochs=3, verbose=0).history

    one, history = trained((NUMBERS - 150.0) / 128.0)
    other, other_history = trained(NUMBERS)

    np.testing.assert_allclose(other.embedding.table, one.embedding.table, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(other(ROWS), 150.0 + 128.0 * one(ROWS), rtol=1e-5)
    unit = 128.0**2 if loss is keras.losses.MeanSquaredError else 128.0
    for name, power in {"rmse": 128.0, "loss": unit, "total_loss": unit, "regularization_loss": unit}.items():
        np.testing.assert_allclose(other_history[name], power * np.array(history[name]), rtol=1e-3)
    assert one.embedding.table.numpy().std() > 0.02  # it has learnt


REPLICAS = """
import json
import numpy as np
from nfm_tfrs.keras_compat import keras, tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.models.ranking import RankingModel

found = []
columns, labels = {"a": np.arange(40) % 5}, np.arange(40, dtype=np.float32)
data = tf.data.Dataset.from_tensor_slices((columns, labels)).batch(4)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
data = data.with_options(options)
for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.OneDeviceStrategy("CPU:0")):
    with strategy.scope():
        model = RankingModel([CategoricalFeature("a", vocabulary_size=5)], interaction="concat", task="regression")
        model.compile(keras.optimizers.SGD(0.1))
    model.fit(data, verbose=0)
    found.append([float(model.label_mean.numpy()), float(model.label_scale.numpy())])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_under_a_strategy_it_is_the_same_on_all_replicas(run_python):
    first = np.arange(32)
    for found in json.loads(run_python(REPLICAS).stdout.splitlines()[-1]):
        assert found == pytest.approx([first.mean(), first.std()], rel=1e-5)
