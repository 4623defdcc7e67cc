"""What this package offers; it imports no TensorFlow, so that listing stays fast."""

from tfrs_registry import ComponentSpec

GATED_PAIRS_BLOCK = ComponentSpec(
    name="acme_gated_pairs",
    target="acme_interactions.blocks:GatedPairs",
    summary="Products of all pairs of fields, summed, with a learnt gate on each dimension.",
    tags=("pair-sum", "gating"),
)
GATED_NFM_MODEL = ComponentSpec(
    name="acme_gated_nfm",
    target="acme_interactions.models:GatedNFM",
    summary="Gated pairs, then a tower.",
    tags=("factorization", "deep", "gating"),
)
