"""What the readers refuse, `fit` refuses: a batch's lengths, labels, weights and numbers, checked in every step.

A step asks for one truth value alone; what is wrong, and in which row, is looked for where it is false.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nfm_tfrs.features.bag import UINT64_MISSING
from nfm_tfrs.features.feature import NumericFeature
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key, weights_key
from nfm_tfrs.features.lengths import read_names, rows_of, same_bags, unequal_bags, unequal_rows
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.stop import Check
from nfm_tfrs.target import split_label

_FINITE = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))


@tf.autograph.experimental.do_not_convert  # as below: it would take longer than all else of the checks
def as_target(what: str, values: Any) -> tf.Tensor:
    """Returns labels or weights as the loss takes them, float32 `[batch, 1]`.

    Args:
        what: `"The label"` or `"The weight"`, for the message.
        values: Numbers or booleans, `[batch]` or `[batch, 1]`.

    Raises:
        ValueError: They are none.
    """
    if isinstance(values, tf.RaggedTensor | tf.SparseTensor):
        raise ValueError(f"{what} is one number a row; received a {type(values).__name__}. Give a dense column.")
    values = tf.convert_to_tensor(values)
    if values.dtype == tf.string:
        raise ValueError(f"{what} is a number; received {values.dtype.name}. Turn it into one first.")
    if values.shape.rank not in (None, 1) and any(size not in (None, 1) for size in values.shape[1:]):
        raise ValueError(f"{what} is one number a row; received shape {values.shape}. Give [batch] or [batch, 1].")
    # Reshaped: a loss of labels [batch] against predictions [batch, 1] broadcasts to one scalar.
    return tf.reshape(tf.cast(values, tf.float32), [-1, 1])


@tf.autograph.experimental.do_not_convert
def batch_checks(
    spec: FeatureSpec | None,
    columns: Any,
    labels: tf.Tensor,
    weights: tf.Tensor | None,
    *,
    is_binary: bool,
    label: str | None,
) -> list[Check]:
    """Returns the checks of a batch to train or to evaluate on, for `nfm_tfrs.models.stop.checked`.

    Args:
        spec: The features; None for a model that has none, of which no column is checked.
        columns: Raw columns as tensors, or an encoded batch.
        labels: float32 `[batch, 1]`.
        weights: float32 `[batch, 1]`; None where all rows count alike.
        is_binary: Whether labels lie between 0 and 1.
        label: Name of the label's column, for messages; None if it has none.
    """
    targets = {"The label": labels} | ({} if weights is None else {"The weight": weights})
    # Of several replicas one may be left without rows in the last batch.
    may_be_empty = tf.distribute.get_strategy().num_replicas_in_sync > 1
    checks = length_checks(spec, columns, targets, may_be_empty=may_be_empty)
    labels = tf.reshape(labels, [-1])
    # A NaN is not equal to itself, and between no bounds.
    limited = tf.clip_by_value(labels, 0.0, 1.0) if is_binary else tf.clip_by_value(labels, *_FINITE)
    checks.append(Check(_all_equal(labels, limited), _wrong_label(is_binary, label), [labels]))
    if weights is not None:
        weights = tf.reshape(weights, [-1])
        limited = tf.clip_by_value(weights, 0.0, _FINITE[1])
        checks.append(Check(_all_equal(weights, limited), _wrong_weight, [weights]))
    return checks + value_checks(spec, columns)


@tf.autograph.experimental.do_not_convert
def value_checks(spec: FeatureSpec | None, columns: Any) -> list[Check]:
    """Returns the checks of the numbers and the weights inside bags; see `batch_checks` for the arguments."""
    if spec is None or not isinstance(columns, Mapping):
        return []
    columns = {name: _tensor(columns[name]) for name in read_names(spec, columns)}
    return _numbers(spec, columns) + _bag_weights(spec, columns)


@tf.autograph.experimental.do_not_convert
def length_checks(
    spec: FeatureSpec | None, columns: Any, targets: Mapping[str, tf.Tensor], *, may_be_empty: bool
) -> list[Check]:
    """Returns the checks that all parts of a batch have the same rows, and bags those of their weights.

    Args:
        spec: As in `batch_checks`.
        columns: As in `batch_checks`.
        targets: Labels and weights by their words for messages, float32 `[batch, 1]`.
        may_be_empty: Whether a batch without rows is fine.

    Raises:
        ValueError: It is known before a step runs that they have not.
    """
    rows = {name: tf.size(part, tf.int64) for name, part in targets.items()}
    static = {name: part.shape[0] for name, part in targets.items() if part.shape[0] is not None}
    bags = []
    if spec is not None and isinstance(columns, Mapping):
        columns = {name: _tensor(columns[name]) for name in read_names(spec, columns)}
        rows = {name: rows_of(column) for name, column in columns.items() if column.shape.rank} | rows
        static = {name: part.shape[0] for name, part in columns.items() if part.shape.rank and part.shape[0]} | static
        bags = [
            Check(hold, partial(_wrong_lengths, bag, weights), lengths)
            for bag, weights, hold, lengths in same_bags(spec, columns)
        ]
    # Known before a step runs, in which the loss would fail first.
    if (line := unequal_rows(list(static), list(static.values()))) is not None:
        raise ValueError(line)
    return [_rows(rows, may_be_empty), *bags] if rows else []


def _tensor(column: Any) -> Any:
    return column if isinstance(column, tf.RaggedTensor | tf.SparseTensor) else tf.convert_to_tensor(column)


def _all_equal(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.equal(one, other))


def _rows(rows: Mapping[str, tf.Tensor], may_be_empty: bool) -> Check:
    """All of one length and, but where it may be, not empty."""
    counts = tf.stack(list(rows.values()))

    def explain(batch: str, counts: np.ndarray) -> str | None:
        line = unequal_rows(list(rows), counts.tolist())
        if line is None and not may_be_empty and not counts[0]:
            line = f"{batch[0].upper()}{batch[1:]} is empty: it has no row. Leave it out."
        return line

    hold = tf.reduce_all(tf.equal(counts, counts[0]))
    return Check(hold if may_be_empty else tf.logical_and(hold, counts[0] > 0), explain, [counts])


def _wrong_lengths(bag: str, weights: str, batch: str, *lengths: np.ndarray) -> str | None:
    return unequal_bags(bag, weights, *lengths, batch=batch)


def _wrong_label(is_binary: bool, label: str | None) -> Callable[..., str | None]:
    what = "The label" if label is None else f"Label {label!r}"

    def explain(batch: str, labels: np.ndarray) -> str | None:
        right = (labels >= 0) & (labels <= 1) if is_binary else np.isfinite(labels)
        if right.all():
            return None
        at = int(np.argmin(right))
        if not is_binary or not np.isfinite(labels[at]):
            return f"{what} is {labels[at]} in row {at} of {batch}. Drop the row, or give it a finite label."
        advice = str(split_label(label or "label", labels[np.isfinite(labels)])).replace(" ", "")
        return (
            f"{what} is {labels[at]:g} in row {at} of {batch}, but a binary one is 0, 1 or between them. "
            f'Give 0 and 1, as {advice} does, or make the model with task="regression".'
        )

    return explain


def _wrong_weight(batch: str, weights: np.ndarray) -> str | None:
    right = (weights >= 0) & np.isfinite(weights)
    if right.all():
        return None
    at = int(np.argmin(right))
    return f"The weight is {weights[at]} in row {at} of {batch}. Give finite weights of 0 or more."


def _numbers(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[Check]:
    """That no number is infinite; NaN is missing."""
    if IDS in columns:
        names = [feature.name for feature in spec.numbers]
        parts = [columns[NUMBERS]] if names else []
    else:
        numbers = [feature.name for feature in spec if isinstance(feature, NumericFeature)]
        names = [name for name in numbers if name in columns and _may_be_infinite(columns[name])]
        parts = [columns[name] for name in names]
    if not parts:
        return []
    values = [part.values if isinstance(part, tf.SparseTensor) else part for part in parts]
    rows = [part.indices[:, :1] for part in parts if isinstance(part, tf.SparseTensor)]
    sparse = [isinstance(part, tf.SparseTensor) for part in parts]
    by_type: dict[Any, list[tf.Tensor]] = {}
    for value in values:
        by_type.setdefault(value.dtype, []).append(tf.reshape(value, [-1]))
    # Side by side: an operation a column would take longer than all of the work.
    flat = [tf.concat(alike, axis=0) if len(alike) > 1 else alike[0] for alike in by_type.values()]
    infinite = [tf.reduce_any(tf.math.is_inf(one)) for one in flat]

    def explain(batch: str, *evidence: np.ndarray) -> str | None:
        rows_of_sparse = iter(evidence[len(values) :])
        for first, (part, is_sparse) in enumerate(zip(evidence, sparse, strict=False)):
            rows_of_part = next(rows_of_sparse)[:, 0] if is_sparse else np.arange(len(part))
            wide = part.reshape(len(part), -1)
            found = np.argwhere(np.isinf(wide))
            if len(found):
                row, column = found[0]
                return (
                    f"Column {names[first + column]!r} is {wide[row, column]} in row {rows_of_part[row]} of {batch}. "
                    "Clip it, or set it to NaN for missing."
                )
        return None

    return [Check(tf.logical_not(tf.reduce_any(tf.stack(infinite))), explain, [*values, *rows])]


def _may_be_infinite(column: Any) -> bool:
    return bool(column.dtype.is_floating) and not isinstance(column, tf.RaggedTensor)  # which the model refuses


def _bag_weights(spec: FeatureSpec, columns: Mapping[str, Any]) -> list[Check]:
    """That no weight inside a bag is infinite or NaN, but beside a missing value."""
    checks = []
    for name, column in ((bag.name, bag.weights) for bag in spec.bags if bag.weights):
        keys = (bag_key(name), weights_key(name)) if IDS in columns else (name, column)
        ids: Any = columns.get(keys[0])
        weights: Any = columns.get(keys[1])
        if weights is None or type(ids) is not type(weights) or not weights.dtype.is_floating:
            continue  # what is not there, or laid out otherwise, the model refuses
        (ids, _), (weights, rows) = _flat_with_rows(ids), _flat_with_rows(weights)
        hold = tf.reduce_all(tf.math.is_finite(weights))
        checks.append(Check(hold, partial(_wrong_bag_weight, column), [ids, weights, rows]))
    return checks


def _flat_with_rows(column: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """All values of a bag, or of its weights, and the row of each, `[total]`."""
    if isinstance(column, tf.RaggedTensor):
        return column.values, column.value_rowids()
    if isinstance(column, tf.SparseTensor):
        return column.values, column.indices[:, 0]
    rows = tf.shape(column)[0]
    flat = tf.reshape(column, [-1])
    return flat, tf.repeat(tf.range(rows), tf.size(flat) // tf.maximum(rows, 1))


def _wrong_bag_weight(name: str, batch: str, ids: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> str | None:
    wrong = ~np.isfinite(weights)
    if len(ids) == len(weights):  # what is sparse may leave weights out
        wrong &= (ids != b"") if ids.dtype == object else (ids >= 0) & (ids != UINT64_MISSING)
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    return f"A weight in column {name!r} is {weights[at]} in row {rows[at]} of {batch}. Give finite numbers."
