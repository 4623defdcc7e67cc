"""Benchmarks that have no peers measure each of their cases; quick, they write nothing."""

import pytest
from lib.places import RESULTS
from speed import raw, widths


@pytest.mark.slow
def test_quick_measures_each_model_and_batch_size_and_writes_nothing():
    before = sorted(RESULTS.iterdir())

    found = raw.main(["--quick"])["rows_per_second"]

    assert {name: list(sizes) for name, sizes in found.items()} == {
        name: ["512", "4096"] for name in ("dlrm", "deepfm")
    }
    assert all(rate["median"] > 0 for sizes in found.values() for rate in sizes.values())
    assert sorted(RESULTS.iterdir()) == before


@pytest.mark.slow
def test_quick_measures_each_structure_and_batch_size_in_bfloat16_and_writes_nothing():
    before = sorted(RESULTS.iterdir())

    steps = widths.main(["--quick"])["steps"]

    assert {(step["structure"], step["batch_size"]) for step in steps} == {
        (structure, size) for structure in ("stacked", "parallel") for size in (512, 4096)
    }
    assert all(step["bfloat16"]["median"] > 0 for step in steps)
    assert sorted(RESULTS.iterdir()) == before
