"""Models grow with new values: what they have learnt stays, to the last bit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import nfm_tfrs
from nfm_tfrs import CategoricalFeature, Growth, MultiCategoricalFeature, NumericFeature, grow
from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.data import prepare_files
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.keras_compat.private import layers_inside
from nfm_tfrs.models.grow import with_features
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.training.statistics import count_rows
from tfrs_registry import get_model, list_models

USER = CategoricalFeature("user", vocabulary=["ann", "bob", "cyd"], free_ids=[1])
FILM = CategoricalFeature("film", vocabulary=[7, 3, 5])
SPEC = FeatureSpec(
    [
        USER,
        NumericFeature("price"),
        FILM,
        CategoricalFeature("hour", vocabulary_size=3),
        MultiCategoricalFeature("watched", vocabulary=FILM.vocabulary, embedding_name="film"),
    ]
)
GROWN = FeatureSpec(
    [
        replace(feature, vocabulary=["ann", "eve", "cyd", "dan"], free_ids=[0])
        if feature is USER
        else replace(feature, vocabulary=[7, 3, 5, 9])
        if feature.table == "film"
        else feature
        for feature in SPEC
    ]
)
# Rows of the table: user 0 to 3, film 4 to 7, hour 8 to 11, the number 12 and 13; ann's is freed, bob's was free.
KEPT = [0, 3, *range(4, 8), *range(8, 12), 12, 13]
WHERE = [0, 3, *range(5, 9), *range(10, 14), 14, 15]
ANEW = [1, 2, 4, 9]
OPTIMIZERS = {
    "LazyAdagrad": lambda: LazyAdagrad(0.05),
    "LazyAdam": lambda: LazyAdam(0.01),
    "LazyAdam of all rows": lambda: LazyAdam(0.01, lazy=False),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.05, initial_accumulator_value=0.3),
    "Adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True, use_ema=True),
    "SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "AdamW": lambda: keras.optimizers.AdamW(0.01),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "Adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "Adamax": lambda: keras.optimizers.Adamax(0.01),
}


def rows(users, films, seed=0):
    """Columns of 24 rows, and labels."""
    rng = np.random.default_rng(seed)
    columns = {
        "user": rng.choice(users, 24),
        "price": rng.normal(size=24).astype(np.float32),
        "film": rng.choice(films, 24),
        "hour": rng.integers(0, 3, 24),
        "watched": tf.RaggedTensor.from_row_lengths(rng.choice(films, 24), [2, 0] * 12),
        "genre": rng.choice(["a", "b"], 24),
    }
    return columns, rng.integers(0, 2, 24).astype(np.float32)


OLD, LABELS = rows(["ann", "cyd"], [7, 3, 5])
TONIGHT, _ = rows(["ann", "eve", "dan", ""], [3, 9, -1, 8], seed=1)


def small(features=SPEC, cls=NFM, **config):
    return cls(features, **{"embedding_dim": 2, "hidden_units": (3,), **config})


def state(model):
    """All that a model and its optimizer hold."""
    optimizer = inner_optimizer(model.optimizer)
    layers = [layer for layer in layers_inside(model) if hasattr(layer, "dropout_state")]
    held = [*model.variables, *optimizer.variables, *model.scale_state.values()]
    return [part.numpy() for part in (*held, *(layer.dropout_state for layer in layers))]


def disturb(variables, seed=0):
    """Gives variables values that nothing else has."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        values = rng.uniform(0.1, 1.0, variable.shape)
        variable.assign(values if variable.dtype.is_floating else np.full(variable.shape, 7))


# --- weights and the optimizer's state -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disturbed():
    """A model in which each row of the table tells which it is."""
    model = small(cls=RankingModel, interaction="fm", hidden_units=())
    disturb(model.variables)
    return model


@pytest.fixture(scope="module")
def plain(disturbed):
    """The same model, which nobody compiles."""
    model = with_features(disturbed, SPEC)
    model.embedding.table.assign(disturbed.embedding.table)
    return model


@pytest.mark.parametrize(
    ("name", "scaled"), [*((name, False) for name in OPTIMIZERS), ("LazyAdagrad", True), ("Adam", True)]
)
def test_rows_and_slots_of_old_values_are_moved_and_new_ones_start_anew(disturbed, name, scaled):
    model = disturbed
    optimizer = OPTIMIZERS[name]()
    model.compile(keras.mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer)
    optimizer.build(model.trainable_variables)
    unlisted = [value for value in vars(optimizer).values() if isinstance(value, tf.Variable)]
    disturb([*optimizer.variables, *unlisted], seed=1)
    disturb(model.scale_state.values())
    before = state(model)

    grown = with_features(model, GROWN, start={"film": np.float32([[1, 2, 3]])})

    assert all((one == other).all() for one, other in zip(before, state(model), strict=True))
    table, old_table = grown.embedding.table.numpy(), model.embedding.table.numpy()
    np.testing.assert_array_equal(table[WHERE], old_table[KEPT])
    np.testing.assert_array_equal(table[ANEW], np.float32([[0] * 3, [0] * 3, [0] * 3, [1, 2, 3]]))
    others = [(o.numpy(), n.numpy()) for o, n in zip(model.variables, grown.variables, strict=True)]
    assert all((o == n).all() for o, n in others if o is not None and o.shape != old_table.shape)
    # What a slot starts at, of an optimizer that nobody has used.
    fresh = OPTIMIZERS[name]()
    fresh.build(grown.trainable_variables)
    new = inner_optimizer(grown.optimizer)
    moved = 0
    for was, now, start in zip(optimizer.variables, new.variables, fresh.variables, strict=True):
        if was.shape == now.shape:
            np.testing.assert_array_equal(now.numpy(), was.numpy())
        else:
            np.testing.assert_array_equal(now.numpy()[WHERE], was.numpy()[KEPT])
            np.testing.assert_array_equal(now.numpy()[ANEW], start.numpy()[ANEW])
            moved += 1
    assert moved == sum("table" in slot.name for slot in fresh.variables) > 0
    for was, now in zip(unlisted, [v for v in vars(new).values() if isinstance(v, tf.Variable)], strict=True):
        np.testing.assert_array_equal(now.numpy(), was.numpy())
    assert type(grown.optimizer) is type(model.optimizer)
    assert [v.numpy() for v in grown.scale_state.values()] == [v.numpy() for v in model.scale_state.values()]


def test_the_state_of_dropout_and_of_other_layers_the_labels_mean_and_what_is_trained_come_along():
    model = small()
    model.adapt_labels(np.array([1.0, 1.0, 0.0]))
    model.embedding.trainable = False
    model.compile(LazyAdam(0.01))
    dropouts = [layer.dropout_state for layer in layers_inside(model) if hasattr(layer, "dropout_state")]
    dropouts[0].assign([5, 6])

    grown = with_features(model, GROWN)

    assert len(dropouts) == 2
    kept = [layer.dropout_state for layer in layers_inside(grown) if hasattr(layer, "dropout_state")]
    assert [one.numpy().tolist() for one in kept] == [one.numpy().tolist() for one in dropouts]
    assert grown.label_mean.numpy() == model.label_mean.numpy() != 0
    assert [v.shape for v in grown.trainable_variables] == [v.shape for v in model.trainable_variables]
    assert not grown.embedding.trainable


@pytest.mark.parametrize(
    ("how", "optimizer"),
    [
        ({"jit_compile": True}, "adam"),
        ({"steps_per_execution": 3, "huge_pages": True}, "lazyadam"),
        ({"run_eagerly": True}, "sgd"),
        ({}, lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 9))),
        ({}, lambda: LazyAdam(0.1, weight_decay=0.1, clipnorm=2.0)),
    ],
    ids=["xla", "steps", "eagerly", "a schedule", "arguments"],
)
def test_the_grown_model_is_compiled_as_the_old_one_was(how, optimizer):
    model = small(cls=RankingModel, interaction="fm", hidden_units=())
    model.compile(optimizer if isinstance(optimizer, str) else optimizer(), **how)
    grown = with_features(model, GROWN)
    assert grown.get_compile_config() == model.get_compile_config()
    assert grown.optimizer.get_config() == model.optimizer.get_config()
    assert grown.run_eagerly == model.run_eagerly


def test_weights_that_do_not_decay_still_do_not():
    model, optimizer = small(interaction_batch_norm=False, batch_norm=False), LazyAdam(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay([model.embedding.table], ["bias"])
    model.compile(optimizer)
    grown = with_features(model, GROWN)
    decays = [v.name.rsplit("/")[-1] for v in grown.trainable_variables if grown.optimizer.decays_weights(v)]
    assert decays == ["kernel:0", "kernel:0"]


def test_a_model_that_is_not_compiled_or_has_not_trained_grows():
    model = small(cls=RankingModel, interaction="fm", hidden_units=())
    grown = grow(model, TONIGHT)
    assert grown.optimizer is None
    np.testing.assert_array_equal(grown.predict(OLD, verbose=0), model.predict(OLD, verbose=0))
    model.compile("adam", run_eagerly=True)
    grown = grow(model, TONIGHT)
    grown.fit(TONIGHT, LABELS, verbose=0)
    assert not model.optimizer.iterations.numpy()


# --- predictions, files, nights --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "mixed_float16"])
def nights(request, tmp_path_factory):
    """A trained model, and what it has become in three nights, each trained on and the last one saved in between."""
    keras.utils.set_random_seed(0)
    model = small(dtype=request.param)
    model.compile(LazyAdagrad(0.05), run_eagerly=True)  # tracing takes seconds, and is the same for all models
    model.fit(OLD, LABELS, batch_size=8, verbose=0)
    before, predicted = state(model), model.predict(OLD, verbose=0)
    grown = [grow(model, TONIGHT, Growth(init="random"))]
    found = [grown[0].predict(OLD, verbose=0)]
    untouched = all((one == other).all() for one, other in zip(before, state(model), strict=True))
    assert untouched
    return model, predicted, grown[0], found[0], tmp_path_factory.mktemp("nights")


def test_predictions_of_old_values_are_the_same_to_the_bit_and_the_model_stays_as_it_is(nights):
    model, predicted, grown, found, _ = nights
    assert grown.features["user"] == replace(USER, vocabulary=("ann", "eve", "cyd", "dan"), free_ids=())
    assert grown.features["film"].vocabulary == (7, 3, 5, 8, 9)
    assert grown.embedding.num_rows == model.embedding.num_rows + 3
    np.testing.assert_array_equal(found, predicted)
    np.testing.assert_array_equal(grown(OLD).numpy(), model(OLD).numpy())
    np.testing.assert_array_equal(grown.predict_on_batch(OLD), model.predict_on_batch(OLD))
    unknown = {**OLD, "user": np.array(["?"] * 24), "film": np.full(24, -1)}
    np.testing.assert_array_equal(grown.predict(unknown, verbose=0), model.predict(unknown, verbose=0))


def test_a_grown_model_is_saved_and_loaded_trained_on_and_grows_again_night_by_night(nights):
    _, predicted, grown, _, folder = nights
    for night, film in enumerate((11, 13)):
        grown.save(folder / "grown.keras")
        loaded = nfm_tfrs.load_model(folder / "grown.keras")
        assert all((one == other).all() for one, other in zip(state(grown), state(loaded), strict=True))
        np.testing.assert_array_equal(loaded.predict(OLD, verbose=0), predicted)
        loaded.fit(*rows(["ann", "eve"], [3, 9], seed=night), batch_size=8, verbose=0)
        predicted = loaded.predict(OLD, verbose=0)
        films = loaded.features["film"].vocabulary
        grown = grow(loaded, {**TONIGHT, "film": np.full(24, film)})
        assert grown.features["film"].vocabulary == (*films, film)
        np.testing.assert_array_equal(grown.predict(OLD, verbose=0), predicted)


def test_a_grown_model_is_exported(nights):
    _, _, grown, _, folder = nights
    found = nfm_tfrs.serving.export(grown, folder / "export")
    assert found.parity.largest < 1e-5
    tonight = pa.table({name: column for name, column in TONIGHT.items() if name != "watched"})
    tonight = tonight.append_column("watched", pa.array(TONIGHT["watched"].to_list()))
    scores = nfm_tfrs.serving.load(folder / "export").predict(tonight)
    tolerance = 1e-5 if grown.compute_dtype == "float32" else 1e-2
    np.testing.assert_allclose(scores, grown.predict(TONIGHT, verbose=0)[:, 0], atol=tolerance)


class Weighed(InteractionBlock):
    """A block of nobody's package, with a weight and a state of its own beside."""

    def build(self, input_shape):
        self.scale = self.add_weight("scale", [input_shape[-1]], initializer="ones")
        self.seen = tf.Variable(0, trainable=False)
        super().build(input_shape)

    def call(self, embeddings, mask=None):
        return tf.reduce_sum(embeddings, axis=1) * self.scale


def test_blocks_of_others_and_features_that_were_inferred_grow_along():
    model = small(None, cls=RankingModel, interaction=Weighed())
    model.adapt(OLD)
    model.interaction.scale.assign([3.0, 4.0])
    model.interaction.seen.assign(9)
    grown = grow(model, TONIGHT)
    assert grown.interaction.scale.numpy().tolist() == [3.0, 4.0]
    assert grown.interaction.seen.numpy() == 9
    assert grown.features.num_rows > model.features.num_rows
    np.testing.assert_array_equal(grown.predict(OLD, verbose=0), model.predict(OLD, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_grows(name):
    keras.utils.set_random_seed(0)
    model = get_model(name, features=SPEC, embedding_dim=4)
    model.compile("adam")
    model.fit(OLD, LABELS, verbose=0)
    grown = grow(model, TONIGHT, Growth(init="mean:genre"))
    np.testing.assert_array_equal(grown.predict(OLD, verbose=0), model.predict(OLD, verbose=0))
    grown.fit(TONIGHT, LABELS, verbose=0)


REPLICAS = """
import numpy as np
from nfm_tfrs import NFM, CategoricalFeature, grow
from nfm_tfrs.keras_compat import tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
columns = {"user": np.array(["a", "b"] * 20), "film": np.arange(40) % 5}
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    features = [CategoricalFeature("user", vocabulary=["a", "b"]), CategoricalFeature("film", vocabulary_size=5)]
    model = NFM(features, embedding_dim=2, hidden_units=(3,))
    model.compile("adam")
model.fit(columns, np.arange(40) % 2.0, batch_size=8, verbose=0)
grown = grow(model, {"user": ["c", "a"], "film": [0, 1]})
assert grown.distribute_strategy is model.distribute_strategy
assert grown.features["user"].vocabulary == ("a", "b", "c")
assert (grown.predict(columns, verbose=0) == model.predict(columns, verbose=0)).all()
grown.fit(columns, np.arange(40) % 2.0, batch_size=8, verbose=0)
"""


@pytest.mark.slow
def test_a_model_of_several_replicas_grows_with_the_averages_of_each(run_python):
    run_python(REPLICAS)


# --- where new rows start --------------------------------------------------------------------------------------------


def test_new_rows_start_at_zero_at_random_or_at_the_mean_of_their_group(plain):
    table = plain.embedding.table.numpy()
    data = {
        "user": ["ann", "cyd", "eve", "dan", "eve"],
        "price": [1.0] * 5,
        "film": [7, 5, 3, 7, 7],
        "hour": [0] * 5,
        "watched": [[], [], [], [9], [8]],
        "genre": ["a", "a", "a", None, "b"],
    }
    zeros, random, mean = (grow(plain, data, Growth(init=init)) for init in ("zeros", "random", "mean:genre"))
    for grown in (zeros, random, mean):
        assert grown.features["user"].vocabulary == ("ann", "eve", "cyd", "dan")
        assert grown.features["film"].vocabulary == (7, 3, 5, 8, 9)
    assert not zeros.embedding.table.numpy()[[2, 4, 9, 10]].any()
    drawn = random.embedding.table.numpy()[[2, 4, 9, 10]]
    assert drawn[:, :2].all()
    assert abs(drawn[:, :2]).max() < 5 * plain.embedding.stddev
    assert not drawn[:, 2].any()
    again = grow(plain, data, Growth(init="random")).embedding.table.numpy()
    np.testing.assert_array_equal(again, random.embedding.table.numpy())
    found = mean.embedding.table.numpy()
    ann_and_cyd = (table[1].astype(np.float64) + table[3]) / 2
    np.testing.assert_allclose(found[2], ann_and_cyd, rtol=1e-6)  # eve: twice, in b no old user
    np.testing.assert_array_equal(found[4], [0, 0, 0])  # dan is in no group
    np.testing.assert_allclose(found[9], table[5], rtol=1e-6)  # 8, in b, as 7 is
    np.testing.assert_array_equal(found[10], [0, 0, 0])  # 9 is in no group


# --- statistics ------------------------------------------------------------------------------------------------------


def counted(model, data, day):
    """Statistics of the data, as if the model had been trained on it."""
    from nfm_tfrs.data.parts import encode_part

    count_rows(model, [encode_part(as_table(data), model.encoder)], model.features, day=day)
    return model.statistics


def as_table(data):
    lists = {name: column.to_list() if hasattr(column, "to_list") else column for name, column in data.items()}
    return pa.table(lists)


@pytest.mark.parametrize("read", [dict, lambda data: iter(as_table(data).to_batches(max_chunksize=7))])
def test_statistics_are_those_of_all_rows_and_what_waits_waits_on(plain, read):
    model = plain
    before = counted(model, OLD, 3)
    try:
        grown = grow(model, read(TONIGHT), Growth(min_count=5, day="1970-01-06"))
        later = grow(grown, TONIGHT, Growth(min_count=5, day="1970-01-07"))
    finally:
        model.statistics = None
    users = {name: np.count_nonzero(TONIGHT["user"] == name) for name in ("ann", "eve", "dan")}
    assert (users["eve"], users["dan"]) == (6, 4)
    assert grown.features["user"].vocabulary == ("ann", "eve", "cyd")
    assert grown.statistics.waiting["user"] == {"dan": 4}
    assert grown.statistics.rows == 48
    old = before.counts["user"]
    assert grown.statistics.counts["user"].tolist() == [4, old[1] + users["ann"], 6, old[3]]
    assert grown.statistics.seen["user"].tolist() == [5, 5, 5, 3]
    assert grown.statistics.missing["user"] == np.count_nonzero(TONIGHT["user"] == "")
    # The next night dan has been seen 8 times; the 4 of before, unknown then, count.
    assert later.features["user"].vocabulary == ("ann", "eve", "cyd", "dan")
    assert later.statistics.counts["user"].tolist()[0::4] == [0, 8]
    assert later.statistics.waiting["user"] == {}
    assert before.counts["user"] is old
    assert model.features["user"] == USER


def test_values_lose_their_rows_and_places_are_reset(plain):
    model = plain
    counted(model, OLD, 3)
    try:
        aged = grow(model, {**TONIGHT, "user": ["ann"] * 24}, Growth(max_age=2, day="1970-01-07"))
        full = grow(model, {**TONIGHT, "user": ["eve"] * 24}, Growth(max_rows=14, day="1970-01-07"))
        with pytest.raises(ValueError, match=r"table has 14 rows already, .* received max_rows=13\. Give 14 or more"):
            grow(model, TONIGHT, Growth(max_rows=13))
    finally:
        model.statistics = None
    assert aged.features["user"].free_ids == (1, 2)
    table = model.embedding.table.numpy()
    np.testing.assert_array_equal(aged.embedding.table.numpy()[:4], [table[0], table[1], [0] * 3, [0] * 3])
    freed, unknown = ({**OLD, "user": np.array([user] * 24)} for user in ("cyd", "?"))
    np.testing.assert_array_equal(aged.predict(freed, verbose=0), aged.predict(unknown, verbose=0))
    assert full.embedding.num_rows == 14
    assert full.features["user"].vocabulary == ("ann", "eve", "cyd")  # bob's place was free
    films = full.features["film"].vocabulary
    assert {7, 3, 5} != {*films}  # all three were taken: a more frequent one drives the rarest out
    changed = [place for place, film in enumerate(films) if film != FILM.vocabulary[place]]
    assert not full.embedding.table.numpy()[4 + 1 + np.array(changed)].any()


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(line, model, data=None, growth=None):
    with pytest.raises(ValueError, match=line) as caught:
        grow(model, TONIGHT if data is None else data, growth)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_grow_are_refused_in_one_line(plain):
    refused("Models of this package grow; received Sequential", keras.Sequential())
    refused("does not know its features yet, and has nothing to grow. Call fit", NFM())
    fixed = [CategoricalFeature("user", num_hash_buckets=5), CategoricalFeature("hour", vocabulary_size=3)]
    refused(
        "no vocabulary to grow: user, hour, price are hash buckets, which take any value already, ids, whose number is "
        "fixed, or numbers. Train it",
        small([*fixed, NumericFeature("price")]),
    )
    refused("max_age needs the statistics", plain, growth=Growth(max_age=1))
    refused("max_rows needs the statistics", plain, growth=Growth(max_rows=99))


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [
        (lambda: keras.optimizers.Adafactor(0.1), "^Adafactor keeps state of another shape for a table"),
        (
            lambda: keras.optimizers.legacy.Adam(0.1),
            "^Growth moves the state of tf.keras.optimizers; received Adam of ",
        ),
        (
            lambda: Stubborn(0.1),
            r"^Stubborn cannot be made anew \(.*rate.*\)\. Compile the model with an optimizer whose",
        ),
    ],
)
def test_optimizers_whose_state_cannot_grow_are_refused_before_any_work(optimizer, line, disturbed):
    disturbed.compile(optimizer())
    refused(line, disturbed, data=object())


class Stubborn(keras.optimizers.SGD):
    """An optimizer whose config says nothing of what it needs."""

    def __init__(self, rate, **kwargs):
        super().__init__(rate, **kwargs)


def test_an_optimizer_of_other_weights_is_refused():
    model = small(cls=RankingModel, interaction="fm", hidden_units=())
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    model.embedding.trainable = False
    refused("Adam was made for other weights than the model trains now. Compile the model again", model, data=object())


def test_a_weight_that_follows_from_the_number_of_rows_is_refused():
    class Rowed(RankingModel):
        def _make_layers(self, spec):
            super()._make_layers(spec)
            self.rowed = self.add_weight("rowed", [spec.num_rows])

    refused(r"The weight \S*rowed:0 is \(12,\), and \(15,\) with the grown features: only", small(cls=Rowed))


@pytest.mark.parametrize(("name", "shape"), [("film", (2, 3)), ("film", (1, 2)), ("zone", (1, 3))])
def test_starts_of_other_values_or_another_width_are_refused(name, shape, plain):
    needed = "each of its 1 new" if name == "film" else "each of its 0 new"
    with pytest.raises(ValueError, match=rf"start of table '{name}' must be a row of 3 for {needed} .* \({shape[0]}, "):
        with_features(plain, GROWN, start={name: np.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"film": None}, "There is no column 'film'"),
        ({"user": np.arange(24)}, "'user' is int64, another type than in training: feature 'user' was declared string"),
        ({"film": np.array(["7"] * 24)}, "'film' is string, another type than in training"),
    ],
)
def test_data_that_does_not_fit_is_refused(change, line, plain):
    refused(line, plain, {name: column for name, column in {**TONIGHT, **change}.items() if column is not None})


def test_a_group_that_is_not_there_is_named(plain):
    refused("There is no column 'gender'; did you mean 'genre'", plain, growth=Growth(init="mean:gender"))


def test_data_that_is_another_one_when_it_is_read_again_is_refused(plain):
    once = Once(tf.data.Dataset.from_tensor_slices(TONIGHT).batch(8))
    counted(plain, OLD, 3)
    try:
        refused("has 24 rows when it is read once, and 8 when it is read again", plain, once)
    finally:
        plain.statistics = None


class Once:
    """A dataset that has fewer rows the second time."""

    def __init__(self, data):
        self.data, self.element_spec, self.times = data, data.element_spec, 0

    def cardinality(self):
        return self.data.cardinality()

    def __iter__(self):
        self.times += 1
        return iter(self.data if self.times == 1 else self.data.take(1))


# --- caches ----------------------------------------------------------------------------------------------------------


def test_rows_that_were_encoded_before_are_not_taken_from_the_cache(tmp_path):
    from pyarrow import parquet

    city = CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Bern"])
    film = CategoricalFeature("film", vocabulary=[1, 2])
    old = FeatureSpec([city, film])
    table = pa.table({"city": ["Rome", "Oslo", "Bern", "Aix"] * 10, "film": [1, 2, 3, 1] * 10, "y": [0, 1] * 20})
    parquet.write_table(table, tmp_path / "rows.parquet")

    def encoded(features):
        return prepare_files(tmp_path / "rows.parquet", "y", features=features, cache=tmp_path / "cache")

    model = small(old, cls=RankingModel, interaction="fm", hidden_units=())
    grown = grow(model, table)
    lost = FeatureSpec([replace(city, free_ids=[0]), film])  # as many rows of the table, and each id of them is there
    assert grown.features.num_rows == old.num_rows + 2
    for features in (old, grown.features, lost, old):
        found = encoded(features)
        assert found.features == features
        plain = prepare_files(tmp_path / "rows.parquet", "y", features=features)
        np.testing.assert_array_equal(found.train.columns["encoded/ids"], plain.train.columns["encoded/ids"])
    assert len(list((tmp_path / "cache").iterdir())) == 3
