"""The rate of a model that goes on: another one, constant from here on, beside all else that its optimizer keeps."""

from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.keras_compat.private import copy_weight_decay
from nfm_tfrs.models.slots import unlisted


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
    wrapped = optimizer is not model.optimizer
    constant = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})
    serialized = keras.saving.serialize_keras_object(constant)
    if wrapped:  # with its own settings
        config = {**model.optimizer.get_config(), "inner_optimizer": serialized}
        serialized = keras.saving.serialize_keras_object(type(model.optimizer).from_config(config))
    model.compile_from_config({**model.get_compile_config(), "optimizer": serialized})
    renewed = inner_optimizer(model.optimizer)
    for new, old in zip(renewed.variables, optimizer.variables, strict=True):
        new.assign(old)
    kept = unlisted(optimizer)
    for name, variable in unlisted(renewed).items():
        if name in kept and name not in ("_learning_rate", "_current_learning_rate"):
            variable.assign(kept[name])
    if optimizer.weight_decay:
        copy_weight_decay(optimizer, renewed, [(one, one) for one in model.trainable_variables])
    for name, value in scale.items():
        model.scale_state[name].assign(value)
