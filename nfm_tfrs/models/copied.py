"""A model of other features with all that a model has learnt, bit for bit: weights, optimizer, state of layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.embedding.growth import MovedRows, moved_rows
from nfm_tfrs.features.growth import TableChange
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.keras_compat.private import layers_inside
from nfm_tfrs.models.slots import move_state, table_slots


def copied(
    model: Any, features: FeatureSpec, changes: Mapping[str, TableChange], start: Mapping[str, np.ndarray]
) -> Any:
    """Returns a model of other features, compiled as a model was, with all that this one has learnt; it stays as it is.

    Args:
        model: The model, which knows its features.
        features: What the new one reads.
        changes: What differs between the vocabularies, by table.
        start: By table the rows of its new values, `[new ids, width]`, in the order of their ids; else they are zeros.

    Raises:
        ValueError: The optimizer's state cannot be moved, another weight than the table is of another shape, or rows to
            start at are not those of the new values.
    """
    slots = slots_of(model)
    with model.distribute_strategy.scope():
        new = type(model).from_config({**model.get_config(), "features": features.to_dict()})
        places = range(len(model.embedding.tables))
        moved = [moved_rows(model.embedding, new.embedding, changes, place) for place in places]
        _copy_weights(model, new, moved, _start_tables(new, changes, start))
        if (config := model.get_compile_config()) is not None:
            # Only now: averages of weights start at the weights.
            new.compile_from_config(config)
        if slots is not None:
            _copy_optimizer(model, new, slots, moved)
    return new


def slots_of(model: Any) -> list[int | None] | None:
    """Returns which table's rows each variable of a model's optimizer has, by its number, None for none.

    Nothing is returned for a model that is not compiled.

    Args:
        model: The model.

    Raises:
        ValueError: The state of the optimizer cannot be moved; see `table_slots`.
    """
    if getattr(model, "optimizer", None) is None:
        return None
    found: list[int | None] | None = None
    for number, table in enumerate(model.embedding.tables):
        follows = table_slots(inner_optimizer(model.optimizer), model.trainable_variables, table)
        found = [None] * len(follows) if found is None else found
        found = [number if does else other for does, other in zip(follows, found, strict=True)]
    return found


def _start_tables(new: Any, found: Mapping[str, TableChange], start: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Where the rows of the new tables start, each float32 `[rows, width]`: zeros but for new values."""
    tables = [
        # Rows that values share start as they do in any new model.
        np.zeros(table.shape, np.float32) if layout.compression is None else table.numpy()
        for table, layout in zip(new.embedding.tables, new.embedding.layouts, strict=True)
    ]
    for name, rows in start.items():
        place = next((n for n, layout in enumerate(new.embedding.layouts) if name in layout.tables), 0)
        layout, table = new.embedding.layouts[place], tables[place]
        if layout.compression is not None:
            raise ValueError(
                f"The rows of table {name!r:.60} are shared by several values, and new ones have none of their own; "
                f"received start of shape {np.shape(rows)}. Leave it out."
            )
        needed = (len(found[name].new), table.shape[1]) if name in found else (0, table.shape[1])
        if np.shape(rows) != needed:
            raise ValueError(
                f"start of table {name!r:.60} must be a row of {needed[1]} for each of its {needed[0]} new values; "
                f"received shape {np.shape(rows)}. Leave it out for zeros."
            )
        table[layout.tables[name][0] + 1 + found[name].new] = rows
    return tables


def _copy_weights(old: Any, new: Any, moved: Sequence[MovedRows], start: Sequence[np.ndarray]) -> None:
    """Gives a model the weights, and what else its layers keep, of one that differs in the table alone."""
    layers = list(zip(layers_inside(old), layers_inside(new), strict=True))
    for here, there in layers:  # before the weights, which are listed by it
        if here.trainable != there.trainable:
            there.trainable = here.trainable
    tables = {id(table): number for number, table in enumerate(old.embedding.tables)}
    parts = old.distribute_strategy.experimental_local_results
    for here, there in zip(old.variables, new.variables, strict=True):
        if (number := tables.get(id(here))) is not None:
            there.assign(moved[number].placed(here.numpy(), start[number]))
        elif here.shape == there.shape:
            # Replica by replica: moving averages differ between them, and read together are their mean.
            for one, other in zip(parts(here), parts(there), strict=True):
                other.assign(one)
        else:
            raise ValueError(
                f"The weight {here.name} is {tuple(here.shape)}, and {tuple(there.shape)} with the grown features: "
                "only the rows of the table can be moved. Train a model of these features from scratch."
            )
    for here, there in layers:
        if here is not old.embedding and type(here).save_own_variables is not keras.layers.Layer.save_own_variables:
            kept: dict[str, Any] = {}  # beside its weights, as dropout does
            here.save_own_variables(kept)
            there.load_own_variables(kept)


def _copy_optimizer(old: Any, new: Any, slots: list[int | None], moved: Sequence[MovedRows]) -> None:
    inner, inner_new = inner_optimizer(old.optimizer), inner_optimizer(new.optimizer)
    pairs = list(zip(old.trainable_variables, new.trainable_variables, strict=True))
    move_state(inner, inner_new, slots, moved, pairs)
    for here, there in zip(old.scale_state.values(), new.scale_state.values(), strict=True):
        there.assign(here)
