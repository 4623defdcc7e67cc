"""What was measured of attention holds what is said of it; a small form runs."""

import json

import pytest
from lib.places import RESULTS
from quality import attention


def test_attention_cuts_the_distance_to_the_best_auc_by_half_in_ten_logs():
    results = json.loads((RESULTS / "attention.json").read_text())
    assert set(results["runs"]) == {str(seed) for seed in attention.SEEDS}
    assert len(results["runs"]) == 10
    assert results["summary"]["share_left"] <= 0.5
    assert results["summary"]["difference"]["interval"][1] < 0
    again = attention.summarised(results["runs"])
    assert again["share_left"] == pytest.approx(results["summary"]["share_left"])


@pytest.mark.slow
def test_both_ways_of_pooling_are_judged():
    run = attention.judged(1, 400, 1)
    for combiner in attention.COMBINERS:
        assert run[combiner]["distance"] == pytest.approx(run["best_auc"] - run[combiner]["test_auc"])
