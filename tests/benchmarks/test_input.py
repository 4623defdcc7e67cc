"""The benchmark of the input measures every way, and all ways give the same rows."""

import json

import numpy as np
import pytest
from lib.places import RESULTS
from speed import input as benchmark

SIZES = benchmark.Sizes(rows=900, strings=700, slices=500, group=400, vocabulary=1_000, steps=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return benchmark.Sources(tmp_path_factory.mktemp("input"), benchmark.workload("W1", 1_000), SIZES)


def rows_of(dataset):
    """Every row's ids, numbers and label, in an order of their own."""
    batches = [
        np.concatenate(
            [*(part.numpy().astype(np.float64) for part in columns.values()), labels.numpy()[:, None]], axis=1
        )
        for columns, labels in dataset
    ]
    rows = np.concatenate(batches)
    return rows[np.lexsort(rows.T)]


@pytest.mark.slow
def test_all_ways_give_the_same_rows(sources):
    expected = rows_of(sources.whole_file())
    assert expected.shape == (900, 26 + 13 + 1)
    np.testing.assert_array_equal(rows_of(sources.parquet()), expected)
    np.testing.assert_array_equal(rows_of(sources.cache()), expected)
    strings = rows_of(sources.parquet_of_strings())
    assert strings.shape == (700, 40)
    assert strings[:, :26].min() > 0  # none unknown


@pytest.mark.slow
def test_each_way_is_measured_and_compared_with_the_bare_step(sources):
    alone = benchmark.alone(sources, 2)
    assert set(alone) == {"parquet", "parquet, strings", "cache", "memory", "from_tensor_slices"}
    training = benchmark.training(sources, 2, 1)
    assert set(training) == {"bare step", "parquet", "cache", "whole file"}
    for measured in (*alone.values(), *training.values()):
        low, high = measured["rows_per_second"]["interval"]
        assert 0 < low <= measured["rows_per_second"]["median"] <= high
        assert measured["processor_nanoseconds_per_row"] > 0
    assert all(training[name]["share"]["median"] > 0 for name in ("parquet", "cache", "whole file"))


def test_a_quick_run_writes_nothing(monkeypatch):
    monkeypatch.setattr(benchmark, "QUICK", SIZES)
    before = {path: path.read_bytes() for path in RESULTS.iterdir()}
    results = benchmark.main(["--quick"])
    assert results["end_to_end"] == results["training"]["parquet"]["share"]
    json.dumps(results)
    assert {path: path.read_bytes() for path in RESULTS.iterdir()} == before
