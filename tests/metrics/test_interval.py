"""Intervals without resampling are those that resampling finds."""

import numpy as np
import pytest

from nfm_tfrs.metrics import intervals, paired_bootstrap

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 2000)
LOGITS = np.round(RNG.normal(size=2000) + LABELS, 1)  # with ties
WEIGHTS = RNG.uniform(0, 2, 2000)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("metric", ["auc", "log_loss", "rmse", "mae"])
def test_they_are_the_bootstraps(metric, weights):
    found = intervals(LABELS, LOGITS, weights, binary=metric in ("auc", "log_loss"))[metric]
    resampled = paired_bootstrap(metric, LABELS, [LOGITS], weights=weights)

    width = resampled.high - resampled.low
    assert found == (pytest.approx(resampled.low, abs=0.1 * width), pytest.approx(resampled.high, abs=0.1 * width))
    assert np.mean(found) == pytest.approx(resampled.mean, abs=0.02 * width)


@pytest.mark.parametrize("labels", [[1, 1, 1], [1], [1, 0]])
def test_without_two_rows_of_each_label_there_is_none(labels):
    assert np.isnan(intervals(np.array(labels), np.arange(len(labels)), binary=True)["auc"]).all()


def test_a_perfect_order_stays_below_1():
    low, high = intervals(LABELS, LABELS * 5.0, binary=True)["auc"]

    assert (low, high) == (1.0, 1.0)
