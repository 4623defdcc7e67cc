"""Percentiles are values that came; those of windows are near those of all rows; and all are in the column's unit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.features.encoder import standardised_numbers
from nfm_tfrs.features.feature import FLOAT32_MAX, NumericFeature
from nfm_tfrs.features.host import finite_floats
from nfm_tfrs.features.percentiles import LEVELS, merged_percentiles, percentiles, raw_numbers


def by_hand(values):
    """The k-th percentile: the smallest value that k percent of all are not above, looked for one by one."""
    ordered = sorted(value for value in values if not math.isnan(value))
    return [
        next(v for v in ordered if sum(other <= v for other in ordered) * 100 >= level * len(ordered))
        for level in range(LEVELS)
    ]


@pytest.mark.parametrize("rows", [1, 2, 7, 100, 101, 230])
def test_percentiles_are_values_that_came(rows):
    values = np.random.default_rng(rows).normal(size=rows).round(1).astype(np.float32)
    values[1::5] = np.nan

    present, found = percentiles(values)

    assert present == np.isfinite(values).sum()
    assert found.tolist() == by_hand(values.tolist())


def test_without_a_value_there_are_no_percentiles():
    present, found = percentiles(np.full(3, np.nan, np.float32))

    assert present == 0
    assert np.isnan(found).all()
    assert len(found) == LEVELS
    assert np.isnan(merged_percentiles([(present, found)])).all()
    assert np.isnan(merged_percentiles([])).all()


def rank_error(found, values):
    """How far each percentile is from its rank among all values."""
    below = (values[:, None] < found).mean(axis=0)
    upto = (values[:, None] <= found).mean(axis=0)
    levels = np.linspace(0, 1, LEVELS)
    return np.maximum(np.maximum(below - levels, levels - upto), 0).max()


@pytest.mark.parametrize("sizes", [(500, 500), (2000, 100), (300, 10, 1, 700), (50,) * 40])
def test_percentiles_of_windows_are_near_those_of_all_rows(sizes):
    rng = np.random.default_rng(0)
    windows = [rng.normal(shift, 1.0, size) for shift, size in enumerate(sizes)]

    found = merged_percentiles([percentiles(window) for window in windows])

    assert set(found) <= set(np.concatenate(windows))
    assert rank_error(found, np.concatenate(windows)) < 0.012
    assert found[[0, -1]].tolist() == [np.concatenate(windows).min(), np.concatenate(windows).max()]


def test_values_of_a_few_kinds_stay_what_they_are():
    one, other = np.repeat([0.0, 1.0], [600, 400]), np.repeat([0.0, 1.0], [630, 370])

    found = merged_percentiles([percentiles(one), percentiles(other)])

    assert found.tolist() == by_hand([*one, *other])


def test_many_small_merges_do_not_drift():
    rng = np.random.default_rng(1)
    all_rows = rng.normal(size=20_000)
    count, curve = percentiles(all_rows)
    for _ in range(100):
        more = rng.normal(size=100)
        curve = merged_percentiles([(count, curve), percentiles(more)])
        count += 100
        all_rows = np.append(all_rows, more)

    assert rank_error(curve, all_rows) < 0.012


NUMBERS = [
    NumericFeature("x"),
    NumericFeature("x", mean=3.3, std=0.7),
    NumericFeature("x", mean=1e9, std=86_400.0),
    NumericFeature("x", mean=1e9, std=1.5),
    NumericFeature("x", mean=0.01, std=1e-7),
    NumericFeature("x", log=True, mean=2.0, std=1.3),
    NumericFeature("x", log=True, mean=-2.0, std=0.01),
]


@pytest.mark.parametrize("feature", NUMBERS, ids=str)
@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
        st.floats(-100, 100, width=32),
        st.integers(-5000, 5000).map(float),
        st.integers(10**9 - 100, 10**9 + 100).map(float),
    )
)
def test_a_number_taken_back_is_encoded_to_the_same(feature, value):
    encoded = standardised_numbers(feature, np.array([value], np.float32))

    raw = raw_numbers(feature, encoded)

    assert np.isfinite(raw).all()
    if np.abs(encoded).max() < 1.9e7:  # from there on float32 tells ever fewer of them apart
        assert standardised_numbers(feature, finite_floats(raw)).tolist() == encoded.tolist()


@pytest.mark.parametrize("feature", [NUMBERS[1], NUMBERS[5]], ids=str)
def test_small_whole_numbers_come_back_as_they_were(feature):
    values = np.arange(-200, 200, dtype=np.float32)

    assert raw_numbers(feature, standardised_numbers(feature, values)).tolist() == values.tolist()
