"""What a user gives `fit`, `evaluate` and `predict`, as what Keras takes: frames as columns, lists as arrays."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.bag import Bag
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import Feature, MultiCategoricalFeature
from nfm_tfrs.features.keys import IDS
from nfm_tfrs.features.lengths import read_names
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf

Arguments = dict[str, Any]
_TENSORS = (tf.Tensor, tf.Variable, tf.RaggedTensor, tf.SparseTensor)
_NO_ROWS: Any = (np.ndarray, np.generic, int, float, list, tuple, set, *_TENSORS)
_BATCH_SIZE = 32  # Keras' default in `predict`
_PLAIN = "biufSUV"  # kinds of NumPy's dtypes that TensorFlow takes as they are; V is bfloat16
_FORMS = (
    "a dict of columns, a DataFrame (pandas, or with Arrow's C stream as polars has), a list of dicts, an Arrow table "
    "or a batched tf.data.Dataset"
)


def named(function: Callable[..., Any], x: Any, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """Returns the arguments of a method of Keras' models by their names."""
    arguments = dict(signature(function).bind(None, x, *args, **kwargs).arguments)
    arguments.pop("self")
    others = arguments.pop("kwargs", {})
    return {"x": None, **arguments, **others}


def holds_rows(x: Any) -> bool:
    """Whether it holds all its rows as columns, or as dicts: all but datasets, generators and the like."""
    rows = isinstance(x, list | tuple) and bool(x) and all(isinstance(row, Mapping) for row in x)
    return rows or isinstance(x, Mapping) or _is_frame(x)


def inferred(data: Any, label: str | None) -> FeatureSpec:
    """Returns the features inferred from a dataset or from rows of any library, without the label.

    Raises:
        ValueError: It is neither, or nothing can be inferred; `nfm_tfrs.infer_features` says why.
    """
    if not isinstance(data, tf.data.Dataset) and not holds_rows(data):
        raise ValueError(
            f"Features are inferred from {_FORMS}; received {type(data).__name__}. Give one, or features=."
        )
    data = batched(data)
    if isinstance(data, tf.data.Dataset):
        return FeatureSpec.from_dataset(data, label=label)
    return FeatureSpec.from_dataframe(data, exclude=[label] if label else [])


def batched(data: Any) -> Any:
    """Returns a dict of tensors and plain arrays as a dataset of one batch, for sparse ones; anything else as it is."""
    if isinstance(data, Mapping) and data and all(_is_plain(column) for column in data.values()):
        return tf.data.Dataset.from_tensors(dict(data))
    return data


def taken(encoder: FeatureEncoder, given: Arguments, label: str | None, *, labelled: bool) -> Arguments:
    """Returns the arguments of `fit`, `evaluate` or `predict` with rows of any library as what Keras takes.

    Args:
        encoder: The model's.
        given: The arguments, by their names.
        label: The column that is the label, where it lies among the others.
        labelled: Whether labels are needed.

    Raises:
        ValueError: What came holds no rows, a column is missing or does not fit, columns, labels and weights are not of
            one length, or there are no labels.
    """
    rows = _Rows(encoder, label, labelled)
    x, y, weights = rows.taken(given.get("x"), given.get("y"), given.get("sample_weight"))
    found = {**given, "x": x} | {
        name: value for name, value in (("y", y), ("sample_weight", weights)) if value is not None
    }
    validation = given.get("validation_data")
    if validation is None:
        return found
    if holds_rows(validation) and not isinstance(validation, tuple):  # which is columns and labels
        return {**found, "validation_data": (rows.taken(validation, None, None)[0],)}
    if isinstance(validation, list | tuple) and validation and holds_rows(validation[0]):
        x, y, weights = (*validation, None, None)[:3]
        parts = rows.taken(x, y, weights)
        return {**found, "validation_data": parts if parts[2] is not None else parts[:2]}
    return found


@contextmanager
def own_words(encoder: FeatureEncoder, given: Arguments) -> Iterator[None]:
    """Where a step fails on columns that do not fit their features, says so in the encoder's line, not Keras' page.

    Args:
        encoder: The model's.
        given: The arguments that `taken` returned.

    Raises:
        ValueError: The first row of the columns cannot be encoded; its cause is what was raised.
    """
    try:
        yield
    except (AttributeError, IndexError, TypeError, ValueError, tf.errors.OpError) as error:
        validation = given.get("validation_data")
        parts = [given.get("x"), validation[0] if isinstance(validation, tuple) and validation else None]
        for columns in (part for part in parts if isinstance(part, Mapping)):
            sparse = any(isinstance(column, tf.SparseTensor) for column in columns.values())
            first = {
                name: column if sparse or _length(column) is None else column[:1] for name, column in columns.items()
            }
            try:
                encoder.call(first)
            except ValueError as plain:
                raise plain from error
        raise


class _Rows:
    """Turns columns, labels and weights that came together into arrays and tensors of one length."""

    def __init__(self, encoder: FeatureEncoder, label: str | None, labelled: bool) -> None:
        self._encoder, self._label, self._labelled = encoder, label, labelled

    def taken(self, x: Any, y: Any, weights: Any) -> tuple[Any, Any, Any]:
        if not holds_rows(x):
            _check_no_rows(x)
            return x, y, weights
        columns = self._columns(x)
        if self._labelled and y is None:
            self._check_label(columns)
            if weights is not None:  # which Keras drops without a word where there is no y beside them
                y = columns[str(self._label)]
        y, weights = (
            None if values is None else _numbers(role, values) for role, values in (("label", y), ("weight", weights))
        )
        self._check(columns, y, weights)
        return columns, y, weights

    def _columns(self, x: Any) -> dict[str, Any]:
        """The columns; those that TensorFlow does not take as they are through Arrow, as those of files."""
        if isinstance(x, Mapping) and IDS in x:
            return {name: _ragged(column) for name, column in x.items()}
        given = x if isinstance(x, Mapping) else _frames().columns_of(x)
        plain = {name: column for name, column in given.items() if _is_plain(column)}
        odd = [feature for feature in self._encoder.features if not plain.keys() >= _reads(feature)]
        if odd:
            frames = _frames()
            table = frames.read_columns(given, [name for feature in odd for name in _reads(feature)])
            plain |= {name: _ragged(column) for name, column in frames.batch_columns(table, odd).items()}
        if self._label is not None and self._label not in plain and self._label in given:
            plain[self._label] = _frames().numbers_of("label", given[self._label])
        return plain

    def _check_label(self, columns: Mapping[str, Any]) -> None:
        if self._label is None:
            raise no_labels()
        if self._label not in columns:
            raise missing_column(self._label, columns, reader="the label")

    def _check(self, columns: Mapping[str, Any], y: Any, weights: Any) -> None:
        """Checks that there are rows, and as many of each column, label and weight."""
        read = self._encoder.features.columns if IDS not in columns else tuple(columns)
        parts = {name: columns[name] for name in read if name in columns}
        if self._labelled and self._label in columns and y is None:
            parts[str(self._label)] = columns[str(self._label)]
        parts |= {role: part for role, part in (("label", y), ("weight", weights)) if part is not None}
        lengths = {name: _length(part) for name, part in parts.items()}
        if len(set(lengths.values()) - {None}) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items() if length is not None)
            raise ValueError(f"Columns, labels and weights must be of one length; received {listed}.")
        if 0 in lengths.values():
            raise ValueError("The columns have no rows. Give at least one.")


def _numbers(role: str, values: Any) -> Any:
    """Labels or weights as arrays; `[n, 1]` as `[n]`, since Keras weighs classes of one shape alone."""
    several = isinstance(values, list | tuple) and bool(values) and len(getattr(values[0], "shape", ()))
    if isinstance(values, Mapping) or several:  # of several tasks: a model's own
        return values
    dtype = getattr(values, "dtype", None)
    if not _is_plain(values) or dtype == tf.string or (isinstance(values, np.ndarray) and values.dtype.kind in "SU"):
        return _frames().numbers_of(role, values)
    return values[:, 0] if len(values.shape) == 2 and values.shape[1] == 1 else values


def _frames() -> Any:
    from nfm_tfrs.features import frames  # here: a model that is fed arrays does without Arrow

    return frames


def _is_frame(x: Any) -> bool:
    return hasattr(x, "iloc") or hasattr(x, "__arrow_c_stream__")  # pandas' before it had a stream


def _is_plain(column: Any) -> bool:
    return isinstance(column, _TENSORS) or (isinstance(column, np.ndarray) and column.dtype.kind in _PLAIN)


def _reads(feature: Feature) -> set[str]:
    weights = feature.weights if isinstance(feature, MultiCategoricalFeature) else None
    return {feature.name} | ({weights} if weights else set())


def _ragged(column: Any) -> Any:
    if isinstance(column, Bag):
        return tf.RaggedTensor.from_row_splits(column.values, column.row_splits, validate=False)
    return column


def is_one_batch(given: Arguments, encoder: FeatureEncoder) -> bool:
    """Returns whether `predict` with these arguments, as `taken` returns them, is of one batch, and shows nothing."""
    x = given.get("x")
    if not given.keys() <= {"x", "batch_size", "verbose"} or given.get("verbose", "auto") != 0:
        return False
    rows = [_length(x[name]) for name in read_names(encoder.features, x)] if isinstance(x, Mapping) else []
    return bool(rows) and rows[0] is not None and 0 < rows[0] <= (given.get("batch_size") or _BATCH_SIZE)


def _length(column: Any) -> int | None:
    """Rows of a column; None where it has no axis, or too late a one to tell."""
    if isinstance(column, tf.SparseTensor):
        return int(column.dense_shape[0])
    if isinstance(column, tf.RaggedTensor):
        return int(column.nrows())
    shape: Any = getattr(column, "shape", ())
    return int(shape[0]) if len(shape) else None


def no_labels() -> ValueError:
    """Returns the error for batches to train or evaluate on that have no label."""
    return ValueError(
        "Training and evaluation need labels; received columns only. "
        "Give (columns, label) batches, or label= for one inside the columns."
    )


def _check_no_rows(x: Any) -> None:
    """Refuses what holds rows in no way that is known, so that Keras need not."""
    what = type(x).__name__
    if isinstance(x, list | tuple) and x:
        what += f" of {type(x[0]).__name__}"
    if isinstance(x, str | bytes | Path):
        raise ValueError(f"The model reads {_FORMS}; received the path {str(x)!r:.60}. Read it with read_table.")
    if x is None or isinstance(x, _NO_ROWS) or hasattr(x, "collect"):  # a lazy frame
        raise ValueError(f"The model reads columns by their names, in {_FORMS}; received {what}.")
