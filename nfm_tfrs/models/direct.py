"""A model's inference as a function of plain tensors: what `model(x)` outside of graphs costs beside it is Keras'."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.lengths import read_names
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import (
    attributes_of_training,
    clear_losses,
    has_losses,
    in_call,
    layers_inside,
    may_be_taped,
)

_CALLS = 8  # on columns of the same types before they are traced: a trace takes as long as a hundred calls
_TRACES = 16  # at most: a model that is called in ever other ways stays with Keras
_TRUSTED = ("nfm_tfrs", "keras", "tf_keras", "tensorflow")  # whose layers decide by their attributes alone


class DirectCall:
    """A method of a model that takes a batch's columns, traced and called with their tensors alone, in order.

    Args:
        model: The model.
        method: The method's name; it is called with columns as tensors, and returns a tensor.
        cast: Whether float64 is cast to Keras' float type first, as Keras does in `predict`.
    """

    def __init__(self, model: Any, method: str, *, cast: bool) -> None:
        self._model, self._method, self._cast = model, method, cast
        self._lock = threading.Lock()
        self._calls: dict[Any, int] = {}
        self._traced: dict[Any, _Traced] = {}
        self._traces = 0

    def __reduce__(self) -> Any:
        return _made, (self._model, self._method, self._cast)  # a copy traces its own

    def __call__(self, columns: Any) -> tf.Tensor | None:
        """Returns what the method returns of these columns; None where Keras' way has to be taken.

        That is in a graph, in another layer's call, under a gradient tape or a strategy, while functions or the model
        are run eagerly, of columns other than tensors and arrays of one or two dimensions and ragged ones, in the
        first calls, where a layer is another package's, where the call leaves losses, and where it fails: Keras' way
        says why.
        """
        model = self._model
        if not tf.executing_eagerly() or in_call() or may_be_taped() or tf.distribute.has_strategy():
            return None
        if tf.config.functions_run_eagerly() or model.run_eagerly or keras.backend.learning_phase():
            return None
        parts = _parts(model.encoder, columns, cast=self._cast) if model.features is not None else None
        if parts is None:
            return None
        traced = self._traced.get(parts.kinds)
        if traced is None or traced.is_stale:
            traced = self._trace(parts)
        if traced is None:
            return None
        try:
            return traced.function(*parts.tensors)
        except (ValueError, tf.errors.OpError):
            return None

    def _trace(self, parts: "_Parts") -> "_Traced | None":
        """Traces once there were enough calls of this kind, and not too many traces."""
        with self._lock:
            traced = self._traced.get(parts.kinds)
            if traced is not None and not traced.is_stale:  # by another thread
                return traced
            self._traced.pop(parts.kinds, None)
            if self._traces == _TRACES:
                return None
            self._calls[parts.kinds] = self._calls.get(parts.kinds, 0) + 1
            if self._calls[parts.kinds] < _CALLS:
                return None
            self._calls[parts.kinds] = 0
            self._traces += 1
            layers = layers_inside(self._model)
            if not all(type(layer).__module__.partition(".")[0] in _TRUSTED for layer in layers):
                self._traces = _TRACES
                return None
            watched = [_Attributes(self._model, attributes_of_training()), *map(_Attributes, layers)]
            method = getattr(self._model, self._method)
            function = tf.function(lambda *tensors: method(parts.columns(tensors)))
            try:
                traced = _Traced(function.get_concrete_function(*parts.signature()), watched)
            except (AttributeError, LookupError, TypeError, ValueError, tf.errors.OpError):
                return None
            if has_losses(self._model):
                clear_losses(self._model)  # of the trace: tensors of its graph
                return None
            if not traced.is_stale:
                self._traced[parts.kinds] = traced
            return None if traced.is_stale else traced


def _made(model: Any, method: str, cast: bool) -> DirectCall:
    return DirectCall(model, method, cast=cast)


class _Attributes:
    """The attributes of an object, but for those of these names, as they are now."""

    def __init__(self, thing: Any, without: frozenset[str] = frozenset()) -> None:
        self._now = vars(thing)
        self._then = [(name, value) for name, value in self._now.items() if name not in without]

    @property
    def differ(self) -> bool:
        now = self._now
        return any(now.get(name) is not value for name, value in self._then)


class _Traced(NamedTuple):
    """A traced function, and the attributes that it was traced by."""

    function: Callable[..., tf.Tensor]
    watched: list[_Attributes]

    @property
    def is_stale(self) -> bool:
        return any(attributes.differ for attributes in self.watched)


class _Parts(NamedTuple):
    """The columns of a batch that a model reads, taken apart.

    Attributes:
        kinds: What tells columns apart that need a trace each: names, dtypes, and shapes without the rows.
        tensors: Dense tensors; the values and row splits of ragged columns.
    """

    kinds: tuple[Any, ...]
    tensors: list[tf.Tensor]

    def signature(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in self.tensors]

    def columns(self, tensors: Any) -> dict[str, Any]:
        given, found = iter(tensors), {}
        for name, width, *_ in self.kinds:
            column = next(given)
            ragged = width is None
            found[name] = tf.RaggedTensor.from_row_splits(column, next(given), validate=False) if ragged else column
        return found


def _parts(encoder: FeatureEncoder, columns: Any, *, cast: bool) -> _Parts | None:
    """The parts of columns that all are tensors or arrays of one or two dimensions, or ragged ones of two."""
    if not isinstance(columns, Mapping):
        return None
    kinds: list[tuple[Any, ...]] = []
    tensors: list[Any] = []
    for name in read_names(encoder.features, columns):
        column = columns[name]
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
            if cast and column.dtype == tf.float64:
                column = tf.cast(column, keras.backend.floatx())
            tensors.append(column)
            kinds.append((name, column.shape[1] if column.ndim == 2 else 0, column.dtype))
        else:
            return None
    return _Parts(tuple(kinds), tensors) if tensors else None
