"""Row-wise Adam and Adagrad: of an embedding table they read and write the rows of the batch, and no others."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import getattr_static, signature
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.configuration import OPTIMIZERS
from nfm_tfrs.embedding.row_sums import added_rows
from nfm_tfrs.keras_compat import in_xla, keras, tf
from nfm_tfrs.keras_compat.optimizer import OpenOptimizer
from nfm_tfrs.written import first_line


class RowWiseOptimizer(OpenOptimizer):
    """A Keras optimizer that, of a variable with a sparse gradient, moves the rows in that gradient only.

    Where Keras' own optimizers clip each occurrence of a row by itself, decay the weights of the whole table, or
    compile anew for each number of rows, this one adds the occurrences up first, decays the rows it moves, and does
    not compile. Everything else is Keras': schedules, clipping, loss scaling, checkpoints, strategies. XLA cannot
    compile it, since the number of distinct rows differs by batch.

    A subclass writes `add_slots`, `update_rows` and `update_dense`.

    Args:
        learning_rate: A rate or a schedule.
        weight_decay: Share of a weight taken off in a step, times the rate: of the rows a batch holds, and of dense
            variables, but for those given to `exclude_from_weight_decay`, which Keras does not save.
        **kwargs: Further arguments of `tf.keras.optimizers.Optimizer`: `name`, `clipnorm`, `clipvalue`,
            `global_clipnorm`; `use_ema` walks the whole table.

    Raises:
        ValueError: An argument out of range, or `jit_compile=True`.
    """

    def __init__(self, learning_rate: Any, *, weight_decay: float | None = None, **kwargs: Any) -> None:
        if kwargs.pop("jit_compile", False):
            raise ValueError("XLA cannot compile a row-wise optimizer; received jit_compile=True. Leave it out.")
        if isinstance(learning_rate, int | float):
            arguments.not_negative("learning_rate", learning_rate)
        if weight_decay is not None:
            arguments.not_negative("weight_decay", weight_decay)
        super().__init__(learning_rate, weight_decay=weight_decay, jit_compile=False, **kwargs)

    def update_rows(self, gradient: tf.Tensor, rows: tf.Tensor, variable: Any, indices: tf.Tensor) -> tf.Tensor:
        """Updates what is kept for these rows; returns their new values.

        Args:
            gradient: The gradient of these rows, `[rows, …]`.
            rows: The values of these rows, `[rows, …]`.
            variable: What they are rows of.
            indices: Which rows of it, `[rows]`, each once.
        """
        raise NotImplementedError

    def update_dense(self, gradient: tf.Tensor, variable: Any) -> None:
        """Updates a variable by a dense gradient."""
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Updates one variable; Keras calls this."""
        decays = self.decays_weights(variable)
        kept = tf.cast(1 - self.learning_rate * self.weight_decay, variable.dtype) if decays else 1.0
        if not isinstance(gradient, tf.IndexedSlices):
            if decays:
                variable.assign(variable * kept)
            self.update_dense(gradient, variable)
            return
        rows = tf.gather(variable, gradient.indices)
        rows = rows * kept if decays else rows
        rows = self.update_rows(gradient.values, rows, variable, gradient.indices)
        # Not scatter_sub: it takes eight times as long as writing the rows.
        variable.scatter_update(tf.IndexedSlices(rows, gradient.indices))

    def merged(self, gradients: Iterable[Any]) -> list[Any]:
        """Returns the gradients with each row once, from here on: clipping and decay see it so."""
        if in_xla():
            raise ValueError(
                f"XLA cannot compile a row-wise optimizer; received {type(self).__name__} in a function that it "
                "compiles. Take a Keras optimizer, or compile less."
            )
        return [_merged(gradient) for gradient in gradients]


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class LazyAdam(RowWiseOptimizer):
    """Adam that touches the rows of the batch only.

    For each row r in the batch of step t, with gradient g, the occurrences of the row added up:

        m_r ← β₁ m_r + (1 - β₁) g
        v_r ← β₂ v_r + (1 - β₂) g²
        w_r ← w_r - α √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m_r / (√v_r + ε)

    Dense variables are updated as by `tf.keras.optimizers.Adam`, to which this is equal where every row is in every
    batch. Else it differs: in Adam a row that is absent still moves, along its old m, while its m and v decay; here it
    stays as it is, and its m and v wait. t counts all steps, not those of the row. A rare row therefore takes one
    step of about α a visit, instead of the tail of 1/(1 - β₁) smaller ones that Adam adds, and its v remembers the
    last 1/(1 - β₂) visits instead of steps. benchmarks/quality/optimizers.py compares what comes out.

    Args:
        learning_rate: α, a rate or a schedule.
        lazy: False makes it Adam itself, every row in every step: one pass over the table instead of Keras' dozen.
        beta_1: β₁.
        beta_2: β₂.
        epsilon: ε.
        **kwargs: See `RowWiseOptimizer`.

    Example:
        >>> table = tf.Variable(tf.ones([3, 2]))
        >>> gradient = tf.IndexedSlices(tf.ones([1, 2]), [1], table.shape)
        >>> _ = LazyAdam(0.1).apply_gradients([(gradient, table)])
        >>> print(table.numpy().round(3))
        [[1.  1. ]
         [0.9 0.9]
         [1.  1. ]]

    Reference:
        Kingma & Ba, Adam, ICLR 2015, algorithm 1, and the text before section 2.1 for the form with ε outside.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        lazy: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "LazyAdam",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.lazy = arguments.switch("lazy", lazy)
        self.beta_1 = arguments.share("beta_1", beta_1)
        self.beta_2 = arguments.share("beta_2", beta_2)
        self.epsilon = arguments.not_negative("epsilon", epsilon)

    def add_slots(self, variables: Sequence[Any]) -> None:
        self._momentums = [self.add_variable_from_reference(variable, "m") for variable in variables]
        self._velocities = [self.add_variable_from_reference(variable, "v") for variable in variables]

    def update_step(self, gradient: Any, variable: Any) -> None:
        super().update_step(gradient if self.lazy else tf.convert_to_tensor(gradient), variable)

    def update_rows(self, gradient: tf.Tensor, rows: tf.Tensor, variable: Any, indices: tf.Tensor) -> tf.Tensor:
        momentum, velocity = self._slots(variable)
        m, v = tf.gather(momentum, indices), tf.gather(velocity, indices)
        m += (1 - self.beta_1) * (gradient - m)
        v += (1 - self.beta_2) * (gradient * gradient - v)
        momentum.scatter_update(tf.IndexedSlices(m, indices))
        velocity.scatter_update(tf.IndexedSlices(v, indices))
        decay_1, decay_2 = self._decays(variable.dtype)
        rate = tf.cast(self.learning_rate, decay_1.dtype) * tf.sqrt(1 - decay_2) / (1 - decay_1)
        return rows - tf.cast(rate, variable.dtype) * m / (tf.sqrt(v) + self.epsilon)

    def update_dense(self, gradient: tf.Tensor, variable: Any) -> None:
        momentum, velocity = self._slots(variable)
        decay_1, decay_2 = self._decays(variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=tf.cast(decay_1, variable.dtype),
            beta2_power=tf.cast(decay_2, variable.dtype),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "lazy": self.lazy,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }

    def _slots(self, variable: Any) -> tuple[Any, Any]:
        index = self.slot_index(variable)
        return self._momentums[index], self._velocities[index]

    def _decays(self, dtype: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """β₁ᵗ and β₂ᵗ, in float32 or more: in bfloat16 0.999 is 1."""
        precise = dtype if dtype.size >= 4 else tf.float32
        step = tf.cast(self.iterations + 1, precise)
        return tf.pow(tf.cast(self.beta_1, precise), step), tf.pow(tf.cast(self.beta_2, precise), step)


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class LazyAdagrad(RowWiseOptimizer):
    """Adagrad that touches the rows of the batch only; Keras' Adagrad, which is row-wise by nature, to the rounding.

        a_r ← a_r + g²
        w_r ← w_r - α g / √(a_r + ε)

    for each row r of the batch, g its gradient, the occurrences of the row added up.

    Args:
        learning_rate: α, a rate or a schedule.
        initial_accumulator_value: a_r at the start.
        epsilon: ε.
        **kwargs: See `RowWiseOptimizer`.

    Example:
        >>> table = tf.Variable(tf.ones([3, 2]))
        >>> gradient = tf.IndexedSlices(tf.ones([1, 2]), [1], table.shape)
        >>> _ = LazyAdagrad(0.1, initial_accumulator_value=0.0).apply_gradients([(gradient, table)])
        >>> print(table.numpy().round(3))
        [[1.  1. ]
         [0.9 0.9]
         [1.  1. ]]

    Reference:
        Duchi, Hazan & Singer, Adaptive Subgradient Methods, JMLR 2011, section 1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.05,
        *,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "LazyAdagrad",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.initial_accumulator_value = arguments.not_negative("initial_accumulator_value", initial_accumulator_value)
        self.epsilon = arguments.not_negative("epsilon", epsilon)

    def add_slots(self, variables: Sequence[Any]) -> None:
        value = self.initial_accumulator_value
        self._accumulators = [
            self.add_variable_from_reference(
                variable, "accumulator", initial_value=tf.fill(variable.shape, tf.cast(value, variable.dtype))
            )
            for variable in variables
        ]

    def update_rows(self, gradient: tf.Tensor, rows: tf.Tensor, variable: Any, indices: tf.Tensor) -> tf.Tensor:
        accumulator = self._accumulators[self.slot_index(variable)]
        a = tf.gather(accumulator, indices) + gradient * gradient
        accumulator.scatter_update(tf.IndexedSlices(a, indices))
        return rows - tf.cast(self.learning_rate, variable.dtype) * gradient * tf.math.rsqrt(a + self.epsilon)

    def update_dense(self, gradient: tf.Tensor, variable: Any) -> None:
        accumulator = self._accumulators[self.slot_index(variable)]
        accumulator.assign_add(gradient * gradient)
        rate = tf.cast(self.learning_rate, variable.dtype)
        variable.assign_sub(rate * gradient * tf.math.rsqrt(accumulator + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


def optimizer_of(optimizer: Any) -> Any:
    """Returns an optimizer itself, or the one that a name, in any case, or a config of Keras' describes.

    Raises:
        ValueError: There is none of that name.

    Example:
        >>> optimizer_of("LazyAdam").name
        'LazyAdam'
    """
    if not isinstance(optimizer, str):
        return keras.optimizers.get(optimizer)
    if optimizer.lower() in _ROW_WISE:
        return _ROW_WISE[optimizer.lower()]()
    try:
        return keras.optimizers.get(optimizer)
    except ValueError as error:
        raise arguments.unknown_name("optimizer", optimizer, OPTIMIZERS) from error


def named_optimizer(name: str, /, learning_rate: Any = None, **arguments: Any) -> Any:
    """Returns an optimizer by its name, with its default rate if none is given.

    Args:
        name: `"lazyadam"`, `"lazyadagrad"`, or a Keras optimizer's.
        learning_rate: A rate or a schedule.
        **arguments: Further arguments of the optimizer's constructor, its own `name` among them.

    Raises:
        ValueError: No optimizer of that name, or one that does not take these arguments, or an argument that is no
            number where one is needed, or is below 0.

    Example:
        >>> named_optimizer("lazyadam", 0.01).name
        'LazyAdam'
    """
    config = arguments if learning_rate is None else {"learning_rate": learning_rate, **arguments}
    # Of a dict with its rate Keras makes the legacy one.
    named = type(optimizer_of(name.lower()))
    _check_values(named, arguments)
    try:
        return named(**config)
    except TypeError as error:
        why = _unknown(named, arguments) or f"{first_line(error)}."
        raise ValueError(
            f"The optimizer {name} cannot be made with {arguments}: {why} Correct the argument."
        ) from error


def _unknown(cls: type, given: Iterable[str]) -> str | None:
    """What is wrong with the first name that no constructor of an optimizer takes, with the one that is near."""
    known = list(_defaults(cls))
    return next(
        (str(arguments.unknown_argument(cls.__name__, name, known)) for name in given if name not in known), None
    )


def _check_values(cls: type, given: Mapping[str, Any]) -> None:
    """Checks numbers and switches, which Keras looks at late or never: a clip at -1 would turn gradients round."""
    defaults = _defaults(cls)
    for name, value in given.items():
        default = defaults.get(name)
        if value is None and default is None:
            continue
        if name in _DECAYS:
            arguments.share(name, value)
        elif isinstance(default, bool):
            arguments.switch(name, value)
        elif name in _LIMITS or (isinstance(default, int | float) and default >= 0 and name != "learning_rate"):
            arguments.not_negative(name, value)


def _defaults(cls: type) -> dict[str, Any]:
    """What the constructors of an optimizer take by name, with the defaults; those of a subclass first."""
    made = [signature(getattr_static(one, "__init__")) for one in cls.__mro__ if "__init__" in vars(one)]
    found: dict[str, Any] = {}
    for one in (parameter for each in made for parameter in each.parameters.values()):
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != "self":
            found.setdefault(one.name, one.default)
    return found


def default_rate(name: str) -> float:
    """Returns the rate that an optimizer has if none is given.

    Args:
        name: `"lazyadam"`, `"lazyadagrad"`, or a Keras optimizer's.

    Raises:
        ValueError: No optimizer of that name.

    Example:
        >>> default_rate("lazyadagrad")
        0.05
    """
    parameters = signature(type(optimizer_of(name.lower()))).parameters.values()
    return next(float(parameter.default) for parameter in parameters if parameter.name == "learning_rate")


_DECAYS = ("beta_1", "beta_2", "rho", "ema_momentum")  # of what an optimizer remembers
_LIMITS = ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay")  # numbers that by default there are none of
_ROW_WISE = {"lazyadam": LazyAdam, "lazyadagrad": LazyAdagrad}


def _merged(gradient: Any) -> Any:
    """A sparse gradient with the values of equal indices added up; anything else as it is."""
    if not isinstance(gradient, tf.IndexedSlices) or _are_distinct(gradient.indices):
        return gradient
    indices, positions = tf.unique(gradient.indices, tf.int64)
    shape = gradient.values.shape[1:]
    width = shape.num_elements()  # known: `added_rows` cuts what is wide
    values = tf.reshape(gradient.values, [-1, width] if width else [tf.size(positions), -1])
    merged = added_rows(values, positions, tf.size(indices))
    merged = tf.reshape(merged, tf.concat([[tf.size(indices)], tf.shape(gradient.values)[1:]], axis=0))
    return tf.IndexedSlices(tf.ensure_shape(merged, [None, *shape]), indices, gradient.dense_shape)


def _are_distinct(indices: tf.Tensor) -> bool:
    """Whether the graph shows them to be what `tf.unique` returned, as those of `FusedEmbedding` in training are."""
    if not tf.is_symbolic_tensor(indices):
        return False
    while indices.op.type in ("Reshape", "Identity"):
        indices = indices.op.inputs[0]
    return indices.op.type == "Unique" and indices.value_index == 0
