import dataclasses
import json
import math

import numpy as np
import pytest

from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.feature import (
    CategoricalFeature,
    MultiCategoricalFeature,
    NumericFeature,
    feature_from_dict,
    feature_to_dict,
)

FEATURES = [
    CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Пермь"]),
    CategoricalFeature("year", vocabulary=(1995, 1996), embedding_name="years"),
    CategoricalFeature("user", num_hash_buckets=7),
    CategoricalFeature("device", num_hash_buckets=7, dtype="string"),
    CategoricalFeature("hour", vocabulary_size=24),
    CategoricalFeature("film", vocabulary=[7, 3, 9], free_ids=[2, 0]),
    MultiCategoricalFeature("genres", vocabulary=["a"], combiner="max", weights="genre_weights", max_length=3),
    MultiCategoricalFeature("history", vocabulary_size=5, combiner=None),
    MultiCategoricalFeature("seen", vocabulary_size=5, combiner="attention", target="film"),
    MultiCategoricalFeature(
        "liked",
        vocabulary_size=5,
        combiner="attention",
        target="film",
        max_length=4,
        attention=Attention(units=(), activation="prelu", softmax=True, positions=True),
    ),
    NumericFeature("price", mean=2.5, std=0.5, log=True),
    NumericFeature("age", boundaries=(18.0, 65.0)),
]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_survives_json(feature):
    written = json.loads(json.dumps(feature_to_dict(feature)))
    assert feature_from_dict(written) == feature


def test_arguments_at_their_default_are_not_written():
    assert feature_to_dict(NumericFeature("price")) == {"type": "numeric", "name": "price"}
    assert feature_to_dict(CategoricalFeature("hour", vocabulary_size=24)) == {
        "type": "categorical",
        "name": "hour",
        "vocabulary_size": 24,
        "dtype": "int64",
    }


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_features_are_hashable_and_frozen(feature):
    assert len({feature, dataclasses.replace(feature)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        feature.name = "other"


@pytest.mark.parametrize(
    ("feature", "dtype", "num_ids"),
    [
        (CategoricalFeature("a", vocabulary=["x", "y"]), "string", 2),
        (CategoricalFeature("a", vocabulary=[3, 4, 5]), "int64", 3),
        (CategoricalFeature("a", vocabulary=np.array([3, 4])), "int64", 2),
        (CategoricalFeature("a", vocabulary=np.array(["x"])), "string", 1),
        (CategoricalFeature("a", vocabulary_size=9), "int64", 9),
        (CategoricalFeature("a", vocabulary_size=np.int64(9)), "int64", 9),
        (CategoricalFeature("a", num_hash_buckets=np.int32(9)), None, 9),
        (CategoricalFeature("a", num_hash_buckets=9, dtype="int64"), "int64", 9),
    ],
)
def test_dtype_and_number_of_ids_follow_from_the_categories(feature, dtype, num_ids):
    assert (feature.dtype, feature.num_ids) == (dtype, num_ids)
    json.dumps(feature_to_dict(feature))  # NumPy's numbers have become Python's


def test_boundaries_make_one_id_more_than_there_are_limits():
    assert NumericFeature("age", boundaries=[1, 2]).num_ids == 3
    assert NumericFeature("age").num_ids == 0


def test_a_free_id_keeps_its_value_written_and_every_other_one_in_its_place():
    feature = CategoricalFeature("a", vocabulary=["x", "y", "z"], free_ids=np.array([2, 0]))
    assert (feature.num_ids, feature.free_ids) == (3, (0, 2))
    assert (list(feature.known_ids), feature.known_values) == ([1], ("y",))
    assert "free_ids" not in feature_to_dict(CategoricalFeature("a", vocabulary=["x", "y"]))
    assert CategoricalFeature("a", vocabulary_size=2).known_values == ()


def test_the_table_is_the_feature_unless_embedding_name_shares_one():
    assert CategoricalFeature("a", vocabulary_size=2).table == "a"
    assert CategoricalFeature("a", vocabulary_size=2, embedding_name="b").table == "b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'a' needs exactly one of vocabulary, num_hash_buckets and vocabulary_size; received none"),
        (
            {"vocabulary": ["x"], "vocabulary_size": 1},
            "'a' needs exactly one of .*; received vocabulary, vocabulary_size",
        ),
        ({"vocabulary": []}, "vocabulary of feature 'a' is empty"),
        ({"vocabulary": "xyz"}, "vocabulary of feature 'a' must be a list of values; received 'xyz'. Write"),
        ({"vocabulary": 5}, "vocabulary of feature 'a' must be a list of values; received 5"),
        ({"vocabulary": {"x": 1}}, "vocabulary of feature 'a' must be a list of values; received {'x': 1}"),
        (
            {"vocabulary_size": 2**63},
            r"vocabulary_size of feature 'a' must be below 2\^63; received 9223372036854775808",
        ),
        ({"vocabulary_size": 2, "embedding_name": 5}, "embedding_name of feature 'a' must be a string; received 5"),
        ({"vocabulary": ["x", 1]}, "'a' must be all strings or all integers; received int, str"),
        ({"vocabulary": [True, False]}, "must be all strings or all integers; received bool"),
        ({"vocabulary": [1.0]}, "must be all strings or all integers; received float"),
        ({"vocabulary": [b"x"]}, "must be all strings or all integers; received bytes"),
        ({"vocabulary": ["x", "x"]}, "vocabulary of feature 'a' repeats a value"),
        ({"vocabulary": ["x", ""]}, "vocabulary of feature 'a' contains '', which means missing"),
        ({"vocabulary": [0, -1]}, "vocabulary of feature 'a' contains -1, which means missing"),
        ({"vocabulary": [2**64 - 1]}, "vocabulary of feature 'a' contains 18446744073709551615, which means missing"),
        (
            {"vocabulary": [2**64]},
            "vocabulary of feature 'a' contains 18446744073709551616, an integer of more than 64 bits. Make the column",
        ),
        ({"vocabulary_size": 0}, "vocabulary_size of feature 'a' must be a whole number of 1 or more; received 0"),
        ({"vocabulary_size": True}, "vocabulary_size of feature 'a' must be a whole number .* received True"),
        ({"vocabulary_size": 2.0}, "vocabulary_size of feature 'a' must be a whole number .* received 2.0"),
        ({"num_hash_buckets": -3}, "num_hash_buckets of feature 'a' must be a whole number .* received -3"),
        (
            {"vocabulary_size": 3, "free_ids": [0]},
            r"free_ids of feature 'a' are ids of a vocabulary, .* received \(0,\)",
        ),
        ({"vocabulary": ["x"], "free_ids": [1]}, "free_ids of feature 'a' must be ids below 1, each once; received 1"),
        ({"vocabulary": ["x"], "free_ids": [-1]}, "free_ids of feature 'a' must be ids below 1, .* received -1"),
        ({"vocabulary": ["x"], "free_ids": [True]}, "free_ids of feature 'a' must be ids below 1, .* received True"),
        ({"vocabulary": ["x"], "free_ids": ["x"]}, "free_ids of feature 'a' must be ids below 1, .* received 'x'"),
        ({"vocabulary": ["x"], "free_ids": [0, 0]}, r"free_ids of feature 'a' must be .* received \(0, 0\)"),
        ({"vocabulary": ["x"], "free_ids": 0}, "free_ids of feature 'a' must be a list of values; received 0"),
        ({"vocabulary": ["x"], "dtype": "int64"}, "dtype of feature 'a' must be string; received 'int64'"),
        ({"vocabulary_size": 3, "dtype": "string"}, "dtype of feature 'a' must be int64; received 'string'"),
        ({"num_hash_buckets": 3, "dtype": "float32"}, "dtype of feature 'a' must be .*; received 'float32'"),
    ],
)
@pytest.mark.parametrize("kind", [CategoricalFeature, MultiCategoricalFeature])
def test_categories_that_cannot_be_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind("a", **arguments)


@pytest.mark.parametrize("marks", [[math.inf], [math.nan], ["-"]], ids=str)
def test_missing_values_of_a_number_are_finite_numbers(marks):
    with pytest.raises(ValueError, match="missing_values of feature 'a' must be finite numbers; received "):
        NumericFeature("a", missing_values=marks)


def test_missing_values_of_a_number_survive_json_and_old_features_have_none():
    feature = NumericFeature("a", missing_values=[-999, 3.4e38])
    assert feature_from_dict(json.loads(json.dumps(feature_to_dict(feature)))) == feature
    assert feature_from_dict({"type": "numeric", "name": "a"}).missing_values == ()
    assert "missing_values" not in feature_to_dict(NumericFeature("a"))


@pytest.mark.parametrize("fill", [math.inf, math.nan, "0", None, True], ids=str)
def test_what_a_missing_number_counts_as_is_a_finite_number(fill):
    with pytest.raises(ValueError, match=f"fill of feature 'a' must be a finite number; received {fill!r}"):
        NumericFeature("a", fill=fill)


@pytest.mark.parametrize("name", ["", None, 3])
@pytest.mark.parametrize("make", [NumericFeature, lambda name: CategoricalFeature(name, vocabulary_size=2)])
def test_a_name_is_a_string_that_is_not_empty(make, name):
    with pytest.raises(ValueError, match=f"name must be a non-empty string; received {name!r}"):
        make(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"combiner": "avg"},
            "combiner of feature 'a' must be None or one of sum, mean, sqrtn, max, attention; received 'avg'",
        ),
        ({"max_length": 0}, "max_length of feature 'a' must be a whole number of 1 or more; received 0"),
        ({"weights": ["w"]}, r"weights of feature 'a' must be a string; received \['w'\]. Name it, or leave it out"),
        ({"target": 3}, "target of feature 'a' must be a string; received 3. Name it, or leave it out"),
        (
            {"combiner": "attention"},
            "combiner=\"attention\" of feature 'a' needs a target to attend to; received none. Name the feature",
        ),
        (
            {"attention": Attention(), "target": "b"},
            "attention of feature 'a' is of combiner=\"attention\"; received combiner='mean'. Leave attention out",
        ),
        (
            {"combiner": "attention", "target": "b", "max_length": 2**60, "attention": Attention(positions=True)},
            "attention of feature 'a' has positions, of which there are at most 100,000; received max_length=11529",
        ),
        (
            {"combiner": "attention", "target": "b", "attention": Attention(positions=True)},
            "attention of feature 'a' has positions, which need a max_length; received none. Say how many",
        ),
        (
            {"combiner": "attention", "target": "b", "attention": {"unit": [3]}},
            "attention of feature 'a' does not fit: Attention has no argument 'unit'; did you mean 'units'",
        ),
        (
            {"combiner": "attention", "target": "b", "attention": {"units": [0]}},
            "attention of feature 'a' does not fit: units of an Attention must be a list of widths of 1 or more",
        ),
        (
            {"combiner": "attention", "target": "b", "attention": "dice"},
            "an Attention, or an object of its arguments; received 'dice'. Give .* for instance, or leave",
        ),
        ({"max_length": 2.5}, "max_length of feature 'a' must be a whole number of 1 or more; received 2.5"),
    ],
)
def test_bags_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        MultiCategoricalFeature("a", vocabulary_size=3, **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"softmx": True}, TypeError, "Attention has no argument 'softmx'; did you mean 'softmax'"),
        ({"units": 80}, ValueError, "units of an Attention must be a list of widths of 1 or more; received 80"),
        ({"activation": None}, ValueError, '"prelu" or the name of a Keras activation; received None'),
        ({"softmax": 1}, ValueError, "softmax of an Attention must be True or False; received 1"),
        ({"units": (2,) * 65}, ValueError, "units of an Attention are 64 layers at most; received 65. Leave some out"),
        ({"positions": "last"}, ValueError, "positions of an Attention must be True or False; received 'last'"),
    ],
)
def test_settings_of_attention_that_cannot_be_are_refused(arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        Attention(**arguments)
    assert "\n" not in str(raised.value)


def test_settings_of_attention_are_written_where_they_are_not_the_defaults():
    bag = MultiCategoricalFeature(
        "a", vocabulary_size=3, combiner="attention", target="b", attention=Attention(units=[4])
    )
    assert feature_to_dict(bag)["attention"] == {"units": [4]}
    plain = MultiCategoricalFeature("a", vocabulary_size=3, combiner="attention", target="b")
    assert feature_to_dict(plain) == {
        "type": "multi_categorical", "name": "a", "vocabulary_size": 3, "dtype": "int64", "combiner": "attention",
        "target": "b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": 0.0}, "'a' needs a finite mean and a std above 0; received mean 0.0, std 0.0"),
        ({"std": -1.0}, "std above 0; received mean 0.0, std -1.0"),
        ({"mean": float("nan")}, "finite mean .* received mean nan"),
        ({"std": float("inf")}, "finite mean .* std inf"),
        ({"mean": "4"}, "finite mean .* received mean '4', std 1.0"),
        ({"mean": True}, "finite mean .* received mean True"),
        ({"std": 10**400}, "finite mean .* std 10{56,60}[.]$"),
        ({"log": 1}, "log of feature 'a' must be true or false; received 1"),
        ({"boundaries": ()}, "boundaries of feature 'a' must be finite numbers and increase"),
        ({"boundaries": (1.0, 1.0)}, "boundaries of feature 'a' must be finite numbers and increase"),
        ({"boundaries": (2.0, 1.0)}, r"must be finite numbers and increase; received \(2.0, 1.0\)"),
        ({"boundaries": (1.0, float("inf"))}, "must be finite numbers and increase"),
        ({"boundaries": (1.0, "2")}, "must be finite numbers and increase"),
        ({"boundaries": 2.0}, "boundaries of feature 'a' must be a list of values; received 2.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NumericFeature("a", **arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"type": "category", "name": "a"},
            "type must be one of categorical, multi_categorical, numeric; received 'cat",
        ),
        ({"name": "a"}, "type must be one of .* received None"),
        ({"name": "a", "type": []}, r"type must be one of .* received \[\] in"),
        ({"type": "numeric", "name": "a", "sd": 1}, "A numeric feature has no argument 'sd'; it has name, mean, std"),
        ({"type": "numeric"}, 'A feature is an object with a "type" and a "name"; received'),
        ("price", 'A feature is an object with a "type" and a "name"; received \'price\''),
    ],
)
def test_edited_json_that_is_no_feature_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        feature_from_dict(config)
