"""From ids to the embeddings of fields: one table for all features, pooled bags, sums of rows."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.embedding.table import FieldEmbeddings as FieldEmbeddings
    from nfm_tfrs.embedding.table import FieldSums as FieldSums
    from nfm_tfrs.embedding.table import FusedEmbedding as FusedEmbedding

lazy.show(
    __name__,
    {
        "nfm_tfrs.embedding.table": ("FieldEmbeddings", "FieldSums", "FusedEmbedding"),
    },
)
