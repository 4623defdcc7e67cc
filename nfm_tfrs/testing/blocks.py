"""What every interaction block holds."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.testing.kit import (
    BOUNDS,
    Check,
    Make,
    copy_weights,
    difference,
    equal,
    first_line,
    made,
    name_of,
    require,
    require_close,
)

FIELDS, DIM = 5, 4


def check_block(make: Make) -> None:
    """Runs every check of `BLOCK_CHECKS`.

    Args:
        make: The block's class, or what makes one from keyword arguments.

    Raises:
        AssertionError: A check does not hold; the message says which, and what to do.

    Example:
        >>> from nfm_tfrs import BiInteraction
        >>> check_block(BiInteraction)
    """
    for check in BLOCK_CHECKS:
        check(make)


def check_output_shape(make: Make) -> None:
    """The output is float `[batch, units]` for a batch of several, of one and of unknown size, with `units` known."""
    block = made(make)
    arguments = sorted(signature(block.call).parameters)
    require("mask" in arguments, make, "its call must take mask=None; it takes", arguments)
    for batch in (4, 1):
        output = block(_embeddings(batch))
        require(tf.is_tensor(output), make, "must return one tensor", type(output).__name__)
        shape = output.shape
        require(
            shape.rank == 2 and shape[0] == batch, make, f"must map [{batch}, fields, dim] to [{batch}, units]", shape
        )
        require(output.dtype.is_floating, make, "must return floats", output.dtype.name)
    for fields in (FIELDS, None) if block.dynamic_fields else (FIELDS,):
        traced = tf.function(made(make)).get_concrete_function(tf.TensorSpec([None, fields, DIM]))
        shape = traced.output_shapes
        require(shape.rank == 2 and shape[1] is not None, make, f"of [None, {fields}, {DIM}] must know units", shape)
        require(shape[0] is None, make, "must leave the batch unknown", shape)
    require(not block.returns_logit or output.shape[1] == 1, make, "returns_logit says [batch, 1]", output.shape)


def check_config(make: Make) -> None:
    """The config is JSON, holds every argument of the constructor, and makes the same block."""
    block = made(make, name="block")
    config = block.get_config()
    kinds = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    arguments = [p.name for p in signature(type(block)).parameters.values() if p.kind not in kinds]
    missing = [name for name in arguments if name not in config]
    require(not missing, make, f"get_config must return {', '.join(missing)}; it returned", sorted(config))
    try:
        again = type(block).from_config(json.loads(json.dumps(config)))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name_of(make)}: its config must be JSON that from_config takes; {error}.") from error
    require(again.get_config() == config, make, f"changes its config from {config} to", again.get_config())
    embeddings = _embeddings()
    expected = block(embeddings)
    again(embeddings)
    copy_weights(block, again, make)
    require(equal(again(embeddings), expected), make, "made from its config returns something else", "")


def check_save_and_load(make: Make) -> None:
    """A model around the block says the same, to the bit, after it was saved and loaded."""
    features = [CategoricalFeature(name, vocabulary_size=5) for name in "abc"]
    columns = {name: np.arange(4) for name in "abc"}
    block = made(make)
    model = RankingModel(features, embedding_dim=DIM, embedding_stddev=1.0, interaction=block, hidden_units=(3,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = load_model(path, trust=True)  # its own file: a class need not be registered yet
    names = [weight.name for weight in block.weights]
    require(len(set(names)) == len(names), make, "weights must have names of their own, which .h5 files go by", names)
    require(equal(loaded(columns), model(columns)), make, "a loaded model says something else", "")


def check_dtype_policies(make: Make) -> None:
    """Mixed precision keeps weights float32 and gives what float32 gives, at both ends of `numeric_range`."""
    reference = made(make, dtype="float32")
    reference(_embeddings())
    for policy, bound in BOUNDS.items():
        block = made(make, dtype=policy)
        half = tf.as_dtype(block.compute_dtype)
        block(tf.cast(_embeddings(), half))
        dtypes = {weight.dtype.name for weight in block.weights}
        require(dtypes <= {"float32"}, make, f"under {policy} weights must be float32", sorted(dtypes))
        block.set_weights(reference.get_weights())
        for stddev in block.numeric_range:
            rounded = tf.cast(_embeddings(256, stddev=stddev), half)
            expected = reference(tf.cast(rounded, tf.float32)).numpy()
            output = tf.cast(block(rounded), tf.float32).numpy()
            error = np.linalg.norm(output - expected) / max(np.linalg.norm(expected), 1e-30)
            what = f"under {policy}, embeddings of sd {stddev:g}: must err by {bound:g} of the norm or less"
            require(error <= bound, make, f"{what}; sum in float32 or narrow numeric_range", f"{error:.1e}")
    for policy in ("float16", "bfloat16"):
        output = made(make, dtype=policy)(tf.cast(_embeddings(), policy))
        require(np.isfinite(tf.cast(output, tf.float32)).all(), make, f"must be finite under {policy}", output)


def check_gradients(make: Make) -> None:
    """A gradient, finite and not zero, reaches the embeddings and every weight that is trained."""
    embeddings = _embeddings(64)
    reached: set[int] = set()
    for seed in range(4):  # a rectifier may be dead under one seed
        keras.utils.set_random_seed(seed)
        block = make()
        block(embeddings)
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            output = block(embeddings)
            # Random: a plain sum hides what normalisation sends to zero.
            upstream = np.random.default_rng(seed).normal(size=output.shape)
            loss = tf.reduce_sum(output * tf.constant(upstream, output.dtype))
        names = ["the embeddings", *(weight.name for weight in block.trainable_weights)]
        for at, gradient in enumerate(tape.gradient(loss, [embeddings, *block.trainable_weights])):
            unused = f"no gradient reaches {names[at]}; compute with it, or do not train it"
            require(gradient is not None, make, unused, "")
            values = tf.convert_to_tensor(gradient).numpy()
            require(np.isfinite(values).all(), make, f"the gradient of {names[at]} must be finite", values)
            reached |= {at} if np.any(values) else set()
    zero = [name for at, name in enumerate(names) if at not in reached]
    require(not zero, make, "gradients must not be zero everywhere; zero", zero)


def check_graph_equals_eager(make: Make) -> None:
    """The block returns the same inside a `tf.function`, also with a batch of unknown size."""
    block, embeddings = made(make), _embeddings()
    eager = block(embeddings)
    graph = tf.function(block, input_signature=[tf.TensorSpec([None, FIELDS, DIM])])(embeddings)
    require_close(graph, eager, 1e-6, make, "must return the same in a graph")


def check_xla(make: Make) -> None:
    """The block compiles with XLA, and returns the same."""
    block, embeddings = made(make), _embeddings()
    eager = block(embeddings)
    try:
        compiled = tf.function(block, jit_compile=True)(embeddings)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise AssertionError(f"{name_of(make)}: does not compile with XLA: {first_line(error)}") from error
    require_close(compiled, eager, 1e-5, make, "must return the same compiled by XLA")


def check_search_space(make: Make) -> None:
    """`search_space` returns constructor arguments; the first, last and default value of all of them make a block."""
    cls = type(made(make))
    for which in ("first", "last", "default"):
        drawn = cls.search_space(Hyperparameters(which))
        require(isinstance(drawn, dict), make, "search_space must return a dict", type(drawn).__name__)
        unknown = sorted(set(drawn) - set(signature(cls).parameters))
        require(not unknown, make, "search_space must return constructor arguments; it returned", unknown)
        try:
            output = cls(**drawn)(_embeddings())
        except Exception as error:
            raise AssertionError(
                f"{name_of(make)}: search_space drew {drawn}, which fails: {first_line(error)}"
            ) from error
        require(np.isfinite(output).all(), make, f"with {drawn} must be finite", output)


def check_determinism(make: Make) -> None:
    """A seed settles the initial weights; inference gives the same twice, and changes no weight."""
    embeddings, weights = _embeddings(), []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        block = make()
        block(embeddings)
        weights.append(block.get_weights())
    require(all(map(np.array_equal, *weights)), make, "the same seed must give the same weights", "others")
    first = block(embeddings)
    require(equal(block(embeddings), first), make, "must return the same for the same embeddings", "")
    require(all(map(np.array_equal, weights[1], block.get_weights())), make, "inference must change no weight", "")


def check_rows_are_independent(make: Make) -> None:
    """In inference an example gets the same alone as among others."""
    block, embeddings = made(make), _embeddings()
    together = block(embeddings)
    alone = tf.concat([block(embeddings[row : row + 1]) for row in range(len(embeddings))], axis=0)
    require_close(alone, together, 1e-5, make, "an example must get the same alone as among others")


def check_mask(make: Make) -> None:
    """A field whose mask is False counts as absent, whatever its embedding holds; no mask is a mask of True."""
    block, embeddings = made(make), _embeddings(8)
    require(not block.supports_masking, make, "must not set supports_masking: the mask is not the output's", True)
    everything = block(embeddings, mask=tf.ones([8, FIELDS], tf.bool))
    require_close(everything, block(embeddings), 1e-6, make, "a mask of True must be as none")
    mask = np.random.default_rng(2).random([8, FIELDS]) < 0.6
    mask[0] = False  # nothing is there
    masked = block(embeddings, mask=tf.constant(mask))
    require(np.isfinite(masked).all(), make, "must be finite where every field is absent", masked)
    require(difference(masked, everything) > 1e-6, make, "must use the mask; it returns the same without", "")
    for held in (7.0, np.inf, np.nan):
        other = tf.where(mask[:, :, None], embeddings, held)
        output = block(other, mask=tf.constant(mask))
        require_close(output, masked, 1e-6, make, f"an absent field that holds {held} must not matter")
    if block.dynamic_fields:
        wider = tf.pad(embeddings, [[0, 0], [0, 1], [0, 0]], constant_values=7.0)
        output = block(wider, mask=tf.constant(np.pad(mask, [(0, 0), (0, 1)])))
        require_close(output, masked, 1e-6, make, "an absent field more must not matter")


def check_wrong_shape(make: Make) -> None:
    """Shapes that do not fit are refused when the block is built, in one line that says what was received."""
    block = made(make)
    least, dynamic = block.min_fields, block.dynamic_fields
    wrong: list[list[int | None]] = [[None, DIM], [None, FIELDS, DIM, 2], [None, FIELDS, None]]
    wrong += [[None, least - 1, DIM]] if least > 1 else []
    wrong += [] if dynamic else [[None, None, DIM]]
    for shape in wrong:
        try:
            made(make).build(shape)
        except ValueError as error:
            message = str(error)
            require("received" in message and "\n" not in message, make, f"refuses {shape} unclearly", message)
        except Exception as error:
            raise AssertionError(
                f"{name_of(make)}: of {shape} must raise ValueError; raised {type(error).__name__}."
            ) from error
        else:
            raise AssertionError(f"{name_of(make)}: must refuse {shape} when it is built: call super().build first.")


BLOCK_CHECKS: tuple[Check, ...] = (
    check_output_shape,
    check_config,
    check_save_and_load,
    check_dtype_policies,
    check_gradients,
    check_graph_equals_eager,
    check_xla,
    check_search_space,
    check_determinism,
    check_rows_are_independent,
    check_mask,
    check_wrong_shape,
)


class Hyperparameters:
    """What `search_space` draws from: the first, the last or the default value; None in an inactive scope, as there."""

    def __init__(self, which: str) -> None:
        self.which = which
        self.drawn: dict[str, Any] = {}
        self.active = True

    def Int(self, name: str, min_value: int, max_value: int, *_: Any, default: int | None = None, **__: Any) -> Any:
        return self._draw(name, min_value, max_value, default)

    def Float(
        self, name: str, min_value: float, max_value: float, *_: Any, default: float | None = None, **__: Any
    ) -> Any:
        return self._draw(name, min_value, max_value, default)

    def Choice(self, name: str, values: Sequence[Any], *_: Any, default: Any = None, **__: Any) -> Any:
        return self._draw(name, values[0], values[-1], default)

    def Boolean(self, name: str, default: bool = False, **_: Any) -> Any:
        return self._draw(name, False, True, default)

    def Fixed(self, name: str, value: Any, **_: Any) -> Any:
        return self._draw(name, value, value, value)

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        values = parent_values if isinstance(parent_values, list | tuple) else [parent_values]
        outer, self.active = self.active, self.active and self.drawn[parent_name] in values
        yield
        self.active = outer

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        del name
        yield

    def _draw(self, name: str, first: Any, last: Any, default: Any) -> Any:
        if not self.active:
            return None
        value = {"first": first, "last": last, "default": first if default is None else default}[self.which]
        self.drawn[name] = value
        return value


def _embeddings(batch: int = 8, stddev: float = 1.0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(batch).normal(0.0, stddev, [batch, FIELDS, DIM]), tf.float32)
