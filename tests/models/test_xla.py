"""XLA compiles the dense part of a model, whatever is looked up and whatever optimizer moves the rows."""

from functools import partial

import numpy as np
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.testing.kit import BOUNDS

FEATURES = [
    CategoricalFeature("user", vocabulary=["ann", "bob", "cy"]),
    CategoricalFeature("item", vocabulary_size=9),
    NumericFeature("price", mean=3.0, std=2.0),
    MultiCategoricalFeature("tags", vocabulary_size=7),
]
BATCH = 8


def rows(count=20, seed=0, most=4):
    rng = np.random.default_rng(seed)
    columns = {
        "user": rng.choice(["ann", "bob", "cy", "dee"], count),
        "item": rng.integers(0, 9, count),
        "price": rng.normal(3, 2, count).astype(np.float32),
        "tags": tf.ragged.constant(
            [rng.integers(0, 7, rng.integers(0, most)).tolist() for _ in range(count)], tf.int64
        ),
    }
    return columns, rng.integers(0, 2, count).astype(np.float32)


def batches(**arguments):
    return tf.data.Dataset.from_tensor_slices(rows(**arguments)).batch(BATCH)


def trained(optimizer, jit_compile, **arguments):
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, **{"embedding_dim": 4, "hidden_units": (5,), "embedding_stddev": 0.3, **arguments})
    model.compile(optimizer, jit_compile=jit_compile)
    for seed in range(3):
        model.fit(batches(seed=seed), verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"interaction": "fm", "hidden_units": (), "embedding_l2": 0.1},
        {"interaction": ["bi_interaction", "cross"], "batch_norm": True, "interaction_batch_norm": True},
        {"structure": "parallel", "interaction": "inner_product", "numeric": "bottom_mlp", "bottom_units": (3,)},
    ],
)
@pytest.mark.parametrize("optimizer", [partial(LazyAdam, epsilon=0.1), keras.optimizers.Adagrad])
def test_a_compiled_model_trains_to_the_same_weights(optimizer, arguments):
    compiled, plain = (trained(optimizer(0.05), jit, **arguments) for jit in (True, False))
    for one, other in zip(compiled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert compiled._scored_by_xla.experimental_get_tracing_count() > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", BOUNDS)
def test_a_compiled_model_scores_the_same_in_half_precision(policy):
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, interaction="cross", embedding_stddev=0.5, dtype=policy)
    columns, _ = rows()
    plain = model(columns).numpy()
    model.compile(jit_compile=True)
    # XLA keeps what it fuses in float32, and rounds where the layers meet.
    assert np.linalg.norm(model(columns).numpy() - plain) <= BOUNDS[policy] * np.linalg.norm(plain)
    model.fit(batches(), verbose=0)


@pytest.mark.slow
def test_a_partial_last_batch_is_traced_once_more_at_most_and_ragged_columns_never(monkeypatch):
    traced, scored = [], RankingModel._scored

    def counted(self, fields, numbers, training):
        traced.append(numbers.shape)
        return scored(self, fields, numbers, training)

    monkeypatch.setattr(RankingModel, "_scored", counted)
    model = RankingModel(FEATURES, embedding_dim=4)
    model.compile(LazyAdagrad(), jit_compile=True)
    built = len(traced)
    model.fit(batches(count=20, most=2), verbose=0)
    assert len(traced) - built <= 2
    first = len(traced)
    model.fit(batches(count=16, seed=1, most=7), verbose=0)
    assert len(traced) == first


@pytest.mark.slow
def test_a_saved_model_remembers_that_it_is_compiled_and_scores_the_same(tmp_path):
    model = trained(LazyAdam(0.05), True)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    columns, _ = rows()
    assert loaded._scored_by_xla is not None
    np.testing.assert_array_equal(loaded(columns), model(columns))


# --- where XLA compiles all of a step ---------------------------------------------------------------------------------


class Around(TaskModel):
    """A user's own model around one of ours."""

    def __init__(self, model, **arguments):
        super().__init__(**arguments)
        self.model = model

    def call(self, columns, training=None):
        return self.model(columns, training=training)


def encoded(model, count=8):
    columns, labels = rows(count)
    return model.encoder(columns), labels


def around(**arguments):
    keras.utils.set_random_seed(0)
    features = [feature for feature in FEATURES if feature.name != "tags"]
    return Around(RankingModel(features, embedding_dim=4, embedding_stddev=0.3, **arguments))


@pytest.mark.slow
def test_a_whole_step_that_xla_compiles_moves_the_right_rows():
    models = [around(), around()]
    for model, jit_compile in zip(models, (True, False), strict=True):
        model.compile(keras.optimizers.Adagrad(0.05), jit_compile=jit_compile)
        model.fit(*encoded(model.model, 16), batch_size=BATCH, verbose=0)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_whole_step_that_xla_compiles_takes_no_l2_on_the_distinct_rows():
    model = around(embedding_l2=0.3)
    model.compile(keras.optimizers.Adagrad(0.05), jit_compile=True)
    with pytest.raises(
        ValueError, match=r"XLA cannot find the distinct rows of a batch; received l2=0\.3.*Leave l2 out"
    ):
        model.fit(*encoded(model.model), verbose=0)


@pytest.mark.parametrize("optimizer", [LazyAdam(), keras.mixed_precision.LossScaleOptimizer(LazyAdagrad())])
def test_a_whole_step_that_xla_compiles_takes_no_row_wise_optimizer(optimizer):
    with pytest.raises(
        ValueError, match=r"XLA cannot compile a row-wise optimizer; received Lazy.*Leave jit_compile out"
    ):
        around().compile(optimizer, jit_compile=True)


def test_a_model_of_tfrs_that_xla_compiles_takes_no_row_wise_optimizer():
    inner = RankingModel([feature for feature in FEATURES if feature.name != "tags"], embedding_dim=4)

    class Own(tfrs.Model):
        def __init__(self):
            super().__init__()
            self.model = inner

        def compute_loss(self, inputs, training=False):
            columns, labels = inputs
            return tf.reduce_mean(tf.square(self.model(columns, training=training)[:, 0] - labels))

    model = Own()
    model.compile(LazyAdam(), jit_compile=True)
    with pytest.raises(
        ValueError, match=r"XLA cannot compile a row-wise optimizer; received LazyAdam.*or compile less"
    ):
        model.fit(tf.data.Dataset.from_tensors(encoded(inner)), verbose=0)


@keras.utils.register_keras_serializable(package="tests")
class Regularised(InteractionBlock):
    """Adds a loss, by itself or by a layer of its own."""

    def __init__(self, nested=False, **kwargs):
        super().__init__(**kwargs)
        self.nested = keras.layers.ActivityRegularization(l2=0.1) if nested else None

    def call(self, embeddings, mask=None):
        total = tf.reduce_sum(tf.cast(embeddings, tf.float32), axis=1)
        if self.nested is not None:
            return self.nested(total)
        self.add_loss(tf.reduce_mean(tf.square(total)))
        return total


@pytest.mark.parametrize("nested", [False, True])
def test_a_block_that_adds_losses_is_refused_by_name_each_time(nested):
    model = RankingModel(FEATURES, interaction=Regularised(nested, name="mine"))
    model.compile()
    assert model.fit(batches(), verbose=0).history["regularization_loss"][0] > 0
    model.compile(jit_compile=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"mine adds losses where XLA compiles it\. Leave jit_compile=True out\."):
            model.fit(batches(), verbose=0)
