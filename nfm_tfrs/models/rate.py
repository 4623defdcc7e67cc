"""The rate of a model that goes on: another one, constant from here on, beside all else that its optimizer keeps."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.slots import inner_optimizer


def set_rate(model: Any, rate: float) -> None:
    """Gives the optimizer of a compiled model a constant rate, instead of its rate or schedule; its state stays.

    Args:
        model: The model.
        rate: The rate.

    Raises:
        ValueError: A rate below 0.
    """
    arguments.not_negative("rate", rate)
    optimizer = inner_optimizer(model.optimizer)
    try:
        optimizer.learning_rate = rate
    except TypeError:  # it was made with a schedule, which Keras does not let go
        pass
    else:
        return
    scale = {name: variable.numpy() for name, variable in model.scale_state.items()}
    constant = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})
    model.compile_from_config(
        {**model.get_compile_config(), "optimizer": keras.saving.serialize_keras_object(constant)}
    )
    for new, old in zip(inner_optimizer(model.optimizer).variables, optimizer.variables, strict=True):
        new.assign(old)
    for name, value in scale.items():
        model.scale_state[name].assign(value)
