import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel

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
