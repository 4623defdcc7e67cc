"""Logarithmic neurons: products of fields, each to a learnt power."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, present
from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Logarithmic(LaterWeights, InteractionBlock):
    """The logarithmic transformation layer of AFN.

        y_j = exp(Σ_i w_ij ln u_i) = Π_i u_i^{w_ij}, element by element, u_i = |v_i| + ε

    so that each neuron learns which fields it multiplies, and the order. BatchNorm stands behind the logarithm and
    behind the exponential, as in the paper. All is float32.
    Fields whose mask is False are left out of the products.

    Args:
        neurons: Number of logarithmic neurons, each a product of powers.
        batch_norm: Whether to normalise; without, products of many small embeddings are huge or vanish.
        epsilon: Number ε that is added to make embeddings of zero positive.

    Returns:
        float32 `[batch, neurons · dim]`.

    Raises:
        ValueError: An argument out of range; at build, an unknown number of fields.

    Example:
        >>> Logarithmic(neurons=4)(tf.ones([8, 3, 5])).shape
        TensorShape([8, 20])

    Reference:
        Cheng et al., Adaptive Factorization Network: Learning Adaptive-Order Feature Interactions, AAAI 2020:
        the logarithmic transformation layer.
    """

    min_fields = 1
    numeric_range = (1e-4, 30.0)

    def __init__(self, neurons: int = 64, *, batch_norm: bool = True, epsilon: float = 1e-4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neurons = arguments.count("neurons", neurons)
        self.batch_norm = arguments.switch("batch_norm", batch_norm)
        self.epsilon = arguments.positive("epsilon", epsilon)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = [input_shape[1], self.neurons]
        # float32 throughout: an error of 1e-3 in a logarithm is one of 1e-3 · |w| in the product.
        small = keras.initializers.RandomNormal(stddev=0.1)  # each ln of a fresh embedding is about -5
        self._powers = self.add_float32_weight("powers", shape, small)
        dim = input_shape[2]
        self._log_norm: Any = self._norm("log_norm", [None, dim, input_shape[1]])
        self._exp_norm: Any = self._norm("exp_norm", [None, dim, self.neurons])

    def _norm(self, name: str, shape: Sequence[int | None]) -> Any:
        if not self.batch_norm:
            return None
        norm = BatchNormalization(dtype="float32", name=name)
        with tf.name_scope(name):  # weights of their own names, which .h5 files go by
            norm.build(shape)
        return norm

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        dim = embeddings.shape[2]
        # [batch, dim, fields]: the norms are of a field or a neuron, over batch and dim
        embeddings = tf.transpose(present(embeddings, mask), [0, 2, 1])
        # Not tf.abs, which has no gradient at zero, where the rows of unknown values start.
        logarithms = tf.math.log(tf.where(embeddings < 0.0, -embeddings, embeddings) + self.epsilon)
        if self._log_norm is not None:
            if mask is not None:  # at the mean, where an absent field moves no statistics away
                logarithms = tf.where(mask[:, None, :], logarithms, self._log_norm.moving_mean)
            logarithms = self._log_norm(logarithms, training=training)
        if mask is not None:
            logarithms = tf.where(mask[:, None, :], logarithms, 0.0)
        products = tf.exp(tf.matmul(logarithms, self._powers))  # [batch, dim, neurons]
        if self._exp_norm is not None:
            products = self._exp_norm(products, training=training)
        return tf.reshape(tf.transpose(products, [0, 2, 1]), [-1, self.neurons * dim])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "neurons": self.neurons,
            "batch_norm": self.batch_norm,
            "epsilon": self.epsilon,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {"neurons": hp.Choice("neurons", [16, 64, 256], default=64)}
