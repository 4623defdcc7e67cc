"""Published ranking models: `RankingModel` with each paper's interaction, structure and sizes as defaults."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.ranking import RankingModel

_Model = TypeVar("_Model", bound=RankingModel)


def with_defaults(**defaults: Any) -> Callable[[type[_Model]], type[_Model]]:
    """Returns a decorator that gives a class of models other defaults; every argument can still be given.

    The models of this module have the sizes that the paper or its authors' code uses on Criteo, where it gives any, and
    numbers enter as value × vector unless the docstring says otherwise. Optimizer, batch size and vocabulary are the
    user's.

    Args:
        **defaults: Keyword arguments of the class, and what they are if not given.

    Raises:
        TypeError: The class has no such keyword argument.

    Example:
        >>> @with_defaults(interaction="cross", hidden_units=(8,))
        ... class SmallCross(RankingModel):
        ...     pass
        >>> SmallCross(dropout=0.1).hidden_units
        (8,)
    """

    def decorate(cls: type[_Model]) -> type[_Model]:
        inherited = cls.__init__
        known = signature(inherited).parameters
        for name in defaults:
            if name not in known or known[name].kind is not Parameter.KEYWORD_ONLY:
                raise TypeError(f"{cls.__name__} has no keyword argument {name!r}. Correct or remove it.")

        @wraps(inherited)
        def __init__(
            self: Any,
            features: FeatureSpec | Sequence[Feature] | dict[str, Any] | None = None,
            **config: Any,
        ) -> None:
            inherited(self, features, **{**defaults, **config})

        __init__.__qualname__ = f"{cls.__qualname__}.__init__"
        parameters = [p.replace(default=defaults.get(p.name, p.default)) for p in known.values()]
        # The function's, not the class's: a subclass that writes an __init__ of its own has that one's signature.
        __init__.__signature__ = signature(inherited).replace(parameters=parameters)  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[method-assign]
        return cls

    return decorate


@keras.utils.register_keras_serializable(package="nfm_tfrs", name="FactorizationMachine")  # FM is the block's name
@with_defaults(interaction="fm", hidden_units=())
class FM(RankingModel):
    """Factorization Machine.

        ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩

    Differs from `RankingModel` by the block, whose logit is added as it is, and by having no tower.

    Reference:
        Rendle, Factorization Machines, ICDM 2010, eq. 1.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(interaction="field_weighted_fm", hidden_units=(), embedding_dim=10)
class FwFM(RankingModel):
    """Field-weighted Factorization Machine.

        ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} r_ij ⟨v_i, v_j⟩

    Differs from `FM` by the learnt weight r_ij of each pair of fields. The first-order term is one weight for each
    value, as in FM. The paper also tries ⟨v_i, w_f⟩ with a vector of each field f.

    Reference:
        Pan et al., Field-weighted Factorization Machines for Click-Through Rate Prediction in Display Advertising,
        WWW 2018.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(interaction="field_matrixed_fm", hidden_units=())
class FmFM(RankingModel):
    """Field-matrixed Factorization Machine.

        ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i M_ij, v_j⟩

    Differs from `FM` by the learnt matrix M_ij of each pair of fields. All fields have embeddings of one length; the
    paper also lets it differ by field.

    Reference:
        Sun et al., FM²: Field-matrixed Factorization Machines for Recommender Systems, WWW 2021.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=256,
    interaction={"name": "attention_fm", "config": {"attention_units": 256}},
    hidden_units=(),
    interaction_dropout=0.5,
)
class AFM(RankingModel):
    """Attentional Factorization Machine.

        ŷ = w_0 + Σ_i w_i x_i + pᵀ Σ_{i<j} a_ij (v_i ⊙ v_j)

    Differs from `RankingModel` by the block, by dropout on what it returns, and by having no tower. p is the head.

    Reference:
        Xiao et al., Attentional Factorization Machines, IJCAI 2017, eq. 6.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(embedding_dim=32, interaction="concat", hidden_units=(1024, 512, 256))
class WideDeep(RankingModel):
    """Wide & Deep.

        ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN(v)

    Differs from `RankingModel` by having no interaction before the tower. The wide part is the first-order term: the
    paper's crossed columns are features that the user makes.

    Reference:
        Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction="fm",
    structure="parallel",
    hidden_units=(400, 400, 400),
    dropout=0.5,
)
class DeepFM(RankingModel):
    """FM and a tower side by side, on the same embeddings.

        ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ + hᵀ DNN(v)

    Differs from `RankingModel` by the block, whose logit is added as it is, and by the structure.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> features = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "film")]
        >>> DeepFM(features, hidden_units=(16,)).structure
        'parallel'

    Reference:
        Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017, eq. 1 to 4.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction={
        "name": "cin",
        "config": {"layer_sizes": [200, 200, 200], "split_half": False, "activation": "linear"},
    },
    structure="parallel",
    hidden_units=(400, 400),
)
class XDeepFM(RankingModel):
    """Compressed interaction network beside a tower.

        ŷ = w_0 + Σ_i w_i x_i + hᵀ [CIN(v), DNN(v)]

    Differs from `RankingModel` by the block and the structure. CIN's maps are linear and all go on to the next layer.
    The block's `split_half` and other activations are those of later code.

    Reference:
        Lian et al., xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems, KDD 2018,
        section 3.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    interaction={"name": "cross", "config": {"kind": "vector", "num_layers": 6}},
    structure="parallel",
    hidden_units=(1024, 1024),
    batch_norm=True,
    linear=False,
)
class DCN(RankingModel):
    """Deep & Cross Network.

        ŷ = w_0 + hᵀ [cross(v), DNN(v)],  cross: x_{l+1} = x_0 (wᵀ x_l) + b + x_l

    Differs from `RankingModel` by the block, the structure, BatchNorm in the tower, and by having no first-order term.

    Reference:
        Wang et al., Deep & Cross Network for Ad Click Predictions, ADKDD 2017, section 2.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=39,
    interaction={"name": "cross", "config": {"kind": "matrix", "num_layers": 2}},
    hidden_units=(768, 768),
    linear=False,
)
class DCNv2(RankingModel):
    """DCN V2, stacked.

        ŷ = w_0 + hᵀ DNN(cross(v)),  cross: x_{l+1} = x_0 ⊙ (W x_l + b) + x_l

    Differs from `RankingModel` by the block and by having no first-order term. `structure="parallel"` is the paper's
    other form, and the block takes a W of low rank or a mixture as well.

    Reference:
        Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank
        Systems, WWW 2021, section 3.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    interaction="gated_cross",
    hidden_units=(400, 400, 400),
    batch_norm=True,
    dropout=0.5,
    linear=False,
)
class GDCN(RankingModel):
    """Gated Deep Cross Network, stacked.

        ŷ = w_0 + hᵀ DNN(cross(v)),  cross: x_{l+1} = x_0 ⊙ (W x_l + b) ⊙ σ(G x_l) + x_l

    Differs from `RankingModel` by the block, BatchNorm and dropout in the tower, and by having no first-order term.
    `structure="parallel"` is the paper's other form.

    Reference:
        Wang et al., Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction, CIKM 2023.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction="inner_product",
    structure="concat",
    hidden_units=(300, 300, 300),
    dropout=0.5,
    linear=False,
)
class PNN(RankingModel):
    """Product-based Neural Network, with inner products (IPNN).

        ŷ = w_0 + hᵀ DNN([⟨v_i, v_j⟩ of each pair, v])

    Differs from `RankingModel` by the block, the structure, dropout in the tower, and by having no first-order term.
    `interaction="outer_product"` makes OPNN of it, and a list of both blocks PNN*.

    Reference:
        Qu et al., Product-based Neural Networks for User Response Prediction, ICDM 2016, section III.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=16,
    interaction="inner_product",
    numeric="bottom_mlp",
    bottom_units=(512, 256, 64),
    hidden_units=(512, 256),
    linear=False,
)
class DLRM(RankingModel):
    """Deep Learning Recommendation Model.

        ŷ = w_0 + hᵀ DNN([⟨v_i, v_j⟩ of each pair, u]),  u = MLP(numbers) one of the v

    Differs from `RankingModel` by the block, by the numbers, which go through a network of their own, and by having no
    first-order term.

    Reference:
        Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    interaction={"name": "self_attention", "config": {"num_layers": 3, "num_heads": 2, "attention_dim": 32}},
    hidden_units=(),
    linear=False,
)
class AutoInt(RankingModel):
    """Multi-head self-attention between fields.

        ŷ = w_0 + hᵀ [e'_1, …, e'_n],  e'_i what the last layer of attention makes of v_i

    Differs from `RankingModel` by the block and by having neither tower nor first-order term.
    `structure="parallel"` with `hidden_units` is the paper's AutoInt+.

    Reference:
        Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019,
        eq. 5 to 9.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(embedding_dim=10, interaction="bilinear", hidden_units=(400, 400, 400), dropout=0.5)
class FiBiNET(RankingModel):
    """Feature importance and bilinear interaction.

        ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN([q, p]),  p the pairs (v_i W) ⊙ v_j, q those of the fields SENET reweights

    Differs from `RankingModel` by the block and by dropout in the tower. The block also takes a W for each field or for
    each pair. `hidden_units=()` is close to the paper's shallow form, which adds up what the head weighs here.

    Reference:
        Huang et al., FiBiNET: Combining Feature Importance and Bilinear Feature Interaction for Click-Through Rate
        Prediction, RecSys 2019, section 3.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction={"name": "mask", "config": {"num_blocks": 5}},
    hidden_units=(400, 400, 400),
    linear=False,
)
class MaskNet(RankingModel):
    """MaskNet, with parallel MaskBlocks.

        ŷ = w_0 + hᵀ DNN([o_1, …, o_K]),  o_k the k-th MaskBlock of v

    Differs from `RankingModel` by the block and by having no first-order term.
    `interaction={"name": "mask", "config": {"kind": "serial"}}` with `hidden_units=()` is the paper's serial form.

    Reference:
        Wang et al., MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided Mask,
        DLP-KDD 2021, section 3.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction={
        "name": "two_stream",
        "config": {"first_units": [400, 400, 400], "second_units": [400, 400, 400], "num_heads": 50},
    },
    hidden_units=(),
    linear=False,
)
class FinalMLP(RankingModel):
    """Two gated towers whose bilinear fusion is the logit.

        ŷ = w_0 + w_1ᵀ o_1 + w_2ᵀ o_2 + Σ_h o_1hᵀ W_h o_2h,  o_s = MLP_s(gate_s ⊙ v)

    Differs from `RankingModel` by the block, whose logit is added as it is, and by having neither tower nor first-order
    term. The gates read learnt vectors. With the block's contexts they read fields, as of the user and of the item.

    Reference:
        Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, AAAI 2023.
    """


@keras.utils.register_keras_serializable(package="nfm_tfrs")
@with_defaults(
    embedding_dim=10,
    interaction={"name": "logarithmic", "config": {"neurons": 1500}},
    hidden_units=(400, 400, 400),
    batch_norm=True,
    linear=False,
)
class AFN(RankingModel):
    """Adaptive Factorization Network.

        ŷ = w_0 + hᵀ DNN(BatchNorm(exp(W BatchNorm(ln |v|))))

    Differs from `RankingModel` by the block, BatchNorm in the tower, and by having no first-order term. The paper's
    AFN+, with a second network on embeddings of its own, is not among the models.

    Reference:
        Cheng et al., Adaptive Factorization Network: Learning Adaptive-Order Feature Interactions, AAAI 2020.
    """
