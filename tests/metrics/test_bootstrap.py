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
