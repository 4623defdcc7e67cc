"""What all checks share: what makes a component, its name, and how a check says what does not hold."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from nfm_tfrs.keras_compat import keras, tf

Make = Callable[..., Any]
Check = Callable[[Make], None]

# Of the output's norm: what rounding weights and inputs to half precision costs, and room for a few layers.
BOUNDS = {"mixed_bfloat16": 1e-2, "mixed_float16": 2e-3}


def name_of(make: Make) -> str:
    """Returns a readable name: `Cross`, `Cross(kind=vector)`."""
    if not isinstance(make, partial):
        return getattr(make, "__name__", repr(make))
    arguments = [str(argument) for argument in make.args]
    arguments += [f"{name}={value}" for name, value in make.keywords.items()]
    return f"{name_of(make.func)}({', '.join(arguments)})"


def made(make: Make, **arguments: Any) -> Any:
    """Returns a component from one seed: a check says the same each time."""
    if not callable(make) or isinstance(make, keras.layers.Layer):
        raise AssertionError(f"Give a class, or a functools.partial of one; received {make!r}.")
    try:
        signature(make).bind(**arguments)  # not by calling it: what the constructor itself raises comes through
    except TypeError as error:
        what = f"must be made from keyword arguments, {sorted(arguments) or 'none'} here; {first_line(error)}"
        raise AssertionError(f"{name_of(make)}: {what}. Give a functools.partial with the others.") from error
    keras.utils.set_random_seed(0)
    return make(**arguments)


def require(holds: Any, make: Make, what: str, received: Any) -> None:
    if not holds:
        text = " ".join(str(received).split())  # one line, also of an array
        raise AssertionError(f"{name_of(make)}: {what}" + (f"; received {text}." if text else "."))


def require_close(one: Any, other: Any, tolerance: float, make: Make, what: str) -> None:
    share = difference(one, other)
    require(share <= tolerance, make, what, f"a difference of {share:.1e} of the largest element")


def difference(one: Any, other: Any) -> float:
    """The largest difference of two tensors, as a share of the other's largest element."""
    one, other = tf.cast(one, tf.float32).numpy(), tf.cast(other, tf.float32).numpy()
    return float(np.abs(one - other).max() / max(1e-6, np.abs(other).max()))


def equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def copy_weights(one: Any, other: Any, make: Make) -> None:
    """Copies the weights of one to the other, which must have as many, of the same shapes."""
    shapes = [[tuple(weight.shape) for weight in component.weights] for component in (one, other)]
    require(shapes[0] == shapes[1], make, f"made from its config must have weights of {shapes[0]}", shapes[1])
    other.set_weights(one.get_weights())


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
