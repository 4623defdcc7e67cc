"""Checks of arguments and of names: what their errors say."""

import pytest

from nfm_tfrs.arguments import missing_column, unknown_argument
from nfm_tfrs.blocks import FM, Cross
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.models import NFM, DeepFM, RankingModel

FEATURES = [CategoricalFeature("user", vocabulary_size=3), CategoricalFeature("film", vocabulary_size=3)]


@pytest.mark.parametrize(
    ("name", "columns", "reader", "line"),
    [
        ("w", ["a"], None, "There is no column 'w'. The data has 'a'."),
        ("film", ["a", "films"], None, "There is no column 'film'; did you mean 'films'? The data has 'a', 'films'."),
        ("w", {"a": 1}, "--groups", "There is no column 'w', which --groups reads. The data has 'a'."),
        ("ab", ["abc"], "x", "There is no column 'ab', which x reads; did you mean 'abc'? The data has 'abc'."),
        ("w", [], None, "There is no column 'w'. The data has no columns."),
        ("w", [3, "a"], None, "There is no column 'w'. The data has '3', 'a'."),
    ],
)
def test_a_missing_column_is_said_in_one_wording(name, columns, reader, line):
    assert str(missing_column(name, columns, reader=reader)) == line


def test_twenty_columns_are_listed_and_the_others_counted():
    line = str(missing_column("w", [f"column_{number:02}" for number in range(22)]))
    assert line.endswith("'column_19' and 2 more.")
    assert "column_20" not in line


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: NFM(FEATURES, embeding_dim=4), "NFM has no argument 'embeding_dim'; did you mean 'embedding_dim'?"),
        (lambda: NFM(FEATURES, activaton="relu"), "NFM has no argument 'activaton'; did you mean 'activation'?"),
        (lambda: DeepFM(FEATURES, dropuot=0.1), "DeepFM has no argument 'dropuot'; did you mean 'dropout'?"),
        (lambda: RankingModel(FEATURES, lable="y"), "RankingModel has no argument 'lable'; did you mean 'label'?"),
        (lambda: Cross(num_layer=2), "Cross has no argument 'num_layer'; did you mean 'num_layers'?"),
        (lambda: FM(units=2), "FM has no argument 'units'. It takes no arguments of its own."),
        (
            lambda: CategoricalFeature("a", vocabulary_sise=2),
            "CategoricalFeature has no argument 'vocabulary_sise'; did you mean 'vocabulary_size'?",
        ),
        (
            lambda: MultiCategoricalFeature("a", vocabulary_size=2, weight="w"),
            "MultiCategoricalFeature has no argument 'weight'; did you mean 'weights'?",
        ),
        (lambda: NumericFeature("a", sd=2), "NumericFeature has no argument 'sd'; did you mean 'std'?"),
    ],
)
def test_a_misspelt_argument_gets_the_nearest(make, line):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == line


def test_arguments_of_keras_pass():
    assert NFM(FEATURES, name="small", trainable=False).name == "small"
    assert Cross(name="crosses", dtype="float32", trainable=False).name == "crosses"


def test_where_none_is_near_the_arguments_are_listed():
    assert str(unknown_argument("A", "zzz", ["one", "two"])) == "A has no argument 'zzz'. It takes one, two."
