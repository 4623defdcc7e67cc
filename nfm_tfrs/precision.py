"""Which precision a model computes in: from a name to a dtype policy."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, get_args

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.platform_calls import multiplies_bfloat16

# Weights between hidden layers from which on a CPU that multiplies bfloat16 gains by it: benchmarks/speed/widths.py.
_WIDE = 256 * 128

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]


def policy(dtype: Any, hidden_units: Sequence[int] = ()) -> Any:
    """Returns the Keras dtype policy of a model; variables are float32 under each.

    Args:
        dtype: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, a policy, or `"auto"`: bfloat16 where every GPU
            has it (compute capability 8.0), float16 on older ones with matrix units for it (7.0); without a GPU
            bfloat16 on a CPU that multiplies it (AVX512-BF16 or AMX) where hidden layers are wide, float32 elsewhere.
            `"bfloat16"` and `"float16"` stand for the mixed ones.
        hidden_units: Widths of the model's hidden layers: wide are those with 32,768 weights between them, as
            `(256, 128)` has.

    Raises:
        ValueError: It is none of these.

    Example:
        >>> policy("bfloat16").name
        'mixed_bfloat16'
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", dtype)
    if name == "auto":
        name = _fastest(hidden_units)
    if name in ("bfloat16", "float16"):
        name = f"mixed_{name}"
    if name not in get_args(Precision):
        raise ValueError(
            f"dtype must be one of {', '.join(get_args(Precision))}, or a policy of such a name; received {dtype!r}."
        )
    return keras.mixed_precision.Policy(name)


def _fastest(hidden_units: Sequence[int]) -> str:
    # Not the logical devices: to list them starts the GPUs, and what a user sets for them afterwards comes too late.
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        weights = sum(before * after for before, after in itertools.pairwise(hidden_units))
        return "mixed_bfloat16" if weights >= _WIDE and multiplies_bfloat16() else "float32"
    details = map(tf.config.experimental.get_device_details, gpus)
    capability = min((found.get("compute_capability", (0, 0)) for found in details), default=(0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"
