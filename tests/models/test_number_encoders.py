"""Models whose numbers are embedded: they train, are saved, grow and are exported as all others."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs import Growth, LazyAdam, grow, load_model, refreshed
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.number_encoders import AutoDis, Periodic
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.target import Target
from nfm_tfrs.testing import check_model
from nfm_tfrs.testing.kit import BOUNDS, difference
from nfm_tfrs.tuning import RankingHyperModel, keras_tuner
from tfrs_registry import get_model

ENCODERS = ("buckets", "piecewise", "periodic", "autodis")
FEATURES = FeatureSpec(
    [
        NumericFeature("price", mean=3.0, std=2.0, boundaries=[1.0, 2.5, 4.0], encoder="linear"),
        CategoricalFeature("user", vocabulary=["ann", "bob", "cyd"]),
        NumericFeature("age", mean=2.0, std=0.7, log=True, boundaries=[2.0, 8.0], encoder="linear"),
        CategoricalFeature("hour", vocabulary_size=4),
    ]
)
# All encoders in one model, around a number that is linear: what is made of a model is made of each.
MIXED = FeatureSpec(
    [
        *FEATURES,
        *(
            NumericFeature(f"n_{name}", mean=1.0, std=2.0, boundaries=[-1.0, 0.0, 2.0], encoder=name)
            for name in ENCODERS
        ),
    ]
)
SMALL = {"embedding_dim": 4, "hidden_units": [4]}


def rows(count=60):
    rng = np.random.default_rng(0)
    columns = {
        "price": np.where(rng.random(count) < 0.2, np.nan, rng.normal(3, 2, count)).astype(np.float32),
        "user": rng.choice(["ann", "bob", "cyd", "eve"], count),
        "age": np.where(rng.random(count) < 0.2, np.nan, rng.lognormal(2, 0.7, count)).astype(np.float32),
        "hour": rng.integers(-1, 5, count),
    }
    for name in ENCODERS:
        columns[f"n_{name}"] = np.where(rng.random(count) < 0.2, np.nan, rng.normal(1, 2, count)).astype(np.float32)
    return columns, rng.integers(0, 2, count).astype(np.float32)


def trained(**config):
    keras.utils.set_random_seed(0)
    model = RankingModel(MIXED, **{**SMALL, **config})
    model.compile(LazyAdam(0.02))
    model.fit(*rows(), batch_size=20, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=() if name == "periodic" else pytest.mark.slow) for name in ENCODERS]
)
def test_a_model_with_the_encoder_conforms(encoder):
    def make(features, **config):
        spec = FeatureSpec(
            [
                replace(one, boundaries=[0.0, 1.0, 4.0], encoder="linear") if isinstance(one, NumericFeature) else one
                for one in features
            ]
        )
        return Encoded(spec, number_encoder=encoder, **config)

    check_model(make)


@keras.utils.register_keras_serializable(package="tests")
class Encoded(RankingModel):
    """A model for the suite, which compares what comes out of a config with what went in."""


def test_the_model_reads_what_its_argument_makes_of_the_features():
    model = RankingModel(FEATURES, number_encoder="periodic", **SMALL)

    assert [number.encoder for number in model.features.numbers] == ["periodic", "periodic"]
    assert [number.encoder for number in model.embedding.features.numbers] == ["periodic", "periodic"]
    assert model.features == FEATURES.with_number_encoder("periodic")
    assert model.get_config()["number_encoder"] == "periodic"
    assert RankingModel.from_config(model.get_config()).features == model.features


def test_a_model_without_encoders_has_the_variables_that_it_had():
    plain = FeatureSpec(
        [replace(one, boundaries=None, encoder=None) if one in FEATURES.numbers else one for one in FEATURES]
    )
    models = [
        RankingModel(plain, **SMALL),
        RankingModel(FEATURES, **SMALL),
        RankingModel(plain, number_encoder="linear", **SMALL),
    ]
    columns, _ = rows()

    names = [[(weight.name.split("/")[-1], weight.shape) for weight in model.weights] for model in models]
    nodes = []
    for model in models:
        traced = tf.function(
            lambda ids, numbers, model=model: model.call({"encoded/ids": ids, "encoded/numbers": numbers})
        )
        encoded = model.encoder(columns)
        graph = traced.get_concrete_function(encoded["encoded/ids"], encoded["encoded/numbers"]).graph
        nodes.append([node.op for node in graph.as_graph_def().node])

    assert names[0] == names[1] == names[2]
    assert names[0][0] == ("table:0", (13, 5))
    assert not [name for name, _ in names[0] if "vectors" in name]
    assert nodes[0] == nodes[1] == nodes[2]
    assert models[0].embedding._encoders is None


@pytest.mark.parametrize("name", ["fm", "pnn"])
def test_blocks_of_sums_and_of_fields_take_them(name):
    model = get_model(name, features=FEATURES, number_encoder="piecewise", embedding_dim=4, hidden_units=[])
    model.compile(LazyAdam(0.02))

    assert np.isfinite(model.fit(*rows(), verbose=0).history["loss"]).all()


@pytest.mark.parametrize("policy", list(BOUNDS))
def test_half_precision_computes_numbers_in_float32(policy):
    model, half = (RankingModel(MIXED, interaction="cross", dtype=dtype, **SMALL) for dtype in ("float32", policy))
    half.set_weights(model.get_weights())
    columns, labels = rows()

    one, other = (made.embedding(made.encoder(columns)) for made in (model, half))

    assert other.embeddings.dtype.name == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in half.weights} == {tf.float32}
    np.testing.assert_array_equal(other.embeddings, tf.cast(one.embeddings, other.embeddings.dtype))
    np.testing.assert_array_equal(other.first_order, one.first_order)
    assert difference(half(columns), model(columns)) < 5 * BOUNDS[policy]
    half.compile(LazyAdam(0.01))
    assert np.isfinite(half.fit(columns, labels, epochs=3, verbose=0).history["loss"]).all()


def test_xla_compiles_the_dense_part_behind_numbers():
    model = trained(interaction="cross")
    columns, labels = rows(20)
    plain = model.predict(columns, verbose=0)

    model.compile(LazyAdam(0.02), jit_compile=True)

    np.testing.assert_allclose(model.predict(columns, verbose=0), plain, rtol=1e-4, atol=1e-6)
    assert np.isfinite(model.fit(columns, labels, batch_size=20, verbose=0).history["loss"]).all()


def test_a_model_comes_back_from_each_kind_of_file(tmp_path):
    model, (columns, _) = trained(), rows()
    expected = model.predict(columns, verbose=0)

    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "folder")
    model.save_weights(tmp_path / "checkpoint")
    for path in ("model.keras", "folder"):
        np.testing.assert_array_equal(load_model(tmp_path / path).predict(columns, verbose=0), expected)
    other = RankingModel(MIXED, **SMALL)
    other.load_weights(tmp_path / "checkpoint")
    np.testing.assert_array_equal(other.predict(columns, verbose=0), expected)


def test_rows_encoded_for_linear_numbers_are_right_for_every_encoder():
    columns, _ = rows()
    encoded = RankingModel(FEATURES, **SMALL).encoder(columns)

    for encoder in ENCODERS:
        model = RankingModel(FEATURES, number_encoder=encoder, **SMALL)
        np.testing.assert_array_equal(model(encoded), model(columns))


# --- what changes a model afterwards ---------------------------------------------------------------------------------


def test_a_model_grows_and_says_what_it_said():
    model, (columns, _) = trained(), rows()

    grown = grow(model, {**columns, "user": np.array(["dan"] * 60)}, Growth())

    assert grown.features["user"].vocabulary == ("ann", "bob", "cyd", "dan")
    known = {name: values[columns["user"] != "eve"] for name, values in columns.items()}
    np.testing.assert_array_equal(grown.predict(known, verbose=0), model.predict(known, verbose=0))
    pairs = zip(grown.optimizer.variables, model.optimizer.variables, strict=True)
    of_encoders = [(one, kept) for one, kept in pairs if "vectors" in kept.name or "frequencies" in kept.name]
    assert len(of_encoders) == 2 * 5  # two moments of four vectors and of the frequencies
    assert all(np.array_equal(one, kept) and np.any(kept) for one, kept in of_encoders)


def test_other_moments_keep_the_weights_and_the_limits_but_not_the_predictions():
    model = trained()

    other = refreshed(model, {"n_buckets": (4.0, 3.0)}, keep="weights")

    assert other.features["n_buckets"] == replace(MIXED["n_buckets"], mean=4.0, std=3.0)
    for one, kept in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, kept)
    # Buckets are where they were, in the column's unit.
    np.testing.assert_array_equal(other.predict(rows()[0], verbose=0), model.predict(rows()[0], verbose=0))
    with pytest.raises(
        ValueError, match=r"the encoder of 'n_buckets' is 'buckets'\. Keep the weights, or train the mo"
    ):
        refreshed(model, {"price": (4.0, 3.0)})


# --- exports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interaction", ["bi_interaction", "cross"])
def test_exports_answer_as_the_model_does(interaction, tmp_path):
    model = trained(interaction=interaction)
    valid = encode_part(pa.table(rows()[0]).append_column("y", [rows()[1]]), model.encoder, Target.parse("y"))

    # A user's numbers once for many candidates, and rows of numbers in int8.
    user = ["user", "age", "n_periodic", "n_buckets"]
    assert model.export(tmp_path / "saved", user=user, valid=valid, quantize="int8").parity.largest < 1e-5
    if interaction == "cross":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
        assert model.export(tmp_path / "onnx", format="onnx").parity.largest < 1e-5


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            {"number_encoder": "spline"},
            r'number_encoder must be "linear", "buckets", .* or "autodis"; received .spline',
        ),
        (
            {"number_encoder": "periodic", "numeric": "concat"},
            'numeric="concat" takes numbers as they are; received an encoder for price, age. Leave it out, or set num',
        ),
        (
            {"number_encoder": "buckets", "numeric": "bottom_mlp"},
            'numeric="bottom_mlp" takes numbers as they are; received an encoder for price, age.',
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments, line):
    with pytest.raises(ValueError, match=line):
        RankingModel(FEATURES, **SMALL, **arguments)


def test_limits_are_asked_for_where_a_number_has_none():
    with pytest.raises(ValueError, match="The encoder 'piecewise' of feature 'x' needs 2 or more boundaries"):
        RankingModel([CategoricalFeature("u", vocabulary_size=3), NumericFeature("x")], number_encoder="piecewise")


def test_a_file_whose_encoder_declares_more_than_its_weights_is_not_opened(tmp_path):
    import zipfile

    features = [CategoricalFeature("u", vocabulary_size=3), NumericFeature("x", encoder=AutoDis(meta_embeddings=7))]
    RankingModel(features, embedding_dim=2048, hidden_units=[]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"meta_embeddings": 7', b'"meta_embeddings": 700')
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"its config declares 1,937,294 weights at features, and it holds 1,048,576"):
        load_model(tmp_path / "other.keras")


# --- search ----------------------------------------------------------------------------------------------------------


def choices(features, drawn=None, **arguments):
    """What may be drawn, None for nothing, and what the candidate has."""
    hp = keras_tuner.HyperParameters()
    hp.values |= {} if drawn is None else {"number_encoder": drawn}
    config = RankingHyperModel(features, **arguments).candidate(hp).config
    found = [one for one in hp.space if one.name == "number_encoder"]
    return (list(found[0].values) if found else None), config.get("number_encoder")


def test_the_encoder_of_linear_numbers_is_searched_and_linear_ones_are_the_default():
    assert choices(FEATURES) == (["linear", *ENCODERS], None)
    assert choices(FEATURES, "piecewise")[1] == "piecewise"


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ([NumericFeature("x")], ["linear", "periodic", "autodis"]),
        ([NumericFeature("x", boundaries=[0.0], encoder="linear")], ["linear", "buckets", "periodic", "autodis"]),
        ([NumericFeature("x", boundaries=[0.0])], None),
        ([NumericFeature("x", encoder=Periodic(sigma=0.3))], None),
        ([], None),
    ],
)
def test_encoders_are_offered_where_every_linear_number_can_take_them(features, found):
    categories = [CategoricalFeature(name, vocabulary_size=3) for name in "uv"]

    assert choices([*categories, *features], found and "autodis") == (found, found and "autodis")


def test_models_whose_numbers_are_no_fields_draw_no_encoder():
    assert choices(FEATURES, models=["dlrm"]) == (None, None)
    assert choices(FEATURES, fixed={"numeric": "concat"}) == (None, None)
    assert choices(FEATURES, fixed={"number_encoder": "periodic"}) == (None, "periodic")
    hp = keras_tuner.HyperParameters()
    hypermodel = RankingHyperModel(FEATURES, models=["nfm", "dlrm"])
    hp.values |= {"model": "dlrm", "number_encoder": "autodis"}
    assert "number_encoder" not in hypermodel.candidate(hp).config
    hp.values |= {"model": "nfm"}
    assert hypermodel.candidate(hp).config["number_encoder"] == "autodis"


def test_what_is_drawn_is_built():
    hp = keras_tuner.HyperParameters()
    hypermodel = RankingHyperModel(FEATURES, models=["nfm"], fixed={"embedding_dim": 4})
    hp.values["number_encoder"] = "piecewise"
    hypermodel.candidate(hp)

    assert [number.encoder for number in hypermodel.build(hp).features.numbers] == ["piecewise"] * 2


def test_features_that_are_inferred_take_the_encoder_too():
    model = RankingModel(number_encoder="autodis", **SMALL)
    model.adapt(rows()[0])

    assert {number.encoder for number in model.features.numbers} == {"autodis"}
