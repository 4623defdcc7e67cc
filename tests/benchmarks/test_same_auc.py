"""The time to the same AUC is that of the first part behind which a side has it."""

import numpy as np
import pytest
from lib.places import RESULTS
from quality import same_auc


@pytest.mark.slow
def test_quick_runs_all_sides_to_the_same_auc_and_writes_nothing():
    pytest.importorskip("lightgbm")
    pytest.importorskip("myfm")
    before = sorted(RESULTS.iterdir())

    found = same_auc.main(["--quick"])

    assert set(found["seconds"]) == {"own", "lightgbm", "myfm"}
    for name, (seconds,) in found["seconds"].items():
        (curve,) = found["curves"][name]
        assert next(auc for spent, auc in curve if spent == seconds) >= found["target"]
    assert sorted(RESULTS.iterdir()) == before


def test_the_seconds_are_those_of_training_alone(monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(same_auc.time, "perf_counter", lambda: next(clock))

    def side(data, seed, parts):
        for part in range(3):
            yield lambda part=part: np.array([0.0, float(part == 2)])

    class Data:
        class valid:
            labels = np.array([0.0, 1.0])

    assert same_auc.curve(side, Data, 0, same_auc.QUICK) == [(10, 0.5), (20, 0.5), (30, 1.0)]
