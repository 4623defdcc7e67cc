"""Means and deviations of new rows are those that inference would give, for any source."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data import moments
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.features.spec import FeatureSpec

ROWS = pa.table(
    {
        "price": pa.array(np.random.default_rng(0).normal(1e6, 3, 400)),
        "views": pa.array(np.random.default_rng(1).lognormal(1, 3, 400), mask=np.arange(400) % 7 == 0),
        "city": ["Rome"] * 400,
        "same": [2.0] * 400,
        "none": pa.array([None] * 400, pa.float64()),
        "marked": [1.0, 3.0, -99.0, 2.0] * 100,
    }
)
SPEC = FeatureSpec(
    [
        NumericFeature("price"),
        NumericFeature("views", log=True, mean=5.0),
        CategoricalFeature("city", vocabulary=["Rome"]),
        NumericFeature("same"),
        NumericFeature("none"),
        NumericFeature("marked", missing_values=[-99]),
    ]
)


def test_moments_are_those_of_inference_and_of_numpy(tmp_path):
    inferred = infer_features(ROWS.select(["price", "views"]))
    assert inferred["views"].log
    pq.write_table(ROWS, tmp_path / "rows.parquet", row_group_size=90)

    for source in (ROWS, ROWS.to_pandas(), ROWS.to_pylist(), tmp_path / "rows.parquet"):
        found = moments(source, SPEC)
        assert sorted(found) == ["marked", "price", "views"]  # of one value, or none, there is no deviation
        for name in ("price", "views"):
            # The features' numbers are float32.
            assert found[name] == pytest.approx((inferred[name].mean, inferred[name].std), rel=1e-4)
        assert found["marked"] == pytest.approx((2.0, np.std([1, 2, 3])))


def test_batches_are_added_up(monkeypatch):
    expected = moments(ROWS, SPEC)
    monkeypatch.setattr("nfm_tfrs.data.readers.rows.ROWS", 37)

    assert moments(ROWS, SPEC) == {name: pytest.approx(pair, rel=1e-9) for name, pair in expected.items()}


def test_only_numbers_are_read():
    assert "price" in moments(ROWS.drop_columns(["city"]), SPEC)
    assert moments({}, FeatureSpec([SPEC["city"]])) == {}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="The data has no rows"):
        moments(ROWS.slice(0, 0), SPEC)
    with pytest.raises(ValueError, match="'views'"):
        moments(ROWS.drop_columns(["views"]), SPEC)
    with pytest.raises(ValueError, match="Column 'price' is string"):
        moments({**ROWS.to_pydict(), "price": ["dear"] * 400}, SPEC)
