"""The ComponentSpecs that this distribution's entry points refer to; importing it never imports TensorFlow."""

from tfrs_registry import ComponentSpec

NFM = ComponentSpec(
    name="nfm",
    target="nfm_tfrs.models.nfm:NFM",
    summary="Neural Factorization Machine: Bi-Interaction pooling, then a tower.",
    tags=("factorization", "deep"),
    paper="He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017",
)
RANKING = ComponentSpec(
    name="ranking",
    target="nfm_tfrs.models.ranking:RankingModel",
    summary="The open ranking model: any interaction block, any tower.",
    tags=("open",),
)
BI_INTERACTION = ComponentSpec(
    name="bi_interaction",
    target="nfm_tfrs.blocks.bi_interaction:BiInteraction",
    summary="Element-wise products of all pairs of field embeddings, summed in linear time.",
    tags=("factorization", "pair-sum"),
    paper="He & Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017, eq. 3-4",
)
