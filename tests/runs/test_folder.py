"""A run's folder: what its curves show."""

from types import SimpleNamespace

import pytest

from nfm_tfrs.features.feature import NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs import curves
from nfm_tfrs.runs.folder import write_run

MODEL = SimpleNamespace(save=lambda path: None, features=FeatureSpec([NumericFeature("price")]))
RECORD = SimpleNamespace(to_json=dict)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({"loss": [0.7, 0.6], "log_loss": [0.7, 0.6], "auc": [0.5, 0.6]}, ["auc", "log_loss"]),
        ({"loss": [0.9, 0.8], "log_loss": [0.7, 0.6], "auc": [0.5, 0.6]}, ["loss", "auc", "log_loss"]),
        ({"loss": [4.0, 1.0], "rmse": [2.0, 1.0]}, ["loss", "rmse"]),
    ],
)
def test_a_loss_that_is_the_log_loss_is_drawn_once(tmp_path, monkeypatch, history, expected):
    drawn = []
    monkeypatch.setattr(curves, "draw_curves", lambda history, path, names: drawn.extend(names))
    write_run(tmp_path, MODEL, history | {f"val_{name}": values for name, values in history.items()}, {}, RECORD)
    assert drawn == expected
