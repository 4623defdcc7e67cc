"""Models whose histories attend to the target: trained, saved, grown, copied, searched like any other."""

import json
from functools import partial

import numpy as np
import pytest

from nfm_tfrs import Attention, grow, load_model, refreshed
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad
from nfm_tfrs.testing import models as checks

FILMS = {"vocabulary": tuple("abcdefgh"), "embedding_name": "film"}
FEATURES = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary_size=6),
        CategoricalFeature("film", **FILMS),
        NumericFeature("price"),
        MultiCategoricalFeature("seen", **FILMS, combiner="attention", target="film"),
        MultiCategoricalFeature(
            "liked", **FILMS, combiner="attention", target="film", max_length=3,
            attention=Attention(units=(5,), activation="prelu", softmax=False, positions=True),
        ),
    ]
)  # fmt: skip


def rows(count=40, seed=0):
    rng = np.random.default_rng(seed)

    def bags():
        lengths = rng.integers(0, 5, count)
        return tf.RaggedTensor.from_row_lengths(rng.choice(list("abcdefgh?"), lengths.sum()), lengths)

    columns = {
        "user": tf.constant(rng.integers(0, 6, count)),
        "film": tf.constant(rng.choice(list("abcdefgh?"), count)),
        "price": tf.constant(rng.normal(size=count), tf.float32),
        "seen": bags(),
        "liked": bags(),
    }
    return columns, tf.constant(rng.integers(0, 2, count), tf.float32)


def batches(**arguments):
    return tf.data.Dataset.from_tensor_slices(rows(**arguments)).batch(16)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, embedding_dim=4, hidden_units=(), interaction="cross")
    model.compile(LazyAdagrad(0.05))
    model.before = {id(weight): weight.numpy() for weight in model.embedding.weights}
    model.fit(batches(), epochs=3, verbose=0)
    return model


EXAMPLE_FEATURES = checks.example_features()


def features_of_checks():
    """Those of the conformance checks, with a history of cities that attends to the row's."""
    films = {"vocabulary": ("Rome", "Oslo"), "embedding_name": "city"}
    settings = Attention(units=(4,), positions=True)
    seen = MultiCategoricalFeature(
        "seen", **films, combiner="attention", target="city", max_length=3, attention=settings
    )
    return [
        feature if feature.name != "city" else CategoricalFeature("city", **films) for feature in EXAMPLE_FEATURES
    ] + [seen]


@pytest.mark.parametrize("check", checks.MODEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "make",
    [
        NFM,
        pytest.param(partial(RankingModel, interaction="cross", structure="parallel"), marks=pytest.mark.slow),
    ],
)
def test_models_with_attention_keep_the_contract(make, check, monkeypatch):
    example_rows = checks.example_rows

    def with_histories(count):
        columns, labels = example_rows(count)
        rng = np.random.default_rng(count)
        lengths = rng.integers(0, 4, count)
        seen = tf.RaggedTensor.from_row_lengths(rng.choice(["Rome", "Oslo", "Paris"], lengths.sum()), lengths)
        return {**columns, "seen": seen}, labels

    monkeypatch.setattr(checks, "example_features", features_of_checks)
    monkeypatch.setattr(checks, "example_rows", with_histories)
    check(make)


def test_all_weights_of_attention_are_trained_and_its_moments_move(model):
    assert len(model.before) == 1 + (6 + 2 * 4) + (4 + 1 + 1)  # the table; kernels, biases, α, moments; positions
    kept = [w.name for w in model.embedding.weights if np.array_equal(w.numpy(), model.before[id(w)])]
    assert kept == []


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5", "checkpoint"])
def test_files_hold_all_of_attention(model, suffix, tmp_path):
    columns, _ = rows(8, seed=1)
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        loaded = load_model(path)
    else:
        model.save_weights(path)
        loaded = RankingModel.from_config(model.get_config())
        loaded.load_weights(path)
    np.testing.assert_array_equal(loaded(columns), model(columns))
    for one, other in zip(loaded.embedding.weights, model.embedding.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_config_says_the_settings(model):
    config = json.loads(json.dumps(model.get_config()))
    assert FeatureSpec.from_dict(config["features"]) == FEATURES
    assert config["features"]["features"][4]["attention"] == {
        "units": [5],
        "activation": "prelu",
        "softmax": False,
        "positions": True,
    }


def test_a_grown_model_keeps_what_attention_has_learnt(model):
    columns, _ = rows(12, seed=2)
    tonight = {
        "user": [0, 1], "film": ["x", "a"], "price": [0.0, 1.0], "seen": [["a", "x"], ["y"]], "liked": [[], ["b"]]
    }  # fmt: skip
    grown = grow(model, tonight)
    assert grown.features["film"].vocabulary == (*FILMS["vocabulary"], "x", "y")
    known = {name: tf.where(columns[name] == "?", "a", columns[name]) for name in ("film", "seen", "liked")}
    np.testing.assert_array_equal(grown({**columns, **known}), model({**columns, **known}))
    for one, other in zip(grown.embedding.weights[1:], model.embedding.weights[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    before = grown.embedding.table.numpy()
    grown.fit(batches(count=16, seed=3), verbose=0)
    assert not np.array_equal(grown.embedding.table, before)


def test_numbers_standardised_anew_leave_attention_as_it_is(model):
    columns, _ = rows(12, seed=2)
    anew = refreshed(model, {"price": (0.0, 2.0)})
    for one, other in zip(anew.embedding.weights[1:], model.embedding.weights[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(anew(columns), model(columns), rtol=1e-4, atol=1e-5)


def test_a_model_says_the_same_directly_in_a_graph_and_by_predict(model):
    columns, _ = rows(12, seed=2)
    first = model(columns).numpy()
    for _ in range(10):  # by then it is traced once for all calls
        again = model(columns).numpy()
    np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(columns, verbose=0), first, rtol=1e-5, atol=1e-6)


def test_xla_compiles_what_stands_behind_attention(model):
    columns, _ = rows(12, seed=2)
    compiled = RankingModel.from_config(model.get_config())
    compiled.set_weights(model.get_weights())
    compiled.compile(LazyAdagrad(0.05), jit_compile=True)
    np.testing.assert_allclose(compiled(columns), model(columns), rtol=1e-4, atol=1e-5)
    assert np.isfinite(compiled.fit(batches(count=16), verbose=0).history["loss"]).all()


def test_histories_may_be_lists_beside_arrays(model):
    columns, _ = rows(12, seed=2)
    plain = {
        name: column.to_list() if isinstance(column, tf.RaggedTensor) else column.numpy()
        for name, column in columns.items()
    }
    texts = {"seen", "liked"}
    plain |= {name: [[value.decode() for value in bag] for bag in plain[name]] for name in texts}
    np.testing.assert_allclose(model.predict(plain, verbose=0), model(columns), rtol=1e-5, atol=1e-6)


# --- history_combiner


def test_histories_are_pooled_as_the_model_says():
    model = NFM(FEATURES, embedding_dim=4, history_combiner="mean")
    assert [bag.combiner for bag in model.features.bags] == ["mean", "mean"]
    assert len(model.embedding.weights) == 1
    assert NFM.from_config(model.get_config()).get_config() == model.get_config()


def test_bags_without_a_target_are_pooled_as_they_say():
    tags = MultiCategoricalFeature("tags", vocabulary_size=3, combiner="max")
    spec = FeatureSpec([*FEATURES, tags])
    mean = spec.with_history_combiner("mean")
    assert [bag.combiner for bag in mean.bags] == ["mean", "mean", "max"]
    assert [bag.attention for bag in mean.bags] == [None, None, None]
    assert [bag.combiner for bag in mean.with_history_combiner("attention").bags] == ["attention", "attention", "max"]
    assert spec.with_history_combiner("attention") == spec.with_history_combiner(None) == spec


@pytest.mark.parametrize(
    ("features", "combiner", "message"),
    [
        (FEATURES, "avg", "history_combiner must be .* received 'avg'"),
        (
            [CategoricalFeature("user", vocabulary_size=6)],
            "attention",
            'history_combiner="attention" is of bags that have a target; received features without one: user. Name',
        ),
    ],
)
def test_a_combiner_that_fits_nothing_is_refused(features, combiner, message):
    with pytest.raises(ValueError, match=message) as raised:
        NFM(features, history_combiner=combiner)
    assert "\n" not in str(raised.value)
