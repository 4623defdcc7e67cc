"""Tables in fewer bytes: how far they are from the table, and how small."""

import numpy as np
import pytest

from nfm_tfrs.serving.quantized import quantized

TABLE = np.random.default_rng(0).normal(size=[200, 17]).astype(np.float32) * 10.0 ** np.linspace(-6, 1, 200)[:, None]
TABLE = TABLE.astype(np.float32)
TABLE[3] = 0.0


def test_int8_is_within_half_a_step_of_each_row():
    held = quantized(TABLE, "int8", embedding_dim=16)

    errors = np.abs(held.dense() - TABLE)
    steps = np.abs(TABLE[:, :16]).max(axis=1) / 127
    assert (errors[:, :16] <= 0.5001 * steps[:, None]).all()
    assert (errors[:, 16] <= 1e-3 * np.abs(TABLE[:, 16]) + 6e-8).all()
    assert held.dense()[3].tolist() == [0.0] * 17
    assert sum(array.nbytes for array in held) == 200 * (16 + 4 + 2)


def test_a_table_without_first_order_weights_is_int8_too():
    held = quantized(TABLE[:, :16], "int8", embedding_dim=16)

    assert held.first_order is None
    assert held.dense().shape == (200, 16)


def test_float16_is_float16():
    held = quantized(TABLE, "float16", embedding_dim=16)

    np.testing.assert_array_equal(held.dense(), TABLE.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(("how", "column"), [("float16", 0), ("int8", 16)])
def test_weights_beyond_float16_are_refused(how, column):
    large = TABLE.copy()
    large[0, column] = 1e5

    with pytest.raises(ValueError, match=r"float16 holds numbers up to 65504, and a weight of the table is 1e\+05"):
        quantized(large, how, embedding_dim=16)


def test_an_unknown_quantization_is_refused():
    with pytest.raises(ValueError, match="A table is quantized to int8 or float16; received 'int4'"):
        quantized(TABLE, "int4", embedding_dim=16)
