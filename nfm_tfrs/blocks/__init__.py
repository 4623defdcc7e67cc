"""What happens between the embeddings and the tower: one interaction block a file."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.blocks.attention_fm import AttentionFM as AttentionFM
    from nfm_tfrs.blocks.base import Cost as Cost
    from nfm_tfrs.blocks.base import InteractionBlock as InteractionBlock
    from nfm_tfrs.blocks.base import PooledBlock as PooledBlock
    from nfm_tfrs.blocks.base import by_sums as by_sums
    from nfm_tfrs.blocks.base import field_pairs as field_pairs
    from nfm_tfrs.blocks.base import flat as flat
    from nfm_tfrs.blocks.base import misfit as misfit
    from nfm_tfrs.blocks.base import present as present
    from nfm_tfrs.blocks.bi_interaction import BiInteraction as BiInteraction
    from nfm_tfrs.blocks.bilinear import Bilinear as Bilinear
    from nfm_tfrs.blocks.cin import CIN as CIN
    from nfm_tfrs.blocks.concat import Concat as Concat
    from nfm_tfrs.blocks.cross import Cross as Cross
    from nfm_tfrs.blocks.field_matrixed_fm import FieldMatrixedFM as FieldMatrixedFM
    from nfm_tfrs.blocks.field_weighted_fm import FieldWeightedFM as FieldWeightedFM
    from nfm_tfrs.blocks.fm import FM as FM
    from nfm_tfrs.blocks.gated_cross import GatedCross as GatedCross
    from nfm_tfrs.blocks.inner_product import InnerProduct as InnerProduct
    from nfm_tfrs.blocks.logarithmic import Logarithmic as Logarithmic
    from nfm_tfrs.blocks.mask import MaskBlock as MaskBlock
    from nfm_tfrs.blocks.outer_product import OuterProduct as OuterProduct
    from nfm_tfrs.blocks.self_attention import SelfAttention as SelfAttention
    from nfm_tfrs.blocks.two_stream import TwoStream as TwoStream

lazy.show(
    __name__,
    {
        "nfm_tfrs.blocks.attention_fm": ("AttentionFM",),
        "nfm_tfrs.blocks.base": (
            "Cost",
            "InteractionBlock",
            "PooledBlock",
            "by_sums",
            "field_pairs",
            "flat",
            "misfit",
            "present",
        ),
        "nfm_tfrs.blocks.bi_interaction": ("BiInteraction",),
        "nfm_tfrs.blocks.bilinear": ("Bilinear",),
        "nfm_tfrs.blocks.cin": ("CIN",),
        "nfm_tfrs.blocks.concat": ("Concat",),
        "nfm_tfrs.blocks.cross": ("Cross",),
        "nfm_tfrs.blocks.field_matrixed_fm": ("FieldMatrixedFM",),
        "nfm_tfrs.blocks.field_weighted_fm": ("FieldWeightedFM",),
        "nfm_tfrs.blocks.fm": ("FM",),
        "nfm_tfrs.blocks.gated_cross": ("GatedCross",),
        "nfm_tfrs.blocks.inner_product": ("InnerProduct",),
        "nfm_tfrs.blocks.logarithmic": ("Logarithmic",),
        "nfm_tfrs.blocks.mask": ("MaskBlock",),
        "nfm_tfrs.blocks.outer_product": ("OuterProduct",),
        "nfm_tfrs.blocks.self_attention": ("SelfAttention",),
        "nfm_tfrs.blocks.two_stream": ("TwoStream",),
    },
)
