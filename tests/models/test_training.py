import json
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models import task_model
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import named_optimizer
from nfm_tfrs.runs.saving import load_model

PAIR = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
PLAIN = {"embedding_dim": 4, "hidden_units": (5,), "embedding_stddev": 0.5}


def pair_rows(count=10, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"a": rng.integers(0, 9, count), "b": rng.integers(0, 9, count)}
    return columns, ((columns["a"] + columns["b"]) % 2).astype(np.float32)


def dataset(parts, batch_size):
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)


def plain_model(features=PAIR, optimizer=None, **arguments):
    keras.utils.set_random_seed(3)
    model = RankingModel(features, **{**PLAIN, **arguments})
    model.compile(optimizer or keras.optimizers.SGD(0.5))
    return model


def cross_entropies(model, columns, labels):
    logits = model(columns).numpy()[:, 0].astype(np.float64)
    return np.logaddexp(0, logits) - labels * logits


def assert_same_weights(one, other):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


# --- what is reported ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["evaluate", "fit"])
def test_losses_are_means_over_all_rows_last_partial_batch_included(method):
    model = plain_model(optimizer=keras.optimizers.SGD(0.0), embedding_l2=0.3)
    columns, labels = pair_rows(10)
    if method == "evaluate":
        report = model.evaluate(dataset((columns, labels), 4), return_dict=True, verbose=0)
    else:
        history = model.fit(dataset((columns, labels), 4), verbose=0).history
        report = {name: values[0] for name, values in history.items()}
    table = model.embedding.table.numpy().astype(np.float64)[:, :4]
    penalties = []
    for start in (0, 4, 8):
        batch = slice(start, start + 4)
        distinct = sorted({*(columns["a"][batch] + 1), *(columns["b"][batch] + 11)})
        penalties.append(0.3 * np.square(table[distinct]).sum())  # the mean over a batch, times its rows
    assert report["loss"] == pytest.approx(cross_entropies(model, columns, labels).mean(), rel=1e-5)
    assert report["regularization_loss"] == pytest.approx(sum(penalties) / 10, rel=1e-5)
    assert report["total_loss"] == pytest.approx(report["loss"] + report["regularization_loss"], rel=1e-5)


def test_auc_and_log_loss_come_unasked_and_exact():
    model = plain_model()
    columns, labels = pair_rows(200)
    model.fit(dataset((columns, labels), 64), verbose=0)
    report = model.evaluate(dataset((columns, labels), 64), return_dict=True, verbose=0)
    logits = model.predict(columns, verbose=0)[:, 0].astype(np.float64)
    assert report["auc"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-4)
    assert report["log_loss"] == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-logits))), rel=1e-5)


def test_validation_is_reported_under_its_own_names():
    columns, labels = pair_rows()
    history = plain_model().fit(
        dataset((columns, labels), 4), validation_data=dataset((columns, labels), 3), epochs=2, verbose=0
    )
    names = {"loss", "regularization_loss", "total_loss", "auc", "log_loss"}
    assert set(history.history) == names | {f"val_{name}" for name in names}
    assert all(np.isfinite(value) for values in history.history.values() for value in values)


def test_each_epoch_counts_anew():
    columns, labels = pair_rows()
    history = plain_model(optimizer=keras.optimizers.SGD(0.0)).fit(dataset((columns, labels), 4), epochs=3, verbose=0)
    for values in history.history.values():
        assert values == [values[0]] * 3


def test_regression_reports_rmse_and_mae():
    model = plain_model(task="regression")
    columns, _ = pair_rows()
    ratings = np.linspace(1, 5, 10)
    report = model.evaluate(dataset((columns, ratings), 4), return_dict=True, verbose=0)
    errors = model(columns).numpy()[:, 0] - ratings
    assert report["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert report["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    assert report["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)


def test_the_metrics_of_a_task_of_ones_own_are_reported():
    task = tfrs.tasks.Ranking(
        loss=keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"),
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
        label_metrics=[keras.metrics.Mean("rate")],
    )
    model = plain_model(task=task)
    columns, labels = pair_rows(12)
    report = model.evaluate(dataset((columns, labels), 4), return_dict=True, verbose=0)
    assert report["accuracy"] == pytest.approx(np.mean((model(columns).numpy()[:, 0] > 0) == labels))
    assert report["rate"] == pytest.approx(labels.mean())
    assert "auc" not in report


# --- labels and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [lambda y: y[:, None], lambda y: y.astype(np.int64), lambda y: y.astype(bool)])
def test_labels_of_any_form_train_alike(form):
    columns, labels = pair_rows()
    one, other = plain_model(), plain_model()
    one.fit(dataset((columns, labels), 4), verbose=0)
    other.fit(dataset((columns, form(labels)), 4), verbose=0)
    assert_same_weights(one, other)


def test_weights_of_either_shape_train_alike():
    columns, labels = pair_rows()
    weights = np.linspace(0, 3, 10)
    one, other = plain_model(), plain_model()
    one.fit(dataset((columns, labels, weights), 4), verbose=0)
    other.fit(dataset((columns, labels[:, None], weights[:, None]), 4), verbose=0)
    assert_same_weights(one, other)
    unweighted = plain_model()
    unweighted.fit(dataset((columns, labels), 4), verbose=0)
    assert not np.array_equal(one.embedding.table.numpy(), unweighted.embedding.table.numpy())


def test_weight_0_takes_a_row_out_of_the_gradient():
    columns = {"a": np.array([1, 2, 3]), "b": np.array([4, 5, 6])}
    labels, weights = np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 2.0])
    model = plain_model()
    before = model.embedding.table.numpy()
    model.train_on_batch(columns, labels, sample_weight=weights)
    moved = np.flatnonzero((model.embedding.table.numpy() != before).any(axis=1))
    assert moved.tolist() == [2, 4, 10 + 5, 10 + 7]


def test_the_loss_is_the_mean_of_the_weighted_losses():
    columns, labels = pair_rows(5)
    weights = np.array([0.0, 1.0, 2.0, 3.0, 0.5])
    model = plain_model(optimizer=keras.optimizers.SGD(0.0))
    report = model.evaluate(dataset((columns, labels, weights), 5), return_dict=True, verbose=0)
    losses = cross_entropies(model, columns, labels)
    assert report["loss"] == pytest.approx(np.mean(weights * losses), rel=1e-5)
    assert report["log_loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_a_batch_of_one_trains():
    model = plain_model(batch_norm=True, interaction_batch_norm=True)
    history = model.fit(dataset(pair_rows(3), 1), verbose=0).history
    assert math.isfinite(history["loss"][0])


@pytest.mark.parametrize(
    ("label", "batch", "message"),
    [
        (None, {"a": [1], "b": [2]}, r"need labels; received columns only. Give \(columns, label\) batches, or label="),
        ("y", {"a": [1], "b": [2]}, "There is no column 'y', which the label reads. The data has 'a', 'b'."),
        ("y", ({"a": [1], "b": [2]},), "There is no column 'y', which the label reads. The data has 'a', 'b'."),
    ],
)
def test_a_batch_without_labels_is_refused(label, batch, message):
    model = plain_model(label=label)
    with pytest.raises(ValueError, match=message):
        model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_goes_down_the_gradient_of_loss_and_regularisation():
    columns, labels = pair_rows(6)
    model = plain_model(optimizer=keras.optimizers.SGD(1.0), embedding_l2=0.2)
    model.adapt_labels(labels)
    with tf.GradientTape() as tape:
        logits = model(columns, training=True)[:, 0]
        loss = tf.reduce_mean(tf.math.softplus(logits) - labels * logits)
        distinct = sorted({*(columns["a"] + 1), *(columns["b"] + 11)})
        vectors = tf.gather(tf.convert_to_tensor(model.embedding.table), distinct)[:, :4]
        loss += 0.2 * tf.reduce_sum(vectors**2) / 6
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, model.trainable_variables)]
    before = [variable.numpy() for variable in model.trainable_variables]
    model.train_on_batch(columns, labels)
    for weight, gradient, after in zip(before, gradients, model.trainable_variables, strict=True):
        np.testing.assert_allclose(weight - gradient, after, rtol=1e-4, atol=1e-6)


def test_raw_and_encoded_batches_train_to_the_same_weights(film_features, film_rows):
    columns, labels = film_rows(20)
    encoded = FeatureEncoder(FeatureSpec(film_features))(columns)
    models = []
    for part in (columns, encoded):
        keras.utils.set_random_seed(3)
        models.append(NFM(film_features, embedding_dim=4))
        models[-1].compile(keras.optimizers.Adagrad(0.1))
        models[-1].fit(dataset((part, labels), 7), epochs=2, verbose=0)
    assert_same_weights(*models)


def test_the_same_seed_trains_to_the_same_weights(film_features, film_rows):
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(11)
        models.append(NFM(film_features, embedding_dim=4))
        models[-1].compile()
        models[-1].fit(dataset(film_rows(20), 8).shuffle(3, seed=1), epochs=2, verbose=0)
    assert_same_weights(*models)


def test_training_learns(film_features, film_rows):
    keras.utils.set_random_seed(0)
    model = NFM(film_features, embedding_dim=8, interaction_dropout=0.1)
    model.compile()
    history = model.fit(dataset(film_rows(400), 64), epochs=15, verbose=0).history
    assert history["auc"][-1] > 0.85
    assert history["log_loss"][-1] < history["log_loss"][0]


def test_arrays_and_generators_train_too():
    columns, labels = pair_rows(8)
    one, other = plain_model(), plain_model()
    one.fit(columns, labels, batch_size=8, shuffle=False, verbose=0)
    other.fit(iter([(columns, labels)]), verbose=0)
    assert_same_weights(one, other)


def test_several_steps_an_execution_train_alike():
    columns, labels = pair_rows(12)
    one, other = plain_model(), plain_model()
    other.compile(keras.optimizers.SGD(0.5), steps_per_execution=3)
    for model in (one, other):
        model.fit(dataset((columns, labels), 4), verbose=0)
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


# --- compile ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["loss", "metrics", "weighted_metrics", "loss_weights"])
def test_compile_refuses_what_belongs_to_the_task(argument):
    with pytest.raises(
        ValueError, match=f"{argument} belongs to the task; received .* in compile. Pass task=tfrs.tasks"
    ):
        RankingModel(PAIR).compile("sgd", **{argument: ["mse"]})


def test_compile_takes_an_optimizer_its_name_or_nothing():
    model = RankingModel(PAIR)
    model.compile("adam")
    assert type(model.optimizer).__name__ == "Adam"
    model.compile(optimizer=keras.optimizers.SGD(0.25))
    assert float(model.optimizer.learning_rate) == 0.25
    model.compile()
    assert type(model.optimizer).__name__ == "LazyAdagrad"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)


def test_metrics_are_read_from_the_first_replica():
    assert RankingModel(PAIR).distribute_reduction_method == "first"


# --- features that come with the data --------------------------------------------------------------------------------


def test_features_are_inferred_at_fit_frozen_and_kept_in_the_config():
    columns = {"city": np.array(["Rome", "Oslo"] * 10), "price": np.linspace(0, 1, 20)}
    labels = np.arange(20) % 2
    model = RankingModel(embedding_dim=4)
    model.compile()
    model.fit(dataset((columns, labels), 8), verbose=0)
    expected = FeatureSpec.from_dataset(dataset((columns, labels), 8))
    assert model.features == expected
    model.fit(dataset(({"city": ["Rome"], "price": [7.0], "more": [1]}, [1]), 1), verbose=0)
    assert model.features == expected
    again = RankingModel.from_config(model.get_config())
    assert again.features == expected
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(columns), model(columns))


def test_features_are_inferred_from_a_dict_of_arrays():
    columns = {"city": np.array(["Rome", "Oslo"] * 10), "zip": np.arange(20) % 2}
    model = RankingModel()
    model.compile()
    model.fit(columns, np.arange(20) % 2, verbose=0)
    assert model.features.names == ("city", "zip")


def ratings(count=60):
    """Batches as the TFRS tutorials make them: one dict, the label inside."""
    rng = np.random.default_rng(0)
    return tf.data.Dataset.from_tensor_slices(
        {
            "movie_id": rng.choice([b"1", b"2", b"3"], count),
            "user_id": rng.choice([b"7", b"8"], count),
            "user_rating": rng.integers(1, 6, count).astype(np.float32),
            "user_gender": rng.integers(0, 2, count),
            "bucketized_user_age": rng.choice([18.0, 25.0, 35.0], count).astype(np.float32),
        }
    )


def test_it_drops_into_the_pipeline_of_the_dcn_tutorial():
    shuffled = ratings().shuffle(60, seed=42, reshuffle_each_iteration=False)
    cached_train = shuffled.take(40).shuffle(40).batch(8192).cache()
    cached_test = shuffled.skip(40).take(20).batch(4096).cache()
    model = NFM(label="user_rating", task="regression", embedding_dim=8)
    model.compile(optimizer=keras.optimizers.legacy.Adam(0.01))
    model.fit(cached_train, epochs=3, verbose=False)
    metrics = model.evaluate(cached_test, return_dict=True, verbose=0)
    assert metrics["rmse"] == pytest.approx(metrics["loss"] ** 0.5, rel=1e-5)
    assert set(model.features.names) == {"movie_id", "user_id", "user_gender", "bucketized_user_age"}
    assert model.predict(cached_test, verbose=0).shape == (20, 1)


def test_the_label_inside_trains_as_the_label_beside():
    columns, labels = pair_rows()
    one, other = plain_model(), plain_model(label="y")
    one.fit(dataset((columns, labels), 4), verbose=0)
    other.fit(dataset({**columns, "y": labels}, 4), verbose=0)
    assert_same_weights(one, other)
    other.evaluate(dataset((columns, labels), 4), verbose=0)  # and a label beside is still read


def test_the_label_inside_may_come_in_a_tuple_and_with_a_weight():
    columns, labels = pair_rows()
    weights = np.linspace(0, 3, 10)
    model = plain_model(label="y")
    inside = {**columns, "y": labels}
    losses = cross_entropies(model, columns, labels)
    assert float(model.compute_loss((inside,))) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(model.compute_loss((inside, None, weights))) == pytest.approx((weights * losses).mean(), rel=1e-5)


def test_a_model_of_bags_and_numbers_alone_trains():
    features = [
        MultiCategoricalFeature("p", vocabulary_size=3, combiner=None, weights="w"),
        MultiCategoricalFeature("q", vocabulary_size=3, combiner="sqrtn"),
        NumericFeature("x"),
    ]
    bags = tf.ragged.constant([[0, 1], [], [2], []], tf.int64)
    columns = {"p": bags, "q": bags, "w": tf.cast(bags, tf.float32), "x": tf.constant([1.0, np.nan, 0.0, 2.0])}
    model = plain_model(features, interaction_batch_norm=True)
    history = model.fit(dataset((columns, [0.0, 1.0, 1.0, 0.0]), 3), epochs=2, verbose=0).history
    assert all(math.isfinite(value) for value in history["total_loss"])


# --- replicas --------------------------------------------------------------------------------------------------------

REPLICAS = """
import json, sys
import numpy as np
from nfm_tfrs.keras_compat import keras, tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.optimizers import named_optimizer

features = [CategoricalFeature("a", vocabulary=list(range(1, 10))), NumericFeature("x", mean=0.5, std=0.3)]
rng = np.random.default_rng(0)
columns = {"a": rng.integers(1, 10, 32), "x": rng.random(32).astype(np.float32)}
labels = (columns["a"] % 2).astype(np.float32)
data = tf.data.Dataset.from_tensor_slices((columns, labels)).batch(8)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
data = data.with_options(options)
results = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    for known in (features, None):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = RankingModel(known, embedding_dim=4, hidden_units=(5,), embedding_stddev=0.5)
            model.compile(keras.optimizers.Adagrad(0.1))
        history = model.fit(data, epochs=2, verbose=0).history
        report = model.evaluate(data, return_dict=True, verbose=0)
        results.append({"history": history, "report": report, "table": model.embedding.table.numpy().tolist(),
                        "head": model._head.kernel.numpy().tolist(), "features": model.features.to_dict()})
odd = data.unbatch().take(17).batch(8)  # of the last batch one replica gets no row
alone = model.fit(odd, verbose=0).history["loss"] + [model.evaluate(odd, return_dict=True, verbose=0)["loss"]]
with strategy.scope():
    normed = RankingModel(features, hidden_units=(5,), batch_norm=True, interaction_batch_norm=True)
    normed.compile(keras.optimizers.Adagrad(0.1))
normed.fit(odd, verbose=0)
finite = all(np.isfinite(weight).all() for weight in normed.get_weights())
try:
    model.compile(steps_per_execution=4)
except ValueError as error:
    refused = str(error)
model.save("model.keras")
with strategy.scope():
    loaded = load_model("model.keras")
same = np.array_equal(loaded(columns), model(columns))
print(json.dumps({"alone": alone, "refused": refused, "same": bool(same), "finite": bool(finite)}))
print(json.dumps(results))
"""


@pytest.mark.slow
def test_two_replicas_train_as_one_on_the_joined_batch(run_python):
    *_, odd, results = map(json.loads, run_python(REPLICAS).stdout.splitlines()[-2:])
    assert np.isfinite(odd["alone"]).all()
    assert (
        odd["refused"] == "On several replicas steps run one at a time; received steps_per_execution=4. Leave it out."
    )
    assert odd["same"]
    assert odd["finite"]  # the averages and the weights of norms, too
    one, one_inferred, two, two_inferred = results
    for alone, together in ((one, two), (one_inferred, two_inferred)):
        np.testing.assert_allclose(together["table"], alone["table"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together["head"], alone["head"], rtol=1e-4, atol=1e-5)
        for name, value in alone["report"].items():
            assert together["report"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        for name, values in alone["history"].items():
            assert together["history"][name] == pytest.approx(values, rel=1e-4, abs=1e-5), name


# --- steps an execution -----------------------------------------------------------------------------------------------


class Seen(keras.callbacks.Callback):
    """Notes after which batches Keras looks at its callbacks."""

    def __init__(self):
        super().__init__()
        self.train, self.test = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.train.append(batch)

    def on_test_batch_end(self, batch, logs=None):
        self.test.append(batch)

    on_train_batch_end.__module__ = "tf_keras"  # a callback of the user's own would see each step


def looks(model, data):
    seen = Seen()
    model.fit(data, validation_data=dataset(pair_rows(9), 3), callbacks=[seen], verbose=0)
    return seen


@pytest.mark.parametrize(
    ("data", "train"),
    [
        (dataset(pair_rows(19), 1), [7, 15, 18]),
        (dataset(pair_rows(3), 1), [2]),
        (dataset(pair_rows(4), 1).filter(lambda *_: True), [0, 1, 2, 3]),
    ],
    ids=["known length", "short", "unknown length"],
)
def test_fit_runs_eight_steps_at_a_time_where_it_knows_how_many_there_are(data, train):
    model = plain_model()
    seen = looks(model, data)
    assert seen.train == train
    assert seen.test == [0, 1, 2]
    assert model._steps_per_execution.numpy() == 1


def test_eight_steps_at_a_time_leave_the_weights_of_one():
    one, eight = plain_model(), plain_model()
    one.compile(keras.optimizers.SGD(0.5), steps_per_execution=1)
    for model in (one, eight):
        model.fit(dataset(pair_rows(19), 2), verbose=0)
    for left, right in zip(one.get_weights(), eight.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_steps_an_execution_are_as_before_where_training_failed():
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise RuntimeError("stopped")

    model = plain_model()
    with pytest.raises(RuntimeError, match="stopped"):
        model.fit(dataset(pair_rows(19), 1), callbacks=[Stop()], verbose=0)
    assert model._steps_per_execution.numpy() == 1
    assert looks(model, dataset(pair_rows(19), 1)).train == [7, 15, 18]


@pytest.mark.parametrize(("given", "train"), [("auto", [7, 9]), (3, [2, 5, 8, 9]), (1, list(range(10)))])
def test_a_loaded_model_runs_as_many_steps_at_a_time(tmp_path, given, train):
    model = plain_model()
    model.compile(keras.optimizers.SGD(0.5), steps_per_execution=given)
    model.save(tmp_path / "model.keras")
    assert looks(load_model(tmp_path / "model.keras"), dataset(pair_rows(10), 1)).train == train


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda columns, labels: columns, "Training and evaluation need labels; received columns only. Give"),
        (lambda columns, labels: ({"a": columns["a"]}, labels), "'b'"),
    ],
)
def test_what_is_wrong_with_a_batch_is_said_in_its_own_words(broken, message):
    with pytest.raises(ValueError, match=message) as caught:
        plain_model().fit(dataset(pair_rows(19), 1).map(broken), verbose=0)
    assert "defined before the loop" not in str(caught.value)


@pytest.mark.parametrize("jit_compile", ["yes", 2])
def test_an_unknown_jit_compile_is_refused(jit_compile):
    with pytest.raises(ValueError, match=f'jit_compile is True, False or "auto"; received {jit_compile!r}.'):
        RankingModel(PAIR).compile(jit_compile=jit_compile)


def test_a_compile_that_is_refused_changes_nothing():
    model = plain_model()
    with pytest.raises(ValueError, match="loss belongs to the task"):
        model.compile(jit_compile=True, loss="mse")
    assert model._scored_by_xla is None


@pytest.mark.parametrize("numeric", ["concat", "bottom_mlp"])
def test_numbers_alone_leave_no_field_to_interact(numeric):
    numbers = [NumericFeature("x"), NumericFeature("y")]
    with pytest.raises(ValueError, match=f'numeric="{numeric}" leaves no field to interact; .* or set numeric="field"'):
        RankingModel(numbers, numeric=numeric, interaction="cross")


@pytest.mark.parametrize("optimizer", ["lazyadagrad", "adam"])
def test_a_training_step_is_traced_once(optimizer):
    calls = []

    class Counted(RankingModel):
        def train_step(self, inputs):
            calls.append(len(calls))
            return super().train_step(inputs)

    model = Counted(PAIR, **PLAIN)
    model.compile(named_optimizer(optimizer, 0.1), steps_per_execution=1)
    model.fit(dataset(pair_rows(8), 4), verbose=0)
    assert len(calls) == 1


class Asked(keras.metrics.BinaryAccuracy):
    """A metric that counts how often it is asked."""

    def __init__(self):
        super().__init__(threshold=0.0)
        self.times = []

    def result(self):
        return tf.numpy_function(lambda value: self.times.append(1) or value, [super().result()], tf.float32)


@pytest.mark.parametrize("steps", [1, 8])
def test_metrics_are_asked_once_an_execution_and_say_the_same(steps):
    metric = Asked()
    task = tfrs.tasks.Ranking(
        loss=keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"), metrics=[metric]
    )
    model = RankingModel(PAIR, task=task, **PLAIN)
    model.compile("sgd", steps_per_execution=steps)
    seen = []
    look = keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: seen.append(dict(logs)))
    history = model.fit(dataset(pair_rows(64), 4), epochs=2, verbose=0, callbacks=[look]).history

    assert len(metric.times) == 2 * 16 // steps + 2  # Keras asks once more behind an epoch
    assert len(seen) == 2 * 16 // steps
    assert seen[-1]["loss"] == history["loss"][-1] == pytest.approx(model.metrics[0].result().numpy())


def test_a_training_step_of_fit_is_traced_once_too():
    traces = []

    class Counted(RankingModel):
        def take_step(self, inputs):
            traces.append(1)
            return super().take_step(inputs)

    model = Counted(PAIR, **PLAIN)
    model.compile("sgd")
    model.fit(dataset(pair_rows(64), 4), epochs=2, verbose=0)
    model.fit(dataset(pair_rows(64), 4), epochs=1, verbose=0)
    assert len(traces) == 1


@pytest.mark.parametrize("huge_pages", [False, True])
def test_large_tables_and_their_slots_go_to_huge_pages_once_where_they_are_to(monkeypatch, huge_pages):
    asked = []
    monkeypatch.setattr(task_model, "_LARGE", 4 * 9 * 4)
    monkeypatch.setattr(task_model, "use_huge_pages", lambda memory: asked.append(memory.shape))
    model = RankingModel(PAIR, **PLAIN)
    model.compile("lazyadam", huge_pages=huge_pages)
    for _ in range(2):
        model.fit(dataset(pair_rows(8), 4), verbose=0)
    assert asked == [(20, 5)] * 3 * huge_pages
