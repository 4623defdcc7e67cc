"""Rows that were learnt elsewhere, frozen ones, and models with tables of several kinds: trained, saved and grown."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import nfm_tfrs
from nfm_tfrs import (
    CategoricalFeature,
    FeatureSpec,
    Growth,
    MultiCategoricalFeature,
    MultiHash,
    NumericFeature,
    QuotientRemainder,
    RankingModel,
    grow,
    load_pretrained,
    refreshed,
)
from nfm_tfrs.data import prepare
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.grow import with_features
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.training.statistics import adapt_statistics

WORDS = [f"v{number}" for number in range(20)]
SPEC = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary=WORDS, embedding_dim=2),
        CategoricalFeature("film", vocabulary=WORDS, frozen=True, embedding_dim=5),
        MultiCategoricalFeature("seen", vocabulary=WORDS, frozen=True, embedding_dim=5, embedding_name="film"),
        CategoricalFeature("ad", vocabulary=WORDS, compression=QuotientRemainder(num_rows=6)),
        CategoricalFeature("page", vocabulary=WORDS, compression=MultiHash(num_rows=7), embedding_dim=2),
        CategoricalFeature("hour", vocabulary=WORDS),
        NumericFeature("price"),
    ]
)
FEW = FeatureSpec([SPEC["film"], SPEC["seen"], SPEC["ad"], SPEC["hour"]])
ROWS = np.random.default_rng(0).normal(size=[18, 5]).astype(np.float32)


def columns(words=WORDS, seed=0):
    rng = np.random.default_rng(seed)
    found = {name: rng.choice(words, 40) for name in ("user", "film", "ad", "page", "hour")}
    seen = tf.RaggedTensor.from_row_lengths(rng.choice(words, 40), [2, 0] * 20)
    return {**found, "seen": seen, "price": rng.normal(size=40).astype(np.float32)}


COLUMNS, LABELS = columns(), np.tile([0.0, 1.0], 20).astype(np.float32)


def data(given=None):
    return tf.data.Dataset.from_tensor_slices((given or COLUMNS, LABELS)).batch(20)


def model_of(features=SPEC, **config):
    keras.utils.set_random_seed(0)
    return RankingModel(features, **{"embedding_dim": 3, "hidden_units": (4,), **config})


def filled(features=SPEC, **config):
    model = model_of(features, **config)
    load_pretrained(model, {"film": (WORDS[:18], ROWS)})
    return model


# --- rows that were learnt elsewhere ---------------------------------------------------------------------------------


def test_rows_are_set_by_value_and_how_many_were_found_is_said():
    model = model_of()
    before = [variable.numpy() for variable in model.variables]
    vectors = {
        "seen": (["v3", "nobody", "v0"], np.arange(15).reshape(3, 5)),
        "user": (["v1", "v2"], np.ones([2, 2])),
    }
    found = load_pretrained(model, vectors)
    assert [str(one) for one in found] == [
        "seen: 2 of 20 values (10.0%), of 3 vectors",
        "user: 2 of 20 values (10.0%), of 2 vectors",
    ]
    user, film = model.embedding.tables[1:3]
    expected = np.zeros([21, 5])
    expected[[4, 1]] = np.arange(15).reshape(3, 5)[[0, 2]]
    np.testing.assert_array_equal(film.numpy(), expected)
    np.testing.assert_array_equal(user.numpy()[2:4], [[1, 1, 0], [1, 1, 0]])  # and the first-order weights stay
    for variable, was in zip(model.variables, before, strict=True):
        if variable is user:
            np.testing.assert_array_equal(np.delete(variable.numpy(), [2, 3], 0), np.delete(was, [2, 3], 0))
        elif variable is not film:
            np.testing.assert_array_equal(variable.numpy(), was)


def test_rows_of_a_plain_feature_are_of_the_model_s_own_length():
    model = RankingModel([CategoricalFeature("id", vocabulary_size=4), CategoricalFeature("b", vocabulary_size=2)])
    load_pretrained(model, {"id": ([3], np.full([1, 16], 0.5))})
    np.testing.assert_array_equal(model.embedding.table.numpy()[4], [0.5] * 16 + [0.0])


@pytest.mark.parametrize(
    ("vectors", "line"),
    [
        ({"movie": (["v1"], [[1.0]])}, "There is no feature 'movie' for vectors to be of"),
        ({"ad": (["v1"], [[1.0]])}, "Several values of feature 'ad' share a row"),
        ({"film": (["v1"], [[1.0]])}, "vectors of 1 numbers, and the rows of feature 'film' have 5. Give"),
        ({"film": ([1], [[1.0] * 5])}, "has no value that feature 'film' knows"),
        ({"film": (["v1"], ROWS[:1]), "seen": (["v2"], ROWS[:1])}, "Features 'film' and 'seen' share their rows. Give"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_before_anything_is_set(vectors, line):
    model = model_of()
    before = model.embedding.tables[1].numpy()
    with pytest.raises(ValueError, match=re.escape(line)):
        load_pretrained(model, {"user": (WORDS, np.ones([20, 2])), **vectors})
    np.testing.assert_array_equal(model.embedding.tables[1].numpy(), before)


def test_a_model_without_features_is_refused():
    with pytest.raises(ValueError, match="Rows are set in a RankingModel that knows its features"):
        load_pretrained(RankingModel(), {})


def test_vectors_are_given_by_name():
    with pytest.raises(ValueError, match=r"Vectors are given by the feature's name; received str\. Give"):
        load_pretrained(model_of(), "vectors.npz")


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (lambda: LazyAdagrad(0.1, weight_decay=0.1), {}),
        (lambda: LazyAdam(0.1, weight_decay=0.1), {"embedding_l2": 0.5}),
        (lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1), {}),
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9), {"embedding_l2": 0.5, "dtype": "mixed_float16"}),
    ],
    ids=["LazyAdagrad", "LazyAdam", "AdamW", "SGD"],
)
def test_frozen_rows_are_bit_equal_after_training_and_all_else_moves(make, config):
    model = filled(FEW, **config)
    model.compile(make())
    before = [variable.numpy() for variable in model.embedding.weights]
    model.fit(data(), epochs=2, verbose=0)
    still = model.embedding.tables[1]
    np.testing.assert_array_equal(still.numpy()[1:19], ROWS)
    assert not still.numpy()[[0, 19, 20]].any()
    for variable, was in zip(model.embedding.weights, before, strict=True):
        assert (variable.numpy() == was).all() == (variable is still)


@pytest.mark.parametrize(
    ("policy", "config"),
    [
        ("mixed_bfloat16", {"interaction": "cross", "structure": "parallel"}),
        ("mixed_float16", {}),
    ],
)
def test_models_of_several_tables_learn_in_half_precision(policy, config):
    model = filled(FEW, dtype=policy, **config)
    model.compile(LazyAdam(0.05))
    history = model.fit(data(), epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


# --- saved and grown -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    model = filled(embedding_l2=0.001)
    model.compile(LazyAdam(0.05))
    model.fit(data(), epochs=2, verbose=0)
    return model


def test_a_model_of_several_tables_is_saved_and_opened(trained, tmp_path):
    trained.save(tmp_path / "m.keras")
    again = nfm_tfrs.load_model(tmp_path / "m.keras")
    assert again.features == SPEC
    np.testing.assert_array_equal(again.predict(COLUMNS, verbose=0), trained.predict(COLUMNS, verbose=0))
    trained.save_weights(tmp_path / "w.weights.h5")
    other = model_of(embedding_l2=0.001)
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.predict(COLUMNS, verbose=0), trained.predict(COLUMNS, verbose=0))


def test_a_model_of_far_more_ids_than_rows_is_opened_and_a_config_of_more_rows_than_it_holds_is_not(tmp_path):
    compression = QuotientRemainder()
    huge = CategoricalFeature("ad", num_hash_buckets=10**10, dtype="string", compression=compression, embedding_dim=1)
    model = RankingModel([huge, CategoricalFeature("hour", vocabulary_size=24)], embedding_dim=64)
    assert model.count_params() < 10**6
    model.save(tmp_path / "m.keras")
    again = nfm_tfrs.load_model(tmp_path / "m.keras")
    rows = {"ad": ["a", "b"], "hour": [1, 2]}
    np.testing.assert_array_equal(again.predict(rows, verbose=0), model.predict(rows, verbose=0))
    from nfm_tfrs.runs.contents import _check_declared

    config = model.get_config()
    config["features"]["features"][0]["compression"] = {"type": "multi_hash", "num_rows": 10**8}
    with pytest.raises(ValueError, match="declares 100,"):
        _check_declared(config, 10**6, tmp_path)


@pytest.mark.parametrize(("buckets", "counted"), [(1000, True), (10**11, False)])
def test_the_ids_of_a_table_compressed_from_too_many_are_not_counted(buckets, counted):
    ad = CategoricalFeature("ad", num_hash_buckets=buckets, dtype="int64", compression=MultiHash(num_rows=9))
    data = prepare(
        pa.table({"ad": [1, 2, 3, 4] * 9, "click": [0, 1, 1, 0] * 9}),
        "click",
        "random",
        features=FeatureSpec([ad]),
    )
    model = RankingModel(data.features, interaction="concat")
    adapt_statistics(model, data)
    assert (model.statistics is not None) == counted


GROWN = FeatureSpec(
    [
        replace(one, vocabulary=[*WORDS, *(f"w{number}" for number in range(20))])
        if hasattr(one, "vocabulary")
        else one
        for one in SPEC
    ]
)


def test_a_grown_model_predicts_and_trains_on_as_it_did():
    model = filled(FEW)
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(data(), epochs=1, verbose=0)
    grown = with_features(model, FeatureSpec([GROWN[feature.name] for feature in FEW]))
    np.testing.assert_array_equal(grown.predict(COLUMNS, verbose=0), model.predict(COLUMNS, verbose=0))
    for one in (model, grown):
        keras.utils.set_random_seed(1)
        one.fit(data(), epochs=1, verbose=0)
    found = [one.predict(COLUMNS, verbose=0) for one in (grown, model)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(grown.embedding.tables[1].numpy()[1:19], ROWS)


def test_new_values_start_at_zero_and_those_of_compressed_tables_where_their_rows_stand(trained):
    grown = with_features(trained, GROWN)
    sizes = [layout.num_rows for layout in grown.embedding.layouts]
    assert sizes == [41 + 2, 41, 41, 7 + 8, 8]
    for place, rows in [(0, range(21, 41)), (1, range(21, 41)), (2, range(21, 41))]:
        assert not grown.embedding.tables[place].numpy()[list(rows)].any()
    np.testing.assert_array_equal(grown.embedding.tables[3].numpy()[12:], np.float32([[1, 1, 1, 0]] * 3))
    np.testing.assert_array_equal(grown.embedding.tables[4].numpy(), trained.embedding.tables[4].numpy())


@pytest.mark.parametrize("init", ["random", "mean:hour"])
def test_growth_finds_the_new_values_of_every_table(trained, init):
    tonight = columns([*WORDS[:3], "w0", "w1"], seed=3)
    tonight["hour"] = np.resize(WORDS, 40)
    grown = grow(trained, tonight, Growth(init=init))
    assert grown.features["film"].vocabulary[20:] == grown.features["seen"].vocabulary[20:]
    np.testing.assert_array_equal(grown.predict(COLUMNS, verbose=0), trained.predict(COLUMNS, verbose=0))
    user, film = (grown.embedding.tables[place].numpy()[21:] for place in (1, 2))
    assert user.any(axis=1).all()
    assert film.any() == (init == "mean:hour")  # of frozen rows no random one stands for a value


def test_new_rows_are_of_their_table_s_length_and_none_are_for_shared_rows(trained):
    grown = with_features(trained, GROWN, start={"user": np.full([20, 3], 0.5)})
    assert (grown.embedding.tables[1].numpy()[21:] == 0.5).all()
    with pytest.raises(ValueError, match="start of table 'user' must be a row of 3 for each of its 20 new values"):
        with_features(trained, GROWN, start={"user": np.zeros([20, 4])})
    with pytest.raises(ValueError, match="The rows of table 'ad' are shared by several values"):
        with_features(trained, GROWN, start={"ad": np.zeros([20, 4])})


def test_numbers_are_standardised_anew_beside_several_tables(trained):
    tonight = refreshed(trained, {"price": (0.0, 4.0)})
    np.testing.assert_allclose(
        tonight.predict(COLUMNS, verbose=0), trained.predict(COLUMNS, verbose=0), rtol=1e-5, atol=1e-6
    )
    assert (tonight.embedding.table.numpy() != trained.embedding.table.numpy()).any()
