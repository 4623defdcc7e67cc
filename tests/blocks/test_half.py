"""Products in float16 against float64, of rows of very unequal size."""

import numpy as np
import pytest

from nfm_tfrs.blocks.half import half_matmul
from nfm_tfrs.keras_compat import tf

BATCH = 256


def float64(tensor):
    return tensor.numpy().astype(np.float64)


def error(tensor, expected):
    return np.linalg.norm(float64(tensor) - expected) / np.linalg.norm(expected)


def unequal(rng, rows, columns):
    """Rows of very unequal size, one of them zero."""
    values = rng.normal(size=[rows, columns]) * 10.0 ** rng.uniform(-6, 6, [rows, 1])
    values[1] = 0.0
    return values


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_float16_product_and_its_gradients_err_by_rounding_at_every_scale(scale):
    rng = np.random.default_rng(0)
    x, upstream = unequal(rng, BATCH, 30), unequal(rng, BATCH, 7) * scale
    kernel = tf.constant(rng.normal(size=[30, 7]), tf.float32)
    inputs = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel])
        product = half_matmul(inputs, kernel, "float16")
    gradients = tape.gradient(product, [inputs, kernel], tf.constant(upstream, tf.float32))
    expected = x @ float64(kernel)
    for row in range(BATCH):  # each by itself: a norm over all would see the largest only
        size = np.linalg.norm(expected[row]) or 1.0
        assert np.linalg.norm(product[row] - expected[row]) <= 3e-3 * size
    rows = upstream @ float64(kernel).T
    assert (
        max(np.linalg.norm(gradients[0][row] - rows[row]) / (np.linalg.norm(rows[row]) or 1.0) for row in range(BATCH))
        < 3e-3
    )
    assert error(gradients[1], x.T @ upstream) < 3e-3


def test_a_float16_kernel_gradient_holds_more_rows_than_float16_does():
    rows = tf.ones([100_000, 2])
    kernel = tf.ones([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        product = half_matmul(rows, kernel, "float16")
    np.testing.assert_allclose(tape.gradient(product, kernel, tf.ones([100_000, 3])), 1e5, rtol=0.02)
