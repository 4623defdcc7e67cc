"""Losses that regularise, against loops over rows in float64: what is learnt from, and what is reported beside it."""

import numpy as np
import pytest

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.label_start import loss_unit
from nfm_tfrs.models.losses import Losses, run_twice
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.models.tasks import ranking_task
from nfm_tfrs.runs.saving import load_model

PAIR = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
NEW = {"embedding_l2_by", "field_dropout", "label_smoothing", "self_ensemble"}
PLAIN = {"embedding_dim": 4, "embedding_stddev": 0.5, "hidden_units": (6,), "dropout": 0.4}


def rows(count=12, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"a": rng.integers(0, 9, count), "b": rng.integers(0, 9, count)}
    weights = rng.uniform(0.5, 2.0, count).astype(np.float32)
    return columns, ((columns["a"] + columns["b"]) % 2).astype(np.float32), weights


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def learnt(z, labels, weights, smoothing, weight, *, binary):
    """Loss and its gradient by z, [rows, passes, columns], row by row, pass by pass, column by column."""
    loss, gradient = 0.0, np.zeros_like(z)
    count, passes, columns = z.shape
    for row in range(count):
        for column in range(columns):
            own = z[row, :, column]
            middle = own.mean()
            target = sigmoid(middle) if binary else middle
            label = labels[row] * (1 - smoothing) + smoothing * 0.5
            for one in range(passes):
                share = weights[row] / (count * passes)
                for factor, goal in ((1.0, label), (weight, target)):
                    if binary:
                        loss -= share * factor * goal * np.log(sigmoid(own[one]))
                        loss -= share * factor * (1 - goal) * np.log(1 - sigmoid(own[one]))
                        gradient[row, one, column] += share * factor * (sigmoid(own[one]) - goal)
                    else:
                        loss += share * factor * (own[one] - goal) ** 2
                        gradient[row, one, column] += share * factor * 2 * (own[one] - goal)
    return loss, gradient


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(
    ("task", "smoothing", "weight"),
    [("binary", 0.0, 0.0), ("binary", 0.2, 0.0), ("binary", 0.0, 1.0), ("binary", 0.1, 0.7), ("regression", 0.0, 0.7)],
)
def test_loss_and_gradient_are_those_of_a_loop_over_rows(task, smoothing, weight, columns):
    rng = np.random.default_rng(1)
    passes = 2 if weight else 1
    z = rng.normal(0, 2, [5, passes, columns])
    labels, weights = rng.integers(0, 2, 5).astype(float), rng.uniform(0.5, 2.0, 5)
    flat = tf.constant(np.concatenate([z[:, one] for one in range(passes)]), tf.float32)
    again = [tf.constant(np.tile(part, passes)[:, None], tf.float32) for part in (labels, weights)]
    with tf.GradientTape() as tape:
        tape.watch(flat)
        loss = Losses(smoothing, weight).objective(ranking_task(task)._loss, again[0], flat, again[1])
    expected, gradient = learnt(z, labels, weights, smoothing, weight, binary=task == "binary")
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    gradients = tape.gradient(loss, flat).numpy()
    np.testing.assert_allclose(gradients, np.concatenate([gradient[:, one] for one in range(passes)]), atol=1e-6)


def test_two_passes_of_weight_zero_have_the_gradient_of_their_mean_loss():
    z = tf.constant([[0.5], [-1.0], [2.0], [0.3]])  # two rows, twice
    labels = tf.constant([[1.0], [0.0], [1.0], [0.0]])
    found = []
    for part in (slice(0, 2), slice(2, 4), slice(0, 4)):
        loss = Losses().objective(ranking_task("binary")._loss, labels[part], z[part], None)
        found.append(float(loss))
    assert found[2] == pytest.approx((found[0] + found[1]) / 2)


class Plain(TaskModel):
    """A model that knows nothing of two passes, and is called twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.drop = keras.layers.Dense(1), Dropout(0.5)

    def call(self, columns, training=None):
        both = tf.stack([tf.cast(columns[name], tf.float32) for name in "ab"], axis=1)
        return self.dense(self.drop(both, training=training))


def states(model):
    return [part.dropout_state for part in model.submodules if isinstance(part, Dropout)]


@pytest.mark.parametrize("kind", ["sums", "embeddings", "members", "called_twice"])
@pytest.mark.parametrize(("task", "smoothing", "weight"), [("binary", 0.1, 0.7), ("regression", 0.0, 2.0)])
def test_a_step_goes_down_the_gradient_of_both_terms_and_reports_that_of_the_labels(kind, task, smoothing, weight):
    keras.utils.set_random_seed(2)
    arguments = {"task": task, "label_smoothing": smoothing, "self_ensemble": weight}
    if kind == "called_twice":
        model = Plain(**arguments)
    else:
        arguments |= {"interaction": "concat" if kind == "embeddings" else "fm", "members": 1 + (kind == "members")}
        model = RankingModel(PAIR, **PLAIN, **arguments)
    model.compile(keras.optimizers.SGD(1.0))
    columns, labels, weights = rows()
    model(columns)
    if kind != "called_twice":
        model.adapt_labels(labels)
    before = [state.numpy() for state in states(model)]
    with tf.GradientTape() as tape, run_twice(model):
        count = 2 if kind == "called_twice" else 1
        z = tf.concat([model.predictions_to_learn(columns, True) for _ in range(count)], axis=0)
    for state, value in zip(states(model), before, strict=True):
        state.assign(value)
    passes = np.stack([part.numpy().astype(np.float64) for part in tf.split(z, 2)], axis=1)  # [rows, passes, members]
    assert np.abs(passes[:, 0] - passes[:, 1]).max() > 0.01
    _, gradient = learnt(passes, labels, weights, smoothing, weight, binary=task == "binary")
    gradient /= float(loss_unit(model.task._loss, getattr(model, "label_scale", 1.0)))
    by_z = tf.constant(np.concatenate([gradient[:, 0], gradient[:, 1]]), tf.float32)
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(z, model.trainable_variables, by_z)]
    weights_before = [variable.numpy() for variable in model.trainable_variables]
    report = model.train_on_batch(columns, labels, sample_weight=weights, return_dict=True)
    for was, change, now in zip(weights_before, gradients, model.trainable_variables, strict=True):
        np.testing.assert_allclose(was - change, now, rtol=1e-4, atol=1e-5)
    mean = passes.mean(axis=2, keepdims=True)
    assert report["loss"] == pytest.approx(
        learnt(mean, labels, weights, 0.0, 0.0, binary=task == "binary")[0], rel=1e-4
    )


def test_evaluation_and_what_is_predicted_know_nothing_of_them():
    columns, labels, _ = rows()
    found = []
    for arguments in ({}, {"label_smoothing": 0.3, "self_ensemble": 2.0, "field_dropout": 0.5}):
        keras.utils.set_random_seed(3)
        model = NFM(PAIR, **arguments)
        model.compile()
        found.append((model.evaluate(columns, labels, verbose=0, return_dict=True), model.predict(columns, verbose=0)))
        assert model(columns, training=True).shape == (12, 1)
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_model_without_them_has_the_config_and_the_variables_of_before():
    model = NFM(PAIR)
    assert NEW.isdisjoint(model.get_config())
    zeros = NFM(PAIR, label_smoothing=0.0, self_ensemble=0.0, field_dropout=0.0, embedding_l2_by="batch")
    assert [v.shape for v in zeros.variables] == [v.shape for v in model.variables]
    assert len(states(zeros)) == len(states(model)) == 2


def test_both_passes_move_the_averages_of_a_norm_once():
    model = NFM(PAIR, **{**PLAIN, "batch_norm": False}, self_ensemble=1.0)
    model.compile()
    model.train_on_batch(*rows()[:2])
    assert model._interaction_batch_norm.warmed_steps.numpy() == 1.0


@pytest.mark.parametrize(
    ("arguments", "dtype", "jit_compile"),
    [
        ({"label_smoothing": 0.1}, "float32", False),
        ({"label_smoothing": 0.1}, "mixed_float16", False),
        ({"self_ensemble": 1.0}, "float32", False),
        ({"self_ensemble": 1.0}, "mixed_float16", False),
        ({"field_dropout": 0.1}, "float32", False),
        ({"field_dropout": 0.1}, "mixed_float16", False),
        ({"label_smoothing": 0.1, "self_ensemble": 1.0, "field_dropout": 0.1}, "float32", True),
    ],
)
def test_a_training_with_one_learns_and_opens_again(arguments, dtype, jit_compile, tmp_path):
    keras.utils.set_random_seed(4)
    columns, labels, _ = rows(96)
    model = NFM(PAIR, **{**PLAIN, "hidden_units": (16,)}, interaction_dropout=0.1, dtype=dtype, **arguments)
    model.compile(jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensor_slices((columns, labels)).batch(16)
    losses = model.fit(data, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    if dtype == "float32":
        model.save(tmp_path / "model.keras")
        opened = load_model(tmp_path / "model.keras")
        assert {name: getattr(opened, name) for name in arguments} == arguments
        np.testing.assert_array_equal(opened.predict(columns, verbose=0), model.predict(columns, verbose=0))
        assert opened.fit(data, verbose=0).history == model.fit(data, verbose=0).history  # dropout's state, too


POISSON = {"loss": keras.losses.Poisson(reduction="none")}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing must be at least 0 and below 1; received 1\.0\."),
        ({"self_ensemble": -1.0}, r"self_ensemble must be a number of 0 or more; received -1\.0\."),
        ({"field_dropout": 1.5}, r"field_dropout must be at least 0 and below 1; received 1\.5\."),
        (
            {"label_smoothing": 0.1, "task": "regression"},
            r"label_smoothing is of binary labels; received 0\.1 with the loss MeanSquaredError\. Leave it out\.",
        ),
        (
            {"self_ensemble": 1.0, "task": tfrs.tasks.Ranking(**POISSON)},
            r"self_ensemble needs a loss of probabilities, .*; received the loss Poisson\. Leave it out\.",
        ),
        (
            {"self_ensemble": 1.0, "dropout": 0.0},
            r"self_ensemble compares two draws of dropout; received self_ensemble=1\.0 for a model without any\. Give",
        ),
        ({"embedding_l2_by": "row"}, r'embedding_l2_by must be "batch" or "frequency"; received \'row\'\.'),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments, line):
    with pytest.raises(ValueError, match=f"^{line}") as caught:
        RankingModel(PAIR, **{**PLAIN, **arguments})
    assert "\n" not in str(caught.value)


def test_a_model_of_ones_own_without_dropout_is_refused_before_its_first_step():
    model = Plain(self_ensemble=1.0)
    model.drop = lambda both, training: both
    model.compile()
    columns, labels, _ = rows()
    with pytest.raises(ValueError, match=r"^self_ensemble compares two draws of dropout; received"):
        model.fit(columns, labels, verbose=0)
