"""The state of an optimizer beside a table that grows: which of its variables have a row for each row of the table."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs.embedding.growth import MovedRows
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import copy_weight_decay
from nfm_tfrs.written import first_line

_WIDTH = 4  # of a small table, unlike its numbers of rows


def unlisted(optimizer: Any) -> dict[str, Any]:
    """Returns, by attribute, the variables that Keras' optimizers keep and do not list: the rate, a product of Nadam's.

    Args:
        optimizer: The optimizer.
    """
    listed = {id(variable) for variable in optimizer.variables}
    held = vars(optimizer).items()
    return {name: one for name, one in held if isinstance(one, tf.Variable) and id(one) not in listed}


def table_slots(optimizer: Any, variables: Sequence[Any], table: Any) -> list[bool]:
    """Returns, of each variable that an optimizer makes for these, whether it has a row for each row of the table.

    Copies of the optimizer are asked, for tables of two sizes: the shape alone does not tell a slot of the table from
    one of another variable.

    Args:
        optimizer: The optimizer.
        variables: What it trains.
        table: What grows; one of them, unless it is not trained.

    Raises:
        ValueError: It cannot be made anew, keeps anything else whose shape follows from the number of rows, or was made
            for other variables.
    """
    name = type(optimizer).__name__
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"Growth moves the state of tf.keras.optimizers; received {name} of {type(optimizer).__module__}. Compile "
            "the model with one of those."
        )
    few, more = (_slot_shapes(optimizer, variables, table, rows) for rows in (2, 3))
    follows = [one != other for one, other in zip(few, more, strict=True)]
    if any(shape != (3, _WIDTH) for shape, does in zip(more, follows, strict=True) if does):
        raise ValueError(
            f"{name} keeps state of another shape for a table, which cannot grow with it row by row. Compile the model "
            "with another optimizer, such as LazyAdagrad or Adam."
        )
    if len(optimizer.variables) not in (1, len(follows)):  # 1: the number of steps, before the first one
        raise ValueError(
            f"{name} was made for other weights than the model trains now. Compile the model again after changing what "
            "is trainable."
        )
    return follows


def move_state(
    old: Any, new: Any, slots: Sequence[int | None], moved: Sequence[MovedRows], pairs: Sequence[tuple[Any, Any]]
) -> None:
    """Puts the state of an optimizer into one that was made for the grown table; new rows keep the slot's start.

    Args:
        old: The optimizer.
        new: The other one, which has been built.
        slots: The table that each variable of the optimizer has rows of, by its number; None for none.
        moved: Where the rows of each table lie.
        pairs: What `old` trains, each with what `new` trains in its place.
    """
    if old.weight_decay:
        copy_weight_decay(old, new, pairs)
    for name, variable in unlisted(old).items():
        vars(new)[name].assign(variable)
    if len(old.variables) != len(slots):  # it has not trained yet
        new.iterations.assign(old.iterations)
        return
    for one, other, table in zip(old.variables, new.variables, slots, strict=True):
        other.assign(one if table is None else moved[table].placed(one.numpy(), other.numpy()))


def _slot_shapes(optimizer: Any, variables: Sequence[Any], table: Any, rows: int) -> list[tuple[int, ...]]:
    """The shapes of what a copy of the optimizer makes for small variables, the table of so many rows."""
    shapes = [[rows, _WIDTH] if one is table else [1] * len(one.shape) for one in variables]
    try:
        copy = type(optimizer).from_config(optimizer.get_config())
        copy.build([tf.Variable(tf.zeros(shape, one.dtype)) for one, shape in zip(variables, shapes, strict=True)])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(optimizer).__name__} cannot be made anew ({first_line(error)}). Compile the model with an "
            "optimizer whose from_config takes what its get_config returns."
        ) from error
    return [tuple(slot.shape) for slot in copy.variables]
