"""An exponential mean of a model's weights over its steps, exact, that walks no more rows than the steps do."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import numpy as np

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.held import Held
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.keras_compat.private import layers_inside
from nfm_tfrs.optimizers import LazyAdam, RowWiseOptimizer

BATCHES = 20  # that the statistics of BatchNorm are taken over anew


class Averages:
    """The averages a of a model's weights w. After step t = 0, 1, …, with a at the initial weights before the first,

        a ← d_t a + (1 - d_t) w,  d_t = min(d, (1 + t) / (10 + t))

    Without the warm-up of d_t a training of few steps would end with an average of its initial weights. Of a table
    whose optimizer moves the rows of a batch alone, no others are averaged: a row that stood at w from step s to step
    t has, in one go,

        a ← a + (1 - D) (w - a),  D = d_s d_(s+1) … d_(t-1) = exp(c_t - c_s)
        c_t = Σ_(i=1..9) log(i / (min(t, k) + i)) + max(t - k, 0) log d,  k the first step with (1 + k) / (10 + k) ≥ d

    when a batch touches it, and before the averages are looked at. Each row keeps the c of when it was touched last.
    BatchNorm's moving means and variances are averaged as the weights are; what is not trained is not. Steps that a
    loss scale skips do not count.

    The averages are part of TensorFlow's checkpoints, and not of `.keras`, `.weights.h5` and run files: after loading,
    averaging begins anew. It does so too where a model is compiled again or grows, where its weights are set, and where
    its optimizer counts fewer steps than it has counted.

    Args:
        model: The model, which has its optimizer.
        decay: d, above 0 and below 1.

    Example:
        >>> from nfm_tfrs import NFM, CategoricalFeature
        >>> model = NFM([CategoricalFeature(name, vocabulary_size=9) for name in "ab"])
        >>> model.compile("lazyadagrad", averaging=0.99)
        >>> _ = model.train_on_batch({name: np.array([1, 2]) for name in "ab"}, np.array([0.0, 1.0]))
        >>> with model.averaging.in_place():
        ...     averaged = model.predict({name: np.array([1]) for name in "ab"}, verbose=0)
        >>> averaged.shape
        (1, 1)

    Reference:
        Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 1992, of the
        plain mean; d and its warm-up are those of `tf.train.ExponentialMovingAverage`.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.decay = decay
        self._model = model
        self._warm = float(max(0, math.ceil((10 * decay - 1) / (1 - decay))))  # k
        self._built = False
        self._inside = 0  # blocks of `in_place`, one in the other

    def build(self) -> None:
        """Makes the variables, once; `fit` does so before its first step.

        Raises:
            ValueError: The model's own are not there yet.
        """
        if self._built:
            return
        model = self._model
        if getattr(model, "features", ()) is None:
            raise ValueError(
                f"Averages begin at a model's weights; {type(model).__name__} does not know its features yet. Pass "
                "features=, or call fit or adapt with data first."
            )
        if not model.built:
            raise ValueError(
                f"Averages begin at a model's weights; {type(model).__name__} has none yet. Call it on a batch before "
                "it trains."
            )
        by_row = _moved_by_row(model)
        self._averaged = [*model.trainable_variables, *_statistics(model)]
        self._clock_of = {variable.ref(): 1 + number for number, variable in enumerate(by_row)}
        with tf.init_scope():
            # Zeros, and clocks at which nothing is left of them: what stands at its first weights has no average yet.
            averages = [tf.Variable(tf.zeros(one.shape, one.dtype), trainable=False) for one in self._averaged]
            shapes = [[], *(variable.shape[:1] for variable in by_row)]  # the first is that of all other variables
            clocks = [tf.Variable(tf.fill(shape, _never()), trainable=False) for shape in shapes]
            start = tf.Variable(-1, dtype=tf.int64, trainable=False)
        # Keras makes weights of the variables that a model holds itself.
        model.averages_held = Held(averages=averages, clocks=clocks, start=start)
        self._averages, self._clocks, self._start = averages, clocks, start
        self._built = True

    @property
    def variables(self) -> list[Any]:
        """What a training that goes on needs of the averages, once they are built."""
        return [*self._averages, *self._clocks, self._start] if self._built else []

    @property
    def is_in_place(self) -> bool:
        """Whether the model has its averages, inside of `in_place`; weights that are set there are averages."""
        return self._inside > 0

    def reset(self) -> None:
        """Has averaging begin anew, at the weights as they are when the next step is taken.

        Raises:
            ValueError: The averages are in place.
        """
        if self.is_in_place:
            raise ValueError(
                "Averaging cannot begin anew inside of in_place, where the weights are the averages. Leave it first."
            )
        if self._built:
            for clock in self._clocks:
                clock.assign(tf.fill(clock.shape, _never()))
            for average in self._averages:
                average.assign(tf.zeros(average.shape, average.dtype))  # exactly the weights, then
            self._start.assign(-1)

    def settle(self) -> tf.Tensor:
        """Averages what the last step has moved, but for rows; to be called where a step begins.

        Returns:
            c of the steps that have been taken, a float64 scalar.
        """
        self.build()
        now = self._now()
        since = now - self._clocks[0]
        for variable, average in zip(self._averaged, self._averages, strict=True):
            if variable.ref() not in self._clock_of:
                average.assign(_moved(variable.read_value(), average.read_value(), since))
        self._clocks[0].assign(now)
        return now

    def settle_rows(self, now: tf.Tensor, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Averages the rows that a step is about to move.

        Args:
            now: What `settle` returned.
            gradients: Tensors, `IndexedSlices` or None.
            variables: Whose gradients they are.
        """
        found = {variable.ref(): gradient for variable, gradient in zip(variables, gradients, strict=True)}
        for variable, average in zip(self._averaged, self._averages, strict=True):
            gradient, number = found.get(variable.ref()), self._clock_of.get(variable.ref())
            if number is None or gradient is None:
                continue
            clock = self._clocks[number]
            if not isinstance(gradient, tf.IndexedSlices):
                _move_all(variable, average, clock, now)
                continue
            indices = gradient.indices
            moved = _moved(tf.gather(variable, indices), tf.gather(average, indices), now - tf.gather(clock, indices))
            average.scatter_update(tf.IndexedSlices(moved, indices))
            clock.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(indices), now), indices))

    def flush(self) -> None:
        """Averages all that has been moved, so that the averages are those of the last step."""
        now = self.settle()
        for variable, average in zip(self._averaged, self._averages, strict=True):
            if (number := self._clock_of.get(variable.ref())) is not None:
                _move_all(variable, average, self._clocks[number], now)

    @contextmanager
    def in_place(self, batches: Iterable[Any] = ()) -> Iterator[None]:
        """Gives the model its averages inside, and then back its own weights, bit for bit; not to train in.

        A block inside of another one has the averages too.

        Args:
            batches: Training batches that BatchNorm's means and variances are taken over anew, with dropout as in
                training, instead of those averaged, which lag behind the averages in a training of few passes. The
                first 20 are read; none keeps what was averaged.
        """
        if not self._inside:
            self.flush()
            self._exchange()
        self._inside += 1
        statistics = [(one, one.numpy()) for one in _statistics(self._model)]
        try:
            _recompute(self._model, batches)
            yield
        finally:
            for variable, value in statistics:
                variable.assign(value)
            self._inside -= 1
            if not self._inside:
                self._exchange()

    def _exchange(self) -> None:
        for variable, average in zip(self._averaged, self._averages, strict=True):
            value = tf.identity(variable)
            variable.assign(average)
            average.assign(value)

    def _now(self) -> tf.Tensor:
        """c of the steps that have been taken, a float64 scalar."""
        taken = tf.cast(inner_optimizer(self._model.optimizer).iterations, tf.int64)
        last = self._clocks[0].read_value()
        # Of one step to the next c falls by -log d or more.
        back = tf.math.is_finite(last) & (self._clock(taken) > last - 0.5 * math.log(self.decay))
        tf.cond(back | (taken < self._start), self._reset, lambda: tf.constant(True))
        self._start.assign(tf.where(self._start < 0, taken, self._start))
        return self._clock(taken)

    def _reset(self) -> tf.Tensor:
        self.reset()
        return tf.constant(True)

    def _clock(self, taken: tf.Tensor) -> tf.Tensor:
        steps = tf.cast(tf.maximum(taken - self._start, 0), tf.float64)
        factors = tf.range(1.0, 10.0, dtype=tf.float64)
        young = tf.reduce_sum(tf.math.log(factors / (tf.minimum(steps, self._warm) + factors)))
        return young + tf.maximum(steps - self._warm, 0.0) * math.log(self.decay)


def averages_of(model: Any) -> Averages | None:
    """Returns the averages of a model of any package; None where it keeps none."""
    found = getattr(model, "averaging", None)
    return found if isinstance(found, Averages) else None


def checked_decay(decay: float) -> float:
    """Returns a decay that averages; raises ValueError for anything else."""
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay < 1:
        raise ValueError(
            f"averaging must be above 0 and below 1, such as 0.999; received {decay!r:.60}. Leave it out for none."
        )
    return float(decay)


def _never() -> tf.Tensor:
    """The clock of what was never averaged: exp(c - ∞) = 0."""
    return tf.constant(np.inf, tf.float64)


def _moved(weights: tf.Tensor, averages: tf.Tensor, since: tf.Tensor) -> tf.Tensor:
    """a + (1 - D) (w - a), which leaves an average as it is where no step was taken since.

    Args:
        weights: w.
        averages: a.
        since: log D, a float64 scalar, or one for each row.
    """
    share = tf.cast(-tf.math.expm1(since), weights.dtype)
    share = tf.reshape(share, [-1, *[1] * (len(weights.shape) - 1)]) if share.shape.rank else share
    return averages + share * (weights - averages)


def _move_all(variable: Any, average: Any, clock: Any, now: tf.Tensor) -> None:
    """Averages all rows of a variable, each since it was touched last."""
    average.assign(_moved(variable.read_value(), average.read_value(), now - clock.read_value()))
    clock.assign(tf.fill(clock.shape, now))


def _statistics(model: Any) -> list[Any]:
    """BatchNorm's moving means and variances."""
    norms = [layer for layer in _norms(model) if layer.built]
    return [variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)]


def _norms(model: Any) -> list[Any]:
    return [layer for layer in layers_inside(model) if isinstance(layer, keras.layers.BatchNormalization)]


def _moved_by_row(model: Any) -> list[Any]:
    """The tables of which a step moves no rows but those of its batch."""
    optimizer = inner_optimizer(model.optimizer)
    if not _moves_rows_alone(optimizer):
        return []
    found = []
    for layer in layers_inside(model):
        if isinstance(layer, FusedEmbedding):
            found += layer.tables
        elif isinstance(layer, keras.layers.Embedding):
            found.append(layer.embeddings)
    trained = {variable.ref() for variable in model.trainable_variables}
    return [table for table in found if table.ref() in trained and table.constraint is None]


def _moves_rows_alone(optimizer: Any) -> bool:
    if getattr(optimizer, "use_ema", False):
        return False
    if isinstance(optimizer, RowWiseOptimizer):
        return not isinstance(optimizer, LazyAdam) or optimizer.lazy
    kind = type(optimizer)
    sparse = kind is keras.optimizers.Adagrad or (kind is keras.optimizers.SGD and not optimizer.momentum)
    return sparse and not optimizer.weight_decay


def _recompute(model: Any, batches: Iterable[Any]) -> None:
    """Sets BatchNorm's means and variances to the means of those of some batches; all other state stays."""
    norms = [layer for layer in _norms(model) if layer.built and layer.trainable]
    if not norms:
        return
    statistics = [variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)]
    averaged = {variable.ref() for variable in statistics}
    others = [one for layer in norms for one in layer.non_trainable_variables if one.ref() not in averaged]
    others += [part.dropout_state for part in model.submodules if isinstance(part, Dropout) and part.built]
    before = [(variable, variable.numpy()) for variable in others]
    full = [layer.momentum for layer in norms]
    found: list[list[np.ndarray]] = []
    try:
        for layer in norms:
            layer.momentum = 0.0  # the statistics are those of the last batch
        with getattr(model, "without_xla", nullcontext)():  # which would keep the momentum that it was compiled with
            for batch in islice(batches, BATCHES):
                model(keras.utils.unpack_x_y_sample_weight(batch)[0], training=True)
                found.append([variable.numpy() for variable in statistics])
    finally:
        for layer, momentum in zip(norms, full, strict=True):
            layer.momentum = momentum
        for variable, value in before:
            variable.assign(value)
    for number, variable in enumerate(statistics):
        if found:
            variable.assign(np.mean([one[number] for one in found], axis=0, dtype=np.float64))
