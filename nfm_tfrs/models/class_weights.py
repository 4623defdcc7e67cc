"""`class_weight` where Keras cannot take it: with the label inside the columns, and beside weights of the rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nfm_tfrs.keras_compat import tf


def with_class_weights(given: dict[str, Any], label: str | None) -> dict[str, Any]:
    """Returns the arguments of `fit`, `class_weight` among them, as Keras can take them.

    Keras looks for the label beside the columns, and multiplies no weights of batches of any size.

    Args:
        given: The arguments, by their names; rows that are held whole are columns, labels and weights `[n]`.
        label: The column that is the label, where it lies among the others.

    Raises:
        ValueError: The label lies in batches that are made one by one, where it cannot be taken out; or a class has no
            weight.
    """
    x, y, weights = given.get("x"), given.get("y"), given.get("sample_weight")
    class_weight = given.get("class_weight") or {}
    if isinstance(x, Mapping):
        y = x[label] if y is None and label is not None else y
        if y is None:
            return given
        product = _of_classes(np.asarray(y), class_weight) * (1.0 if weights is None else np.reshape(weights, -1))
        return {**given, "y": y, "sample_weight": product, "class_weight": None}
    if isinstance(x, tf.data.Dataset):
        return _weighted(given, x, label)
    if label is None or y is not None:
        return given
    raise ValueError(
        f"class_weight needs the label {label!r} beside the columns; received {type(x).__name__}. "
        "Give a tf.data.Dataset or a dict of columns, or (columns, label) batches."
    )


def _weighted(given: dict[str, Any], dataset: Any, label: str | None) -> dict[str, Any]:
    if isinstance(dataset.element_spec, Mapping) and label is not None:
        return {**given, "x": dataset.map(lambda columns: (columns, columns[label]))}
    if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) not in (2, 3):
        return given
    class_weight = given.get("class_weight") or {}
    if sorted(class_weight) != list(range(len(class_weight))):
        return given  # which Keras refuses
    table = tf.constant([class_weight[number] for number in sorted(class_weight)], tf.float32)

    def weighted(columns: Any, labels: Any, *weights: Any) -> tuple[Any, Any, Any]:
        classes = tf.cast(tf.round(tf.cast(tf.reshape(labels, [-1]), tf.float32)), tf.int64)
        known = tf.logical_and(classes >= 0, classes < len(class_weight))
        line = f"The class_weight {class_weight!r} has no weight of a label that there is. Give each class one."
        with tf.control_dependencies([tf.debugging.assert_equal(known, True, line)]):
            of_classes = tf.gather(table, tf.where(known, classes, 0))
        return (
            columns,
            labels,
            tf.reshape(tf.cast(weights[0], tf.float32), [-1]) * of_classes if weights else of_classes,
        )

    return {**given, "x": dataset.map(weighted), "class_weight": None}


def _of_classes(labels: np.ndarray, class_weight: Mapping[int, float]) -> np.ndarray:
    classes, places = np.unique(np.rint(labels.reshape(-1)).astype(np.int64), return_inverse=True)
    for found in classes.tolist():
        if found not in class_weight:
            raise ValueError(f"class_weight has no weight of the label {found}; received {class_weight!r}. Give one.")
    return np.array([class_weight[found] for found in classes.tolist()], np.float32)[places]
