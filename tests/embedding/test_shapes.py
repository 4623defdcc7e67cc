"""Shapes that are known before any weight is made, compared with the weights that are made."""

import numpy as np
import pytest

from nfm_tfrs.embedding.shapes import weight_shapes
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.compression import MultiHash, QuotientRemainder
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.number_encoders import AutoDis, Periodic
from nfm_tfrs.features.spec import FeatureSpec

FILM = CategoricalFeature("film", vocabulary_size=5)
SPECS = {
    "plain": [FILM, NumericFeature("x")],
    "own rows": [
        FILM,
        CategoricalFeature("short", vocabulary_size=7, embedding_dim=2),
        CategoricalFeature("frozen", vocabulary_size=7, embedding_dim=6, frozen=True),
        CategoricalFeature("quotients", vocabulary_size=20, compression=QuotientRemainder()),
        CategoricalFeature("hashed", vocabulary_size=20, compression=MultiHash(num_rows=3), embedding_dim=5),
        NumericFeature("x"),
    ],
    "attention": [
        FILM,
        MultiCategoricalFeature(
            "seen",
            vocabulary_size=5,
            embedding_name="film",
            target="film",
            combiner="attention",
            max_length=9,
            attention=Attention(units=(6, 2), activation="relu", positions=True),
        ),
    ],
    "numbers": [
        FILM,
        NumericFeature("a", encoder="buckets", boundaries=[0, 1, 2]),
        NumericFeature("many", encoder="buckets", boundaries=list(range(200))),
        NumericFeature("b", encoder="piecewise", boundaries=[0, 1, 2]),
        NumericFeature("c", encoder=Periodic(frequencies=3)),
        NumericFeature("d", encoder=AutoDis(meta_embeddings=4)),
        NumericFeature("e"),
    ],
}


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("features", SPECS.values(), ids=SPECS)
def test_the_shapes_are_those_of_the_weights(features, linear, numbers):
    spec = FeatureSpec(features)
    layer = FusedEmbedding(spec, 3, linear=linear, numbers=numbers)
    columns = {feature.name: np.array([1]) for feature in features}
    columns |= {bag.name: [[1, 2]] for bag in spec.bags}
    columns |= {number.name: np.array([0.5], np.float32) for number in spec.numbers}
    layer(FeatureEncoder(spec)(columns))

    expected = sorted(tuple(weight.shape) for weight in layer.weights)

    assert sorted(map(tuple, weight_shapes(spec, 3, linear=linear, numbers=numbers))) == expected


def test_numbers_of_few_limits_take_no_memory_of_one_with_many():
    many = NumericFeature("many", encoder="buckets", boundaries=list(range(10_000)))
    few = [NumericFeature(f"few{at}", encoder="buckets", boundaries=[0]) for at in range(100)]
    shapes = list(weight_shapes(FeatureSpec([many, *few]), 4, linear=True, numbers=True))
    assert shapes == [[202, 5], [1, 10_001, 5], [100, 2, 5]]
