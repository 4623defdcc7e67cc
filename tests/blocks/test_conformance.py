"""Every block of this package, in each of its kinds, passes the conformance suite."""

from functools import partial

import pytest

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.testing import parametrize_with_checks
from nfm_tfrs.tuning import keras_tuner
from tfrs_registry import blocks

OURS = [name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")]
KINDS = {
    "cross": [{"kind": "vector"}, {"kind": "low_rank", "rank": 3}, {"kind": "mixture", "rank": 3, "num_experts": 2}],
    "inner_product": [{"self_interaction": True}],
    "bilinear": [{"kind": "all"}, {"kind": "each", "senet": False}],
    "cin": [{"layer_sizes": (4, 6, 3), "activation": "tanh"}, {"layer_sizes": (5, 3), "split_half": False}],
    "self_attention": [{"num_layers": 1, "num_heads": 3, "residual": False}, {"scaled": True}],
    "mask": [{"kind": "serial", "num_blocks": 2}],
    "two_stream": [
        {"first_units": (6, 4), "second_units": (8,), "num_heads": 2, "first_context": (0, 2), "second_context": (1,)}
    ],
    "logarithmic": [{"batch_norm": False}],
}
MAKES = [blocks.load(name) for name in OURS]
MAKES += [partial(blocks.load(name), **kind) for name, kinds in KINDS.items() for kind in kinds]


@pytest.mark.slow
@parametrize_with_checks(MAKES)
def test_block(make, check):
    check(make)


@pytest.mark.parametrize("name", OURS)
def test_kerastuner_draws_from_the_search_space(name):
    cls = blocks.load(name)
    hp = keras_tuner.HyperParameters()
    with hp.name_scope(name):
        arguments = cls.search_space(hp)
    assert cls(**arguments)(tf.ones([2, 3, 4])).shape[0] == 2
    assert len({space.name for space in hp.space}) == len(hp.space)
    assert all(space.name.startswith(f"{name}/") for space in hp.space)


@pytest.mark.parametrize("name", OURS)
def test_a_block_is_registered_with_keras_by_its_own_name(name):
    cls = blocks.load(name)
    assert keras.saving.get_registered_name(cls) == f"nfm_tfrs>{cls.__name__}"
    assert name.replace("_", "") in cls.__name__.lower()
