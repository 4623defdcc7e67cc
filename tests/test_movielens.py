"""The package's defaults on real ratings, from the command line."""

import json
import os

import pytest
from typer.testing import CliRunner

from nfm_tfrs.cli import app

RATINGS = os.environ.get("NFM_TFRS_MOVIELENS")


@pytest.mark.slow
@pytest.mark.skipif(RATINGS is None, reason="NFM_TFRS_MOVIELENS names no ratings.parquet of MovieLens-small")
def test_the_defaults_reach_the_validation_auc_of_the_benchmark(tmp_path):
    result = CliRunner().invoke(
        app,
        [
            *("train", "--data", str(RATINGS), "--label", "rating>=4", "--split", "user-time:user_id,timestamp"),
            *("--columns", "user_id,movie_id,year,genres", "--groups", "user_id", "--out", str(tmp_path / "run")),
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["valid"]["auc"] >= 0.775
