"""Numbers standardised anew: every prediction is what it was, and what the optimizer keeps is in the new unit."""

from collections import Counter

import numpy as np
import pytest

from nfm_tfrs import LazyAdagrad, LazyAdam, load_model, refreshed
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Counting
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from tfrs_registry import get_model

FEATURES = FeatureSpec(
    [
        NumericFeature("price", mean=3.0, std=2.0),
        CategoricalFeature("user", vocabulary_size=6),
        CategoricalFeature("film", vocabulary_size=5),
        NumericFeature("age", mean=2.0, std=0.7, log=True, fill=0.3),
        NumericFeature("plain", missing_values=[-1]),
    ]
)
NEW = {"price": (7.0, 5.0), "age": (3.5, 0.3)}
SMALL = {"embedding_dim": 3, "hidden_units": [4]}
MODELS = {
    "nfm": ("nfm", SMALL),
    "fm": ("fm", {"embedding_dim": 3}),
    "dcn": ("dcn", SMALL),
    "wide_deep": ("wide_deep", SMALL),
    "dlrm": ("dlrm", SMALL),
    "without a first order": ("ranking", {**SMALL, "linear": False}),
    "concat": ("nfm", {**SMALL, "numeric": "concat"}),
    "concat without a tower": ("fm", {"embedding_dim": 3, "numeric": "concat"}),
    "concat in parallel": ("ranking", {**SMALL, "structure": "parallel", "numeric": "concat"}),
    "concat beside embeddings": ("ranking", {**SMALL, "structure": "concat", "numeric": "concat", "linear": False}),
    "concat in parallel without a tower": (
        "ranking",
        {**SMALL, "structure": "parallel", "numeric": "concat", "hidden_units": []},
    ),
    "a bottom of one layer": ("ranking", {**SMALL, "numeric": "bottom_mlp", "bottom_units": []}),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return {
        "price": np.where(rng.random(120) < 0.2, np.nan, rng.normal(3, 2, 120)).astype(np.float32),
        "user": rng.integers(-1, 7, 120),
        "film": rng.integers(-1, 6, 120),
        "age": np.where(rng.random(120) < 0.2, np.nan, rng.lognormal(2, 0.7, 120)).astype(np.float32),
        "plain": rng.choice([-1.0, 0.5, 2.0], 120).astype(np.float32),
    }


def ready(name="nfm", config=SMALL, optimizer=None):
    """A model as if it had been trained: its weights, and what its optimizer keeps, are any."""
    model = get_model(name, features=FEATURES, **config)
    model.compile(optimizer or LazyAdagrad(0.1))
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    for variable in [*model.weights, *inner.variables]:
        if variable.dtype.is_floating and "learning_rate" not in variable.name:
            variable.assign(rng.uniform(0.2, 1.0, variable.shape))
    return model


def assert_alike(new, old):
    """Equal to a few units in the last place of the largest."""
    np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6 * np.abs(old).max())


def said(model, rows):
    return model({name: tf.constant(column) for name, column in rows.items()}).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_predictions_stay(rows, name):
    model = ready(*MODELS[name])
    before, weights = said(model, rows), model.get_weights()

    new = refreshed(model, NEW)

    assert_alike(said(new, rows), before)
    assert type(new) is type(model)
    for one, other in zip(model.get_weights(), weights, strict=True):  # it stays as it is itself
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["nfm", "concat"])
def test_it_trains_on_and_is_saved_as_any_other(rows, name, tmp_path):
    kind, config = MODELS[name]
    new = refreshed(ready(kind, {**config, "dropout": 0.0, "interaction_dropout": 0.0}), NEW)
    batch = tf.data.Dataset.from_tensors((rows, rows["user"] % 2 == 0)).map(lambda x, y: (x, tf.cast(y, tf.float32)))

    losses = new.fit(batch, epochs=12, verbose=0).history["loss"]

    assert losses[-1] < losses[0]
    new.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.features == new.features
    np.testing.assert_array_equal(said(loaded, rows), said(new, rows))


def test_numbers_beside_the_interaction_take_the_mean_and_fields_keep_theirs():
    beside = refreshed(ready(*MODELS["concat"]), NEW).features
    assert (beside["price"].mean, beside["price"].std) == (7.0, 5.0)
    assert beside["price"].fill == pytest.approx((3 - 7) / 5)  # a missing price is what it was: 3
    assert beside["age"].fill == pytest.approx((0.3 * 0.7 + 2 - 3.5) / 0.3)
    assert beside["plain"] == FEATURES["plain"]

    fields = refreshed(ready(), NEW).features
    assert (fields["price"].mean, fields["price"].fill) == (3.0, 0.0)
    assert fields["price"].std == pytest.approx((5**2 + (7 - 3) ** 2) ** 0.5)  # the deviation from that mean
    assert fields["age"].mean == 2.0


def test_several_times_is_as_once_and_back_is_where_it_was(rows):
    model = ready(*MODELS["concat"])
    back = {"price": (3.0, 2.0), "age": (2.0, 0.7)}

    new = refreshed(refreshed(refreshed(model, {"price": (50.0, 9.0)}), NEW), back)

    np.testing.assert_allclose(said(new, rows), said(model, rows), rtol=1e-5)
    for feature in FEATURES.numbers:
        assert new.features[feature.name].fill == pytest.approx(feature.fill, abs=1e-12)
    for one, other in zip(new.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_where_weights_are_kept_a_number_counts_as_what_it_is_beside_the_others(rows):
    for name in ("nfm", "concat"):
        model = ready(*MODELS[name], keras.optimizers.Ftrl(0.1))
        inflated = {**rows, "price": rows["price"] * 4 + 1}

        new = refreshed(model, {"price": (13.0, 8.0)}, keep="weights")

        assert (new.features["price"].mean, new.features["price"].std, new.features["price"].fill) == (13.0, 8.0, 0.0)
        assert_alike(said(new, inflated), said(model, rows))
        for one, other in zip(new.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        for kept, other in zip(slots(new).values(), slots(model).values(), strict=True):
            np.testing.assert_array_equal(kept, other)


# --- the optimizer ----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "LazyAdagrad": (lambda: LazyAdagrad(0.1), {"accumulator": 2}),
    "LazyAdam": (lambda: LazyAdam(0.01), {"m": 1, "v": 2}),
    "Adagrad": (lambda: keras.optimizers.Adagrad(0.1), {"accumulator": 2}),
    "Adam with amsgrad": (lambda: keras.optimizers.Adam(0.01, amsgrad=True), {"m": 1, "v": 2, "vhat": 2}),
    "Adam with averages": (lambda: keras.optimizers.Adam(0.01, use_ema=True), {"m": 1, "v": 2, "average": -1}),
    "SGD": (lambda: keras.optimizers.SGD(0.01, momentum=0.9), {"m": 1}),
    "RMSprop": (
        lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
        {"velocity": 2, "momentum": 0, "average_gradient": 1},
    ),
    "Nadam": (lambda: keras.optimizers.Nadam(0.01), {"m": 1, "v": 2}),
    "Adadelta": (lambda: keras.optimizers.Adadelta(0.1), {"accumulated_grad": 2, "accumulated_delta_var": -2}),
}


def slots(model):
    """What the optimizer keeps, by its kind and the number of its weight, whose name counts up in a process."""
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    found, counts = {}, Counter()
    for variable in inner.variables:
        kind = variable.name.partition("/")[0]
        found[kind, counts[kind]] = variable.numpy()
        counts[kind] += 1
    return found


def position(model, weight):
    return [id(one) for one in model.trainable_variables].index(id(weight))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_keeps_follows_the_gradient_of_each_weight(name):
    optimizer, powers = OPTIMIZERS[name]
    model = ready(optimizer=optimizer())

    new = refreshed(model, {"price": (3.0, 6.0)})

    before, after, table = slots(model), slots(new), position(model, model.embedding.table)
    assert before.keys() == after.keys()
    for kind, power in powers.items():
        expected = before[kind, table].copy()
        expected[FEATURES.num_rows + 1] /= 3.0**power
        np.testing.assert_allclose(after.pop((kind, table)), expected, rtol=1e-6)
    for slot, kept in after.items():
        np.testing.assert_array_equal(kept, before[slot])


def test_a_product_that_an_optimizer_does_not_list_is_kept():
    model = ready(optimizer=keras.optimizers.Nadam(0.01))
    vars(model.optimizer)["_u_product"].assign(0.25)

    assert vars(refreshed(model, NEW).optimizer)["_u_product"].numpy() == 0.25


def test_of_a_bias_that_takes_a_mean_the_optimizer_keeps_all_but_its_average():
    model = ready(*MODELS["concat"], keras.optimizers.Adam(0.01, use_ema=True))

    new = refreshed(model, {"price": (7.0, 2.0)})

    before, after = slots(model), slots(new)
    for place in model.number_weights():
        kernel, bias = (("average", position(model, weight)) for weight in (place.weight, place.bias))
        moved = before[bias] + 2 * before[kernel][place.rows[0]]
        np.testing.assert_allclose(after.pop(bias), moved, rtol=1e-6)
    for slot, kept in after.items():  # the deviation is the same
        np.testing.assert_array_equal(kept, before[slot])


def test_half_precision_keeps_its_loss_scale_and_its_predictions_to_its_precision(rows):
    model = ready("nfm", {**SMALL, "numeric": "concat", "dtype": "mixed_float16"})
    kept = {}
    model.save_own_variables(kept)
    model.load_own_variables({**kept, "loss_scale": np.float32(64)})

    new = refreshed(model, NEW)

    assert new.optimizer.loss_scale.numpy() == 64
    np.testing.assert_allclose(said(new, rows), said(model, rows), rtol=2e-2)


def test_what_is_not_trained_stays_so_and_statistics_travel(rows):
    model = ready()
    model.statistics = Counting(FEATURES).statistics(day=1)
    model.embedding.trainable = False
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)

    new = refreshed(model, NEW)

    assert [weight.shape for weight in new.trainable_weights] == [weight.shape for weight in model.trainable_weights]
    assert not new.embedding.trainable
    assert new.statistics is model.statistics
    assert_alike(said(new, rows), said(model, rows))


def test_a_model_that_was_not_compiled_or_not_trained_is_refreshed_too(rows):
    model = RankingModel(FEATURES, embedding_dim=3)
    assert refreshed(model, NEW).features["price"].std != 2.0
    model.compile(keras.optimizers.Ftrl(0.1))
    new = refreshed(model, NEW)
    assert new.optimizer.name == "Ftrl"
    assert_alike(said(new, rows), said(model, rows))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["Ftrl", "Adafactor"])
def test_state_that_cannot_follow_is_refused(optimizer):
    model = ready(optimizer=getattr(keras.optimizers, optimizer)(0.01))

    with pytest.raises(ValueError, match=f"^{optimizer} keeps '\\w+', of which it is not known how it follows numbers"):
        refreshed(model, NEW)


@pytest.mark.parametrize(
    ("moments", "line"),
    [
        ({"prize": (1.0, 2.0)}, "'prize'"),
        ({"user": (1.0, 2.0)}, "Feature 'user' is no plain number, and has no mean"),
        ({"price": (1.0, 0.0)}, "Feature 'price' needs a finite mean and a std above 0; received mean 1.0, std 0.0"),
        ({"price": (float("nan"), 1.0)}, "Feature 'price' needs a finite mean"),
        ({"price": 3.0}, "moments of 'price' are a mean and a standard deviation; received 3.0"),
        ({"price": ("1", "2")}, "moments of 'price' are a mean and a standard deviation"),
    ],
)
@pytest.mark.parametrize("numeric", ["field", "concat"])
def test_moments_that_are_none_are_refused_in_one_line(moments, line, numeric):
    model = RankingModel(FEATURES, embedding_dim=3, numeric=numeric)

    with pytest.raises(ValueError, match=line) as caught:
        refreshed(model, moments)

    assert "\n" not in str(caught.value)


def test_what_else_could_be_kept_is_refused():
    with pytest.raises(ValueError, match='keep must be "predictions" or "weights"; received \'all\''):
        refreshed(RankingModel(FEATURES, embedding_dim=3), NEW, keep="all")


def test_models_without_numbers_or_features_or_of_another_kind_are_refused():
    class Own(RankingModel):
        def call(self, columns, training=None):
            return super().call(columns, training)

    with pytest.raises(ValueError, match="models that compute as RankingModel does; received Own"):
        refreshed(Own(FEATURES, embedding_dim=3), NEW)
    with pytest.raises(ValueError, match="models that compute as RankingModel does; received Sequential"):
        refreshed(keras.Sequential(), NEW)
    with pytest.raises(ValueError, match="does not know its features yet"):
        refreshed(RankingModel(), NEW)
    with pytest.raises(ValueError, match="no plain number to standardise anew: its features are user, film"):
        refreshed(RankingModel([FEATURES["user"], FEATURES["film"]]), {})


# --- what a missing number counts as ----------------------------------------------------------------------------------


@pytest.mark.parametrize("numeric", ["concat", "bottom_mlp"])
def test_a_missing_number_counts_as_its_fill_where_it_is_no_field(numeric):
    categories = [CategoricalFeature(name, vocabulary_size=3) for name in ("user", "film")]
    model = RankingModel([*categories, NumericFeature("x", mean=1.0, std=2.0, fill=-0.5)], numeric=numeric)
    for weight in model.trainable_weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))

    missing, there, other = said(model, {"user": [1, 1, 1], "film": [2, 2, 2], "x": [np.nan, 0.0, 1.0]})

    assert missing == there  # (0 - 1) / 2
    assert missing != other


def test_a_field_has_a_vector_for_missing_numbers_and_no_fill():
    with_fill, without = (
        RankingModel([CategoricalFeature("user", vocabulary_size=3), NumericFeature("x", fill=fill)])
        for fill in (5.0, 0.0)
    )
    with_fill.set_weights(without.get_weights())
    columns = {"user": tf.constant([1, 1]), "x": tf.constant([np.nan, 2.0])}

    np.testing.assert_array_equal(with_fill(columns), without(columns))
