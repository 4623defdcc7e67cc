"""The benchmark of MovieLens runs on ratings of its form, and a quick run writes nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quality import movielens

from nfm_tfrs.data.readers.table import read_table


def write_ratings(path, rows=600):
    rng = np.random.default_rng(0)
    columns = {
        "user_id": rng.integers(0, 20, rows),
        "movie_id": rng.integers(0, 30, rows),
        "year": rng.integers(1990, 2000, rows),
        "genres": [["Drama", "Comedy"][: number % 3] for number in range(rows)],
        "rating": rng.integers(1, 6, rows).astype(np.float64),
        "timestamp": np.arange(rows),
    }
    pq.write_table(pa.table(columns), path)


@pytest.mark.slow
def test_a_quick_run_shows_the_one_seed_of_the_defaults_and_writes_nothing(tmp_path, capsys):
    write_ratings(tmp_path / "ratings.parquet")
    before = movielens.RESULTS.read_bytes()
    movielens.main([str(tmp_path / "ratings.parquet"), "--quick"])
    (line,) = capsys.readouterr().out.splitlines()
    name, *_, auc, _, _, loss = line.split()
    assert (name, 0 < float(auc) < 1, 0 < float(loss) < 2) == ("defaults", True, True)
    assert movielens.RESULTS.read_bytes() == before


def test_several_seeds_are_shown_with_their_spread():
    found = movielens.spread([{"auc": 0.7}, {"auc": 0.8}])
    assert movielens.shown(found["auc"]) == "0.7500 ± 0.0707"


@pytest.mark.slow
def test_the_test_rows_are_judged_by_what_has_not_been_judged_yet(tmp_path):
    write_ratings(tmp_path / "ratings.parquet")
    data = movielens.prepared(read_table(tmp_path / "ratings.parquet"), 1)
    known = {"NFM, the package's defaults", "LightGBM"}
    found = dict(movielens.judged(data, 1, 1, done=known))
    assert set(found) == {movielens.TRAIN, f"{movielens.TRAIN}, the mean of its runs", "logistic regression"}
    assert found[movielens.TRAIN] == found[f"{movielens.TRAIN}, the mean of its runs"]  # of one run
    assert 0 < found["logistic regression"]["auc"]["mean"] < 1
    assert list(movielens.judged(data, 1, 1, done=known | set(found))) == []
