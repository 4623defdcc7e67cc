"""Where rows lie once features have grown, and where those of new values start."""

from dataclasses import replace

import numpy as np
import pytest

from nfm_tfrs.embedding.growth import mean_rows, moved_rows, random_rows
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.growth import changes
from nfm_tfrs.features.seen import Groups
from nfm_tfrs.features.spec import FeatureSpec

CITY = CategoricalFeature("city", vocabulary=["Rome", "Oslo"], free_ids=[1])
FILM = CategoricalFeature("film", vocabulary=[7, 3, 5])
SPEC = FeatureSpec(
    [
        CITY,
        NumericFeature("price"),
        CategoricalFeature("hour", vocabulary_size=2),
        FILM,
        NumericFeature("age", boundaries=[18.0]),
        MultiCategoricalFeature("watched", vocabulary=FILM.vocabulary, embedding_name="film"),
    ]
)
GROWN = FeatureSpec(
    [
        replace(feature, vocabulary=["Rome", "Bern", "Aix"], free_ids=())
        if feature is CITY
        else replace(feature, vocabulary=[7, 3, 5, 9], free_ids=[0])
        if feature.table == "film"
        else feature
        for feature in SPEC
    ]
)


@pytest.mark.parametrize("numbers", [True, False])
def test_each_row_lies_where_its_value_is_and_new_and_free_places_start_anew(numbers):
    old, new = (FusedEmbedding(spec, 2, numbers=numbers) for spec in (SPEC, GROWN))
    names = ["-", "Rome", "Oslo", "-", "0", "1", "-", "7", "3", "5", "-", "young", "old", *["p0", "p1"] * numbers]
    anew = ["start"] * new.num_rows

    placed = moved_rows(old, new, changes(SPEC, GROWN)).placed(np.array(names), np.array(anew))

    assert placed.tolist() == [
        *["-", "Rome", "start", "start"],
        *["-", "0", "1"],
        *["-", "start", "3", "5", "start"],
        *["-", "young", "old"],
        *["p0", "p1"] * numbers,
    ]


def test_random_rows_are_as_those_of_a_new_table_and_follow_from_the_values():
    embedding = FusedEmbedding(SPEC, 8, stddev=0.3)
    rows = random_rows(embedding, list(range(2000)))
    assert rows.shape == (2000, 9)
    assert rows.dtype == np.float32
    assert abs(rows[:, :8].mean()) < 0.01
    assert rows[:, :8].std() == pytest.approx(0.3, rel=0.02)
    assert not rows[:, 8].any()  # the first-order weights
    np.testing.assert_array_equal(rows, random_rows(embedding, list(range(2000))))
    assert (rows[:, :8] != random_rows(embedding, list(range(1, 2001)))[:, :8]).all()
    assert random_rows(FusedEmbedding(SPEC, 8, linear=False), ["a"]).shape == (1, 8)


def test_a_new_value_starts_at_the_mean_of_the_old_ones_in_its_groups_each_as_often_as_it_is_there():
    rows = np.float32([[1, 10], [3, 30], [8, 80]])
    groups = Groups(
        old_ids=np.array([0, 1, 2]),
        old_groups=np.array([0, 0, 1]),
        new=np.array([0, 1, 1, 1, 2]),
        new_groups=np.array([0, 0, 1, 2, 2]),
        new_counts=np.array([5, 1, 3, 9, 1]),
    )
    found = mean_rows(rows, groups, 4)
    # Group 2 holds no old value, and value 3 was in no group.
    np.testing.assert_array_equal(found, np.float32([[2, 20], [(2 + 3 * 8) / 4, 65], [0, 0], [0, 0]]))
    nothing = Groups(*[np.empty(0, np.int64)] * 5)
    assert not mean_rows(rows, nothing, 2).any()
