"""Neural Factorization Machines, as the paper and its authors' code define them."""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.interaction import Interaction
from nfm_tfrs.models.ranking import Numeric, RankingModel


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class NFM(RankingModel):
    """Neural Factorization Machine.

        ŷ(x) = w_0 + Σ_i w_i x_i + hᵀ σ_L(W_L(… σ_1(W_1 f_BI(V_x) + b_1) …) + b_L)
        f_BI(V_x) = ½ [(Σ_i x_i v_i)² - Σ_i (x_i v_i)²]

    with BatchNorm and dropout on f_BI and BatchNorm before each σ, as in the authors' code. Each part can be switched
    off. With `hidden_units=()`, neither norm nor dropout, and h = 1, it is a Factorization Machine.

    Args:
        features: See `RankingModel`, as for every argument here; this class has the paper's defaults, and passes the
            others on.
        **kwargs: Further arguments of `RankingModel`.

    Returns:
        The logit, float32 `[batch, 1]`.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> from nfm_tfrs.keras_compat import tf
        >>> model = NFM([CategoricalFeature("user", vocabulary_size=9), CategoricalFeature("film", vocabulary_size=5)])
        >>> model({"user": tf.constant([3, 4]), "film": tf.constant([0, 1])}).shape
        TensorShape([2, 1])

    Reference:
        He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017, section 3.1.
    """

    def __init__(
        self,
        features: FeatureSpec | Sequence[Feature] | dict[str, Any] | None = None,
        *,
        embedding_dim: int = 64,
        interaction: Interaction | Sequence[Interaction] = "bi_interaction",
        hidden_units: Sequence[int] = (64,),
        linear: bool = True,
        batch_norm: bool = True,
        interaction_batch_norm: bool = True,
        dropout: float = 0.2,
        interaction_dropout: float = 0.5,
        numeric: Numeric = "field",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            features,
            embedding_dim=embedding_dim,
            interaction=interaction,
            hidden_units=hidden_units,
            linear=linear,
            batch_norm=batch_norm,
            interaction_batch_norm=interaction_batch_norm,
            dropout=dropout,
            interaction_dropout=interaction_dropout,
            numeric=numeric,
            **kwargs,
        )
