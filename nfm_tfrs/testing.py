"""The conformance suite: what every interaction block and every model holds, in this package and in any other.

A check is a plain function that takes what makes the component, called with keyword arguments (a class, or a
`functools.partial` of one), and raises AssertionError, in one line, where it does not hold.

    from nfm_tfrs.testing import check_block, parametrize_with_checks

    check_block(MyBlock)  # in a script

    @parametrize_with_checks([MyBlock, partial(MyBlock, units=3)])  # in a test module
    def test_my_block(make, check):
        check(make)
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.features.feature import CategoricalFeature, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.saving import load_model

Make = Callable[..., Any]
Check = Callable[[Make], None]

# Of the output's norm: what rounding weights and inputs to half precision costs, and room for a few layers.
BOUNDS = {"mixed_bfloat16": 1e-2, "mixed_float16": 2e-3}
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


def check_model(make: Make) -> None:
    """Runs every check of `MODEL_CHECKS`.

    Args:
        make: The model's class, or what makes one from keyword arguments: `partial(get_model, "nfm")`, for instance.

    Raises:
        AssertionError: A check does not hold; the message says which, and what to do.
    """
    for check in MODEL_CHECKS:
        check(make)


def parametrize_with_checks(makes: Sequence[Make], checks: Sequence[Check] | None = None) -> Any:
    """Returns a pytest decorator for a test of `(make, check)`: every pair; the checks of blocks if none are given."""
    import pytest  # here: the package does not need it

    checks = BLOCK_CHECKS if checks is None else checks
    pairs = [pytest.param(m, c, id=f"{name_of(m)}-{c.__name__}") for m in makes for c in checks]
    return pytest.mark.parametrize(("make", "check"), pairs)


def name_of(make: Make) -> str:
    """Returns a readable name: `Cross`, `Cross(kind=vector)`."""
    if not isinstance(make, partial):
        return getattr(make, "__name__", repr(make))
    arguments = [str(argument) for argument in make.args]
    arguments += [f"{name}={value}" for name, value in make.keywords.items()]
    return f"{name_of(make.func)}({', '.join(arguments)})"


# --- blocks


def check_output_shape(make: Make) -> None:
    """The output is float `[batch, units]` for a batch of several, of one and of unknown size, with `units` known."""
    block = make()
    for batch in (4, 1):
        output = block(_embeddings(batch))
        _require(output.shape.rank == 2 and output.shape[0] == batch, make, f"maps [{batch}, fields, dim]", output)
        _require(output.dtype.is_floating, make, "must return floats", output.dtype.name)
    for fields in (FIELDS, None) if block.dynamic_fields else (FIELDS,):
        traced = tf.function(make()).get_concrete_function(tf.TensorSpec([None, fields, DIM]))
        shape = traced.output_shapes
        _require(shape.rank == 2 and shape[1] is not None, make, f"of [None, {fields}, {DIM}] must know units", shape)
        _require(shape[0] is None, make, "must leave the batch unknown", shape)
    _require(not block.returns_logit or output.shape[1] == 1, make, "returns_logit says [batch, 1]", output)


def check_config(make: Make) -> None:
    """The config is JSON, holds every argument of the constructor, and makes the same block."""
    block = make(name="block")
    config = block.get_config()
    kinds = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    arguments = [p.name for p in signature(type(block)).parameters.values() if p.kind not in kinds]
    missing = [name for name in arguments if name not in config]
    _require(not missing, make, f"get_config must return {', '.join(missing)}; it returned", sorted(config))
    try:
        again = type(block).from_config(json.loads(json.dumps(config)))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name_of(make)}: its config must be JSON that from_config takes; {error}.") from error
    _require(again.get_config() == config, make, f"changes its config from {config} to", again.get_config())
    embeddings = _embeddings()
    expected = block(embeddings)
    again(embeddings)
    _copy_weights(block, again, make)
    _require(_equal(again(embeddings), expected), make, "made from its config returns something else", "")


def check_save_and_load(make: Make) -> None:
    """A model around the block says the same, to the bit, after it was saved and loaded."""
    features = [CategoricalFeature(name, vocabulary_size=5) for name in "abc"]
    columns = {name: np.arange(4) for name in "abc"}
    model = RankingModel(features, embedding_dim=DIM, embedding_stddev=1.0, interaction=make(), hidden_units=(3,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = load_model(path)
    _require(_equal(loaded(columns), model(columns)), make, "a loaded model says something else", "")


def check_dtype_policies(make: Make) -> None:
    """Mixed precision keeps weights float32 and gives what float32 gives, at both ends of `numeric_range`."""
    reference = make(dtype="float32")
    reference(_embeddings())
    for policy, bound in BOUNDS.items():
        block = make(dtype=policy)
        half = tf.as_dtype(block.compute_dtype)
        block(tf.cast(_embeddings(), half))
        dtypes = {weight.dtype.name for weight in block.weights}
        _require(dtypes <= {"float32"}, make, f"under {policy} weights must be float32", sorted(dtypes))
        block.set_weights(reference.get_weights())
        for stddev in block.numeric_range:
            rounded = tf.cast(_embeddings(256, stddev=stddev), half)
            expected = reference(tf.cast(rounded, tf.float32)).numpy()
            output = tf.cast(block(rounded), tf.float32).numpy()
            error = np.linalg.norm(output - expected) / max(np.linalg.norm(expected), 1e-30)
            what = f"under {policy}, embeddings of sd {stddev:g}: must err by {bound:g} of the norm or less"
            _require(error <= bound, make, f"{what}; sum in float32 or narrow numeric_range", f"{error:.1e}")
    for policy in ("float16", "bfloat16"):
        output = make(dtype=policy)(tf.cast(_embeddings(), policy))
        _require(np.isfinite(tf.cast(output, tf.float32)).all(), make, f"must be finite under {policy}", output)


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
            _require(gradient is not None, make, unused, "")
            values = tf.convert_to_tensor(gradient).numpy()
            _require(np.isfinite(values).all(), make, f"the gradient of {names[at]} must be finite", values)
            reached |= {at} if np.any(values) else set()
    zero = [name for at, name in enumerate(names) if at not in reached]
    _require(not zero, make, "gradients must not be zero everywhere; zero", zero)


def check_graph_equals_eager(make: Make) -> None:
    """The block returns the same inside a `tf.function`, also with a batch of unknown size."""
    block, embeddings = make(), _embeddings()
    eager = block(embeddings)
    graph = tf.function(block, input_signature=[tf.TensorSpec([None, FIELDS, DIM])])(embeddings)
    _require_close(graph, eager, 1e-6, make, "must return the same in a graph")


def check_xla(make: Make) -> None:
    """The block compiles with XLA, and returns the same."""
    block, embeddings = make(), _embeddings()
    eager = block(embeddings)
    try:
        compiled = tf.function(block, jit_compile=True)(embeddings)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise AssertionError(f"{name_of(make)}: does not compile with XLA: {_first_line(error)}") from error
    _require_close(compiled, eager, 1e-5, make, "must return the same compiled by XLA")


def check_search_space(make: Make) -> None:
    """`search_space` returns constructor arguments; the first, last and default value of all of them make a block."""
    cls = type(make())
    for which in ("first", "last", "default"):
        drawn = cls.search_space(_Hyperparameters(which))
        unknown = sorted(set(drawn) - set(signature(cls).parameters))
        _require(not unknown, make, "search_space must return constructor arguments; it returned", unknown)
        try:
            output = cls(**drawn)(_embeddings())
        except Exception as error:
            raise AssertionError(
                f"{name_of(make)}: search_space drew {drawn}, which fails: {_first_line(error)}"
            ) from error
        _require(np.isfinite(output).all(), make, f"with {drawn} must be finite", output)


def check_determinism(make: Make) -> None:
    """A seed settles the initial weights; inference gives the same twice, and changes no weight."""
    embeddings, weights = _embeddings(), []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        block = make()
        block(embeddings)
        weights.append(block.get_weights())
    _require(all(map(np.array_equal, *weights)), make, "the same seed must give the same weights", "others")
    first = block(embeddings)
    _require(_equal(block(embeddings), first), make, "must return the same for the same embeddings", "")
    _require(all(map(np.array_equal, weights[1], block.get_weights())), make, "inference must change no weight", "")


def check_rows_are_independent(make: Make) -> None:
    """In inference an example gets the same alone as among others."""
    block, embeddings = make(), _embeddings()
    together = block(embeddings)
    alone = tf.concat([block(embeddings[row : row + 1]) for row in range(len(embeddings))], axis=0)
    _require_close(alone, together, 1e-5, make, "an example must get the same alone as among others")


def check_mask(make: Make) -> None:
    """A field whose mask is False counts as absent, whatever its embedding holds; no mask is a mask of True."""
    block, embeddings = make(), _embeddings(8)
    _require(not block.supports_masking, make, "must not set supports_masking: the mask is not the output's", True)
    everything = block(embeddings, mask=tf.ones([8, FIELDS], tf.bool))
    _require_close(everything, block(embeddings), 1e-6, make, "a mask of True must be as none")
    mask = np.random.default_rng(2).random([8, FIELDS]) < 0.6
    mask[0] = False  # nothing is there
    masked = block(embeddings, mask=tf.constant(mask))
    _require(np.isfinite(masked).all(), make, "must be finite where every field is absent", masked)
    _require(_difference(masked, everything) > 1e-6, make, "must use the mask; it returns the same without", "")
    for held in (7.0, np.inf, np.nan):
        other = tf.where(mask[:, :, None], embeddings, held)
        output = block(other, mask=tf.constant(mask))
        _require_close(output, masked, 1e-6, make, f"an absent field that holds {held} must not matter")
    if block.dynamic_fields:
        wider = tf.pad(embeddings, [[0, 0], [0, 1], [0, 0]], constant_values=7.0)
        output = block(wider, mask=tf.constant(np.pad(mask, [(0, 0), (0, 1)])))
        _require_close(output, masked, 1e-6, make, "an absent field more must not matter")


def check_wrong_shape(make: Make) -> None:
    """Shapes that do not fit are refused when the block is built, in one line that says what was received."""
    least, dynamic = make().min_fields, make().dynamic_fields
    wrong: list[list[int | None]] = [[None, DIM], [None, FIELDS, DIM, 2], [None, FIELDS, None]]
    wrong += [[None, least - 1, DIM]] if least > 1 else []
    wrong += [] if dynamic else [[None, None, DIM]]
    for shape in wrong:
        try:
            make().build(shape)
        except ValueError as error:
            message = str(error)
            _require("received" in message and "\n" not in message, make, f"refuses {shape} unclearly", message)
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


# --- models


def check_model_output(make: Make) -> None:
    """A model returns float32 `[batch, 1]`, the same alone as among others, and in a graph as without."""
    model, (columns, _) = make(features=example_features()), example_rows(8)
    output = model(columns)
    _require(output.shape == (8, 1) and output.dtype == tf.float32, make, "must return float32 [8, 1]", output)
    alone = tf.concat([model({k: v[row : row + 1] for k, v in columns.items()}) for row in range(8)], axis=0)
    _require_close(alone, output, 1e-5, make, "an example must get the same alone as among others")
    graph = tf.function(lambda columns: model(columns, training=False))(columns)
    _require_close(graph, output, 1e-5, make, "must return the same in a graph")


def check_model_learns(make: Make) -> None:
    """A gradient reaches every weight that is trained, and training lowers the loss."""
    keras.utils.set_random_seed(0)
    model, (columns, labels) = make(features=example_features()), example_rows(64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(columns, training=True))
    gradients = tape.gradient(total, model.trainable_weights)
    unused = [w.name for w, gradient in zip(model.trainable_weights, gradients, strict=True) if gradient is None]
    _require(not unused, make, "a gradient must reach every weight that is trained; unreached", unused)
    model.compile(keras.optimizers.Adam(0.01))
    rows = tf.data.Dataset.from_tensors((columns, labels))
    losses = model.fit(rows, epochs=30, verbose=0).history["loss"]
    _require(np.isfinite(losses).all(), make, "losses must be finite", losses)
    _require(np.mean(losses[-5:]) < losses[0], make, "30 steps must lower the loss", losses)


def check_model_config(make: Make) -> None:
    """The config is JSON and makes the same model."""
    model, (columns, _) = make(features=example_features(), name="model"), example_rows(4)
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    _require(again.get_config() == model.get_config(), make, "changes its config to", again.get_config())
    _copy_weights(model, again, make)
    _require(_equal(again(columns), model(columns)), make, "made from its config says something else", "")


def check_model_save_and_load(make: Make) -> None:
    """A trained model says the same, to the bit, after it was saved and loaded, and its optimizer goes on."""
    model, (columns, labels) = make(features=example_features()), example_rows(16)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = load_model(path)
    _require(_equal(loaded(columns), model(columns)), make, "a loaded model says something else", "")
    pairs = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    _require(all(_equal(one, other) for one, other in pairs), make, "the optimizer's state is lost", "")


def check_model_dtype_policies(make: Make) -> None:
    """A step under mixed precision leaves logits and weights float32 and finite, and nothing global is set."""
    columns, labels = example_rows(16)
    for policy in BOUNDS:
        model = make(features=example_features(), dtype=policy)
        model.compile(keras.optimizers.SGD(0.01))
        model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
        output = model(columns)
        _require(output.dtype == tf.float32, make, f"under {policy} logits must be float32", output.dtype.name)
        _require(np.isfinite(output).all(), make, f"under {policy} logits must be finite", output)
        dtypes = {weight.dtype.name for weight in model.weights}
        _require("float16" not in dtypes and "bfloat16" not in dtypes, make, "weights must be float32", dtypes)
    name = keras.mixed_precision.global_policy().name
    _require(name == "float32", make, "must not set the global policy; it is", name)


MODEL_CHECKS: tuple[Check, ...] = (
    check_model_output,
    check_model_learns,
    check_model_config,
    check_model_save_and_load,
    check_model_dtype_policies,
)


# --- what the checks draw on


def example_features() -> list[Feature]:
    """Returns one feature of each kind: an id, a string, a bag and a number."""
    return [
        CategoricalFeature("user", vocabulary_size=6),
        CategoricalFeature("city", vocabulary=("Rome", "Oslo")),
        MultiCategoricalFeature("genres", vocabulary_size=4),
        NumericFeature("price", mean=1.0, std=2.0),
    ]


def example_rows(count: int) -> tuple[dict[str, Any], Any]:
    """Returns `count` rows of `example_features`, unknown and missing values among them, and 0/1 labels."""
    rng = np.random.default_rng(count)
    lengths = rng.integers(0, 4, count)
    columns = {
        "user": tf.constant(rng.integers(-1, 7, count)),
        "city": tf.constant(rng.choice(["Rome", "Oslo", "Paris", ""], count)),
        "genres": tf.RaggedTensor.from_row_lengths(rng.integers(0, 5, lengths.sum()), lengths),
        "price": tf.constant(np.where(rng.random(count) < 0.2, np.nan, rng.normal(1.0, 2.0, count)), tf.float32),
    }
    return columns, tf.constant(rng.integers(0, 2, count), tf.float32)


class _Hyperparameters:
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


def _require(holds: Any, make: Make, what: str, received: Any) -> None:
    if not holds:
        text = " ".join(str(received).split())  # one line, also of an array
        raise AssertionError(f"{name_of(make)}: {what}" + (f"; received {text}." if text else "."))


def _require_close(one: Any, other: Any, tolerance: float, make: Make, what: str) -> None:
    difference = _difference(one, other)
    _require(difference <= tolerance, make, what, f"a difference of {difference:.1e} of the largest element")


def _difference(one: Any, other: Any) -> float:
    """The largest difference of two tensors, as a share of the other's largest element."""
    one, other = tf.cast(one, tf.float32).numpy(), tf.cast(other, tf.float32).numpy()
    return float(np.abs(one - other).max() / max(1e-6, np.abs(other).max()))


def _equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _copy_weights(one: Any, other: Any, make: Make) -> None:
    """Copies the weights of one to the other, which must have as many, of the same shapes."""
    shapes = [[tuple(weight.shape) for weight in component.weights] for component in (one, other)]
    _require(shapes[0] == shapes[1], make, f"made from its config must have weights of {shapes[0]}", shapes[1])
    other.set_weights(one.get_weights())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
