import numpy as np
import pytest

from nfm_tfrs import optimizers, precision
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.runs.saving import load_model

FEATURES = [
    CategoricalFeature("user", vocabulary_size=80_000),
    CategoricalFeature("film", vocabulary_size=80_000),
    NumericFeature("x", mean=40_000.0, std=20_000.0),
]
POLICIES = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]
HALF = {"mixed_float16": tf.float16, "mixed_bfloat16": tf.bfloat16, "float16": tf.float16, "bfloat16": tf.bfloat16}


@keras.utils.register_keras_serializable(package="tests")
class Faint(keras.losses.BinaryCrossentropy):
    """Cross-entropy so small that its gradients vanish in float16."""

    def call(self, y_true, y_pred):
        return 1e-5 * super().call(y_true, y_pred)


def faint_task():
    return tfrs.tasks.Ranking(loss=Faint(from_logits=True, reduction="none"))


def rows(count=64):
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(0, 80_000, count),
        "film": rng.integers(0, 80_000, count),
        "x": rng.uniform(0, 80_000, count).astype(np.float32),
    }
    return columns, (np.arange(count) % 2).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
def test_everything_but_the_dense_part_is_float32(policy):
    model = NFM(FEATURES, embedding_dim=4, dtype=policy)
    columns, _ = rows(3)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model(columns).dtype == tf.float32
    embeddings, _, first_order = model.embedding(model.encoder(columns))
    assert embeddings.dtype == HALF[policy]
    assert first_order.dtype == tf.float32
    assert model._tower(tf.zeros([3, 4])).dtype == HALF[policy]
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("policy", POLICIES)
def test_large_ids_and_numbers_reach_the_model_whole(policy):
    model = RankingModel(FEATURES, embedding_dim=4, hidden_units=(), dtype=policy)
    encoded = model.encoder({"user": [70_000], "film": [16_777], "x": [70_000.0]})
    assert encoded["encoded/ids"].numpy().tolist() == [[70_001, 80_001 + 16_778]]
    assert encoded["encoded/numbers"].numpy().tolist() == [[1.5]]
    table = model.embedding.table
    first_order = np.zeros(table.shape, np.float32)
    first_order[70_001, 4], first_order[80_001 + 16_778, 4] = 0.25, 0.5
    table.assign(first_order)
    columns = {"user": np.array([70_000]), "film": np.array([16_777]), "x": np.array([70_000.0])}
    assert model(columns).numpy().tolist() == [[0.75]]
    assert model.predict(columns, verbose=0).tolist() == [[0.75]]


def moved_rows(policy, batch_norm):
    keras.utils.set_random_seed(0)
    model = NFM(
        FEATURES, embedding_dim=4, dropout=0, interaction_dropout=0, batch_norm=batch_norm, dtype=policy, linear=False,
        interaction_batch_norm=batch_norm, task=faint_task()
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(1e7))
    before = model.embedding.table.numpy()
    columns, labels = rows()
    model.train_on_batch(columns, labels)
    return int((model.embedding.table.numpy() != before).any(axis=1).sum()), model


@pytest.mark.parametrize("batch_norm", [False, True])
def test_faint_losses_still_move_as_many_rows_as_in_float32(batch_norm):
    expected, _ = moved_rows("float32", batch_norm)
    assert expected > 100
    moved, model = moved_rows("mixed_float16", batch_norm)
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert moved == expected


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_no_loss_is_scaled_where_nothing_underflows(policy):
    model = RankingModel(FEATURES, dtype=policy)
    model.compile("sgd")
    assert not isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)


def test_an_optimizer_that_scales_already_is_left_as_it_is():
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1), dynamic=False, initial_scale=8.0)
    model = RankingModel(FEATURES, dtype="mixed_float16")
    model.compile(optimizer)
    assert model.optimizer is optimizer


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_one_step_in_half_precision_is_nearly_the_step_in_float32(policy):
    steps = []
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(0)
        model = RankingModel(FEATURES, embedding_dim=4, embedding_stddev=0.5, embedding_l2=0.1, dtype=dtype)
        model.compile(keras.optimizers.SGD(1.0))
        before = model.embedding.table.numpy()
        model.train_on_batch(*rows())
        steps.append(model.embedding.table.numpy() - before)
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(steps[1], steps[0], atol=0.03 * np.abs(steps[0]).max())


@pytest.mark.parametrize("policy", POLICIES)
def test_metrics_are_those_of_the_float32_logits(policy):
    model = NFM(FEATURES, embedding_dim=4, embedding_stddev=0.5, dtype=policy)
    model.compile("sgd")
    columns, labels = rows()
    logits = model.predict(columns, verbose=0)[:, 0].astype(np.float64)
    report = model.evaluate(columns, labels, batch_size=64, return_dict=True, verbose=0)
    assert report["log_loss"] == pytest.approx(np.mean(np.logaddexp(0, logits) - labels * logits), rel=1e-5)
    assert report["loss"] == pytest.approx(report["log_loss"], rel=1e-5)


# --- loss scaling -----------------------------------------------------------------------------------------------------


def half_model(optimizer=None, policy="mixed_float16", **arguments):
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, **{"embedding_dim": 4, "embedding_stddev": 0.5, "dtype": policy, **arguments})
    model.compile(optimizer)
    return model


def scaler(optimizer, **arguments):
    return keras.mixed_precision.LossScaleOptimizer(optimizer, **arguments)


def epoch(steps, seed=0):
    columns, labels = rows(64 * steps)
    return tf.data.Dataset.from_tensor_slices((columns, labels)).shuffle(64 * steps, seed).batch(64)


@pytest.mark.parametrize("lazy", [True, False])
def test_steps_that_overflow_are_skipped_counted_and_no_steps_of_the_schedule(lazy):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.01])
    inner = LazyAdam(schedule) if lazy else keras.optimizers.Adam(schedule)
    model = half_model(scaler(inner, initial_scale=2.0**30))
    before = model.get_weights()
    history = model.fit(epoch(10), validation_data=epoch(1), epochs=2, verbose=0).history
    skipped = sum(history["skipped_steps"])
    assert 3 <= skipped <= 12
    assert float(model.optimizer.loss_scale) == 2.0 ** (30 - skipped)
    assert int(model.optimizer.iterations) == 20 - skipped
    assert history["skipped_steps"][0] >= history["skipped_steps"][1]
    assert "val_skipped_steps" not in history
    assert any((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_scale_at_its_lowest_still_counts_what_it_skips():
    model = half_model(scaler(keras.optimizers.SGD(0.1), initial_scale=1.0))
    columns, labels = rows()
    report = model.train_on_batch(columns, labels, sample_weight=np.full(64, 1e8, np.float32), return_dict=True)
    assert report["skipped_steps"] == 1
    assert int(model.optimizer.iterations) == 0


def test_a_scale_that_grows_skips_nothing():
    model = half_model(scaler(keras.optimizers.SGD(0.1), initial_scale=4.0, dynamic_growth_steps=2))
    assert model.fit(epoch(6), verbose=0).history["skipped_steps"] == [0]
    assert float(model.optimizer.loss_scale) == 32.0
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_where_no_loss_is_scaled_no_steps_are_counted_as_skipped(policy):
    assert "skipped_steps" not in half_model("sgd", policy).fit(epoch(1), verbose=0).history


@pytest.mark.parametrize("clip", [{"clipnorm": 1e-3}, {"clipvalue": 1e-4}, {"global_clipnorm": 1e-3}])
@pytest.mark.parametrize("lazy", [True, False])
def test_gradients_are_clipped_unscaled(lazy, clip):
    steps = []
    for policy in ("float32", "mixed_float16"):
        optimizer = LazyAdagrad(1.0, **clip) if lazy else keras.optimizers.SGD(1.0, **clip)
        model = half_model(optimizer, policy)
        before = model.embedding.table.numpy()
        model.train_on_batch(*rows())
        steps.append(model.embedding.table.numpy() - before)
    assert np.abs(steps[0]).max() > 1e-5
    np.testing.assert_allclose(steps[1], steps[0], atol=0.03 * np.abs(steps[0]).max())


def test_rows_stay_sparse_and_are_not_merged_twice_under_loss_scaling(monkeypatch):
    seen = []

    class Seen(LazyAdagrad):
        def update_rows(self, gradient, rows, variable, indices):
            seen.append(variable.shape)
            return super().update_rows(gradient, rows, variable, indices)

    def merged(*_):
        raise AssertionError("rows that are distinct were merged")

    monkeypatch.setattr(optimizers, "added_rows", merged)
    model = half_model(Seen(0.1))
    model.fit(epoch(2), verbose=0)
    assert seen
    assert all(shape == model.embedding.table.shape for shape in seen)


@pytest.mark.parametrize("format", ["keras", "checkpoint"])
def test_training_resumes_exactly_scale_included(tmp_path, format):
    def optimizer():
        return scaler(LazyAdam(0.01), initial_scale=2.0**24, dynamic_growth_steps=3)

    whole, first = half_model(optimizer()), half_model(optimizer())
    for model in (whole, first):
        model.fit(epoch(5), verbose=0)
    assert float(first.optimizer.loss_scale) != 2.0**24
    assert int(first.optimizer.dynamic_counter) > 0
    if format == "keras":
        first.save(tmp_path / "model.keras")
        second = load_model(tmp_path / "model.keras")
    else:
        first.save_weights(tmp_path / "weights")
        second = half_model(optimizer())
        second.load_weights(tmp_path / "weights")
    assert second.dtype_policy.name == "mixed_float16"
    for read in (lambda scaled: scaled.loss_scale, lambda scaled: scaled.dynamic_counter):
        assert float(read(second.optimizer)) == float(read(first.optimizer))
    for model in (whole, second):
        model.fit(epoch(5, seed=1), verbose=0)
    for one, other in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(whole.optimizer.loss_scale) == float(second.optimizer.loss_scale)


# --- which precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], "float32"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(9, 0), (6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_auto_takes_what_every_device_has(monkeypatch, capabilities, expected):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: capabilities if kind == "GPU" else [])
    details = {"compute_capability"}
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda found: {} if found is None else dict.fromkeys(details, found),
    )
    assert precision.policy("auto").name == expected


@pytest.mark.parametrize(
    ("multiplies", "hidden_units", "expected"),
    [
        (True, (256, 128), "mixed_bfloat16"),
        (True, (400, 400, 400), "mixed_bfloat16"),
        (True, (256,), "float32"),
        (True, (128, 64), "float32"),
        (True, (), "float32"),
        (False, (400, 400, 400), "float32"),
    ],
)
def test_auto_takes_bfloat16_on_a_cpu_that_multiplies_it_where_the_tower_is_wide(
    monkeypatch, multiplies, hidden_units, expected
):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: multiplies)
    model = RankingModel(FEATURES, hidden_units=hidden_units, dtype="auto")
    assert model.dtype_policy.name == expected
    assert model.get_config()["dtype"] == expected


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", keras.mixed_precision.Policy("mixed_bfloat16"), "bfloat16"])
def test_a_precision_is_a_name_or_a_policy(dtype):
    model = RankingModel(FEATURES, interaction="cross", dtype=dtype)
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.interaction.compute_dtype == "bfloat16"


@pytest.mark.parametrize("dtype", ["half", "float64", None, 16, keras.mixed_precision.Policy("float64")])
def test_an_unknown_precision_is_refused(dtype):
    with pytest.raises(
        ValueError, match="dtype must be one of auto, float32, mixed_bfloat16, mixed_float16, or a policy"
    ):
        RankingModel(FEATURES, dtype=dtype)


# --- saved and opened -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_model_opens_compiled_or_not_whether_it_was_trained_or_not(tmp_path, policy, compile, trained):
    model = half_model(policy=policy)
    if trained:
        model.fit(epoch(2), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras", compile=compile)
    columns, _ = rows(5)
    np.testing.assert_array_equal(loaded(columns), model(columns))
    assert (loaded.optimizer is not None) == compile


def test_weights_of_a_half_precision_model_go_to_any_other(tmp_path):
    model = half_model()
    model.fit(epoch(2), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    for other in (half_model(policy="float32"), RankingModel(FEATURES, embedding_dim=4), half_model()):
        other.load_weights(tmp_path / "model.weights.h5")
        for one, same in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, same)
