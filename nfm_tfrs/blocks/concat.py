"""No interaction: the embeddings side by side, as a plain DNN takes them."""

from nfm_tfrs.blocks.base import InteractionBlock, flat, present
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Concat(InteractionBlock):
    """The concatenated embeddings.

        f(V) = [v_1, …, v_n]

    All interaction is left to the tower. Fields whose mask is False are zero vectors.

    Returns:
        `[batch, fields · dim]` in the compute dtype.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with a known number of fields.

    Example:
        >>> Concat()(tf.constant([[[1.0, 2.0], [3.0, 4.0]]])).numpy().tolist()
        [[1.0, 2.0, 3.0, 4.0]]

    Reference:
        Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016, section 3.2: the deep component's input.
    """

    min_fields = 1
    numeric_range = (1e-2, 30.0)

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        return flat(present(embeddings, mask, self.compute_dtype))
