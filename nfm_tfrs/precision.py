"""Which precision a model computes in: from a name to a dtype policy."""

from typing import Any, Literal, get_args

from nfm_tfrs.keras_compat import keras, tf

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]


def policy(dtype: Any) -> Any:
    """Returns the Keras dtype policy of a model; variables are float32 under each.

    Args:
        dtype: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, a policy, or `"auto"`: bfloat16 where every GPU
            has it (compute capability 8.0), float16 on older ones with matrix units for it (7.0), float32 elsewhere.
            `"bfloat16"` and `"float16"` stand for the mixed ones.

    Raises:
        ValueError: It is none of these.

    Example:
        >>> policy("bfloat16").name
        'mixed_bfloat16'
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", dtype)
    if name == "auto":
        name = _fastest()
    if name in ("bfloat16", "float16"):
        name = f"mixed_{name}"
    if name not in get_args(Precision):
        raise ValueError(
            f"dtype must be one of {', '.join(get_args(Precision))}, or a policy of such a name; received {dtype!r}."
        )
    return keras.mixed_precision.Policy(name)


def _fastest() -> str:
    # Not the logical devices: to list them starts the GPUs, and what a user sets for them afterwards comes too late.
    details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
    capability = min((found.get("compute_capability", (0, 0)) for found in details), default=(0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"
