"""One model of all kinds of features, and rows with all that is odd, for what leaves the process."""

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.serving.drawn import drawn_rows
from tfrs_registry import get_model

FILMS = tuple(range(0, 90, 3))
FEATURES = [
    CategoricalFeature("in", vocabulary=["Rome", "Oslo", "Bern"]),
    CategoricalFeature("movie id", vocabulary=FILMS, embedding_name="films"),
    CategoricalFeature("zone", vocabulary_size=70),
    CategoricalFeature("C1-hash", num_hash_buckets=30, dtype="string"),
    CategoricalFeature("large", vocabulary=[5, 2**63 + 7]),
    NumericFeature("price", log=True, mean=3.5, std=1.2, missing_values=(-1.0,)),
    NumericFeature("dist"),
    NumericFeature("age", boundaries=(18.0, 30.0, 50.0)),
    CategoricalFeature("zone2", vocabulary_size=20),
    MultiCategoricalFeature("tags", vocabulary=[f"w{n}" for n in range(50)], combiner="mean"),
    MultiCategoricalFeature(
        "hist", vocabulary=FILMS, embedding_name="films", combiner="sqrtn", weights="w", max_length=4
    ),
    MultiCategoricalFeature("best", vocabulary_size=50, combiner="max"),
    MultiCategoricalFeature("last", vocabulary_size=50, combiner=None, max_length=3),
]


def made(name="nfm", features=FEATURES, embedding_dim=4, **config):
    """A model of weights that are not those it began with, in a place of its own."""
    keras.utils.set_random_seed(0)
    model = get_model(name, features=features, embedding_dim=embedding_dim, embedding_stddev=0.3, **config)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [1, number], 0.0, 0.05))
    for number, variable in enumerate(model.non_trainable_variables):
        if "moving_variance" in variable.name:
            variable.assign(tf.random.stateless_uniform(variable.shape, [2, number], 0.5, 2.0))
    model.label_mean.assign(-0.3)
    return model


@pytest.fixture(scope="session")
def make():
    return made


@pytest.fixture(scope="session")
def model():
    return made()


@pytest.fixture(scope="session")
def rows(model):
    return drawn_rows(model.features, 40, seed=1)


@pytest.fixture(scope="session")
def wanted(model, rows):
    """The model's logits of the rows, by the road that training takes: encoded once, without a signature."""
    from nfm_tfrs.training.evaluate import predict

    return np.asarray(predict(model, rows), np.float64)


@pytest.fixture(scope="session")
def served(model, tmp_path_factory):
    """The model's export, with all that one has."""
    folder = tmp_path_factory.mktemp("served") / "1"
    model.export(folder, user=["in", "hist", "last", "price", "zone2"], optional=["zone", "tags"])
    return folder
