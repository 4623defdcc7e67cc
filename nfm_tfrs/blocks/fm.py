"""The pairwise term of a Factorization Machine."""

from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.keras_compat import keras, tf


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FM(BiInteraction):
    """Inner products of all pairs of field embeddings, summed in linear time.

        y(V) = Σ_{i<j} ⟨v_i, v_j⟩ = ½ Σ_d [(Σ_i v_id)² - Σ_i v_id²]

    Bi-Interaction with a head of ones. Fields whose mask is False count as zero vectors.

    Returns:
        A logit, float32 `[batch, 1]` under every dtype policy.

    Raises:
        ValueError: At build, for anything but `[batch, fields, dim]` with two fields or more.

    Example:
        >>> FM()(tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).numpy().tolist()
        [[67.0]]

    Reference:
        Rendle, Factorization Machines, ICDM 2010, eq. 1 and lemma 3.1.
    """

    returns_logit = True

    def from_sums(self, total: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(super().from_sums(total, squares), axis=1, keepdims=True)
