"""What a type checker is told of models and blocks is what they are."""

import pytest

from nfm_tfrs.testing import example_features
from tfrs_registry import Block, Model, get_block, get_model, list_blocks


@pytest.mark.parametrize("name", ["ranking", "nfm", "deepfm"])
def test_a_model_has_all_that_its_protocol_promises(name: str) -> None:
    model = get_model(name, features=example_features(), embedding_dim=4)
    model.compile()
    assert isinstance(model, Model)


@pytest.mark.parametrize("name", list_blocks())
def test_a_block_has_all_that_its_protocol_promises(name: str) -> None:
    assert isinstance(get_block(name), Block)


def test_a_cost_has_both_numbers() -> None:
    cost = get_block("field_weighted_fm").cost(fields=4, dim=8)
    assert (cost.parameters, cost.flops > 0) == (6, True)


def test_a_layer_that_is_no_block_does_not_keep_the_protocol() -> None:
    from nfm_tfrs.keras_compat import keras

    assert not isinstance(keras.layers.Dense(1), Block)
