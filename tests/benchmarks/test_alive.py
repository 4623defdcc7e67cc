"""What was measured of resuming, of nightly training and of the nightly job is what the pages say; small forms run."""

import json

import numpy as np
import pytest
from lib.places import RESULTS
from quality import daily

from nfm_tfrs.features.growth import Growth


def read(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_trainings_that_were_killed_ended_as_those_that_were_not():
    results = read("resume")
    kills = results["kills"]
    assert len(kills) >= 20
    assert all(kill["equal"] for kill in kills)
    # Most went on inside of a pass, behind a checkpoint; some were killed in the middle of a write.
    inside = [kill for kill in kills if kill["resumed"] and kill["resumed"][-1] % results["steps_of_a_pass"]]
    assert 2 * len(inside) >= len(kills)
    assert sum(kill["killed"] == "in a write" for kill in kills) >= 3
    assert {kill["pipe"] for kill in kills} == {"memory", "cached", "streamed"}
    assert results["cost"]["writes"] >= 1
    assert results["cost"]["share"] <= 0.02


def test_the_nightly_job_was_killed_in_each_of_its_stages():
    results = read("nightly")
    assert {kill["stage"] for kill in results["kills"] if kill["inside"]} == {
        "the first training",
        "drift",
        "training on",
        "export",
    }
    assert all(results["equal"])


def test_growth_was_judged_on_both_logs():
    results = read("daily")
    assert results["seeds"] == 3
    assert set(results["data"]) == {"click log", "MovieLens-small"}
    for strategies in results["data"].values():
        assert {"train once", "from scratch every night", "warm, no growth", "warm, growth"} <= set(strategies)
        once = strategies["train once"]
        assert once["all_gain"]["mean"] == 0.0
        assert strategies["warm, growth"]["new"]["mean"] > once["new"]["mean"]


@pytest.mark.slow
def test_a_night_of_each_kind_runs(monkeypatch):
    monkeypatch.setattr(daily, "ROWS", 150)
    monkeypatch.setattr(daily, "SLICES", 8)
    log = daily.clicks()
    assert log.table.num_rows == 8 * 150
    assert 0.2 < log.is_new(log.days(5, 8)).mean() < 1.0
    model = daily.trained(log, 5, 0)
    known = model.features["user_id"].num_ids
    for strategy in (
        daily.Strategy(Growth(init="mean:group")),
        daily.Strategy(state=False),
        daily.Strategy(epochs=0),
    ):
        after = daily.one_night(model, log, 5, strategy, 0)
        assert (after.features["user_id"].num_ids > known) == (strategy.growth is not None)


def test_gains_are_means_over_nights_with_an_interval_around_them():
    found = daily.gain(np.array([0.1, 0.2, 0.3]))
    assert found["mean"] == pytest.approx(0.2)
    low, high = found["interval"]
    assert 0.1 <= low < 0.2 < high <= 0.3
