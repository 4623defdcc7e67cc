"""`[batch]` and `[batch, 1]` of a column, a label and a weight are the same, in one model's life and in any order."""

import numpy as np
import pytest

from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.ranking import RankingModel

ROWS = 24
FEATURES = [
    CategoricalFeature("id", vocabulary_size=9),
    CategoricalFeature("year", vocabulary=[3, 5, 7]),
    CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
    CategoricalFeature("name", num_hash_buckets=7, dtype="string"),
    NumericFeature("price", mean=1.0, std=2.0),
    NumericFeature("age", boundaries=[1.0, 4.0]),
    MultiCategoricalFeature("genre", vocabulary_size=4, weights="share"),
]


def rows():
    rng = np.random.default_rng(0)
    columns = {
        "id": rng.integers(-1, 10, ROWS),
        "year": rng.integers(2, 8, ROWS),
        "city": rng.choice(["Rome", "Oslo", "Paris", ""], ROWS),
        "name": rng.choice(["a", "b", ""], ROWS),
        "price": rng.normal(size=ROWS).astype(np.float32),
        "age": rng.normal(2, 3, ROWS).astype(np.float32),
        "genre": rng.integers(-1, 4, ROWS),
        "share": rng.random(ROWS).astype(np.float32),
    }
    return columns, (np.arange(ROWS) % 2).astype(np.float32), rng.random(ROWS).astype(np.float32)


def as_columns(columns):
    return {name: column[:, None] for name, column in columns.items()}


def model():
    tf.keras.utils.set_random_seed(0)
    made = RankingModel(FEATURES, embedding_dim=4, hidden_units=(4,))
    made.compile()
    return made


@pytest.mark.parametrize("shapes", [("flat", "column", "flat"), ("column", "flat", "column")])
def test_a_model_takes_both_shapes_in_any_order(shapes):
    columns, labels, weights = rows()
    given = {
        "flat": (columns, labels, weights),
        "column": (as_columns(columns), labels[:, None], weights[:, None]),
    }
    mixed, plain = model(), model()

    for shape in shapes:
        x, y, sample_weight = given[shape]
        found = mixed.fit(x, y, sample_weight=sample_weight, batch_size=8, shuffle=False, verbose=0).history
        wanted = plain.fit(columns, labels, sample_weight=weights, batch_size=8, shuffle=False, verbose=0).history
        assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-6)
        assert mixed.evaluate(x, y, sample_weight=sample_weight, verbose=0) == pytest.approx(
            plain.evaluate(columns, labels, sample_weight=weights, verbose=0), abs=1e-6
        )
        np.testing.assert_allclose(mixed.predict(x, verbose=0), plain.predict(columns, verbose=0), atol=1e-6)
        np.testing.assert_allclose(mixed(x), plain(columns), atol=1e-6)


def test_one_graph_encodes_columns_of_unknown_rank():
    columns = rows()[0]
    encoder = FeatureEncoder(FeatureSpec(FEATURES))
    traced = tf.function(
        encoder, input_signature=[{name: tf.TensorSpec(None, tf.as_dtype(c.dtype)) for name, c in columns.items()}]
    )

    for given in (columns, as_columns(columns)):
        given = {name: tf.constant(column) for name, column in given.items()}
        for name, found in traced(given).items():
            np.testing.assert_array_equal(
                tf.nest.flatten(found, True)[0], tf.nest.flatten(encoder(given)[name], True)[0]
            )


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("id", np.zeros([3, 2], np.int64), "takes one value an example, .batch. or .batch, 1."),
        ("genre", np.zeros([3, 1, 2], np.int64), "must be .batch, length. or ragged"),
    ],
)
def test_a_column_of_another_shape_is_refused_where_only_its_values_tell(name, column, message):
    features = [feature for feature in FEATURES if feature.name == name]
    features = [MultiCategoricalFeature("genre", vocabulary_size=4)] if name == "genre" else features
    traced = tf.function(FeatureEncoder(FeatureSpec(features)), input_signature=[{name: tf.TensorSpec(None, tf.int64)}])

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        traced({name: tf.constant(column)})
