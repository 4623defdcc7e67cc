"""Matrix products in half precision that keep the range of float32."""

from typing import Any

from nfm_tfrs.keras_compat import tf


def half_matmul(x: tf.Tensor, kernel: Any, dtype: Any) -> tf.Tensor:
    """Returns the product x K, float32 `[…, units]`, multiplied in `dtype` whatever the scale of x.

    In float16 each row of x is divided by its largest element, and its product multiplied by it again in float32; so
    are the gradients. Else products of a few embeddings leave its range, at both ends.

    Args:
        x: float32 `[…, k]`.
        kernel: float32 `[k, units]`, a weight made by `add_float32_weight`.
        dtype: Compute dtype of the layer that multiplies.

    Example:
        >>> product = half_matmul(tf.constant([[1e-5, 2e-5]]), tf.constant([[1e-3], [1e-3]]), "float16")
        >>> f"{product.numpy()[0, 0]:.2g}"
        '3e-08'
    """
    if tf.as_dtype(dtype) != tf.float16:
        return tf.cast(tf.matmul(tf.cast(x, dtype), tf.cast(kernel, dtype)), tf.float32)
    product = _float16_matmul(tf.reshape(x, [-1, x.shape[-1]]), tf.convert_to_tensor(kernel))
    return tf.reshape(product, tf.concat([tf.shape(x)[:-1], [kernel.shape[1]]], axis=0))


@tf.custom_gradient
def _float16_matmul(rows: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    half_rows, sizes = _unit(rows, 1)
    half_kernel = tf.cast(kernel, tf.float16)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        half_upstream, upstream_sizes = _unit(upstream, 1)
        rows_gradient = tf.matmul(half_upstream, half_kernel, transpose_b=True)
        # Σ over rows: these need one size, that of the row that weighs most, and the root of their number, since as
        # many ones add up to more than float16 holds.
        root = tf.sqrt(tf.cast(tf.shape(rows)[0], tf.float32))
        weighed, size = _unit(upstream * sizes, None, root)
        kernel_gradient = tf.matmul(half_rows, weighed, transpose_a=True)
        return tf.cast(rows_gradient, tf.float32) * upstream_sizes, tf.cast(kernel_gradient, tf.float32) * size

    return tf.cast(tf.matmul(half_rows, half_kernel), tf.float32) * sizes, gradient


def _unit(x: tf.Tensor, axis: int | None, times: Any = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 `[rows, k]` divided by so many times the largest element of each row, or of all, as float16; and that."""
    largest = tf.reduce_max(tf.abs(x), axis=axis, keepdims=True) * times
    largest = tf.where(largest > 0.0, largest, 1.0)
    return tf.cast(x / largest, tf.float16), largest
