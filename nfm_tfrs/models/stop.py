"""A step that cannot go on stops before it moves anything, and says in one line what is wrong in which batch."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.keras_compat import in_xla, keras, tf
from nfm_tfrs.keras_compat.private import steps_taken

_IN_LOOP = re.compile(r"must be defined before the loop.*?ran into an? \w+: *(.*)", re.DOTALL)
_IN_USER_CODE = re.compile(r"\Ain user code:\n.*\n +\w+: (.+)", re.DOTALL)
_ASSERTED = re.compile(r"assertion failed: \[((?:Feature|Column|The) .+?)\] \[")
_RAISED = re.compile(r"\b(LossNotFinite|ValueError|FileNotFoundError): (.+)")


class LossNotFinite(ValueError):
    """The loss of a step or an epoch, or what would follow from it, is infinite or NaN; a step moved nothing by it."""


@dataclass
class Place:
    """Where a training is, for messages; batches and epochs count from 1.

    Attributes:
        epoch: Number of the epoch; None outside of `fit`.
        steps: How many steps `fit` had taken before this epoch.
        entered: Steps of the first epoch to come that an earlier `fit` has taken.
    """

    epoch: int | None = None
    steps: int = 0
    entered: int = 0

    def words(self, training: bool) -> Callable[[int], str]:
        """Returns what gives the words for the batch after so many steps of `fit`.

        Args:
            training: Whether the batch is one to train on.
        """
        part = "a replica's part of " if tf.distribute.get_strategy().num_replicas_in_sync > 1 else ""

        def batch(steps: int) -> str:
            known = training and self.epoch is not None
            return part + (f"batch {steps - self.steps + 1} of epoch {self.epoch}" if known else "the batch")

        return batch

    @contextmanager
    def followed(self, model: Any, arguments: dict[str, Any]) -> Iterator[None]:
        """Keeps this up to date in a `fit` with these keyword arguments, to which it adds a callback."""
        callbacks = arguments.get("callbacks") or []
        if not isinstance(callbacks, keras.callbacks.CallbackList):  # which is used as it is
            listed = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
            arguments.update(callbacks=[*listed, _Follow(self, steps_taken(model))])
        try:
            yield
        finally:
            self.epoch = None


class _Follow(keras.callbacks.Callback):
    """Keeps a place up to date.

    Args:
        place: The place.
        steps: Keras' variable with the number of steps that `fit` has taken.
    """

    def __init__(self, place: Place, steps: Any) -> None:
        super().__init__()
        self._place, self._steps = place, steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._place.epoch, self._place.steps = epoch + 1, int(self._steps.numpy()) - self._place.entered
        self._place.entered = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if self.model.jit_compile and not np.isfinite(loss):  # XLA has no step that stops
            raise LossNotFinite(
                f"The loss is {loss} in epoch {epoch + 1}, whose steps of such a loss moved no weight. "
                "Lower the learning rate."
            )


class Check(NamedTuple):
    """One thing that a batch has to hold.

    Attributes:
        holds: A bool scalar.
        explain: Called with the words for the batch and the arrays of `evidence` where anything does not hold; returns
            the line about this one, None where it does hold.
        evidence: What `explain` looks at, tensors.
    """

    holds: tf.Tensor
    explain: Callable[..., str | None]
    evidence: Sequence[tf.Tensor]


@contextmanager
def checked(checks: Sequence[Check], place: Callable[[int], str], steps: Any) -> Iterator[None]:
    """Runs what is inside once all checks hold; what XLA compiles runs unchecked, for nothing there can stop.

    Args:
        checks: The checks, in the order in which they are explained.
        place: Gives the words for the batch from the number of steps before it.
        steps: That number, a variable.

    Raises:
        ValueError: One does not hold. In a graph TensorFlow's InvalidArgumentError, of which `own_words` makes it.
    """
    if in_xla() or not checks:
        yield
        return

    def explain(batch: str, *evidence: np.ndarray) -> None:
        rest = list(evidence)
        for check in checks:
            own, rest = rest[: len(check.evidence)], rest[len(check.evidence) :]
            if (line := check.explain(batch, *own)) is not None:
                raise ValueError(line)
        # Nothing was wrong: a weight was NaN beside a value that is missing.

    def look() -> list[tf.Tensor]:
        return [part for check in checks for part in check.evidence]

    holds = tf.reduce_all(tf.stack([check.holds for check in checks]))
    # Everything behind it, so that no moving average has moved: a control input is no work.
    with tf.control_dependencies([_passed(holds, explain, place, steps, look)]):
        yield


@tf.autograph.experimental.do_not_convert  # no tensor decides here, and AutoGraph is slow
def moved_forward(model: Any) -> list[tuple[Any, tf.Tensor]]:
    """Returns what the forward pass of a training step moves, and its values: averages of norms, steps of dropouts.

    Args:
        model: The model, its variables made.
    """
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    averages = [
        variable
        for variable in model.non_trainable_variables
        # Not what a frozen layer holds, a table of any size, which nothing moves.
        if not variable.trainable
        and variable.dtype.is_floating
        # The others are not moved by a replica alone.
        and (alone or variable.synchronization == tf.VariableSynchronization.ON_READ)
    ]
    steps = [layer.dropout_state for layer in model.submodules if isinstance(layer, Dropout) and layer.built]
    return [(variable, variable.read_value()) for variable in (*averages, *steps)]


@contextmanager
def finite_step(
    loss: tf.Tensor,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    before: Sequence[tuple[Any, tf.Tensor]],
    rows: tf.Tensor,
    place: Callable[[int], str],
    steps: Any,
    *,
    scaled: bool,
) -> Iterator[list[Any]]:
    """Applies the gradients inside, once they, the loss and the averages are finite; else puts these back and stops.

    Of several replicas one without rows keeps its averages and has gradients of 0. Where XLA compiles the step, it goes
    on with gradients of 0 and the averages of before.

    Args:
        loss: What the gradients are of, a float32 scalar: in units of the label's scale, regularisation included.
        gradients: Tensors, `IndexedSlices` or None.
        variables: Whose gradients they are.
        before: What `averages` returned before the forward pass.
        rows: Number of rows of the batch, a scalar.
        place: As in `checked`.
        steps: As in `checked`.
        scaled: Whether the gradients are of a scaled loss, which overflow now and then: only the loss counts.

    Yields:
        The gradients.

    Raises:
        LossNotFinite: One is not. In a graph TensorFlow's InvalidArgumentError, of which `own_words` makes it.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        _keep(before, rows > 0)
        gradients = [_changed(gradient, lambda values: tf.where(rows > 0, values, 0)) for gradient in gradients]
    moved = {f"average {variable.name}": variable.read_value() for variable, _ in before if variable.dtype.is_floating}
    # Squared: what float32 cannot square makes an optimizer's second moment infinite, and the step after it NaN.
    squares = {} if scaled else {name: tf.nn.l2_loss(one) for name, one in _named(gradients, variables).items()}
    # The sum of all is finite only if they are: half the work of a look at each.
    sums = [*(tf.reduce_sum(one) for one in moved.values()), *squares.values()]
    finite = tf.math.is_finite(tf.add_n([loss, *(tf.cast(one, loss.dtype) for one in sums)]))
    if in_xla():
        _keep(before, finite)
        yield [_changed(gradient, lambda values: tf.where(finite, values, 0)) for gradient in gradients]
        return

    def look() -> list[tf.Tensor]:
        fine = [tf.reduce_all(tf.math.is_finite(one)) for one in (*moved.values(), *squares.values())]
        kept = _keep(before, tf.reduce_all(tf.stack([tf.math.is_finite(loss), *fine])))
        with tf.control_dependencies(kept):  # else the step may end before
            return [tf.identity(loss), *fine]

    def explain(batch: str, loss: np.ndarray, *fine: np.ndarray) -> None:
        what = f"The loss is {loss}"
        if np.isfinite(loss):
            if all(fine):
                return  # the sum alone was too large
            what = f"The {[*moved, *squares][fine.index(False)]} is infinite, NaN or too large to be squared"
        raise LossNotFinite(
            f"{what} in {batch}, which moved no weight; the training stopped there. Lower the learning rate."
        )

    with tf.control_dependencies([_passed(finite, explain, place, steps, look)]):
        # Identities: on replicas what is inside may be traced elsewhere.
        yield [_changed(gradient, tf.identity) for gradient in gradients]


@contextmanager
def own_words() -> Iterator[None]:
    """Raises what went wrong in a step, or in the pipeline before it, without what TensorFlow wraps around it.

    Raises:
        LossNotFinite: As it was raised.
        ValueError: Any other line of this package's.
    """
    try:
        yield
    except ValueError as error:  # AutoGraph wraps it on its way out of the loop over steps
        wrapped = _IN_LOOP.search(str(error)) or _IN_USER_CODE.search(str(error))
        if wrapped is None:
            raise
        raise ValueError(wrapped[1].strip()) from error
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        if (asserted := _ASSERTED.search(error.message)) is not None:  # of a shape that is known in the step alone
            raise ValueError(asserted[1].replace("\\'", "'")) from error
        raised = _RAISED.search(error.message)
        if raised is None:
            raise
        raise (LossNotFinite if raised[1] == "LossNotFinite" else ValueError)(raised[2]) from error


def _passed(
    holds: tf.Tensor,
    explain: Callable[..., None],
    place: Callable[[int], str],
    steps: Any,
    evidence: Callable[[], Sequence[tf.Tensor]],
) -> tf.Tensor:
    """A scalar that is there once `explain` had nothing to raise; it is asked where `holds` is false."""

    def explained(steps: np.ndarray, *found: np.ndarray) -> np.ndarray:
        explain(place(int(steps)), *found)
        return np.array(True)

    def look() -> tf.Tensor:
        found = evidence()
        if tf.executing_eagerly():
            return tf.constant(explained(steps.numpy(), *(part.numpy() for part in found)))
        return tf.ensure_shape(tf.numpy_function(explained, [steps, *found], tf.bool), [])

    return tf.cond(holds, lambda: tf.constant(True), look)


def _named(gradients: Sequence[Any], variables: Sequence[Any]) -> dict[str, tf.Tensor]:
    """The numbers of the gradients that there are, by words for each."""
    found = {}
    for number, (gradient, variable) in enumerate(zip(gradients, variables, strict=True)):
        if gradient is not None:
            values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
            found[f"gradient of {variable.name}, variable {number},"] = values  # a name may come twice
    return found


def _keep(before: Sequence[tuple[Any, tf.Tensor]], unless: tf.Tensor) -> list[Any]:
    """Puts the averages back, unless this is true; returns what does so."""
    return [variable.assign(tf.where(unless, variable.read_value(), value)) for variable, value in before]


def _changed(gradient: Any, change: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(change(gradient.values), gradient.indices, gradient.dense_shape)
    return None if gradient is None else change(gradient)
