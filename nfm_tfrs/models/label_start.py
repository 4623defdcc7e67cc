"""Where a model's output starts: at the labels' mean, and of a regression in units of their spread."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nfm_tfrs.data.pipeline.generator import untuned
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.metrics.constant import constant_prediction, constant_report

BATCHES = 8  # of a training whose labels nobody has told: one execution of `fit`


def label_start(loss: Any, labels: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Returns mean and scale, with which a model's output is mean + scale · logit.

    Of binary cross-entropy the logit of the labels' rate, and 1; a rate of 0 or 1 is taken for half a row of the other
    class. Of squared and absolute errors the labels' mean and standard deviation, 1 where all are equal. Of other
    losses, and of labels that are not finite, 0 and 1.

    Args:
        loss: The task's loss.
        labels: Labels of some rows, `[n]` or `[n, 1]`.
        weights: Weights of the rows, shaped as the labels.

    Example:
        >>> label_start(keras.losses.MeanSquaredError(), [1.0, 3.0])
        (2.0, 1.0)
    """
    binary = isinstance(loss, keras.losses.BinaryCrossentropy)
    if not binary and not isinstance(loss, keras.losses.MeanSquaredError | keras.losses.MeanAbsoluteError):
        return 0.0, 1.0
    given = np.asarray(labels, np.float64)
    if binary and not ((given >= 0) & (given <= 1)).all():
        return 0.0, 1.0  # the step refuses them, and the right ones come later
    if weights is not None and not (np.asarray(weights, np.float64) >= 0).all():
        return 0.0, 1.0
    mean, scale = constant_prediction(labels, weights, binary=binary), 1.0
    if not binary:
        deviation = constant_report(mean, labels, weights, binary=False)["rmse"]
        scale = deviation if deviation > 1e-6 * abs(mean) else 1.0  # below is the rounding of float32
    return (mean, scale) if np.isfinite([mean, scale]).all() else (0.0, 1.0)


def loss_unit(loss: Any, scale: Any) -> Any:
    """Returns the loss of an error of one `scale`: in units of it, gradients do not depend on the label's unit."""
    if isinstance(loss, keras.losses.MeanSquaredError):
        return scale * scale
    return scale if isinstance(loss, keras.losses.MeanAbsoluteError) else 1.0


def start_at_batches(model: Any, batches: Iterable[Any]) -> None:
    """Tells a `RankingModel` the labels of its first training batches; it does not listen once it is trained.

    Args:
        model: The model.
        batches: Batches as `fit` takes them; the first eight are read.
    """
    found = [model.targets(batch) for batch in islice(batches, BATCHES)]
    if not found:
        return
    try:
        labels, weights = (np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*found, strict=True))
        model.adapt_labels(labels, weights)
    except (TypeError, ValueError):  # no labels, or not as many as weights, of which the first step says where
        return


class FirstBatches:
    """A train function of Keras that shows its model the labels of the first batches before it trains on these.

    Keras hands the iterator of an epoch to it. Batches are read from this one iterator and given back in front of the
    others: whatever the data are, nothing is read twice, none is lost, and no order of rows begins anew.

    Args:
        model: The model.
        function: What Keras made to train with.
    """

    def __init__(self, model: Any, function: Any) -> None:
        self.function = function
        self._model = model
        self._began = False
        self._given: Any = None
        self._whole: Any = None

    def __call__(self, iterator: Any) -> Any:
        if not self._began:
            self._began = True
            # Not what a strategy has distributed, whose batches are several replicas'.
            if isinstance(iterator, tf.data.Iterator) and self._model.is_fresh:
                self._given, self._whole = iterator, self._shown(iterator)
        if iterator is not self._given:  # another epoch: let go of the first one's
            self._given = self._whole = None
        return self.function(iterator if self._whole is None else self._whole)

    def _shown(self, iterator: Any) -> Iterator[Any]:
        first = list(islice(iterator, BATCHES))
        start_at_batches(self._model, first)
        return iter(_in_front(first, iterator))


def _in_front(first: list[Any], iterator: Any) -> tf.data.Dataset:
    """Batches, and then what is left in the iterator; of the same types as that, so that nothing is traced again."""

    @tf.autograph.experimental.do_not_convert
    def following(number: tf.Tensor) -> Any:
        del number
        return iterator.get_next_as_optional()

    rest = tf.data.Dataset.counter().map(following).take_while(_has_value).map(_value)
    for batch in reversed(first):
        rest = tf.data.Dataset.from_tensors(batch).concatenate(rest)
    return untuned(rest)


@tf.autograph.experimental.do_not_convert
def _has_value(optional: Any) -> tf.Tensor:
    return optional.has_value()


@tf.autograph.experimental.do_not_convert
def _value(optional: Any) -> Any:
    return optional.get_value()
