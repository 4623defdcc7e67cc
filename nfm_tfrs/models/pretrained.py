"""Rows of a model's tables that were learnt elsewhere, set by value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfm_tfrs.embedding.growth import rows_of_values
from nfm_tfrs.features.vectors import Vectors, check_tables, read_vectors, taking_vectors
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.ensemble import EnsembleModel
from nfm_tfrs.models.ranking import RankingModel


@dataclass(frozen=True)
class Coverage:
    """How many values of a feature have got a row.

    Args:
        feature: The feature's name.
        found: Values that the vectors have.
        known: Values that the feature knows.
        given: Vectors that were given; those of values that the feature does not know are left out.
    """

    feature: str
    found: int
    known: int
    given: int

    def __str__(self) -> str:
        share = self.found / max(self.known, 1)
        return f"{self.feature}: {self.found:,} of {self.known:,} values ({share:.1%}), of {self.given:,} vectors"


def load_pretrained(model: Any, vectors: Mapping[str, Any]) -> list[Coverage]:
    """Sets the rows of features to vectors that were learnt elsewhere; first-order weights and all else stay.

    Values that a feature does not know are left out; values without a vector keep their rows, which of a frozen feature
    are zero. Features that share a table get its rows together, by the name of any one of them.

    Args:
        model: A `RankingModel` that knows its features, trained or not.
        vectors: By the feature's name a Parquet file with a column of values, called as the feature or the only one,
            and a column of lists of numbers; an npz file with arrays `values` `[n]` and `rows` `[n, dim]`; or a pair
            of such arrays. Vectors are as long as the feature's `embedding_dim`.

    Returns:
        How many values each feature has found.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model knows no features, a feature is not there, is a number, or is hashed or compressed, so
            that values share rows; two features share their rows; or vectors are of another length, not finite, or of
            no known value. Nothing has been set then.

    Example:
        >>> from nfm_tfrs import NFM, CategoricalFeature
        >>> film = CategoricalFeature("film", vocabulary=["Alien", "Brazil"], embedding_dim=3, frozen=True)
        >>> model = NFM([film, CategoricalFeature("hour", vocabulary_size=24)])
        >>> print(*load_pretrained(model, {"film": (["Brazil", "Casino"], [[1, 2, 3], [4, 5, 6]])}))
        film: 1 of 2 values (50.0%), of 2 vectors
    """
    if isinstance(model, EnsembleModel):
        raise ValueError(
            f"Rows are set in a RankingModel; received {model.name}, the mean of {len(model.models)}. Set those of "
            "each of its models, and call ensemble_of with what they are then."
        )
    if not isinstance(model, RankingModel) or model.features is None:
        raise ValueError(
            "Rows are set in a RankingModel that knows its features. Pass features=, or call adapt with data first."
        )
    if not isinstance(vectors, Mapping):
        raise ValueError(
            f"Vectors are given by the feature's name; received {type(vectors).__name__}. Give "
            '{"feature": "vectors.parquet"}, for instance.'
        )
    check_tables(model.features, vectors)
    found = [_placed(model, name, read_vectors(source, name)) for name, source in vectors.items()]
    for variable, dim, ids, rows, _ in found:
        own = tf.gather(variable, ids).numpy()
        own[:, :dim] = rows
        variable.scatter_update(tf.IndexedSlices(own, ids))
    return [coverage for *_, coverage in found]


def _placed(model: Any, name: str, vectors: Vectors) -> tuple[Any, int, np.ndarray, np.ndarray, Coverage]:
    """The variable, the length of an embedding in it, the rows' places, what they become, and the coverage."""
    feature = taking_vectors(model.features, name)
    dim = feature.embedding_dim or model.embedding.embedding_dim  # of all members
    if vectors.dim != dim:
        raise ValueError(
            f"{vectors.where} has vectors of {vectors.dim} numbers, and the rows of feature {name!r} have {dim}. Give "
            f"the feature embedding_dim={vectors.dim}."
        )
    held = rows_of_values(model.embedding, feature.table)
    assert held is not None  # for vectors are of no compressed table
    variable, place = held
    at, ids = vectors.ids(feature)
    known = len(feature.known_ids) if feature.vocabulary is not None else feature.num_ids
    coverage = Coverage(name, len(ids), known, len(vectors.values))
    return variable, dim, place.start + ids, vectors.rows[at], coverage
