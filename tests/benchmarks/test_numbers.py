"""The benchmarks of encoders of numbers run; what was measured is of every encoder."""

import json

import numpy as np
import pytest
from quality import numbers
from speed import number_steps

from nfm_tfrs.features.number_encoders import NUMBER_ENCODERS


def test_a_quick_run_times_every_encoder_beside_the_linear_one():
    steps = number_steps.main(["--quick"])["steps"]

    assert list(steps) == ["bi_interaction"]
    assert list(steps["bi_interaction"]) == list(NUMBER_ENCODERS)
    assert steps["bi_interaction"]["linear"]["ratio"]["median"] == 1.0
    assert all(one["milliseconds"] > 0 for one in steps["bi_interaction"].values())


def test_differences_are_from_linear_numbers_of_the_same_seed():
    runs = {
        name: {str(seed): dict.fromkeys(("valid_auc", "test_auc", "test_log_loss"), at + seed) for seed in range(5)}
        for name, at in (("linear", 0.0), ("periodic", 0.25))
    }

    found = numbers.summarised(runs)

    assert found["periodic"]["test_auc"]["mean"] == pytest.approx(2.25)
    assert found["periodic"]["less linear"]["test_auc"]["mean"] == pytest.approx(0.25)
    assert np.ptp(found["periodic"]["less linear"]["test_auc"]["interval"]) == pytest.approx(0.0)
    assert "less linear" not in found["linear"]


def test_numbers_have_limits_for_every_encoder_on_both_tables():
    for data, count in ((numbers.clicks(500)[0], 2), (numbers.digits()[0], 16)):
        found = data.features.numbers
        assert len(found) == count
        assert all(len(number.boundaries) >= 2 for number in found)


@pytest.mark.slow
def test_a_quick_run_trains_every_encoder_and_writes_nothing():
    pytest.importorskip("lightgbm")
    before = numbers.RESULTS.read_bytes() if numbers.RESULTS.exists() else None

    data = numbers.main(["--quick"])["data"]

    assert set(data) == {"click log", "digits"}
    assert all(set(one["summary"]) == {*NUMBER_ENCODERS, "LightGBM"} for one in data.values())
    assert (numbers.RESULTS.read_bytes() if numbers.RESULTS.exists() else None) == before


def test_the_results_are_of_every_encoder_and_beside_lightgbm():
    results = json.loads(numbers.RESULTS.read_text())

    assert results["seeds"] == 5
    for one in results["data"].values():
        assert set(one["summary"]) == {*NUMBER_ENCODERS, "LightGBM"}
        assert all(len(runs) == 5 for runs in one["runs"].values())
    # Where the truth rises and falls with numbers, x v is no encoder of it.
    clicks = results["data"]["click log"]["summary"]
    for encoder in ("buckets", "autodis"):
        assert clicks[encoder]["less linear"]["test_auc"]["interval"][0] > 0
