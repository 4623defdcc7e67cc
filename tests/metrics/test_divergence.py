"""The distance of distributions against a sum term by term; its interval and noise against samples that are drawn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfm_tfrs.metrics import jensen_shannon, sample_distance


def by_hand(one, other):
    """Half the divergence of each from the middle, term by term."""
    found = 0.0
    for p, q in zip(np.divide(one, np.sum(one)), np.divide(other, np.sum(other)), strict=True):
        middle = (p + q) / 2
        found += (p * math.log2(p / middle) if p else 0) / 2
        found += (q * math.log2(q / middle) if q else 0) / 2
    return found


COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8).filter(
    lambda pairs: all(sum(side) for side in zip(*pairs, strict=True))
)


@given(COUNTS)
def test_the_divergence_is_the_sum_of_its_terms_and_symmetric(pairs):
    one, other = np.array(pairs).T

    found = float(jensen_shannon(one, other))

    assert found == pytest.approx(by_hand(one, other), abs=1e-12)
    assert found == pytest.approx(float(jensen_shannon(other, one)), abs=1e-15)
    assert 0 <= found <= 1


def test_the_divergence_of_many_at_once_is_that_of_each():
    rng = np.random.default_rng(0)
    one, other = rng.integers(1, 9, [2, 3, 5])

    found = jensen_shannon(one, other)

    assert found.tolist() == [float(jensen_shannon(*pair)) for pair in zip(one, other, strict=True)]


def test_values_that_neither_has_do_not_count():
    one, other = np.array([5, 0, 7]), np.array([1, 0, 9])

    assert sample_distance(one, other) == sample_distance(one[[0, 2]], other[[0, 2]])
    assert sample_distance(one, other).value == pytest.approx(by_hand(one, other) ** 0.5)


def test_the_same_seed_draws_the_same():
    one, other = np.array([50, 10, 7]), np.array([10, 20, 9])

    assert sample_distance(one, other, seed=3) == sample_distance(one, other, seed=3)
    assert sample_distance(one, other, seed=3) != sample_distance(one, other, seed=4)


@pytest.mark.parametrize(
    ("one", "other", "value"), [([9], [4], 0.0), ([1], [1], 0.0), ([1, 0], [0, 1], 1.0), ([1000, 0], [0, 2], 1.0)]
)
def test_the_ends_are_met(one, other, value):
    found = sample_distance(np.array(one), np.array(other))

    assert found.value == value
    assert 0 <= found.low <= value <= found.high <= 1
    assert 0 <= found.noise <= 1


SHARES = np.arange(1, 9) / 36


@pytest.mark.parametrize("moved", [0.1, 0.3])
@pytest.mark.parametrize("rows", [(3000, 1000), (500, 5000)])
def test_the_interval_holds_the_distance_of_the_distributions_nineteen_times_of_twenty(moved, rows):
    rng = np.random.default_rng(0)
    others = SHARES * (1 - moved) + moved * np.eye(8)[0]
    truth, held = by_hand(SHARES, others) ** 0.5, 0
    for seed in range(200):
        samples = (rng.multinomial(size, shares) for size, shares in zip(rows, (SHARES, others), strict=True))
        found = sample_distance(*samples, seed=seed)
        held += found.low <= truth <= found.high

    assert 0.9 < held / 200 < 0.99


@pytest.mark.parametrize(("values", "rows"), [(8, (3000, 1000)), (8, (30, 9)), (3000, (20_000, 15_000))])
def test_two_samples_of_one_distribution_are_below_the_noise_thirty_nine_times_of_forty(values, rows):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(values))
    times = 400 if values < 1000 else 20
    above = [
        found.value > found.noise
        for seed in range(times)
        for found in [sample_distance(*(rng.multinomial(size, shares) for size in rows), seed=seed)]
    ]

    assert np.mean(above) < (0.05 if values < 1000 else 0.16)
    assert times < 400 or any(above)


def test_a_sample_of_one_row_has_an_interval_too():
    values = np.zeros(5000, np.int64)
    values[7] = 1

    found = sample_distance(np.full(5000, 3), values)

    assert np.isfinite([found.low, found.high, found.noise]).all()
    assert found.value < found.noise


def test_many_rows_are_more_than_numpy_deals_out():
    found = sample_distance(np.array([10**9, 10**9]), np.array([10**9, 10**9 + 10**8]))

    assert found.noise < found.low < found.value
