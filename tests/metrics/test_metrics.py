import itertools
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from nfm_tfrs import metrics


def pairwise_auc(labels, scores, weights=None):
    """Every positive against every negative, one by one in effect."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    positive, negative = scores[labels == 1], scores[labels == 0]
    won = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    weight = weights[labels == 1][:, None] * weights[labels == 0]
    return (won * weight).sum() / weight.sum()


def draw(rows, seed=0, noise=0.3):
    """Labels and informative scores of unit scale."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(1.3 - 1.4 * truth))).astype(np.int64)
    return labels, truth + noise * rng.normal(size=rows)


# --- exact -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    labels=hnp.arrays(np.int64, 12, elements=st.integers(0, 1)),
    scores=hnp.arrays(np.float64, 12, elements=st.sampled_from([-np.inf, -2.0, 0.0, 1e-9, 3.0, np.inf])),
    weights=hnp.arrays(np.float64, 12, elements=st.sampled_from([0.5, 1.0, 3.0])),
)
def test_auc_equals_every_pair_compared(labels, scores, weights):
    if labels.all() or not labels.any():
        assert np.isnan(metrics.auc(labels, scores, weights))
    else:
        assert metrics.auc(labels, scores, weights) == pytest.approx(pairwise_auc(labels, scores, weights), abs=1e-12)


def test_auc_counts_ties_one_half():
    assert metrics.auc([0, 1, 0, 1], [7, 7, 7, 7]) == 0.5
    assert metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]) == 0.875


@pytest.mark.parametrize("scores", [[0.3, 0.1, 0.9, 0.4, 0.2], [1.0, 1.0, 2.0, 2.0, 1.0]], ids=["distinct", "ties"])
def test_auc_of_shares_weighs_every_pair_of_rows_with_its_product(scores):
    positives, negatives = np.array([0.5, 0, 2, 1, 0.25]), np.array([0.5, 3, 0, 1, 0.75])
    scores = np.array(scores)
    won = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = np.outer(positives, negatives)
    assert metrics.auc_of(scores)(positives, negatives) == pytest.approx((won * pairs).sum() / pairs.sum(), abs=1e-15)


def test_auc_of_one_class_is_nan():
    assert np.isnan(metrics.auc_of(np.ones(2))(np.ones(2), np.zeros(2)))


def test_auc_of_a_row_of_weight_two_equals_the_row_twice():
    labels, scores = draw(50)
    twice = np.r_[np.arange(50), 3]
    weights = np.ones(50)
    weights[3] = 2
    assert metrics.auc(labels, scores, weights) == pytest.approx(metrics.auc(labels[twice], scores[twice]))


@pytest.mark.parametrize(
    ("labels", "scores", "weights"),
    [
        ([0, 0], [1, 2], None),
        ([1, 1], [1, 2], None),
        ([], [], None),
        ([0, 1], [1, 2], [1, 0]),
        ([0, 1], [1, np.nan], None),
    ],
    ids=["no positive", "no negative", "empty", "positive weighs nothing", "nan score"],
)
def test_auc_without_two_classes_or_with_a_nan_score_is_nan(labels, scores, weights):
    assert np.isnan(metrics.auc(labels, scores, weights))


def test_a_column_of_one_is_a_vector():
    labels, scores = draw(40)
    assert metrics.auc(labels[:, None], scores) == metrics.auc(labels, scores[:, None])


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_equals_scikit_learn_of_probabilities(weighted):
    labels, logits = draw(200)
    weights = np.random.default_rng(1).uniform(0, 2, 200) if weighted else None
    expected = sklearn_log_loss(labels, 1 / (1 + np.exp(-logits)), sample_weight=weights)
    assert metrics.log_loss(labels, logits, weights) == pytest.approx(expected, rel=1e-12)


def test_log_loss_of_saturated_logits_keeps_its_size():
    assert metrics.log_loss([1, 0], [-800.0, 800.0]) == 800
    assert metrics.log_loss([1], [40.0]) == pytest.approx(np.exp(-40.0), rel=1e-12)
    assert metrics.log_loss([1, 0], [np.inf, -np.inf]) == 0
    assert metrics.log_loss([1], [-np.inf]) == np.inf
    assert metrics.log_loss([1, 1], [0.0, -np.inf], [1, 0]) == pytest.approx(np.log(2))


def test_log_loss_of_no_rows_is_nan():
    assert np.isnan(metrics.log_loss([], []))
    assert np.isnan(metrics.log_loss([1], [2.0], [0.0]))


@pytest.mark.parametrize("kind", ["int", "str", "object"])
def test_grouped_auc_equals_a_loop_over_users(kind):
    rng = np.random.default_rng(3)
    labels, scores = draw(400, seed=3)
    scores = np.round(scores, 1)  # ties
    users = rng.integers(0, 60, 400)
    groups = {"int": users, "str": np.char.add("u", users.astype(str)), "object": users.astype(str).astype(object)}[
        kind
    ]
    total = rows = counted = 0
    for user in range(60):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            total += mine.sum() * roc_auc_score(labels[mine], scores[mine])
            rows += mine.sum()
            counted += 1
    assert 0 < counted < 60  # some users have one class only
    value, groups_counted = metrics.grouped_auc(labels, scores, groups)
    assert value == pytest.approx(total / rows, abs=1e-12)
    assert groups_counted == counted


def test_grouped_auc_of_one_group_is_auc():
    labels, scores = draw(100)
    assert metrics.grouped_auc(labels, scores, np.zeros(100)).value == pytest.approx(metrics.auc(labels, scores))


@pytest.mark.parametrize("missing", [None, np.nan])
def test_grouped_auc_leaves_out_rows_without_a_group(missing):
    groups = np.array(["a", "a", missing, "a", missing], object)
    assert metrics.grouped_auc([0, 1, 0, 0, 1], [1, 2, 9, 3, 0], groups) == (0.5, 1)


@pytest.mark.parametrize("groups", [[1, 2, 3], [None, None, None]])
def test_grouped_auc_without_a_group_of_both_classes_is_nan(groups):
    value, counted = metrics.grouped_auc([0, 1, 1], [1, 2, 3], groups)
    assert np.isnan(value)
    assert counted == 0


def test_grouped_auc_of_a_nan_score_is_nan():
    assert np.isnan(metrics.grouped_auc([0, 1], [np.nan, 1], [5, 5]).value)


def dumb_calibration_error(labels, probabilities, weights, edges):
    error = 0.0
    for lower, upper in itertools.pairwise(edges):
        inside = (probabilities > lower) & (probabilities <= upper)
        if lower == edges[0]:
            inside |= probabilities <= lower
        if inside.any():
            gap = np.average(labels[inside], weights=weights[inside]) - np.average(
                probabilities[inside], weights=weights[inside]
            )
            error += weights[inside].sum() / weights.sum() * abs(gap)
    return error


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("bins", [1, 2, 15])
def test_calibration_error_equals_a_loop_over_bins(strategy, bins):
    labels, logits = draw(500, seed=4)
    probabilities = 1 / (1 + np.exp(-logits))
    weights = np.random.default_rng(5).uniform(0.1, 2, 500)
    edges = {
        "uniform": np.linspace(0, 1, bins + 1),
        "quantile": np.quantile(probabilities, np.linspace(0, 1, bins + 1)),
    }
    result = metrics.calibration(labels, probabilities, weights, bins=bins, strategy=strategy)
    assert result.expected_error == pytest.approx(
        dumb_calibration_error(labels, probabilities, weights, edges[strategy]), abs=1e-12
    )
    assert result.predicted_to_actual == pytest.approx((weights * probabilities).sum() / (weights * labels).sum())


def test_calibration_of_perfect_and_of_opposite_predictions():
    assert metrics.calibration([0, 1, 0, 1], [0, 1, 0, 1]) == (0, 1)
    assert metrics.calibration([0, 1, 0, 1], [1, 0, 1, 0]) == (1, 1)
    assert metrics.calibration([0, 1], [0.25, 0.25]) == (0.25, 0.5)


def test_quantile_bins_see_what_one_uniform_bin_hides():
    labels, probabilities = np.repeat([0, 1], [990, 10]), np.repeat([0.02, 0.0, 0.0], [500, 490, 10])
    assert metrics.calibration(labels, probabilities).expected_error < 1e-12
    assert metrics.calibration(labels, probabilities, bins=2, strategy="quantile").expected_error == pytest.approx(0.02)


def test_calibration_of_nothing_is_nan():
    assert np.isnan(metrics.calibration([], [])).all()
    assert np.isnan(metrics.calibration([0, 1], [np.nan, 0.5])).all()
    error, ratio = metrics.calibration([0, 0], [0.5, 0.5])
    assert error == 0.5
    assert np.isnan(ratio)


def test_evaluate_binary_gathers_the_single_functions():
    labels, logits = draw(300)
    users = np.arange(300) % 7
    probabilities = 1 / (1 + np.exp(-logits))
    report = metrics.evaluate_binary(labels, logits, users)
    assert report == {
        "auc": metrics.auc(labels, logits),
        "log_loss": metrics.log_loss(labels, logits),
        "calibration_error": pytest.approx(metrics.calibration(labels, probabilities).expected_error),
        "predicted_to_actual": pytest.approx(probabilities.sum() / labels.sum()),
        "grouped_auc": metrics.grouped_auc(labels, logits, users).value,
        "groups": 7,
    }
    assert all(type(value) is float for value in report.values())
    assert "grouped_auc" not in metrics.evaluate_binary(labels, logits)


def test_evaluate_binary_of_a_diverged_model_is_nan_not_an_exception():
    report = metrics.evaluate_binary([0, 1], [np.nan, np.nan], [1, 1])
    assert {name for name, value in report.items() if np.isnan(value)} == set(report) - {"groups"}


def test_evaluate_binary_takes_float16_and_huge_logits():
    report = metrics.evaluate_binary([0, 1], np.array([-6e4, 6e4], np.float16))
    assert report == {"auc": 1, "log_loss": 0, "calibration_error": 0, "predicted_to_actual": 1}


def test_evaluate_regression():
    report = metrics.evaluate_regression([1, 2, 3], [[2], [2], [1]], [1, 1, 2])
    assert report == {"rmse": pytest.approx(1.5), "mae": pytest.approx(1.25)}
    assert np.isnan(list(metrics.evaluate_regression([], []).values())).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.auc([0, 0.5, 4], [1, 2, 3]),
            "labels must be 0 or 1; received 0.5 (rows like it: 2). "
            "Write a condition, such as label>=1 of -1 and 1, to make a number binary.",
        ),
        (
            lambda: metrics.log_loss([0, np.nan], [1, 2]),
            "labels must be 0 or 1; received nan (rows like it: 1). "
            "Write a condition, such as label>=1 of -1 and 1, to make a number binary.",
        ),
        (
            lambda: metrics.log_loss([0, 1], [1, 2, 3], [1]),
            "labels, logits and weights must be equally many; received 2, 3 and 1.",
        ),
        (lambda: metrics.auc([0, 1], [1, 2], [1, -3]), "weights must be 0 or more; received -3."),
        (
            lambda: metrics.grouped_auc([0, 1], [1, 2], [1]),
            "labels and groups must be equally many; received 2 and 1.",
        ),
        (
            lambda: metrics.grouped_auc([0, 1], [1, 2], np.array(["a", 1], object)),
            "groups must be of one type; received int, str.",
        ),
        (
            lambda: metrics.calibration([0, 1], [0.5, 1.5]),
            "calibration needs probabilities from 0 to 1; received 1.5. Apply a sigmoid to logits first.",
        ),
        (lambda: metrics.calibration([0], [0.5], bins=0), "calibration needs 1 bin or more; received bins=0."),
        (
            lambda: metrics.calibration([0], [0.5], strategy="mass"),
            'calibration strategy must be "uniform" or "quantile"; received \'mass\'.',
        ),
        (
            lambda: metrics.evaluate_regression([1, 2], [1]),
            "labels, predictions and weights must be equally many; received 2, 1 and 2.",
        ),
    ],
)
def test_error_says_what_is_wrong(call, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        call()
    assert str(error.value) == message


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'nfm_tfrs.metrics' has no attribute 'AUROC'"):
        metrics.AUROC  # noqa: B018


def test_exact_metrics_import_neither_tensorflow_nor_scikit_learn():
    code = "import sys, nfm_tfrs.metrics; print({'tensorflow', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# --- while training --------------------------------------------------------------------------------------------------

SHAPES = {
    "normal": lambda x: x,
    "bias -4": lambda x: x - 4,
    "tiny": lambda x: np.clip(x * 0.004, -0.01, 0.01),
    "sd 30": lambda x: 30 * x,
    "sd 100": lambda x: 100 * x,
    "around ±30": lambda x: x + np.where(x > 0, 30, -30),
    "at ±100": lambda x: np.where(x > 0, 100.0, -100.0),
    "one decimal": lambda x: np.round(x, 1),
    "constant": lambda x: np.zeros_like(x),
    "infinite": lambda x: np.where(x > 1, np.inf, np.where(x < -1, -np.inf, x)),
}


@pytest.fixture(scope="module")
def tf():
    from nfm_tfrs.keras_compat import tf

    return tf


@pytest.mark.parametrize("shape", SHAPES)
def test_streaming_auc_is_within_1e_4_of_exact(tf, shape):
    labels, scores = draw(20_000)
    logits = SHAPES[shape](scores).astype(np.float32)
    weights = np.random.default_rng(1).integers(0, 3, 20_000).astype(np.float32)
    plain, weighted = metrics.AUC(), metrics.AUC()
    for part in np.array_split(np.arange(20_000), 7):
        plain.update_state(labels[part], logits[part])
        weighted.update_state(labels[part][:, None], logits[part][:, None], weights[part][:, None])
    assert float(plain.result()) == pytest.approx(metrics.auc(labels, logits), abs=1e-4)
    assert float(weighted.result()) == pytest.approx(metrics.auc(labels, logits, weights), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    labels=hnp.arrays(np.int64, 30, elements=st.integers(0, 1)),
    scores=hnp.arrays(np.int64, 30, elements=st.integers(-40, 40)),
)
def test_streaming_auc_of_well_separated_logits_is_exact(labels, scores):
    metric = metrics.AUC()
    metric.update_state(labels, scores / 4)
    assert float(metric.result()) == pytest.approx(metrics.auc(labels, scores), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_streaming_auc_without_two_classes_is_nan(tf, labels):
    metric = metrics.AUC()
    assert np.isnan(metric.result())
    metric.update_state(labels, [0.0, 1.0])
    assert np.isnan(metric.result())


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_nan_logit_shows_until_reset(tf, name):
    metric = getattr(metrics, name)()
    metric.update_state([0, 1, 1], [0.0, np.nan, 1.0])
    assert np.isnan(metric.result())
    metric.reset_state()
    metric.update_state([0, 1], [0.0, 1.0])
    assert not np.isnan(metric.result())


def test_label_between_0_and_1_counts_for_both_classes(tf):
    soft, split = metrics.AUC(), metrics.AUC()
    soft.update_state([0.25, 1, 0], [1.0, 2.0, 3.0])
    split.update_state([1, 0, 1, 0], [1.0, 1.0, 2.0, 3.0], [0.25, 0.75, 1, 1])
    assert float(soft.result()) == float(split.result())


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_merged_states_give_the_metric_of_the_union(tf, name):
    labels, logits = draw(1000)
    left, right, union = (getattr(metrics, name)() for _ in range(3))
    left.update_state(labels[:300], logits[:300])
    right.update_state(labels[300:], logits[300:])
    union.update_state(labels, logits)
    left.merge_state([right])
    assert float(left.result()) == pytest.approx(float(union.result()), rel=1e-7)
    assert float(right.result()) != float(union.result())


@pytest.mark.parametrize("weights", [None, "scalar", "vector"])
def test_streaming_log_loss_equals_exact(tf, weights):
    labels, logits = draw(1000)
    weights = {None: None, "scalar": 3.0, "vector": np.random.default_rng(2).uniform(0, 2, 1000)}[weights]
    metric = metrics.LogLoss()
    for part in (slice(0, 7), slice(7, 1000)):
        of_part = weights[part] if np.ndim(weights) else weights
        metric.update_state(labels[part], logits[part, None], sample_weight=of_part)
    expected = metrics.log_loss(labels, logits, weights if np.ndim(weights) else None)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_streaming_log_loss_of_saturated_logits(tf):
    metric = metrics.LogLoss()
    metric.update_state([1, 0], [-100.0, 300.0])
    assert float(metric.result()) == 200


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_counting_goes_on_beyond_2_to_the_24(tf, name):
    metric = getattr(metrics, name)()
    metric.update_state([0, 1], [0.0, 0.0], 2.0**30)
    before = [variable.numpy().sum() for variable in metric.variables]
    metric.update_state([0, 1], [1.0, 1.0])
    after = [variable.numpy().sum() for variable in metric.variables]
    assert all(new - old >= 1 for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_half_precision_logits_are_cast_first(tf, name, dtype):
    labels, logits = draw(500)
    logits = tf.cast(logits, dtype)
    metric = getattr(metrics, name)()
    metric.update_state(tf.constant(labels, tf.int32), logits)
    exact = {"AUC": metrics.auc, "LogLoss": metrics.log_loss}[name](labels, tf.cast(logits, tf.float64).numpy())
    assert float(metric.result()) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_global_policy_does_not_touch_state_or_result(tf, name, policy):
    from nfm_tfrs.keras_compat import keras

    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        metric = getattr(metrics, name)()
        metric.update_state([0, 1, 1], [0.0, 1.0, 2.0])
        assert {variable.dtype for variable in metric.variables} == {tf.float64}
        assert metric.result().dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy(before)


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_result_has_the_dtype_asked_for(tf, name):
    assert getattr(metrics, name)(dtype="float64").result().dtype == tf.float64


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_config_round_trip_through_json(tf, name):
    from nfm_tfrs.keras_compat import keras

    metric = getattr(metrics, name)(name="mine", dtype="float64")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    assert config["registered_name"] == f"nfm_tfrs>{name}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is getattr(metrics, name)
    assert again.get_config() == metric.get_config() == {"name": "mine", "dtype": "float64"}


@pytest.mark.parametrize(("name", "reported"), [("AUC", "auc"), ("LogLoss", "log_loss")])
def test_default_names(tf, name, reported):
    assert getattr(metrics, name)().name == reported


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_inside_tf_function_with_a_changing_batch(tf, name):
    metric = getattr(metrics, name)()

    @tf.function(input_signature=[tf.TensorSpec([None, 1]), tf.TensorSpec([None, 1])])
    def step(labels, logits):
        metric.update_state(labels, logits)
        return metric.result()

    labels, logits = draw(100)
    for part in (slice(0, 64), slice(64, 99), slice(99, 100)):
        result = step(labels[part, None].astype(np.float32), logits[part, None].astype(np.float32))
    exact = {"AUC": metrics.auc, "LogLoss": metrics.log_loss}[name](labels, logits)
    assert float(result) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [[0.0, 1.0], [1.0, 2.0]]), "auc needs logits [batch] or [batch, 1]; received shape (2, 2)."),
        (([[0, 1]], [0.0]), "auc needs labels [batch] or [batch, 1]; received shape (1, 2)."),
        (([0], [0.0], [[1, 2]]), "auc needs sample_weight [batch] or [batch, 1]; received shape (1, 2)."),
    ],
)
def test_more_than_one_column_is_refused(tf, arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        metrics.AUC().update_state(*arguments)
    assert str(error.value) == f"{message} Give it one column."


def test_early_stopping_takes_nan_for_no_improvement(tf):
    from nfm_tfrs.keras_compat import keras

    stop = keras.callbacks.EarlyStopping(monitor="val_auc", patience=1, mode="max")
    stop.set_model(keras.Sequential())
    stop.on_train_begin()
    stop.on_epoch_end(0, {"val_auc": float(metrics.AUC().result())})
    stop.on_epoch_end(1, {"val_auc": 0.4})
    assert stop.best == pytest.approx(0.4)


@pytest.mark.slow
def test_two_replicas_report_the_metric_of_all_rows():
    # In a process of its own: logical devices are set before TensorFlow starts.
    code = """
        import numpy as np
        from nfm_tfrs.keras_compat import keras, tf
        from nfm_tfrs import metrics
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        rng = np.random.default_rng(0)
        x = rng.normal(size=(64, 1)).astype("float32")
        y = (rng.uniform(size=(64, 1)) < 0.4).astype("float32")
        w = rng.integers(1, 4, (64, 1)).astype("float32")
        with strategy.scope():
            model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
            model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True),
                          weighted_metrics=[metrics.AUC(), metrics.LogLoss()])
        report = model.evaluate(x, y, sample_weight=w, batch_size=20, verbose=0, return_dict=True)
        assert abs(report["auc"] - metrics.auc(y, x, w)) < 1e-4, report
        assert abs(report["log_loss"] - metrics.log_loss(y, x, w)) < 1e-6, report
        print("equal")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.stdout == "equal\n", run.stderr[-2000:]
