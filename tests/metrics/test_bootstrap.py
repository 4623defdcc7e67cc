"""The paired bootstrap against the metrics of rows that are drawn one by one."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from nfm_tfrs.metrics.bootstrap import paired_bootstrap


@pytest.mark.parametrize("metric", ["auc", "log_loss", "rmse", "mae"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bootstrap_of_a_metric_is_that_metric_on_resampled_rows(metric, weighted, monkeypatch):
    monkeypatch.setattr("nfm_tfrs.metrics.bootstrap.RESAMPLES", 200)
    rng = np.random.default_rng(0)
    rows, labels = 300, rng.integers(0, 2, 300).astype(np.float32)
    weights = rng.uniform(0.5, 2, rows).astype(np.float32) if weighted else None
    ours, theirs = (np.round(rng.normal(labels * scale, 1.0), 1) for scale in (1.0, 0.5))

    def direct(scores, taken):
        kept = None if weights is None else weights[taken]
        if metric == "auc":
            return roc_auc_score(labels[taken], scores[taken], sample_weight=kept)
        if metric == "log_loss":
            return log_loss(labels[taken], 1 / (1 + np.exp(-scores[taken])), sample_weight=kept)
        gaps = np.average(np.abs(scores - labels)[taken] ** (2 if metric == "rmse" else 1), weights=kept)
        return gaps**0.5 if metric == "rmse" else gaps

    found = paired_bootstrap(metric, labels, [ours], [theirs], weights=weights, seed=3)
    everything = np.arange(rows)
    assert found.mean == pytest.approx(direct(ours, everything) - direct(theirs, everything), abs=1e-6)
    rng = np.random.default_rng(3)
    gaps = []
    for _ in range(200):
        taken = rng.integers(0, rows, rows)
        gaps.append(direct(ours, taken) - direct(theirs, taken))
    np.testing.assert_allclose([found.low, found.high], np.quantile(gaps, [0.025, 0.975]), atol=1e-6)


def test_a_resample_in_which_nothing_counts_is_left_out():
    labels, weights = np.float32([0, 1] * 16), np.float32([1, 1] + [0] * 30)
    found = paired_bootstrap("log_loss", labels, [np.ones(32)], weights=weights)
    assert 0 < found.low <= found.high
    nothing = paired_bootstrap("log_loss", labels, [np.ones(32)], weights=0 * weights)
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


# --- several runs a side ----------------------------------------------------------------------------------------------


def planted(rng, rows, runs, spread):
    """Labels of 0 and predictions whose mean absolute error is 10, but for what rows and runs draw."""
    errors = 10 + rng.normal(size=rows)
    shifts = rng.normal(0, spread, runs)
    return np.zeros(rows, np.float32), errors, shifts


def test_one_run_a_side_is_over_rows_alone_as_it_always_was():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 60).astype(np.float32)
    ours, theirs = rng.normal(labels, 1.0), rng.normal(labels * 0.5, 1.0)
    # Written down before runs were drawn.
    wanted = {
        "auc": (-0.046380090497737614, -0.22754930254930258, 0.13631913435174306),
        "rmse": (-0.1716528362037486, -0.3970917500090046, 0.05791411055979652),
    }
    for metric, numbers in wanted.items():
        found = paired_bootstrap(metric, labels, [ours], [theirs], seed=5)
        assert (found.mean, found.low, found.high) == pytest.approx(numbers, abs=1e-14)
    # Runs that are alike add nothing, whatever is drawn of them.
    several = paired_bootstrap("rmse", labels, [ours] * 3, [theirs] * 2, seed=5)
    assert (several.mean, several.low, several.high) == pytest.approx(wanted["rmse"], abs=1e-12)
    assert (several.over_seeds, found.over_seeds) == (True, False)


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_the_interval_is_as_wide_as_rows_and_runs_together_make_it(runs):
    labels, errors, shifts = planted(np.random.default_rng(runs), 50, runs, 0.1)
    found = paired_bootstrap("mae", labels, [errors + shift for shift in shifts])
    variance = errors.var() / 50 + shifts.var(ddof=1) / runs
    assert found.mean == pytest.approx(errors.mean() + shifts.mean())
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(variance**0.5, rel=0.05)


def test_the_interval_covers_what_new_runs_and_rows_would_give(monkeypatch):
    monkeypatch.setattr("nfm_tfrs.metrics.bootstrap.RESAMPLES", 200)
    rng, covered, over_rows = np.random.default_rng(0), [], []
    for trial in range(60):
        labels, errors, ours = planted(rng, 40, 6, 0.3)
        theirs = rng.normal(0, 0.3, 5)  # other runs, on the same rows
        sides = [[errors + shift + rng.normal(0, 0.3, 40) for shift in shifts] for shifts in (ours, theirs)]
        found = paired_bootstrap("mae", labels, *sides, seed=trial)
        covered.append(found.low <= 0 <= found.high)  # no side is better
        apart = [[np.mean(side, axis=0)] for side in sides]
        rows = paired_bootstrap("mae", labels, *apart, seed=trial)
        over_rows.append(rows.low <= 0 <= rows.high)
    assert np.mean(covered) > 0.8
    assert np.mean(over_rows) < 0.4


def test_what_a_seed_does_to_both_sides_cancels():
    labels, errors, shifts = planted(np.random.default_rng(1), 30, 4, 2.0)
    found = paired_bootstrap("mae", labels, [errors + shift + 0.5 for shift in shifts], [errors + s for s in shifts])
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)
    fewer = paired_bootstrap(
        "mae", labels, [errors + shift + 0.5 for shift in shifts], [errors + s for s in shifts[:3]]
    )
    assert fewer.high - fewer.low > 1
