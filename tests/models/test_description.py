"""A model says what it is, in one line and as a table."""

from html.parser import HTMLParser

import numpy as np
import pytest

from nfm_tfrs import BiInteraction, CategoricalFeature
from nfm_tfrs.models import FM, NFM, DeepFM, RankingModel
from tfrs_registry import get_model


class Mine(BiInteraction):
    """A block that no package offers."""


def parameters(model):
    return f"{sum(int(np.prod(weight.shape)) for weight in model.weights):,} parameters"


def test_a_line_has_name_features_block_structure_and_parameters(film_features):
    model = DeepFM(film_features, embedding_dim=64, hidden_units=(8, 4), name="mine")
    assert "," in parameters(model)
    assert repr(model) == (
        "<DeepFM 'mine': 4 features (user, city, genres, price), fm, parallel, hidden_units=(8, 4), "
        f"{parameters(model)}>"
    )


def test_a_model_without_features_says_so():
    expected = "<NFM 'n': no features yet, bi_interaction, stacked, hidden_units=(64,), no parameters yet>"
    assert repr(NFM(name="n")) == expected


def test_one_feature_and_no_tower_are_said_as_such():
    model = FM([CategoricalFeature("user\nid", vocabulary_size=3)], embedding_dim=2, name="m", interaction="concat")
    assert repr(model) == f"<FM 'm': 1 feature (user id), concat, no tower, {parameters(model)}>"


def test_several_blocks_are_named_in_their_order_and_the_first_features_of_many():
    features = [CategoricalFeature(f"c{number}", vocabulary_size=3) for number in range(8)]
    model = RankingModel(features, interaction=["cross", Mine()], structure="concat", embedding_dim=2, name="two")
    assert repr(model) == (
        "<RankingModel 'two': 8 features (c0, c1, c2, c3, c4, c5, …), cross + Mine, concat, hidden_units=(64,), "
        f"{parameters(model)}>"
    )


class Cells(HTMLParser):
    """The text of each cell of a table."""

    def __init__(self, text):
        super().__init__()
        self.cells = []
        self.feed(text)

    def handle_data(self, data):
        self.cells.append(data)


@pytest.mark.parametrize("name", ["deepfm", "ranking"])
def test_the_table_says_the_same_and_escapes_names(name):
    features = [CategoricalFeature("<b>", vocabulary_size=3), CategoricalFeature("c", vocabulary_size=3)]
    model = get_model(name, features=features, embedding_dim=2, hidden_units=(4,), name="a&b")
    text = model._repr_html_()
    assert "<b>" not in text
    cells = Cells(text).cells
    assert cells[0] == f"{type(model).__name__} 'a&b'"
    assert dict(zip(cells[1::2], cells[2::2], strict=True)) == {
        "features": "2 features (<b>, c)",
        "block": "fm" if name == "deepfm" else "bi_interaction",
        "structure": f"{model.structure}, hidden_units=(4,)",
        "parameters": parameters(model),
    }
