"""Published ranking models: `RankingModel` with each paper's interaction and structure.

Each takes every argument of `RankingModel`; what it sets here is a default, and sizes are those that the paper or its
authors' code uses on Criteo, where it gives any. Numbers enter as value × vector unless it says otherwise. Optimizer,
batch size and vocabulary are the user's.
"""

from functools import partial

from nfm_tfrs.models.ranking import RankingModel

# ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩
FM = partial(RankingModel, interaction="fm", hidden_units=())

# FM with r_ij or M_ij between the fields of a pair
FwFM = partial(RankingModel, interaction="field_weighted_fm", hidden_units=(), embedding_dim=10)
FmFM = partial(RankingModel, interaction="field_matrixed_fm", hidden_units=())

# ŷ = w_0 + Σ_i w_i x_i + pᵀ Σ_{i<j} a_ij (v_i ⊙ v_j)
AFM = partial(
    RankingModel,
    embedding_dim=256,
    interaction={"name": "attention_fm", "config": {"attention_units": 256}},
    hidden_units=(),
    interaction_dropout=0.5,
)

# ŷ = Σ_i w_i x_i + DNN(v)
WideDeep = partial(RankingModel, embedding_dim=32, interaction="concat", hidden_units=(1024, 512, 256))

# ŷ = FM(x) + DNN(v)
DeepFM = partial(
    RankingModel,
    embedding_dim=10,
    interaction="fm",
    structure="parallel",
    hidden_units=(400, 400, 400),
    dropout=0.5,
)

# ŷ = hᵀ [DNN(v), CIN(v)] + Σ_i w_i x_i
XDeepFM = partial(
    RankingModel,
    embedding_dim=10,
    interaction={
        "name": "cin",
        "config": {"layer_sizes": [200, 200, 200], "split_half": False, "activation": "linear"},
    },
    structure="parallel",
    hidden_units=(400, 400),
)

# ŷ = hᵀ [cross(v), DNN(v)]
DCN = partial(
    RankingModel,
    interaction={"name": "cross", "config": {"kind": "vector", "num_layers": 6}},
    structure="parallel",
    hidden_units=(1024, 1024),
    batch_norm=True,
    linear=False,
)

# ŷ = hᵀ DNN(cross(v)), stacked; structure="parallel" is the paper's other form
DCNv2 = partial(
    RankingModel,
    embedding_dim=39,
    interaction={"name": "cross", "config": {"kind": "matrix", "num_layers": 2}},
    hidden_units=(768, 768),
    linear=False,
)
GDCN = partial(
    RankingModel,
    interaction="gated_cross",
    hidden_units=(400, 400, 400),
    batch_norm=True,
    dropout=0.5,
    linear=False,
)

# ŷ = hᵀ DNN([v, ⟨v_i, v_j⟩]); interaction="outer_product" makes OPNN of it
PNN = partial(
    RankingModel,
    embedding_dim=10,
    interaction="inner_product",
    structure="concat",
    hidden_units=(300, 300, 300),
    dropout=0.5,
    linear=False,
)

# ŷ = hᵀ DNN([⟨v_i, v_j⟩, bottom(numbers)]), with bottom(numbers) one of the v
DLRM = partial(
    RankingModel,
    embedding_dim=16,
    interaction="inner_product",
    numeric="bottom_mlp",
    bottom_units=(512, 256, 64),
    hidden_units=(512, 256),
    linear=False,
)

# ŷ = hᵀ [e'_1, …, e'_n] + b
AutoInt = partial(
    RankingModel,
    interaction={"name": "self_attention", "config": {"num_layers": 3, "num_heads": 2, "attention_dim": 32}},
    hidden_units=(),
    linear=False,
)

# ŷ = w_0 + Σ_i w_i x_i + DNN([q, p]), pairs of the reweighted and of the plain fields
FiBiNET = partial(RankingModel, embedding_dim=10, interaction="bilinear", hidden_units=(400, 400, 400), dropout=0.5)

# Parallel MaskBlocks, then a DNN; interaction={"name": "mask", "config": {"kind": "serial"}} with hidden_units=() is
# the paper's serial form
MaskNet = partial(
    RankingModel,
    embedding_dim=10,
    interaction={"name": "mask", "config": {"num_blocks": 5}},
    hidden_units=(400, 400, 400),
    linear=False,
)

# The fusion of the two streams is the logit.
FinalMLP = partial(
    RankingModel,
    embedding_dim=10,
    interaction={
        "name": "two_stream",
        "config": {"first_units": [400, 400, 400], "second_units": [400, 400, 400], "num_heads": 50},
    },
    hidden_units=(),
    linear=False,
)

# ŷ = hᵀ DNN(BatchNorm(exp(W BatchNorm(ln |v|))))
AFN = partial(
    RankingModel,
    embedding_dim=10,
    interaction={"name": "logarithmic", "config": {"neurons": 1500}},
    hidden_units=(400, 400, 400),
    batch_norm=True,
    linear=False,
)
