"""How large the weights of an embedding of some features are, known before any of them is made."""

from collections.abc import Iterator, Sequence

from nfm_tfrs.embedding.attention import attention_shapes
from nfm_tfrs.embedding.layout import layouts_of
from nfm_tfrs.embedding.numbers import NumberFields
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.spec import FeatureSpec


def weight_shapes(features: FeatureSpec, embedding_dim: int, *, linear: bool, numbers: bool) -> Iterator[Sequence[int]]:
    """Yields the shape of every weight of a `FusedEmbedding`, but for those of attention's activations.

    Args:
        features: The features.
        embedding_dim: Length of an embedding.
        linear: Whether rows hold a first-order weight.
        numbers: Whether numbers are fields.
    """
    for layout in layouts_of(features, embedding_dim, numbers=numbers):
        yield layout.shape(linear=linear)
        for _ in layout.tables if layout.projected else ():
            yield layout.matrix_shape(embedding_dim, linear=linear)
    for bag in features.bags:
        if bag.attends:
            kernels, positions = attention_shapes(embedding_dim, bag.attention or Attention(), bag.max_length)
            yield from kernels
            yield from (kernel[1:] for kernel in kernels)
            yield from positions
    if numbers and features.numbers:
        yield from NumberFields(features.numbers, embedding_dim, linear=linear, stddev=0.0).shapes()
