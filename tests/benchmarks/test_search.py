"""The benchmarks of searches compare what they say they compare, and run."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tables
from lib import timing
from memory import search_memory
from quality import prior, search, search_clicks

from nfm_tfrs.evidence import Evidence
from nfm_tfrs.tuning.prior import read_sets


def found(valid_auc, **rest):
    known = {"valid_auc": valid_auc, "model_auc": valid_auc + 0.02, "best_trial": valid_auc + 0.01}
    return {**known, "configurations": 9, **rest}


def test_the_strategy_with_the_better_winners_on_validation_is_the_better_one():
    runs = {"halving": [found(0.70), found(0.74)], "random": [found(0.73), found(0.72)]}
    compared = search.compared(runs)
    assert compared["better"] == "random"
    assert compared["difference"]["each"] == pytest.approx([-0.03, 0.02])
    assert compared["difference"]["mean"] == pytest.approx(-0.005)
    assert compared["summary"]["halving"]["valid_auc"]["mean"] == pytest.approx(0.72)
    assert compared["summary"]["halving"]["model_auc"]["mean"] == pytest.approx(0.74)


def test_scores_after_a_part_agree_with_the_whole_as_their_ranks_do():
    curves = [[0.5] * 3 + [0.6] * 6 + [best] for best in (0.7, 0.8, 0.9)]
    curves[2][0], curves[1][1], curves[0][4] = 0.52, 0.51, 0.75  # in order after a ninth, not after a third
    found = search.agreement([{"scores": curves[:2]}, {"scores": curves[2:]}], 27)
    assert found["after 3 of 27 slices"] == pytest.approx(1.0)
    assert found["after 9 of 27 slices"] < 0


def test_strategies_are_compared_again_without_reading_a_test_row(tmp_path, monkeypatch):
    (tmp_path / "5 minutes").mkdir()
    for strategy, auc in (("halving", 0.79), ("random", 0.78)):
        for seed, gain in ((0, 0.01), (1, 0.0)):
            run = found(auc + gain, winner={}, scores=[[0.5, 0.6, auc], [0.5, 0.4, 0.3]], trace=[[9, auc]])
            (tmp_path / "5 minutes" / f"{strategy}-{seed}.json").write_text(json.dumps(run))
    kept = {"auc": {"searched": {"mean": 0.75}}}
    (tmp_path / "search.json").write_text(json.dumps({"test": kept, "better": "random"}))
    monkeypatch.setattr(search, "RESULTS", tmp_path)
    search.main(["no such file", "--seeds", "2", "--folder", str(tmp_path), "--keep-test", "--minutes", "5"])
    results = json.loads((tmp_path / "search.json").read_text())
    assert (results["test"], results["better"], results["seeds"]) == (kept, "halving", 2)
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_the_seconds_to_the_same_score_are_those_to_the_lower_of_both_best():
    ours = {"trace": [[5, 0.6], [20, 0.8], [30, 0.9]]}
    theirs = {"trace": [[10, 0.7], [80, 0.8]]}
    assert search.reached(ours, theirs) == {"auc": 0.8, "ours": 20, "theirs": 80, "share": 0.25}


def test_the_first_rung_is_ranked_beside_whole_trainings():
    runs = [{"first rung": [[0.1, 0.5], [0.2, 0.6]]}, {"first rung": [[0.3, 0.55]]}]
    assert search.rank_correlation(runs) == pytest.approx(0.5)


def test_what_won_is_gathered_by_set_and_the_other_sets_stay(tmp_path, monkeypatch, capsys):
    yesterday = Path(__file__).parents[1] / "yesterday" / "search.json"
    evidence = Evidence.from_json(json.loads(yesterday.read_text()))
    first = evidence.finalists[0]
    default = replace(first, trial="default", mean=first.mean - 0.01, difference=None)
    kept = replace(evidence, finalists=(*evidence.finalists, default))
    for name in ("30 minutes/halving-0", "lastfm-tags 30 minutes/halving-1", "clicks 15 minutes/pairs-30", "quick/x-0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "search.json").write_text(json.dumps(kept.to_json()))
    shipped = tmp_path / "prior.json"
    shipped.write_text(json.dumps({"format": 1, "sets": {"published": {"winners": [{"values": {}, "gain": 1.0}]}}}))
    monkeypatch.setattr(prior, "SHIPPED", shipped)
    prior.main(["--folder", str(tmp_path), "--quick"])
    assert "movielens-small" not in shipped.read_text()
    prior.main(["--folder", str(tmp_path)])
    sets = read_sets(json.loads(shipped.read_text()))
    assert set(sets) == {"published", "movielens-small", "lastfm-tags", "clicks-pairs"}
    values = next(dict(trial.values) for trial in evidence.trials if trial.id == first.trial)
    assert sets["clicks-pairs"][0].values == search_clicks.FIXED | values
    assert sets["lastfm-tags"][0].values == values
    assert sets["clicks-pairs"][0].gain == pytest.approx(0.01)


def test_searches_of_click_logs_are_counted_against_the_best_and_the_default():
    runs = [
        {"best": 0.80, "searched": 0.795, "NFM": 0.78},
        {"best": 0.81, "searched": 0.795, "NFM": 0.79},
        {"best": 0.80, "searched": 0.785, "NFM": 0.79},
    ]
    summary = search_clicks.summary(runs)
    assert (summary["within 0.01 of the best"], summary["above the default NFM"], summary["of"]) == (1, 2, 3)
    assert summary["below the best"]["mean"] == pytest.approx((0.005 + 0.015 + 0.015) / 3)


def test_the_table_shows_what_was_measured_and_nothing_else(tmp_path):
    assert tables.search(tmp_path).splitlines()[2:] == []
    gap = {"mean": 0.01, "interval": [-0.02, 0.03]}
    strategies = {name: {"valid_auc": {"mean": mean, "sd": 0.02}} for name, mean in (("halving", 0.7), ("random", 0.8))}
    test = {"auc": {"searched": {"mean": 0.75, "interval": [0.7, 0.8]}}, "searched less": {"LightGBM": gap}}
    runs = [{"best": 0.80, "searched": 0.795, "NFM": 0.78}, {"best": 0.81, "searched": 0.795, "NFM": 0.796}]
    clicks = {name: search_clicks.summary(runs) for name in ("pairs", "triples")}
    sides = {"halving": {"valid_auc": {"mean": 0.7, "sd": None}, "model_auc": {"mean": 0.71, "sd": None}}}
    prior = {"minutes": 30, "summary": sides, "reached": [{"share": 0.5}, {"share": 0.7}]}
    memory = {"searches": {"encoded rows": {"trials": 200, "growth": -3.2}}}
    for name, results in (
        ("search", {"summary": strategies, "better": "random", "test": test}),
        ("search_prior", prior),
        ("search_clicks", clicks),
        ("search_memory", memory),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.search(tmp_path).splitlines()[2:]]
    assert [row[2] for row in rows[:3]] == [
        "random 0.8000 ± 0.0200, halving 0.7000 ± 0.0200",
        "0.7500 [0.7000, 0.8000]",
        "+0.0100 [-0.0200, +0.0300]",
    ]
    what = "movielens-small, 30 minutes, with the prior: validation AUC of the model"
    assert rows[3] == [what, "0.792", "0.7100; its best configuration 0.7000"]
    assert rows[4][1:] == ["0.5", "0.60"]
    assert [row[1:] for row in rows[5:8]] == [
        ["0.0045", "0.0100 ± 0.0071"],
        ["9 of 10", "1 of 2"],
        ["9 of 10", "1 of 2"],
    ]
    assert rows[-1] == ["memory, 200 trials of encoded rows", "below 300 MB", "-3 MB"]


def test_commands_run_each_on_one_processor_and_a_failure_ends_it(tmp_path):
    script = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(len(os.sched_getaffinity(0))))"
    timing.side_by_side([[sys.executable, "-c", script, str(tmp_path / name)] for name in ("a", "b", "c")])
    assert [(tmp_path / name).read_text() for name in ("a", "b", "c")] == ["1"] * 3
    with pytest.raises(SystemExit, match="1 of 2 failed, the first of them: false"):
        timing.side_by_side([["true"], ["false"]])
    assert len(os.sched_getaffinity(0)) == os.cpu_count() or os.environ.get("CI")


@pytest.mark.slow
def test_quick_searches_click_logs_and_writes_no_result(tmp_path, capfd):
    before = search_clicks.RESULTS.exists() and search_clicks.RESULTS.read_bytes()
    search_clicks.main(["--quick", "--folder", str(tmp_path)])
    shown = json.loads(capfd.readouterr().out.partition("\n{\n")[2].join(["{", ""]))
    assert {name: of["of"] for name, of in shown.items()} == {"pairs": 1, "triples": 1}
    assert 0.7 < shown["pairs"]["auc"]["best"]["mean"] < 0.9
    assert before == (search_clicks.RESULTS.exists() and search_clicks.RESULTS.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", search_memory.SEARCHES)
def test_memory_is_read_once_a_trial(name):
    run, fixed = search_memory.SEARCHES[name]
    reads = []
    run(2, fixed, lambda: reads.append(timing.resident_megabytes("VmRSS")))
    assert len(reads) == 2  # too few for a promotion
    assert min(reads) > 100
