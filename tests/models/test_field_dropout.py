"""Dropout of whole fields: which embeddings blocks are given in training, against a loop over examples and fields."""

import numpy as np
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.keys import NUMBERS
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.losses import run_twice
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.training.resume import _variables

FEATURES = [
    CategoricalFeature("user", vocabulary_size=9),
    NumericFeature("price", mean=1.0, std=2.0),
    MultiCategoricalFeature("seen", vocabulary_size=5, combiner=None, max_length=3),
    MultiCategoricalFeature("tags", vocabulary_size=4),
]


class Shows(InteractionBlock):
    """Keeps what it was given, and returns the sum of what is there."""

    def call(self, embeddings, mask=None):
        self.given = [embeddings, tf.identity(mask)]
        there = tf.where(mask[:, :, None], tf.cast(embeddings, tf.float32), 0.0)
        return tf.reduce_sum(there, axis=1)


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    bags = {
        name: tf.ragged.constant([rng.integers(0, size, rng.integers(0, 4)).tolist() for _ in range(count)], tf.int64)
        for name, size in (("seen", 5), ("tags", 4))
    }
    price = np.where(rng.random(count) < 0.3, np.nan, rng.normal(1, 2, count)).astype(np.float32)
    return {"user": rng.integers(0, 9, count), "price": price, **bags}


def model_of(rate, **arguments):
    keras.utils.set_random_seed(1)
    return RankingModel(
        FEATURES,
        **{"embedding_dim": 4, "embedding_stddev": 1.0, "interaction": Shows(), **arguments},
        field_dropout=rate,
    )


@pytest.mark.parametrize("numeric", ["field", "bottom_mlp"])
def test_a_field_is_dropped_as_a_whole_and_the_others_are_divided_by_what_is_kept(numeric):
    model = model_of(0.25, numeric=numeric, dtype="mixed_float16")
    columns = rows(400)
    encoded = model.encoder(columns)
    whole, _, _ = model._with_numbers(model.embedding(encoded), encoded[NUMBERS], False)
    model(columns, training=True)
    (embeddings, mask), before = model.interaction.given, whole.embeddings.numpy()
    assert embeddings.shape == before.shape == (400, 6, 4)  # price, or the bottom network's field, is one of them
    kept = mask.numpy()
    for example in range(400):
        for field in range(6):
            expected = before[example, field] * np.float16(1 / 0.75) if kept[example, field] else 0.0
            np.testing.assert_allclose(embeddings[example, field], expected, rtol=2e-3)
    assert not (kept & ~whole.mask.numpy()).any()
    shares = kept.sum(axis=0) / whole.mask.numpy().sum(axis=0)
    np.testing.assert_allclose(shares, 0.75, atol=0.12)
    of_present = kept[whole.mask.numpy().all(axis=1)]
    assert len(np.unique(of_present, axis=0)) > 10  # independently


def test_checkpoints_hold_its_state_before_the_first_step():
    model = model_of(0.5, dropout=0.0)
    model.compile()
    (state,) = _variables(model)["dropout"]
    assert state is model._field_dropout.dropout_state


def test_two_passes_drop_other_fields():
    model = model_of(0.5, self_ensemble=1.0)
    with run_twice(model):
        model(rows(50), training=True)
    first, second = np.split(model.interaction.given[1].numpy(), 2)
    assert (first != second).mean() > 0.1


@pytest.mark.parametrize("interaction", ["fm", "bi_interaction"])
def test_pairs_are_on_average_what_they_are_without(interaction):
    features = [CategoricalFeature(name, vocabulary_size=2) for name in "abc"]
    keras.utils.set_random_seed(3)
    arguments = {"embedding_dim": 3, "embedding_stddev": 1.0, "hidden_units": (), "interaction": interaction}
    model = RankingModel(features, **arguments, field_dropout=0.3)
    table = model.embedding.table
    table.assign(tf.concat([table[:, :3], tf.ones_like(table[:, 3:])], axis=1))
    assert model.takes_sums  # outside of training
    columns = {name: np.full(20_000, 1) for name in "abc"}
    trained = model(columns, training=True).numpy()
    expected = model(columns).numpy()
    assert len(np.unique(trained.round(4))) > 3
    assert float(trained.mean()) == pytest.approx(float(expected[0, 0]), abs=4 * float(trained.std()) / 20_000**0.5)
    # The first-order term keeps all fields: with all pairs dropped the logit is the sum of the three weights.
    assert np.abs(trained - 3.0).min() < 1e-5


def test_a_dropped_field_has_no_gradient_and_the_others_have_that_of_what_is_kept():
    features = [CategoricalFeature(name, vocabulary_size=2) for name in "abc"]
    keras.utils.set_random_seed(5)
    model = RankingModel(
        features, embedding_dim=2, embedding_stddev=1.0, hidden_units=(), interaction="fm", field_dropout=0.4
    )
    state = model._field_dropout.dropout_state
    columns = {name: np.arange(2) for name in "abc"}
    start = state.numpy()
    scales = model._field_dropout(tf.ones([2, 3]), training=True).numpy().astype(np.float64)
    state.assign(start)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(columns, training=True))
    gradient = tf.convert_to_tensor(tape.gradient(total, model.embedding.table)).numpy()
    table = model.embedding.table.numpy().astype(np.float64)
    expected = np.zeros_like(table)
    for example in range(2):
        places = [3 * field + 1 + example for field in range(3)]
        for i in range(3):
            expected[places[i], 2] += 1.0
            for j in range(3):
                if i != j:
                    expected[places[i], :2] += scales[example, i] * scales[example, j] * table[places[j], :2]
    assert 0 < (scales == 0).sum() < 6
    np.testing.assert_allclose(gradient, expected, atol=1e-5)
