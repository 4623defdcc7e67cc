"""The benchmark of training from raw columns measures both models at both batch sizes; quick, it writes nothing."""

import pytest
from lib.places import RESULTS
from speed import raw


@pytest.mark.slow
def test_quick_measures_each_model_and_batch_size_and_writes_nothing():
    before = sorted(RESULTS.iterdir())

    found = raw.main(["--quick"])["rows_per_second"]

    assert {name: list(sizes) for name, sizes in found.items()} == {
        name: ["512", "4096"] for name in ("dlrm", "deepfm")
    }
    assert all(rate["median"] > 0 for sizes in found.values() for rate in sizes.values())
    assert sorted(RESULTS.iterdir()) == before
