"""The ComponentSpecs that this distribution's entry points refer to; importing it never imports TensorFlow."""

from tfrs_registry import ComponentSpec

_NFM = "He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017"
_FM = "Rendle, Factorization Machines, ICDM 2010"
_AFM = "Xiao et al., Attentional Factorization Machines, IJCAI 2017"
_FWFM = (
    "Pan et al., Field-weighted Factorization Machines for Click-Through Rate Prediction in Display Advertising, "
    "WWW 2018"
)
_FMFM = "Sun et al., FM²: Field-matrixed Factorization Machines for Recommender Systems, WWW 2021"
_DCN = "Wang et al., Deep & Cross Network for Ad Click Predictions, ADKDD 2017"
_DCNV2 = (
    "Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems, "
    "WWW 2021"
)
_GDCN = "Wang et al., Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction, CIKM 2023"
_PNN = "Qu et al., Product-based Neural Networks for User Response Prediction, ICDM 2016"
_DLRM = "Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019"
_FIBINET = (
    "Huang et al., FiBiNET: Combining Feature Importance and Bilinear Feature Interaction for Click-Through Rate "
    "Prediction, RecSys 2019"
)
_XDEEPFM = (
    "Lian et al., xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems, KDD 2018"
)
_AUTOINT = "Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019"
_MASKNET = (
    "Wang et al., MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided Mask, "
    "DLP-KDD 2021"
)
_FINALMLP = "Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, AAAI 2023"
_AFN = "Cheng et al., Adaptive Factorization Network: Learning Adaptive-Order Feature Interactions, AAAI 2020"
_WIDE_DEEP = "Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016"
_DEEPFM = "Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017"

# What every model of this package takes by name, besides the features: known without importing TensorFlow.
MODEL_ARGUMENTS = (
    "embedding_dim",
    "members",
    "member_dim",
    "interaction",
    "structure",
    "hidden_units",
    "activation",
    "linear",
    "batch_norm",
    "interaction_batch_norm",
    "batch_norm_momentum",
    "dropout",
    "interaction_dropout",
    "numeric",
    "bottom_units",
    "history_combiner",
    "number_encoder",
    "embedding_stddev",
    "embedding_l2",
    "embedding_l2_by",
    "field_dropout",
    "label_smoothing",
    "self_ensemble",
    "task",
    "label",
    "dtype",
    "name",
)

# --- models
NFM_MODEL = ComponentSpec(
    name="nfm",
    target="nfm_tfrs.models.nfm:NFM",
    summary="Neural Factorization Machine: Bi-Interaction pooling, then a tower.",
    tags=("factorization", "deep"),
    paper=_NFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN(Σ_{i<j} v_i ⊙ v_j)",
)
RANKING_MODEL = ComponentSpec(
    name="ranking",
    target="nfm_tfrs.models.ranking:RankingModel",
    summary="The open ranking model: any interaction blocks, any structure, any tower.",
    tags=("open",),
    formula="ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN([block(v), …])",
)
FM_MODEL = ComponentSpec(
    name="fm",
    target="nfm_tfrs.models.presets:FM",
    summary="Factorization Machine: first-order terms and inner products of all pairs.",
    tags=("factorization",),
    paper=_FM,
    formula="ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩",
)
AFM_MODEL = ComponentSpec(
    name="afm",
    target="nfm_tfrs.models.presets:AFM",
    summary="Attentional FM: products of all pairs, averaged with attention.",
    tags=("factorization", "attention"),
    paper=_AFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + pᵀ Σ_{i<j} a_ij (v_i ⊙ v_j)",
)
FWFM_MODEL = ComponentSpec(
    name="fwfm",
    target="nfm_tfrs.models.presets:FwFM",
    summary="Field-weighted FM: a weight for each pair of fields.",
    tags=("factorization",),
    paper=_FWFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} r_ij ⟨v_i, v_j⟩",
)
FMFM_MODEL = ComponentSpec(
    name="fmfm",
    target="nfm_tfrs.models.presets:FmFM",
    summary="Field-matrixed FM: a matrix for each pair of fields.",
    tags=("factorization",),
    paper=_FMFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i M_ij, v_j⟩",
)
DEEPFM_MODEL = ComponentSpec(
    name="deepfm",
    target="nfm_tfrs.models.presets:DeepFM",
    summary="FM and a tower side by side, on the same embeddings.",
    tags=("factorization", "deep"),
    paper=_DEEPFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ + hᵀ DNN(v)",
)
WIDE_DEEP_MODEL = ComponentSpec(
    name="wide_deep",
    target="nfm_tfrs.models.presets:WideDeep",
    summary="First-order terms and a tower on the embeddings.",
    tags=("deep",),
    paper=_WIDE_DEEP,
    formula="ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN(v)",
)
DCN_MODEL = ComponentSpec(
    name="dcn",
    target="nfm_tfrs.models.presets:DCN",
    summary="Cross network with weight vectors beside a tower.",
    tags=("cross", "deep"),
    paper=_DCN,
    formula="ŷ = w_0 + hᵀ [cross(v), DNN(v)]",
)
DCNV2_MODEL = ComponentSpec(
    name="dcnv2",
    target="nfm_tfrs.models.presets:DCNv2",
    summary="Cross network with weight matrices, then a tower.",
    tags=("cross", "deep"),
    paper=_DCNV2,
    formula="ŷ = w_0 + hᵀ DNN(cross(v))",
)
GDCN_MODEL = ComponentSpec(
    name="gdcn",
    target="nfm_tfrs.models.presets:GDCN",
    summary="Gated cross network, then a tower.",
    tags=("cross", "gating", "deep"),
    paper=_GDCN,
    formula="ŷ = w_0 + hᵀ DNN(gated_cross(v))",
)
PNN_MODEL = ComponentSpec(
    name="pnn",
    target="nfm_tfrs.models.presets:PNN",
    summary="Inner products of all pairs and the embeddings, then a tower.",
    tags=("product", "deep"),
    paper=_PNN,
    formula="ŷ = w_0 + hᵀ DNN([⟨v_i, v_j⟩ of each pair, v])",
)
DLRM_MODEL = ComponentSpec(
    name="dlrm",
    target="nfm_tfrs.models.presets:DLRM",
    summary="Inner products of all pairs, a network for the numbers one of them, then a tower.",
    tags=("product", "deep"),
    paper=_DLRM,
    formula="ŷ = w_0 + hᵀ DNN([⟨v_i, v_j⟩ of each pair, u]), u = MLP(numbers) one of the v_i",
)
XDEEPFM_MODEL = ComponentSpec(
    name="xdeepfm",
    target="nfm_tfrs.models.presets:XDeepFM",
    summary="Compressed interaction network beside a tower.",
    tags=("product", "deep"),
    paper=_XDEEPFM,
    formula="ŷ = w_0 + Σ_i w_i x_i + hᵀ [CIN(v), DNN(v)]",
)
AUTOINT_MODEL = ComponentSpec(
    name="autoint",
    target="nfm_tfrs.models.presets:AutoInt",
    summary="Multi-head self-attention between fields.",
    tags=("attention",),
    paper=_AUTOINT,
    formula="ŷ = w_0 + hᵀ [attention(v)_1, …, attention(v)_n]",
)
FIBINET_MODEL = ComponentSpec(
    name="fibinet",
    target="nfm_tfrs.models.presets:FiBiNET",
    summary="Bilinear interaction of plain and of reweighted fields, then a tower.",
    tags=("product", "gating", "deep"),
    paper=_FIBINET,
    formula="ŷ = w_0 + Σ_i w_i x_i + hᵀ DNN([(v_i W) ⊙ v_j of each pair, (s_i W) ⊙ s_j of SENET's fields s])",
)
MASKNET_MODEL = ComponentSpec(
    name="masknet",
    target="nfm_tfrs.models.presets:MaskNet",
    summary="Instance-guided masks on embeddings and hidden layers, then a tower.",
    tags=("gating", "deep"),
    paper=_MASKNET,
    formula="ŷ = w_0 + hᵀ DNN([mask_1(v), …, mask_k(v)])",
)
FINALMLP_MODEL = ComponentSpec(
    name="finalmlp",
    target="nfm_tfrs.models.presets:FinalMLP",
    summary="Two gated towers and their bilinear fusion.",
    tags=("gating", "deep"),
    paper=_FINALMLP,
    formula="ŷ = w_0 + w_1ᵀ o_1 + w_2ᵀ o_2 + o_1ᵀ W o_2, o_s = MLP_s(gate_s ⊙ v)",
)
AFN_MODEL = ComponentSpec(
    name="afn",
    target="nfm_tfrs.models.presets:AFN",
    summary="Logarithmic neurons: products of fields to learnt powers, then a tower.",
    tags=("logarithmic", "deep"),
    paper=_AFN,
    formula="ŷ = w_0 + hᵀ DNN(Π_i |v_i|^w_ij)",
)

# --- blocks
BI_INTERACTION_BLOCK = ComponentSpec(
    name="bi_interaction",
    target="nfm_tfrs.blocks.bi_interaction:BiInteraction",
    summary="Element-wise products of all pairs of field embeddings, summed in linear time.",
    tags=("factorization", "pair-sum"),
    paper=_NFM,
    formula="Σ_{i<j} v_i ⊙ v_j in linear time",
)
FM_BLOCK = ComponentSpec(
    name="fm",
    target="nfm_tfrs.blocks.fm:FM",
    summary="Inner products of all pairs, summed in linear time; a logit.",
    tags=("factorization", "pair-sum"),
    paper=_FM,
    formula="Σ_{i<j} ⟨v_i, v_j⟩ in linear time",
)
ATTENTION_FM_BLOCK = ComponentSpec(
    name="attention_fm",
    target="nfm_tfrs.blocks.attention_fm:AttentionFM",
    summary="Element-wise products of all pairs, averaged with attention.",
    tags=("factorization", "attention"),
    paper=_AFM,
    formula="Σ_{i<j} a_ij (v_i ⊙ v_j), a by attention",
)
FIELD_WEIGHTED_FM_BLOCK = ComponentSpec(
    name="field_weighted_fm",
    target="nfm_tfrs.blocks.field_weighted_fm:FieldWeightedFM",
    summary="Inner products of all pairs, each with a weight, summed; a logit.",
    tags=("factorization", "pair-sum"),
    paper=_FWFM,
    formula="Σ_{i<j} r_ij ⟨v_i, v_j⟩",
)
FIELD_MATRIXED_FM_BLOCK = ComponentSpec(
    name="field_matrixed_fm",
    target="nfm_tfrs.blocks.field_matrixed_fm:FieldMatrixedFM",
    summary="Inner products of all pairs, each through a matrix, summed; a logit.",
    tags=("factorization", "pair-sum"),
    paper=_FMFM,
    formula="Σ_{i<j} ⟨v_i M_ij, v_j⟩",
)
CROSS_BLOCK = ComponentSpec(
    name="cross",
    target="nfm_tfrs.blocks.cross:Cross",
    summary="Crosses of bounded degree: DCN's vectors, DCN V2's matrices, low rank or mixture.",
    tags=("cross",),
    paper=f"{_DCNV2}; {_DCN}",
    formula="x_0 ⊙ (W x + b) + x, W a matrix, of low rank or a mixture; or DCN's x_0 (wᵀx) + b + x",
)
GATED_CROSS_BLOCK = ComponentSpec(
    name="gated_cross",
    target="nfm_tfrs.blocks.gated_cross:GatedCross",
    summary="Crosses of bounded degree, each weighed by a gate.",
    tags=("cross", "gating"),
    paper=_GDCN,
    formula="x_0 ⊙ (W x + b) ⊙ σ(G x) + x",  # noqa: RUF001
)
INNER_PRODUCT_BLOCK = ComponentSpec(
    name="inner_product",
    target="nfm_tfrs.blocks.inner_product:InnerProduct",
    summary="The inner product of every pair, as IPNN and DLRM take it.",
    tags=("product",),
    paper=f"{_PNN}; {_DLRM}",
    formula="⟨v_i, v_j⟩ of each pair (IPNN)",
)
OUTER_PRODUCT_BLOCK = ComponentSpec(
    name="outer_product",
    target="nfm_tfrs.blocks.outer_product:OuterProduct",
    summary="The outer products of all pairs, superposed (OPNN).",
    tags=("product", "pair-sum"),
    paper=_PNN,
    formula="Σ v_i v_jᵀ over all i and j (OPNN)",
)
BILINEAR_BLOCK = ComponentSpec(
    name="bilinear",
    target="nfm_tfrs.blocks.bilinear:Bilinear",
    summary="Element-wise products of all pairs, each through a matrix; SENET reweights the fields.",
    tags=("product", "gating"),
    paper=_FIBINET,
    formula="(v_i W) ⊙ v_j of each pair, of SENET's fields too",
)
CIN_BLOCK = ComponentSpec(
    name="cin",
    target="nfm_tfrs.blocks.cin:CIN",
    summary="Compressed interaction network: vector-wise products of growing degree.",
    tags=("product",),
    paper=_XDEEPFM,
    formula="Σ_ij w_ij (x_i ⊙ v_j), of growing degree: x the layer before",
)
SELF_ATTENTION_BLOCK = ComponentSpec(
    name="self_attention",
    target="nfm_tfrs.blocks.self_attention:SelfAttention",
    summary="Multi-head self-attention between fields, with residual connections.",
    tags=("attention",),
    paper=_AUTOINT,
    formula="ReLU(Σ_j a_ij V v_j + R v_i), a by multi-head attention between fields",
)
MASK_BLOCK = ComponentSpec(
    name="mask",
    target="nfm_tfrs.blocks.mask:MaskBlock",
    summary="Instance-guided masks on embeddings and hidden layers, serial or parallel.",
    tags=("gating",),
    paper=_MASKNET,
    formula="ReLU(LayerNorm(W (mask(v) ⊙ v))), serial or parallel, mask a network of all fields",
)
TWO_STREAM_BLOCK = ComponentSpec(
    name="two_stream",
    target="nfm_tfrs.blocks.two_stream:TwoStream",
    summary="Two gated towers and their bilinear fusion; a logit.",
    tags=("gating",),
    paper=_FINALMLP,
    formula="w_1ᵀ o_1 + w_2ᵀ o_2 + o_1ᵀ W o_2, o_s = MLP_s(gate_s ⊙ v)",
)
LOGARITHMIC_BLOCK = ComponentSpec(
    name="logarithmic",
    target="nfm_tfrs.blocks.logarithmic:Logarithmic",
    summary="Products of fields to learnt powers.",
    tags=("logarithmic",),
    paper=_AFN,
    formula="Π_i |v_i|^w_ij, learnt powers",
)
CONCAT_BLOCK = ComponentSpec(
    name="concat",
    target="nfm_tfrs.blocks.concat:Concat",
    summary="No interaction: the embeddings side by side, as a plain DNN takes them.",
    tags=("none",),
    paper=_WIDE_DEEP,
    formula="[v_1, …, v_n], for a plain DNN",
)
