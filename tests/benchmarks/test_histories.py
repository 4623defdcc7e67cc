"""The benchmark of histories keeps new users apart, pairs seeds, and runs."""

import numpy as np
import pyarrow.parquet as pq
from quality import histories
from scipy.stats import ttest_rel

from .test_movielens import write_ratings


def test_new_users_are_in_no_training_row_and_those_kept_off_in_none(tmp_path):
    write_ratings(tmp_path / "ratings.parquet")
    ratings = pq.read_table(tmp_path / "ratings.parquet")
    validated = []
    for seed in histories.SEEDS:
        parts = histories.divided(ratings, histories.NEW, seed)
        train, valid = ({*parts[name]["user_id"].to_pylist()} for name in ("train", "valid"))
        assert not train & valid
        assert len(train | valid) == 18  # of 20: a tenth is kept off
        validated.append(valid)
    assert len(set.union(*validated)) == sum(map(len, validated))  # each seed has users of its own
    known = histories.divided(ratings, histories.KNOWN, 1)
    assert {*known["valid"]["user_id"].to_pylist()} <= {*known["train"]["user_id"].to_pylist()}


def test_gains_are_of_one_seed_each_and_a_study_goes_on_where_it_stopped():
    found, calls = {}, []

    def measure(way, seed):
        calls.append((way, seed))
        score = 0.7 + 0.01 * len(way) + seed**2 / (100 + len(way))
        return {"valid_auc": score, "valid_log_loss": 1 - score}

    histories.study(found, (1, 2), measure, lambda: None)
    histories.study(found, (1, 2, 3), measure, lambda: None)
    assert len(calls) == len(set(calls)) == 3 * len(histories.ways())
    runs = {way: [of[str(seed)]["valid_auc"] for seed in (1, 2, 3)] for way, of in found["runs"].items()}
    expected = ttest_rel(runs["counts"], runs["defaults"]).confidence_interval()
    gain = found["summary"]["counts"]["gain"]["valid_auc"]
    np.testing.assert_allclose(gain["interval"], [expected.low, expected.high])
    assert found["summary"]["defaults"]["gain"] == {}


def test_each_way_trains_on_its_columns_and_a_quick_run_writes_nothing(tmp_path, capsys, monkeypatch):
    write_ratings(tmp_path / "ratings.parquet")
    before = histories.RESULTS.exists() and histories.RESULTS.read_bytes()
    told = []

    def trained(data, optimizer, seed, epochs, *, test, **arguments):
        told.append((data.features.names, seed, arguments))
        return {"valid_auc": len(data.features) / 10 + seed / 100, "valid_log_loss": 0.5 + seed / 10}

    monkeypatch.setattr(histories, "trained", trained)
    histories.main([str(tmp_path / "ratings.parquet"), "--quick"])
    of_way = [(histories.WAYS[way], histories.ARGUMENTS.get(way, {})) for way in histories.ways()]
    expected = [({*names}, seed, arguments) for seed in (1, 2) for names, arguments in of_way]
    assert [({*names}, seed, arguments) for names, seed, arguments in told] == expected * 2  # known and new users
    assert "counts                           valid_auc       +0.2000" in capsys.readouterr().out
    assert (histories.RESULTS.exists() and histories.RESULTS.read_bytes()) == before
