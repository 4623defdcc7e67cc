"""Encoded parts: features from the training rows alone, rates of missing and unknown values, errors."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.features.encoder import IDS, FeatureEncoder, bag_key
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.target import Target

TABLE = pa.table(
    {
        "city": ["Rome", "Oslo", "", None, "Rome"],
        "shop": pa.array([3, None, -1, 9, 0], pa.int32()),
        "tags": [["a", "b"], [], None, ["c", "a"], ["z"]],
        "price": [1.0, None, float("nan"), 2.0, 3.0],
        "age": [10.0, 20.0, None, 40.0, 50.0],
        "click": [1, 0, 0, 1, 1],
    }
)
SPEC = FeatureSpec(
    (
        CategoricalFeature("city", vocabulary=("Rome",)),
        CategoricalFeature("shop", vocabulary_size=5),
        MultiCategoricalFeature("tags", vocabulary=("a", "b")),
        NumericFeature("price", mean=2.0),
        NumericFeature("age", boundaries=(15.0, 45.0)),
    )
)


def test_rows_are_taken_in_their_order_with_labels_weights_and_bags():
    part = encode_part(TABLE, FeatureEncoder(SPEC), Target.parse("click"))
    part = replace(part, weights=np.arange(5, dtype=np.float32))
    taken = part.take(np.array([3, 0, 3]))
    np.testing.assert_array_equal(taken.columns[IDS], part.columns[IDS][[3, 0, 3]])
    np.testing.assert_array_equal(taken.labels, [1, 1, 1])
    np.testing.assert_array_equal(taken.weights, [3, 0, 3])
    bag, whole = (one.columns[bag_key("tags")] for one in (taken, part))
    lists = [whole.values[whole.row_splits[row] : whole.row_splits[row + 1]].tolist() for row in (3, 0, 3)]
    assert [bag.values[start:end].tolist() for start, end in itertools.pairwise(bag.row_splits)] == lists
    assert encode_part(TABLE, FeatureEncoder(SPEC)).take(np.array([1])).labels is None


def test_rates_count_what_is_missing_and_what_is_unknown():
    rates = {rate.name: rate for rate in encode_part(TABLE, FeatureEncoder(SPEC)).rates}
    assert list(rates) == list(SPEC.names)
    assert (rates["city"].values, rates["city"].missing, rates["city"].unknown) == (5, 0.4, 0.2)
    assert (rates["shop"].missing, rates["shop"].unknown) == (0.4, 0.2)
    assert (rates["tags"].values, rates["tags"].missing, rates["tags"].unknown) == (5, 0.4, 0.4)
    assert (rates["price"].missing, rates["price"].unknown) == (0.4, 0.0)
    assert (rates["age"].missing, rates["age"].unknown) == (0.2, 0.0)


def test_labels_and_weights_come_along():
    part = encode_part(TABLE.slice(0, 1), FeatureEncoder(SPEC), Target.parse("click", weight="price"))
    assert part.labels.tolist() == [1.0]
    assert part.weights.tolist() == [1.0]
    columns, labels, weights = next(iter(part.dataset(4)))
    assert columns[IDS].shape == (1, 3)
    assert labels.numpy().tolist() == weights.numpy().tolist() == [1.0]


def test_features_come_from_the_training_rows_alone():
    rows = 200
    table = pa.table(
        {"item": np.r_[np.zeros(160), np.ones(40)].astype(int), "time": np.arange(rows), "y": [0, 1] * 100}
    )
    data = prepare(table, "y", parse_split("time:time"))
    assert data.features.names == ("item",)
    assert data.features["item"].vocabulary == (0,)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [160, 20, 20]
    assert data.tables["test"]["time"].to_pylist() == list(range(180, 200))
    assert data.test.rates[0].unknown == 1.0


def test_a_column_of_the_split_is_a_feature_only_where_it_is_named():
    table = pa.table({"user": [1, 2] * 50, "time": np.arange(100), "y": [0, 1] * 50})
    split = parse_split("user-time:user,time")
    assert prepare(table, "y", split, columns=["user"]).features.names == ("user",)
    with pytest.raises(ValueError, match=r"No column is left to be a feature: y, time are excluded of time, y\."):
        prepare(table.select(["time", "y"]), "y", parse_split("time:time"))
    assert prepare(table, "y", split).features.names == ("user",)


def test_a_split_without_validation_rows_is_refused():
    with pytest.raises(ValueError, match=r"leaves no row for valid out of 5\. Give more rows or other fractions\."):
        prepare(TABLE, "click", parse_split("random:1,0,0"), features=SPEC)


def test_negative_weights_are_refused():
    table = TABLE.append_column("weight", pa.array([1.0, -2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"Weight column 'weight' is -2.0 in row 1\. Give finite weights of 0 or more\."
    ):
        encode_part(table, FeatureEncoder(SPEC), Target.parse("click", weight="weight"))


def test_a_label_or_weight_among_the_features_is_refused():
    spec = FeatureSpec((*SPEC, CategoricalFeature("click", vocabulary_size=2)))
    with pytest.raises(ValueError, match=r"Column 'click' is the label and a feature\. Take it out of the features\."):
        prepare(TABLE, "click", parse_split("random:0.6,0.4,0"), features=spec)
    with pytest.raises(ValueError, match=r"Column 'price' is the weight and a feature"):
        prepare(TABLE, Target.parse("click", weight="price"), parse_split("random:0.6,0.4,0"), features=SPEC)


def test_rows_of_one_class_are_refused_where_they_train_or_choose():
    table = pa.table({"a": [0, 1] * 50, "time": np.arange(100), "y": [0, 1] * 40 + [1] * 20})
    with pytest.raises(ValueError, match=r"The valid rows need positives and negatives of a weight above 0; label 'y'"):
        prepare(table, "y", parse_split("time:time"))


def test_a_part_that_is_not_there_is_named():
    table = pa.table({"shop": [1, 2] * 20, "click": [0, 1] * 20})
    data = prepare(table, "click", "random").without("valid")
    with pytest.raises(ValueError, match=r"^There are no encoded valid rows; the parts are train, test\. "):
        _ = data.valid
