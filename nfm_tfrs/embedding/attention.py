"""Target attention: the values of a bag, each weighed by how it fits what the row is about, pooled to one row."""

import itertools
from collections.abc import Callable
from typing import Any

from nfm_tfrs.blocks.batch_norm import BatchNormalization, column_sums
from nfm_tfrs.blocks.half import half_matmul
from nfm_tfrs.embedding.pooling import row_ids
from nfm_tfrs.embedding.row_sums import copied_rows, weighed_sums
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights

_EPSILON = 1e-9  # DeepCTR's; the paper has 1e-8
_SMALLEST = -3e38
_DICE, _PRELU = "dice", "prelu"


class Dice(BatchNormalization):
    """The activation of DIN, which bends where the inputs of a batch lie.

        f(x) = p x + (1 - p) α x,  p = sigmoid((x - mean) / √(variance + ε))

    with a learnt α of each channel, 0 at first; mean and variance are those of the batch in training, and moving
    averages afterwards. A batch without any value leaves the averages as they are.

    Args:
        **kwargs: As in Keras' BatchNormalization, but for `center`, `scale` and `epsilon`.

    Returns:
        float32, the shape of the input.

    Reference:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, eq. 9.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(center=False, scale=False, epsilon=_EPSILON, **kwargs)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.alpha = self.add_weight(
            "alpha", [input_shape[-1]], tf.float32, initializer="zeros", experimental_autocast=False
        )

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        training = keras.backend.learning_phase() if training is None else training
        if not isinstance(training, bool | int):  # a tensor
            return self._with_share(inputs, super().call(inputs, training=training, mask=mask))
        if not training or not self.trainable:
            scale = tf.math.rsqrt(self.moving_variance + self.epsilon)
            return self._with_share(inputs, (inputs - self.moving_mean) * scale)
        steps = self._steps()
        outputs, mean, variance = _bent(inputs, self.alpha, self.epsilon)
        some = tf.cast(tf.shape(inputs)[0] > 0, tf.float32)
        moved = some * (1.0 - self._momentum_after(steps))
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_sub((average - value) * moved)
        self.warmed_steps.assign(steps + some)
        return outputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("center", "scale", "epsilon")}

    def _with_share(self, inputs: tf.Tensor, normalised: tf.Tensor) -> tf.Tensor:
        return inputs * (self.alpha + (1.0 - self.alpha) * tf.sigmoid(normalised))


def _bent(inputs: tf.Tensor, alpha: Any, epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Dice of `[values, channels]` by its own moments, and these, [channels]; the gradient is written out.

    With p' = p (1 - p), x̂ the normalised inputs, d = g x (1 - α) p' and n values,

        dx = g (p + (1 - p) α) + (d - Σ d / n - x̂ Σ (d x̂) / n) / σ

    which touches the `[values, channels]` a third as often as the gradients of the single operations.
    """
    values = tf.cast(tf.maximum(tf.shape(inputs)[0], 1), tf.float32)

    @tf.custom_gradient
    def bent(inputs: tf.Tensor, alpha: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Any]:
        mean = column_sums(inputs) / values
        centred = inputs - mean
        variance = column_sums(centred * centred) / values
        inverse = tf.math.rsqrt(variance + epsilon)
        share = tf.sigmoid(centred * inverse)

        def gradient(upstream: tf.Tensor, *_: Any) -> tuple[tf.Tensor, tf.Tensor]:
            through = upstream * inputs
            rest = 1.0 - share
            bending = through * (share * rest)
            # Σ (d x̂) and Σ d, without (1 - α) / σ, which is of the channel.
            along, level = column_sums(bending * centred), column_sums(bending)
            scale = (1.0 - alpha) * inverse
            slope = tf.square(inverse) * along / values
            of_inputs = upstream * (alpha + (1.0 - alpha) * share) + scale * (
                bending - (level / values + slope * centred)
            )
            return of_inputs, column_sums(through * rest)

        return (inputs * (alpha + (1.0 - alpha) * share), mean, variance), gradient

    return bent(inputs, tf.convert_to_tensor(alpha))


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class TargetAttention(LaterWeights, keras.layers.Layer):
    """Pools bags of rows, each value weighed by a network that sees it beside the target of its row.

        a_j = MLP([e_j, e_t, e_j - e_t, e_j ⊙ e_t]),  pooled = Σ_j w_j a_j row_j

    The first kernel, `[4 dim, units]`, has the four parts in this order. The network runs on the values alone, one
    behind another: nothing is padded. Its products are in the compute dtype, all else float32. An empty bag is zero.

    Args:
        dim: Length of an embedding; what a row holds behind it, its first-order weight, is pooled with the rest.
        attention: Settings, an `Attention` or what its `to_dict` returned.
        max_length: Most values of a bag, where positions are learnt.

    Returns:
        float32 `[batch, width]`.

    Raises:
        ValueError: A dim below 1, an activation that Keras does not know, or positions without a max_length.

    Example:
        >>> layer = TargetAttention(3, Attention(units=(4,), activation="relu"))
        >>> layer(tf.ragged.constant([[[1.0, 2.0, 3.0]], []], ragged_rank=1), tf.ones([2, 3])).shape
        TensorShape([2, 3])

    Reference:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, eq. 3.
    """

    def __init__(
        self,
        dim: int,
        attention: Attention | dict[str, Any] | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.dim = dim
        self.attention = attention if isinstance(attention, Attention) else Attention(**(attention or {}))
        self.max_length = max_length
        if dim < 1 or (self.attention.positions and max_length is None):
            raise ValueError(
                "TargetAttention needs a dim of 1 or more, and a max_length for positions; received "
                f"dim={dim}, max_length={max_length}."
            )
        dtype: Any = {"dtype": "float32"}
        makers: dict[str, Callable[..., Any]] = {_DICE: Dice, _PRELU: keras.layers.PReLU}
        make = makers.get(self.attention.activation)
        if make is None:
            make, dtype = keras.layers.Activation, {**dtype, "activation": _known(self.attention.activation)}
        self._activations = [make(**dtype) for _ in self.attention.units]

    def build(self, input_shape: Any) -> None:
        kernels, positions = attention_shapes(self.dim, self.attention, self.max_length)
        own: Any = {"dtype": tf.float32, "experimental_autocast": False}
        self._kernels, self._biases = [], []
        for number, shape in enumerate(kernels):
            self._kernels.append(self.add_weight(f"kernel_{number}", shape, **own))
            self._biases.append(self.add_weight(f"bias_{number}", shape[1:], initializer="zeros", **own))
        for number, (activation, units) in enumerate(zip(self._activations, self.attention.units, strict=True)):
            with tf.name_scope(f"{self.attention.activation}_{number}"):  # old HDF5 files know weights by their names
                activation.build(tf.TensorShape([None, units]))
            activation.input_spec = None  # padded bags have an axis more
        for shape in positions:  # zeros: at first no place differs from another
            self._positions = self.add_weight("positions", shape, initializer="zeros", **own)
        super().build(input_shape)

    def call(
        self,
        history: tf.RaggedTensor,
        targets: tf.Tensor,
        weights: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Pools ragged bags.

        Args:
            history: Rows of the values of each bag, float32 `[batch, None, width]`.
            targets: Row of each bag's target, float32 `[batch, width]`.
            weights: The values' own weights, float32 `[values]`; all 1 if not given.
            training: Whether Dice takes the moments of these values.
        """
        rows, batch = history.values, history.nrows()
        of_row = row_ids(history.with_values(rows[:, 0]))
        seen = rows[:, : self.dim]
        if self.attention.positions:  # counted from the first value, in a history the newest, whose place is 0
            starts = tf.cast(tf.gather(history.row_splits, of_row), tf.int64)
            places = tf.range(tf.size(of_row, tf.int64)) - starts
            seen += copied_rows(tf.convert_to_tensor(self._positions), self._place(places))
        # Read once for each value; the gradients of a target's values are added up at once.
        scores = self._scores(seen, copied_rows(targets[:, : self.dim], of_row), training)
        if self.attention.softmax:
            scores = _softmax(scores, of_row, batch)
        return weighed_sums(rows, scores if weights is None else scores * weights, of_row, batch)

    def padded(
        self, rows: tf.Tensor, targets: tf.Tensor, there: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Pools bags of one length as `call` does ragged ones, by plain operations and outside of training.

        Args:
            rows: float32 `[batch, length, width]`.
            targets: Row of each bag's target, float32 `[batch, width]`.
            there: Which of the rows there are, bool `[batch, length]`.
            weights: The values' own weights, float32 `[batch, length]`; all 1 if not given.

        Returns:
            float32 `[batch, width]`.
        """
        seen = rows[:, :, : self.dim]
        if self.attention.positions:
            # Values before this one; an unfilled place reads any row.
            places = tf.cumsum(tf.cast(there, tf.int32), axis=1, exclusive=True)
            seen += tf.gather(self._positions, self._place(places))
        # In three axes: ONNX cannot reshape what has no value.
        scores = self._scores(seen, tf.zeros_like(seen) + targets[:, None, : self.dim], False)  # [batch, length]
        if self.attention.softmax:
            scores = tf.where(there, scores, _SMALLEST)
            # Of no value at all the length is 0, and the largest of it would be -inf.
            largest = tf.reduce_max(tf.pad(scores, [[0, 0], [0, 1]], constant_values=_SMALLEST), axis=1, keepdims=True)
            powers = tf.where(there, tf.exp(scores - largest), 0.0)
            total = tf.reduce_sum(powers, axis=1, keepdims=True)
            scores = powers / tf.where(total > 0.0, total, 1.0)
        scores = scores if weights is None else scores * weights
        return tf.reduce_sum(rows * tf.where(there, scores, 0.0)[:, :, None], axis=1)

    def _place(self, places: tf.Tensor) -> tf.Tensor:
        """Places that have a vector; those beyond share the last one, as in a batch that was encoded elsewhere."""
        return tf.minimum(places, self._positions.shape[0] - 1)

    def _scores(self, seen: tf.Tensor, targets: tf.Tensor, training: bool | None) -> tf.Tensor:
        """What the network says of values beside their targets, twice [..., dim] → float32 [...]."""
        first, *others = self._kernels
        of_seen, of_target, of_difference, of_product = tf.split(tf.convert_to_tensor(first), 4, axis=0)
        # e_j - e_t is in the span of the two: without it the widest product and its gradient cost a quarter less.
        kernel = tf.concat([of_seen + of_difference, of_target - of_difference, of_product], axis=0)
        hidden = tf.concat([seen, targets, seen * targets], axis=-1)  # [..., 3 dim]
        hidden = half_matmul(hidden, kernel, self.compute_dtype) + self._biases[0]
        for activation, kernel, bias in zip(self._activations, others, self._biases[1:], strict=True):
            takes = {"training": training} if isinstance(activation, Dice) else {}
            hidden = half_matmul(activation(hidden, **takes), kernel, self.compute_dtype) + bias
        return tf.squeeze(hidden, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "attention": self.attention.to_dict(),
            "max_length": self.max_length,
        }


def attention_shapes(dim: int, attention: Attention, max_length: int | None) -> tuple[list[list[int]], list[list[int]]]:
    """Returns the shapes of a `TargetAttention`'s kernels, whose columns have a bias each, and of its positions.

    Args:
        dim: Length of an embedding.
        attention: The settings.
        max_length: Most values of a bag.

    Returns:
        Those of the kernels, in their order, and that of the positions; none where there are none.
    """
    kernels = [list(pair) for pair in itertools.pairwise([4 * dim, *attention.units, 1])]
    return kernels, [[max_length or 0, dim]] if attention.positions else []


def _softmax(scores: tf.Tensor, of_row: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """The softmax of each row's values, [values]: by its largest score, whatever that is."""

    @tf.custom_gradient
    def normalised(scores: tf.Tensor) -> tuple[tf.Tensor, Any]:
        largest = tf.math.unsorted_segment_max(scores, of_row, batch)
        powers = tf.exp(scores - tf.gather(largest, of_row))
        shares = powers / tf.gather(tf.math.unsorted_segment_sum(powers, of_row, batch), of_row)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            means = tf.math.unsorted_segment_sum(upstream * shares, of_row, batch)
            return shares * (upstream - tf.gather(means, of_row))

        return shares, gradient

    return normalised(scores)


def _known(activation: str) -> str:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise ValueError(
            f'activation of an Attention must be "dice", "prelu" or the name of a Keras activation; received '
            f"{activation!r:.60}."
        ) from error
    return activation
