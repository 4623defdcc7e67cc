"""Element-wise products of all pairs of field embeddings, pooled in linear time."""

from nfm_tfrs.blocks.base import PooledBlock
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class BiInteraction(PooledBlock):
    """Bi-Interaction pooling.

        f(V) = Σ_{i<j} v_i ⊙ v_j = ½ [(Σ_i v_i)² - Σ_i v_i²]

    Linear in the number of fields; fields whose mask is False count as zero vectors.

    Returns:
        float32 `[batch, dim]` under every dtype policy.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with two fields or more.

    Example:
        >>> BiInteraction()(tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).numpy().tolist()
        [[23.0, 44.0]]

    Reference:
        He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017, eq. 3 and 4.
    """

    numeric_range = (1e-4, 30.0)

    def from_sums(self, total: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
        return 0.5 * (total * total - squares)
