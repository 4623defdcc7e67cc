"""Encoders of numbers: how features name them, what is refused, and the limits that are found in data."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import nfm_tfrs
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature, feature_from_dict, feature_to_dict
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.features.number_encoders import NUMBER_ENCODERS, AutoDis, Buckets, Periodic, Piecewise
from nfm_tfrs.features.percentiles import Percentiles
from nfm_tfrs.features.spec import FeatureSpec


@pytest.mark.parametrize(
    ("encoder", "written"),
    [
        ("linear", "linear"),
        ("buckets", "buckets"),
        (Buckets(), "buckets"),
        ("piecewise", "piecewise"),
        (Piecewise(activation=False), {"name": "piecewise", "activation": False}),
        (Periodic(), "periodic"),
        (Periodic(frequencies=8, sigma=0.5), {"name": "periodic", "frequencies": 8, "sigma": 0.5}),
        ({"name": "periodic", "sigma": 0.1}, "periodic"),
        ({"name": "linear"}, "linear"),
        (AutoDis(meta_embeddings=4), {"name": "autodis", "meta_embeddings": 4}),
    ],
)
def test_an_encoder_survives_json(encoder, written):
    feature = NumericFeature("x", boundaries=[0, 1], encoder=encoder)

    config = json.loads(json.dumps(feature_to_dict(feature)))

    assert config == {"type": "numeric", "name": "x", "boundaries": [0.0, 1.0], "encoder": written}
    assert feature_from_dict(config) == feature
    assert hash(feature) == hash(feature_from_dict(config))


def test_boundaries_alone_make_a_category_and_an_encoder_leaves_a_number():
    category = NumericFeature("x", boundaries=[0, 1])
    others = [replace(category, encoder=encoder) for encoder in NUMBER_ENCODERS]

    assert category.num_ids == 3
    assert [one.num_ids for one in others] == [0] * 5
    assert FeatureSpec([category]).single == (category,)
    assert FeatureSpec(others[:1]).numbers == (others[0],)
    assert category.encoding is None
    assert others[0].encoding is None
    assert [one.encoding.name for one in others[1:]] == list(NUMBER_ENCODERS[1:])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            {"encoder": "fourier"},
            "encoder of feature 'x' must be None or one of linear, buckets, piecewise, periodic, ",
        ),
        ({"encoder": 3}, "encoder of feature 'x' must be None or one of linear, .* received 3."),
        (
            {"encoder": {"sigma": 1.0}},
            "encoder of feature 'x' must be None or one of linear, .* received {'sigma': 1.0",
        ),
        (
            {"encoder": {"name": "linear", "sigma": 1.0}},
            "encoder of feature 'x': linear takes no settings; received 'sigma'. Leave it out.",
        ),
        ({"encoder": "periodical"}, "received 'periodical'; did you mean 'periodic'. Give one of these names."),
        ({"encoder": {"name": "autodiss"}}, "received {'name': 'autodiss'}; did you mean 'autodis'. Give one of"),
        ({"encoder": {"name": "periodic", "sigm": 1.0}}, "feature 'x': Periodic has no argument 'sigm'; did you mean "),
        (
            {"encoder": "buckets"},
            "The encoder 'buckets' of feature 'x' needs 1 or more boundaries; received None. Give",
        ),
        ({"encoder": "piecewise", "boundaries": [1.0]}, "'piecewise' of feature 'x' needs 2 or more boundaries; rec"),
    ],
)
def test_what_is_no_encoder_of_the_number_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError, match=line) as refused:
        NumericFeature("x", **arguments)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda: Piecewise(activation="relu"), "activation of the piecewise encoder must be True or False; received"),
        (lambda: Periodic(frequencies=0), "frequencies of the periodic encoder must be a whole number of 1 or more"),
        (lambda: Periodic(frequencies=1025), "frequencies of the periodic encoder must be at most 1,024; received 102"),
        (lambda: Periodic(sigma=0.0), "sigma of the periodic encoder must be a number above 0; received 0.0"),
        (lambda: Periodic(activation=1), "activation of the periodic encoder must be True or False; received 1"),
        (lambda: AutoDis(meta_embeddings=10**9), "meta_embeddings of the autodis encoder must be at most 1,024"),
        (lambda: AutoDis(temperature=-1.0), "temperature of the autodis encoder must be a number above 0; received -1"),
        (
            lambda: AutoDis(temperature=1e-300),
            "temperature of the autodis encoder must be a Python number from",
        ),
        (
            lambda: AutoDis(temperature=True),
            "temperature of the autodis encoder must be a number above 0",
        ),
        (lambda: Periodic(sigma=np.float32(1)), "sigma of the periodic encoder must be a Python number from"),
        (lambda: AutoDis(skip=1e300), "skip of the autodis encoder must be a Python number from"),
        (lambda: AutoDis(skip=True), "skip of the autodis encoder must be a number of 0 or more; received True"),
        (lambda: AutoDis(skip=-1.0), "skip of the autodis encoder must be a number of 0 or more; received -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(made, line):
    with pytest.raises(ValueError, match=line):
        made()


def test_an_encoder_replaces_that_of_linear_numbers_alone():
    spec = FeatureSpec(
        [
            CategoricalFeature("user", vocabulary_size=3),
            NumericFeature("category", boundaries=[0]),
            NumericFeature("plain"),
            NumericFeature("said", encoder="linear", boundaries=[0, 1]),
            NumericFeature("other", encoder=Periodic(sigma=0.5)),
        ]
    )

    changed = spec.with_number_encoder("autodis")

    assert [getattr(feature, "encoder", "-") for feature in changed] == [
        "-",
        None,
        "autodis",
        "autodis",
        Periodic(sigma=0.5),
    ]
    assert changed.with_number_encoder("periodic") == changed
    assert spec.with_number_encoder(None) is spec
    assert spec.with_number_encoder("linear") is spec
    with pytest.raises(ValueError, match="The encoder 'piecewise' of feature 'plain' needs 2 or more boundaries"):
        spec.with_number_encoder("piecewise")


def test_an_encoder_of_numbers_that_are_not_there_is_refused():
    spec = FeatureSpec([CategoricalFeature("user", vocabulary_size=3), NumericFeature("category", boundaries=[0])])
    line = 'number_encoder="periodic" is of numbers; received features without one: user, category. Leave number_enc'
    with pytest.raises(ValueError, match=line):
        spec.with_number_encoder("periodic")
    assert spec.with_number_encoder("linear") is spec
    with pytest.raises(ValueError, match="number_encoder must be"):
        spec.with_number_encoder("periodical")


@pytest.mark.parametrize("encoder", [AutoDis, Buckets, Periodic, Piecewise])
def test_the_encoders_are_shown_beside_the_features(encoder):
    assert getattr(nfm_tfrs, encoder.__name__) is getattr(nfm_tfrs.features, encoder.__name__) is encoder


def test_a_spec_shows_the_encoder():
    spec = FeatureSpec([NumericFeature("x", encoder="piecewise", boundaries=[0, 1]), NumericFeature("y")])

    assert "x        number  -    mean 0, std 1, piecewise, 2 boundaries" in str(spec)
    assert "y        number  -    mean 0, std 1" in str(spec).splitlines()[-1]


# --- limits found in data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["linear", "buckets", "piecewise"])
def test_limits_are_the_odd_percentiles(encoder):
    values = np.random.default_rng(0).lognormal(size=5000).astype(np.float32).astype(np.float64)

    feature = infer_features({"x": values}, number_encoder=encoder)["x"]

    ordered = sorted(values)
    assert feature.encoder == encoder
    assert feature.boundaries == tuple(ordered[50 * percent - 1] for percent in range(1, 100, 2))


def test_limits_are_the_same_however_the_rows_are_cut():
    values = np.random.default_rng(0).normal(size=300_000)  # more than one window
    table = pa.table({"x": values})

    found = [
        infer_features(iter(table.to_batches(max_chunksize=size)), number_encoder="piecewise")["x"].boundaries
        for size in (300_000, 70_001, 999)
    ]

    assert found[0] == found[1] == found[2]
    exact = np.quantile(values, np.arange(1, 100, 2) / 100)
    np.testing.assert_allclose(np.argsort(np.argsort([*found[0], *exact]))[:50] // 2, np.arange(50), atol=1)
    np.testing.assert_allclose(found[0], exact, atol=0.05)


def test_few_different_values_give_few_limits():
    spec = infer_features(
        {"x": [0.0, 1.0, 2.0, 1.0] * 50, "y": [0.0] * 199 + [5.0], "n": [None, 0.5, 1.5, 2.5] * 50},
        number_encoder="piecewise",
    )

    assert spec["x"].boundaries == (0.0, 1.0, 2.0)
    assert spec["y"].boundaries == (0.0, 5.0)  # all odd percentiles are 0
    assert spec["n"].boundaries == (0.5, 1.5, 2.5)


def test_marks_of_missing_values_are_no_limits():
    with pytest.warns(UserWarning, match="taken as missing"):
        feature = infer_features({"x": [1.0, 2.0, 3.0, 3e38] * 50}, number_encoder="buckets")["x"]

    assert feature.boundaries == (1.0, 2.0, 3.0)


def test_numbers_that_are_all_huge_stay_linear():
    feature = infer_features({"x": np.logspace(29, 36, 200)}, number_encoder="buckets")["x"]

    assert (feature.boundaries, feature.encoder) == (None, None)


def test_integers_whose_values_mostly_differ_have_limits_too():
    with pytest.warns(UserWarning, match="became a number"):
        feature = infer_features({"x": np.arange(1000)[::-1]}, number_encoder="piecewise")["x"]

    assert feature.boundaries == tuple(10.0 * percent - 1 for percent in range(1, 100, 2))


@pytest.mark.parametrize("encoder", ["periodic", "autodis"])
def test_an_encoder_without_limits_is_named_alone(encoder):
    feature = infer_features({"x": [0.5, 1.5, 2.5], "c": ["a", "b", "a"]}, number_encoder=encoder, min_count=1)["x"]

    assert (feature.encoder, feature.boundaries) == (encoder, None)


def test_without_the_rule_nothing_is_said():
    assert feature_to_dict(infer_features({"x": [0.5, 1.5, 2.5]})["x"]).keys() == {"type", "name", "mean", "std"}


def test_a_rule_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r'number_encoder must be "linear", .* or "autodis"; received .spline.'):
        infer_features({"x": [0.5, 1.5]}, number_encoder="spline")


def test_percentiles_of_nothing_are_none():
    assert np.isnan(Percentiles().found()).all()
