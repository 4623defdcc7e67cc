"""Acme's models: an nfm-tfrs model with defaults of its own."""

from functools import partial

from nfm_tfrs import RankingModel

GatedNFM = partial(
    RankingModel,
    interaction="acme_gated_pairs",
    interaction_batch_norm=True,
    hidden_units=(64, 32),
    batch_norm=True,
)
