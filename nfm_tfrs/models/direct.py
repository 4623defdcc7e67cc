"""A model's inference as a function of plain tensors: what `model(x)` outside of graphs costs beside it is Keras'."""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import clear_losses, has_losses, layers_inside, may_be_taped

# Calls on columns of the same types before they are traced: a trace takes as long as a hundred calls.
_CALLS = 8


class DirectCall:
    """A function of a batch's columns, traced and called with their tensors alone, in order.

    Args:
        model: The model that the function is of.
        function: Called with columns as tensors; returns a tensor.

    Attributes:
        losses_are_clear: Whether no call since the last one here may have left losses, which inference clears.
    """

    def __init__(self, model: Any, function: Callable[[dict[str, Any]], tf.Tensor]) -> None:
        self._model, self._function = model, function
        self._lock = threading.Lock()
        self._calls: dict[Any, int] = {}
        self._traced: dict[Any, Callable[..., tf.Tensor] | None] = {}
        self._state: list[_Attributes] = []
        self.losses_are_clear = False

    def __call__(self, columns: Any) -> tf.Tensor | None:
        """Returns what the function returns of these columns; None where Keras' way has to be taken.

        That is in a graph, under a gradient tape or a strategy, of columns that are neither tensors nor arrays, in
        the first calls, where the call leaves losses, and where it fails: Keras' way says why.
        """
        if not tf.executing_eagerly() or may_be_taped() or tf.config.functions_run_eagerly():
            return None
        if tf.distribute.has_strategy() or keras.backend.learning_phase():
            return None
        parts = _parts(columns)
        if parts is None:
            return None
        if any(attributes.differ() for attributes in self._state):
            self._forget()
        traced = self._traced.get(parts.kinds)
        if traced is None:
            traced = self._trace(parts)
        if traced is None:
            return None
        if not self.losses_are_clear:
            clear_losses(self._model)
            self.losses_are_clear = True
        try:
            return traced(*parts.tensors)
        except (ValueError, tf.errors.OpError):
            return None

    def _trace(self, parts: "_Parts") -> Callable[..., tf.Tensor] | None:
        with self._lock:
            calls = self._calls[parts.kinds] = self._calls.get(parts.kinds, 0) + 1
            if calls != _CALLS:
                return self._traced.get(parts.kinds)
            state = [_Attributes(self._model, _of_training()), *map(_Attributes, layers_inside(self._model))]
            function = tf.function(lambda *tensors: self._function(parts.columns(tensors)))
            try:
                traced = function.get_concrete_function(*parts.signature())
            except (AttributeError, LookupError, TypeError, ValueError, tf.errors.OpError):  # Keras' way raises it too
                return None
            if has_losses(self._model):
                clear_losses(self._model)  # of the trace: tensors of its graph
                return None
            self._traced[parts.kinds] = traced
            self._state = state
            return traced

    def _forget(self) -> None:
        with self._lock:
            self._calls, self._traced, self._state = {}, {}, []


class _Attributes:
    """The attributes of an object, but for those of these names, as they were."""

    def __init__(self, thing: Any, without: frozenset[str] = frozenset()) -> None:
        self._now, self._without = vars(thing), without
        self._kept = dict(self._now)  # so that nothing else gets the identity of what was replaced
        self._identities = self._found()

    def differ(self) -> bool:
        return self._found() != self._identities

    def _found(self) -> list[Any]:
        if not self._without:
            return list(map(id, self._now.values()))
        return [id(value) for name, value in self._now.items() if name not in self._without]


class _Parts(NamedTuple):
    """A batch's columns, taken apart.

    Attributes:
        names: Names of the columns.
        kinds: What tells columns apart that need a trace each: names, dtypes, and shapes without the rows.
        tensors: Dense tensors; the values and row splits of ragged columns.
    """

    names: list[str]
    kinds: tuple[Any, ...]
    tensors: list[tf.Tensor]

    def signature(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in self.tensors]

    def columns(self, tensors: Any) -> dict[str, Any]:
        given, found = iter(tensors), {}
        for name, kind in zip(self.names, self.kinds, strict=True):
            column = next(given)
            is_ragged = kind[1] is None
            found[name] = tf.RaggedTensor.from_row_splits(column, next(given), validate=False) if is_ragged else column
        return found


@functools.cache  # not at import: Keras' counters start the devices
def _of_training() -> frozenset[str]:
    """The attributes that Keras, `compile` and `fit` set on a model, and no inference reads."""
    return frozenset(vars(keras.Model())) | {"_auto_steps", "_compile_config", "loss"}


def _parts(columns: Any) -> _Parts | None:
    """The parts of columns that all are tensors or arrays of one or two dimensions, or ragged ones of two."""
    if not isinstance(columns, Mapping):
        return None
    kinds: list[tuple[Any, ...]] = []
    tensors: list[Any] = []
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            try:
                column = tf.convert_to_tensor(column)
            except (TypeError, ValueError):
                return None
        if isinstance(column, tf.RaggedTensor):
            if not isinstance(column.values, tf.Tensor) or column.values.shape.rank != 1:
                return None
            tensors += [column.values, column.row_splits]
            kinds.append((name, None, column.values.dtype, column.row_splits.dtype))
        elif isinstance(column, tf.Tensor) and column.ndim in (1, 2):
            tensors.append(column)
            kinds.append((name, column.ndim, column.dtype, column.shape[1] if column.ndim == 2 else 1))
        else:
            return None
    return _Parts(list(columns), tuple(kinds), tensors) if tensors else None
