"""The contract of an interaction block."""

from typing import Any, NamedTuple

from nfm_tfrs import arguments
from nfm_tfrs.keras_compat import forgotten_gradients, keras, tf

_OF_KERAS = (
    *("name", "trainable", "dtype", "dynamic", "autocast", "weights", "activity_regularizer", "implementation"),
    *("input_dim", "input_shape", "batch_input_shape", "batch_size"),
)  # what its layers take


class Cost(NamedTuple):
    """What a block costs.

    Attributes:
        parameters: Number of its weights.
        flops: Floating-point operations of one example's forward pass, as TensorFlow's profiler counts them:
            a multiply-add is two; `einsum`, `exp`, `tanh` and their like are not counted.
    """

    parameters: int
    flops: int


class InteractionBlock(keras.layers.Layer):
    """A layer from field embeddings `[batch, fields, dim]` to interactions `[batch, units]`.

    A subclass writes `call(embeddings, mask=None)` with `mask` bool `[batch, fields]` (None: every field is there)
    and, if it has arguments worth searching, `search_space`; `get_config` returns every argument of the constructor.
    A field whose mask is False counts as absent, whatever its embedding holds. A block never sets `supports_masking`:
    Keras would pass the `[batch, fields]` mask on to the `[batch, units]` output. `nfm_tfrs.testing.check_block` says
    whether a block keeps the contract.

    Attributes:
        min_fields: Fewest fields the block can work on.
        dynamic_fields: Whether the number of fields may be unknown when the block is built, and differ by batch.
        returns_logit: Whether the output, `[batch, 1]`, is a score of its own: where no tower follows, it is added
            to the logit without a weight.
        numeric_range: Standard deviations of embeddings between which mixed precision gives what float32 does, to
            2e-3 (float16) and 1e-2 (bfloat16) of the output's norm.

    Raises:
        TypeError: An argument that the block does not take.
        ValueError: At build, for a wrong rank, an unknown dim, too few fields, or an unknown number of fields.
    """

    min_fields = 2
    dynamic_fields = False
    returns_logit = False
    numeric_range = (1e-2, 1.0)

    def __init__(self, **kwargs: Any) -> None:
        arguments.check_arguments(type(self), kwargs, InteractionBlock, _OF_KERAS)
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        """Checks the shape; a subclass with weights calls this first, then adds them."""
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3:
            raise ValueError(
                f"{self.name} needs [batch, fields, dim]; received shape {shape}. Stack the fields on axis 1."
            )
        fields, dim = shape[1], shape[2]
        if dim is None:
            raise ValueError(
                f"{self.name} needs a known embedding dim; received shape {shape}. Set the last dimension."
            )
        problem = misfit(self, fields)
        if problem is not None:
            remedy = "Give features with combiner=None a max_length." if fields is None else "Add a feature."
            raise ValueError(f"{self.name} {problem}. {remedy}")
        if not self.dynamic_fields:  # a block is built once, and refuses any other shape from then on
            self.input_spec = keras.layers.InputSpec(ndim=3, axes={1: fields, 2: dim})
        super().build(input_shape)

    def add_float32_weight(self, name: str, shape: Any, initializer: Any = "glorot_uniform") -> Any:
        """Returns a new weight that stays float32 where it is used, whatever the policy; `add_weight`'s do not."""
        return self.add_weight(name, shape, tf.float32, initializer, experimental_autocast=False)

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        """Returns constructor arguments drawn from `hp`, anything with KerasTuner's `Int`, `Float`, `Choice`, …"""
        del hp
        return {}

    def cost(self, fields: int, dim: int) -> Cost:
        """Returns what the block costs in float32, whether it is built or not.

        Args:
            fields: Number of fields.
            dim: Length of an embedding.

        Raises:
            ValueError: The block does not fit them; `build` says why.

        Example:
            >>> from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM
            >>> FieldWeightedFM().cost(fields=39, dim=16).parameters
            741
        """
        twin = type(self).from_config({**self.get_config(), "dtype": "float32"})  # half precision adds some for scaling
        signature = tf.TensorSpec([1, fields, dim], twin.compute_dtype)
        with forgotten_gradients():
            graph = tf.function(twin, autograph=False).get_concrete_function(signature).graph
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        flops = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
        return Cost(twin.count_params(), flops)


def misfit(block: Any, fields: int | None) -> str | None:
    """Returns why a block cannot work on so many fields, as `needs …; received …`; None where it can.

    Args:
        block: An `InteractionBlock`, or its class.
        fields: Number of fields; None where it differs by batch.

    Example:
        >>> misfit(InteractionBlock, 1)
        'needs at least 2 fields; received 1'
    """
    if fields is None:
        return None if block.dynamic_fields else "needs a known number of fields; received one that differs by batch"
    return None if fields >= block.min_fields else f"needs at least {block.min_fields} fields; received {fields}"


class PooledBlock(InteractionBlock):
    """A block that needs the embeddings v of the fields by Σ v and Σ v² only, as FM and Bi-Interaction do.

    A subclass writes `from_sums` instead of `call`. A model in training can then take both sums from the table's
    distinct rows, without the `[batch, fields, dim]` of their embeddings. A subclass that writes `call` after all is
    called with embeddings, like any block.
    """

    dynamic_fields = True

    def from_sums(self, total: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
        """Returns the interactions, float32 `[batch, units]`.

        Args:
            total: Σ v, float32 `[batch, dim]`.
            squares: Σ v², element by element, float32 `[batch, dim]`.
        """
        raise NotImplementedError

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        # float32 before the sum and the square: half precision overflows at means of 8.
        return self.from_sums(*_sums(present(embeddings, mask)))


def by_sums(block: Any) -> bool:
    """Returns whether a block is given sums instead of embeddings."""
    return isinstance(block, PooledBlock) and type(block).call is PooledBlock.call


@tf.custom_gradient
def _sums(embeddings: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Any]:
    """[batch, fields, dim] → Σ v and Σ v², [batch, dim], with one gradient for both."""

    def gradient(total: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
        return total[:, None, :] + 2.0 * squares[:, None, :] * embeddings

    return (tf.reduce_sum(embeddings, axis=1), tf.reduce_sum(embeddings * embeddings, axis=1)), gradient


def present(embeddings: tf.Tensor, mask: tf.Tensor | None, dtype: Any = tf.float32) -> tf.Tensor:
    """Returns the embeddings in `dtype`, with zeros where the mask is False."""
    embeddings = tf.cast(embeddings, dtype)
    # where, not a product: what stands in an absent field may be infinite.
    return embeddings if mask is None else tf.where(mask[:, :, None], embeddings, tf.zeros([], dtype))


def field_pairs(fields: int) -> list[tuple[int, int]]:
    """Returns the pairs i < j of fields, (0, 1), (0, 2), …, (1, 2), …: the order of every block on pairs."""
    return [(i, j) for i in range(fields) for j in range(i + 1, fields)]


def flat(embeddings: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, fields, dim]` as `[batch, fields · dim]`."""
    return tf.reshape(embeddings, [-1, embeddings.shape[1] * embeddings.shape[2]])
