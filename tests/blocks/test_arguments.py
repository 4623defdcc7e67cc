"""What the blocks refuse, when they are made and when they are built; what they cost; and the order of pairs."""

import re
from functools import partial

import numpy as np
import pytest

from nfm_tfrs import arguments
from nfm_tfrs.blocks.attention_fm import AttentionFM
from nfm_tfrs.blocks.base import field_pairs
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.bilinear import Bilinear
from nfm_tfrs.blocks.cin import CIN
from nfm_tfrs.blocks.concat import Concat
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.field_matrixed_fm import FieldMatrixedFM
from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM
from nfm_tfrs.blocks.fm import FM
from nfm_tfrs.blocks.gated_cross import GatedCross
from nfm_tfrs.blocks.inner_product import InnerProduct
from nfm_tfrs.blocks.logarithmic import Logarithmic
from nfm_tfrs.blocks.mask import MaskBlock
from nfm_tfrs.blocks.outer_product import OuterProduct
from nfm_tfrs.blocks.self_attention import SelfAttention
from nfm_tfrs.blocks.two_stream import TwoStream
from nfm_tfrs.models.interaction import interaction_blocks

# --- constructors -----------------------------------------------------------------------------------------------------

COUNT = "must be a whole number of 1 or more; received {}"
WIDTHS = "must be a list of widths of 1 or more; received {}"
SWITCH = "must be True or False; received {}"
ACTIVATION = 'must be the name of a Keras activation, such as "relu"; received {}'


@pytest.mark.parametrize(
    ("block", "config", "message"),
    [
        (AttentionFM, {"attention_units": 0}, f"attention_units {COUNT}"),
        (AttentionFM, {"attention_units": 8.0}, f"attention_units {COUNT}"),
        (Bilinear, {"kind": "pairs"}, 'kind must be "all", "each" or "interaction"; received {}'),
        (Bilinear, {"senet": 1}, f"senet {SWITCH}"),
        (Bilinear, {"reduction_ratio": 0}, f"reduction_ratio {COUNT}"),
        (Bilinear, {"reduction_ratio": 1.5}, f"reduction_ratio {COUNT}"),
        (CIN, {"layer_sizes": 128}, f"layer_sizes {WIDTHS}"),
        (CIN, {"layer_sizes": (4, 0)}, f"layer_sizes {WIDTHS}"),
        (CIN, {"layer_sizes": ()}, "layer_sizes must name one layer or more; received {}"),
        (CIN, {"layer_sizes": (4, 3, 4)}, "split_half needs even layer_sizes but for the last; received {}"),
        (CIN, {"split_half": "yes"}, f"split_half {SWITCH}"),
        (CIN, {"activation": None}, f"activation {ACTIVATION}"),
        (Cross, {"num_layers": 0}, f"num_layers {COUNT}"),
        (Cross, {"kind": "matrices"}, 'kind must be "vector", "matrix", "low_rank" or "mixture"; received {}'),
        (Cross, {"rank": -1}, f"rank {COUNT}"),
        (Cross, {"num_experts": True}, f"num_experts {COUNT}"),
        (GatedCross, {"num_layers": 0}, f"num_layers {COUNT}"),
        (InnerProduct, {"self_interaction": None}, f"self_interaction {SWITCH}"),
        (Logarithmic, {"neurons": 0}, f"neurons {COUNT}"),
        (Logarithmic, {"batch_norm": 0}, f"batch_norm {SWITCH}"),
        (Logarithmic, {"epsilon": 0.0}, "epsilon must be a number above 0; received {}"),
        (Logarithmic, {"epsilon": float("nan")}, "epsilon must be a number above 0; received {}"),
        (MaskBlock, {"kind": "both"}, 'kind must be "serial" or "parallel"; received {}'),
        (MaskBlock, {"num_blocks": 0}, f"num_blocks {COUNT}"),
        (MaskBlock, {"block_units": "64"}, f"block_units {COUNT}"),
        (MaskBlock, {"reduction_ratio": 0}, "reduction_ratio must be a number above 0; received {}"),
        (SelfAttention, {"num_layers": 0}, f"num_layers {COUNT}"),
        (SelfAttention, {"num_heads": 0}, f"num_heads {COUNT}"),
        (SelfAttention, {"attention_dim": None}, f"attention_dim {COUNT}"),
        (SelfAttention, {"residual": "no"}, f"residual {SWITCH}"),
        (SelfAttention, {"scaled": 1}, f"scaled {SWITCH}"),
        (TwoStream, {"first_units": 64}, f"first_units {WIDTHS}"),
        (TwoStream, {"second_units": (64, -1)}, f"second_units {WIDTHS}"),
        (TwoStream, {"first_units": ()}, "first_units must name one layer or more; received {}"),
        (TwoStream, {"second_units": ()}, "second_units must name one layer or more; received {}"),
        (TwoStream, {"num_heads": 0}, f"num_heads {COUNT}"),
        (TwoStream, {"first_context": 1}, "first_context must be a list of numbers of fields, from 0; received {}"),
        (
            TwoStream,
            {"second_context": (-1,)},
            "second_context must be a list of numbers of fields, from 0; received {}",
        ),
        (
            TwoStream,
            {"num_heads": 3},
            "num_heads must divide the streams' last widths; received {} for first_units=(64, 64).",
        ),
        (
            TwoStream,
            {"num_heads": 3, "first_units": (6,)},
            "num_heads must divide the streams' last widths; received {} for second_units=(64, 64).",
        ),
        (TwoStream, {"gate_units": 0}, f"gate_units {COUNT}"),
        (TwoStream, {"activation": np.tanh}, f"activation {ACTIVATION}"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_its_name_and_value(block, config, message):
    received = repr(next(iter(config.values())))
    with pytest.raises(ValueError, match="^" + re.escape(message.format(received))):
        block(**config)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (arguments.count, 0, "size must be a whole number of 1 or more; received 0."),
        (arguments.count, -3, "size must be a whole number of 1 or more; received -3."),
        (arguments.count, 2.0, "size must be a whole number of 1 or more; received 2.0."),
        (arguments.count, True, "size must be a whole number of 1 or more; received True."),
        (arguments.count, "2", "size must be a whole number of 1 or more; received '2'."),
        (arguments.count, None, "size must be a whole number of 1 or more; received None."),
        (arguments.widths, 3, "size must be a list of widths of 1 or more; received 3."),
        (arguments.widths, "34", "size must be a list of widths of 1 or more; received '34'."),
        (arguments.widths, [3, 0], "size must be a list of widths of 1 or more; received (3, 0)."),
        (arguments.widths, [3.0], "size must be a list of widths of 1 or more; received (3.0,)."),
        (arguments.widths, [True], "size must be a list of widths of 1 or more; received (True,)."),
        (arguments.widths, ["3"], "size must be a list of widths of 1 or more; received ('3',)."),
        (partial(arguments.choice, options=("a", "b", "c")), "d", 'size must be "a", "b" or "c"; received \'d\'.'),
        (partial(arguments.choice, options=("a", "b")), None, 'size must be "a" or "b"; received None.'),
        (partial(arguments.choice, options=("a", "b")), ["a"], 'size must be "a" or "b"; received [\'a\'].'),
        (arguments.widths, None, "size must be a list of widths of 1 or more; received None."),
        (arguments.widths, 2.5, "size must be a list of widths of 1 or more; received 2.5."),
        (arguments.positions, 1, "size must be a list of numbers of fields, from 0; received 1."),
        (arguments.positions, [0, -1], "size must be a list of numbers of fields, from 0; received (0, -1)."),
        (arguments.positions, [0.5], "size must be a list of numbers of fields, from 0; received (0.5,)."),
        (arguments.positions, "01", "size must be a list of numbers of fields, from 0; received '01'."),
        (arguments.positive, 0, "size must be a number above 0; received 0."),
        (arguments.positive, None, "size must be a number above 0; received None."),
        (arguments.positive, "1e-4", "size must be a number above 0; received '1e-4'."),
        (arguments.positive, float("inf"), "size must be a number above 0; received inf."),
        (arguments.share, "0.5", "size must be at least 0 and below 1; received '0.5'."),
        (arguments.share, None, "size must be at least 0 and below 1; received None."),
        (arguments.share, 1, "size must be at least 0 and below 1; received 1."),
        (arguments.share, -0.1, "size must be at least 0 and below 1; received -0.1."),
        (arguments.share, float("nan"), "size must be at least 0 and below 1; received nan."),
        (arguments.switch, 1, "size must be True or False; received 1."),
        (arguments.switch, "True", "size must be True or False; received 'True'."),
        (arguments.switch, None, "size must be True or False; received None."),
        (arguments.activation, None, 'size must be the name of a Keras activation, such as "relu"; received None.'),
    ],
)
def test_a_check_refuses_what_is_out_of_range(check, value, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole, below
        check("size", value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("check", "value", "returned"),
    [
        (arguments.count, 1, 1),
        (arguments.widths, [3, 1], (3, 1)),
        (arguments.widths, (), ()),
        (arguments.widths, iter([2, 5]), (2, 5)),
        (partial(arguments.choice, options=("a", "b")), "b", "b"),
        (arguments.positions, [0, 2], (0, 2)),
        (arguments.positive, 0.5, 0.5),
        (arguments.share, 0, 0),
        (arguments.share, 0.99, 0.99),
        (arguments.switch, False, False),
        (arguments.activation, "tanh", "tanh"),
    ],
)
def test_a_check_returns_what_is_in_range(check, value, returned):
    assert check("size", value) == returned


# --- build ------------------------------------------------------------------------------------------------------------

DYNAMIC = (BiInteraction, FM, OuterProduct)
STATIC = (
    AttentionFM,
    Bilinear,
    CIN,
    Concat,
    Cross,
    FieldMatrixedFM,
    FieldWeightedFM,
    GatedCross,
    InnerProduct,
    Logarithmic,
    MaskBlock,
    SelfAttention,
    TwoStream,
)
OF_ONE_FIELD = (Concat, Cross, GatedCross, Logarithmic, MaskBlock, TwoStream)


@pytest.mark.parametrize("block", STATIC)
def test_a_block_with_a_weight_or_an_output_a_field_refuses_an_unknown_number_of_fields(block):
    with pytest.raises(
        ValueError, match=r"^a needs a known number of fields; received one that differs by batch\. Give features with"
    ):
        block(name="a").build([None, None, 4])


@pytest.mark.parametrize("block", DYNAMIC)
def test_a_sum_over_fields_takes_any_number_of_them(block):
    block = block()
    block.build([None, None, 4])
    for fields in (2, 5):
        embeddings = np.ones([3, fields, 4], np.float32)
        assert block(embeddings).shape == type(block)()(embeddings).shape


@pytest.mark.parametrize("block", [b for b in (*STATIC, *DYNAMIC) if b not in OF_ONE_FIELD])
def test_a_block_of_pairs_refuses_a_single_field(block):
    with pytest.raises(ValueError, match=r"^a needs at least 2 fields; received 1\. Add a feature\.$"):
        block(name="a").build([None, 1, 4])


@pytest.mark.parametrize("block", OF_ONE_FIELD)
def test_a_block_that_is_none_of_pairs_takes_a_single_field(block):
    assert np.isfinite(block()(np.ones([3, 1, 4], np.float32))).all()


@pytest.mark.parametrize("block", [*STATIC, *DYNAMIC])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([None, 8], r"^a needs \[batch, fields, dim\]; received shape \(None, 8\)\. Stack the fields on axis 1\.$"),
        ([None, 3, None], r"^a needs a known embedding dim; received shape \(None, 3, None\)\. Set the last dimension"),
    ],
    ids=str,
)
def test_every_block_refuses_what_is_not_batch_fields_dim(block, shape, message):
    with pytest.raises(ValueError, match=message):
        block(name="a").build(shape)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"first_context": [3]}, r"first_context must be numbers of fields below 3; received \(3,\)"),
        ({"second_context": [0, 7]}, r"second_context must be numbers of fields below 3; received \(0, 7\)"),
    ],
)
def test_a_context_field_that_is_not_there_is_refused_at_build(config, message):
    with pytest.raises(ValueError, match=message):
        TwoStream(**config).build([None, 3, 4])


# --- cost -------------------------------------------------------------------------------------------------------------

F, D = 6, 16
N, P = F * D, F * (F - 1) // 2  # length of all embeddings side by side, number of pairs
TWO_STREAM = {"first_units": [48, 32], "second_units": [32], "num_heads": 2, "gate_units": 24}

# Parameters, exactly; flops of the matrix products, or of all where there are none (a multiply-add is two); and the
# most that biases, activations, norms and sums may add.
COSTS = {
    "concat": (Concat(), 0, 0, 0),
    "bi_interaction": (BiInteraction(), 0, N + 2 * (F - 1) * D + 3 * D, 0),
    "fm": (FM(), 0, N + 2 * (F - 1) * D + 4 * D - 1, 0),
    "outer_product": (OuterProduct(), 0, (F - 1) * D + D * D, 0),
    "inner_product": (InnerProduct(), 0, 2 * F * F * D, 0),
    "field_weighted_fm": (FieldWeightedFM(), P, 2 * F * F * D, 2 * N),
    "field_matrixed_fm": (FieldMatrixedFM(), P * D * D, 2 * N * N, 2 * N),
    "attention_fm": (AttentionFM(12), D * 12 + 12 + 12, P * (2 * D * 12 + 2 * 12 + 2 * D), P * (D + 2 * 12 + 5)),
    "bilinear, all": (Bilinear("all", senet=False), D * D, 2 * (F - 1) * D * D, P * D),
    "bilinear, each": (Bilinear("each", senet=False), (F - 1) * D * D, 2 * (F - 1) * D * D, P * D),
    "bilinear, interaction": (Bilinear(senet=False), P * D * D, 2 * P * D * D, P * D),
    "bilinear, senet": (Bilinear(), 2 * P * D * D + 2 * F * 2, 2 * (2 * P * D * D + 2 * F * 2), 2 * P * D + 3 * N),
    "cin": (
        CIN([8, 6, 4], split_half=False),
        (F * F + 1) * 8 + (8 * F + 1) * 6 + (6 * F + 1) * 4,
        2 * D * F * (F * 8 + 8 * 6 + 6 * 4),
        D * F * (F + 8 + 6) + 3 * D * (8 + 6 + 4),  # the products, before; bias, activation and sum, behind
    ),
    "cin, split": (
        CIN([8, 6, 4]),
        (F * F + 1) * 8 + (4 * F + 1) * 6 + (3 * F + 1) * 4,
        2 * D * F * (F * 8 + 4 * 6 + 3 * 4),
        D * F * (F + 4 + 3) + 3 * D * (8 + 6 + 4),
    ),
    "cross, vector": (Cross(2, "vector"), 2 * (N + N), 2 * (2 * N), 2 * 3 * N),
    "cross, matrix": (Cross(2), 2 * (N * N + N), 2 * (2 * N * N), 2 * 3 * N),
    "cross, low_rank": (Cross(2, "low_rank", rank=12), 2 * (2 * N * 12 + N), 2 * (4 * N * 12), 2 * 3 * N),
    "cross, mixture": (
        Cross(2, "mixture", rank=12, num_experts=3),
        2 * (2 * N * 36 + 3 * 12 * 12 + N * 3 + N),
        2 * (4 * N * 36 + 2 * 3 * 12 * 12 + 2 * N * 3),
        2 * (3 * N + 36 + 5 * 3),
    ),
    "gated_cross": (GatedCross(2), 2 * (2 * N * N + N), 2 * (4 * N * N), 2 * 5 * N),
    "self_attention": (
        SelfAttention(2, 2, 8),
        4 * D * 16 + 4 * 16 * 16,
        2 * F * 4 * 16 * (D + 16) + 2 * (2 * 2 * F * F * 16),
        2 * (2 * F * 16 + 2 * 5 * F * F),
    ),
    "self_attention, no residual": (
        SelfAttention(1, 2, 8, residual=False),
        3 * D * 16,
        2 * F * 3 * 16 * D + 2 * 2 * F * F * 16,
        2 * F * 16 + 2 * 5 * F * F,
    ),
    "mask, parallel": (
        MaskBlock(num_blocks=2, block_units=32),
        2 * D + 2 * ((N + 1) * 2 * N + (2 * N + 1) * N + N * 32 + 2 * 32),
        2 * 2 * (2 * N * 2 * N + N * 32),
        10 * N + 2 * (7 * N + 10 * 32),
    ),
    "mask, serial": (
        MaskBlock("serial", num_blocks=2, block_units=32),
        2 * D + ((N + 1) * 2 * N + (2 * N + 1) * N + N * 32) + ((N + 1) * 64 + 65 * 32 + 32 * 32) + 2 * 2 * 32,
        2 * (2 * N * 2 * N + N * 32) + 2 * (N * 64 + 64 * 32 + 32 * 32),
        10 * N + (7 * N + 10 * 32) + (7 * 32 + 10 * 32),
    ),
    "two_stream": (
        TwoStream(**TWO_STREAM, first_context=[0, 3]),
        (2 * D * 24 + 24 + 25 * N + (N + 1) * 48 + 49 * 32)  # stream 1, gated by two fields
        + (D + D * 24 + 24 + 25 * N + (N + 1) * 32)  # stream 2, by a learnt vector
        + (64 + 1 + 2 * 16 * 16),
        2 * (2 * D * 24 + 24 * N + N * 48 + 48 * 32 + D * 24 + 24 * N + N * 32 + 64 + 2 * 16 * 16),
        2 * (2 * 24 + 4 * N) + 2 * (48 + 32 + 32) + 3 * 32,
    ),
    # A BatchNorm has four numbers a channel: gamma, beta and the moving mean and variance; and one, its steps.
    "logarithmic": (Logarithmic(24), F * 24 + 4 * (F + 24) + 2, 2 * F * 24 * D, 7 * N + 5 * 24 * D),
    "logarithmic, plain": (Logarithmic(24, batch_norm=False), F * 24, 2 * F * 24 * D, 4 * N),
}
every_cost = pytest.mark.parametrize(("block", "parameters", "products", "rest"), COSTS.values(), ids=COSTS)


@every_cost
def test_the_cost_is_that_of_the_formula(block, parameters, products, rest):
    cost = block.cost(F, D)
    assert not block.built
    assert not block.weights
    assert cost.parameters == parameters
    assert products <= cost.flops <= products + rest


@pytest.mark.parametrize("name", COSTS)
def test_a_block_that_is_built_for_other_fields_costs_the_same(name):
    block = COSTS[name][0]
    built = type(block).from_config(block.get_config())
    built(np.ones([2, F - 1, D + 1], np.float32))
    before = [weight.numpy() for weight in built.weights]
    assert built.cost(F, D) == block.cost(F, D)
    for weight, old in zip(built.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("policy", ["float16", "mixed_bfloat16"])
def test_the_cost_does_not_depend_on_the_precision(policy):
    assert Cross(2, dtype=policy).cost(F, D) == Cross(2).cost(F, D)


def test_a_block_that_does_not_fit_has_no_cost():
    with pytest.raises(ValueError, match="needs at least 2 fields; received 1"):
        FieldWeightedFM().cost(fields=1, dim=4)


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [(1, []), (2, [(0, 1)]), (4, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])],
)
def test_pairs_come_by_their_first_field_then_by_their_second(fields, pairs):
    assert field_pairs(fields) == pairs


def test_a_mask_block_saved_by_version_0_1_0_opens():
    saved = {"name": "mask_block", "trainable": True, "dtype": "float32", "mode": "serial", "num_blocks": 2}
    (described,) = interaction_blocks({"name": "mask", "config": {"mode": "serial", "num_blocks": 2}}, "float32")
    for block in (MaskBlock.from_config(saved), described):
        assert (block.kind, block.num_blocks) == ("serial", 2)
        assert "mode" not in block.get_config()
