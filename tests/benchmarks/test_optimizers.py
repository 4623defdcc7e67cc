"""The benchmark of the optimizers chooses rates on validation, pairs seeds, goes on where it stopped, and runs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from lib.places import BENCHMARKS
from quality import optimizers
from quality.optimizers import Candidate, Plan
from scipy.stats import ttest_rel

from nfm_tfrs.data.synthetic import click_log

RATES = {"Adam": (0.1, 0.2), "LazyAdam": (0.3, 0.4)}
PLAN = Plan({name: Candidate(lambda rate, name=name: (name, rate), rates) for name, rates in RATES.items()})
ALL_RATES = [(name, rate, 0, False) for name, rates in RATES.items() for rate in rates]
JUDGED = (("Adam", 0.1), ("LazyAdam", 0.3), ("LazyAdam", 0.1))
ALL_SEEDS = [(*judged, seed, True) for seed in (1, 2, 3, 4, 5) for judged in JUDGED]


class Measured:
    """Runs that train nothing: the smaller a rate, the better; every call is noted."""

    def __init__(self, stop_after=None):
        self.calls = []
        self.stop_after = stop_after

    def __call__(self, optimizer, seed, *, test):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        name, rate = optimizer
        self.calls.append((name, rate, seed, test))
        score = 1 - rate + seed * seed / 1000
        return {"valid_auc": score, **({"test_auc": -score, "test_log_loss": 2 * score} if test else {})}


def start():
    return {"rates": {}, "chosen": {}, "runs": {}}


def test_each_rate_has_one_run_on_validation_and_the_best_and_the_twins_a_run_a_seed_on_test():
    measure, found = Measured(), start()
    optimizers.study(found, PLAN, measure, lambda: None)
    assert measure.calls == ALL_RATES + ALL_SEEDS
    assert found["chosen"] == {"Adam": 0.1, "LazyAdam": 0.3, "LazyAdam, Adam's rate": 0.1}
    assert found["summary"]["LazyAdam"]["valid_auc"]["mean"] == pytest.approx(0.711)
    assert found["summary"]["LazyAdam, Adam's rate"]["valid_auc"]["mean"] == pytest.approx(0.911)


def test_twins_of_one_rate_run_once():
    chosen = {"Adam": 0.1, "LazyAdam": 0.1, "LazyAdagrad": 0.2}
    assert optimizers.contenders(chosen) == {name: (name, rate) for name, rate in chosen.items()}


@pytest.mark.parametrize("stop_after", [0, 3, 4, 9, 13])
def test_stopped_study_goes_on_with_what_is_missing(stop_after):
    whole, found, written = start(), start(), []
    optimizers.study(whole, PLAN, Measured(), lambda: None)
    first, second = Measured(stop_after), Measured()
    with pytest.raises(KeyboardInterrupt):
        optimizers.study(found, PLAN, first, lambda: written.append(1))
    assert len(written) == stop_after
    optimizers.study(found, PLAN, second, lambda: None)
    assert first.calls + second.calls == ALL_RATES + ALL_SEEDS
    assert found == whole


def test_added_rate_that_is_chosen_replaces_the_runs_of_the_old_one():
    found, measure = start(), Measured()
    optimizers.study(found, PLAN, Measured(), lambda: None)
    lazy = PLAN.candidates["LazyAdam"]
    wider = PLAN._replace(candidates={**PLAN.candidates, "LazyAdam": Candidate(lazy.make, (0.05, *lazy.rates))})
    optimizers.study(found, wider, measure, lambda: None)
    assert measure.calls == [("LazyAdam", 0.05, 0, False)] + [("LazyAdam", 0.05, seed, True) for seed in range(1, 6)]
    assert found["summary"]["LazyAdam"]["valid_auc"]["mean"] == pytest.approx(0.961)


def test_difference_is_that_of_a_paired_t_test():
    ours, theirs = [0.71, 0.75, 0.74, 0.79, 0.72], [0.70, 0.71, 0.75, 0.74, 0.70]
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    found = optimizers.difference(ours, theirs)
    assert found["mean"] == pytest.approx(0.022)
    assert found["interval"] == pytest.approx([expected.low, expected.high])


def test_differences_are_taken_between_runs_of_one_seed():
    runs = {
        "Adam": {str(seed): dict.fromkeys(optimizers.METRICS, float(seed)) for seed in (1, 2, 3)},
        "LazyAdam": {str(seed): dict.fromkeys(optimizers.METRICS, seed + 0.5) for seed in (3, 1, 2)},
    }
    summary = optimizers.compared(runs)
    assert summary["LazyAdam"]["differences"]["Adam"]["test_auc"] == {"mean": 0.5, "interval": [0.5, 0.5]}
    assert summary["LazyAdam"]["test_auc"] == {"mean": 2.5, "sd": 1.0}
    assert summary["Adam"]["differences"] == {}


def test_best_is_named_for_each_data_set_and_for_their_average():
    scores = {
        "films": {"Adam": 0.9, "LazyAdam": 0.5, "Adagrad": 0.55, "LazyAdam, Adam's rate": 0.99},
        "clicks": {"Adam": 0.2, "LazyAdam": 0.75, "Adagrad": 0.6},
    }
    summaries = {
        data: {name: {"valid_auc": {"mean": score}} for name, score in of.items()} for data, of in scores.items()
    }
    assert optimizers.best_on_validation(summaries) == {"films": "Adam", "clicks": "LazyAdam", "average": "LazyAdam"}


def test_best_possible_is_that_of_the_true_logits_of_the_parts_rows():
    data, facts = optimizers.clicks(400)
    log = click_log(400, seed=optimizers.LOG_SEED)
    # Rows come in order of time, so the last tenth is the test part.
    logits, labels = log.true_logits[360:], log.table["click"].to_numpy()[360:]
    gaps = logits[labels == 1][:, None] - logits[labels == 0][None, :]
    chances = 1 / (1 + np.exp(-logits))
    assert data.test.labels.tolist() == labels.tolist()
    assert facts["best_possible"]["test"] == pytest.approx(
        {"auc": (gaps > 0).mean(), "log_loss": -np.log(np.where(labels == 1, chances, 1 - chances)).mean()}
    )


def test_summary_shows_means_and_differences_to_adam():
    found = {**start(), "best_possible": {part: {"auc": 0.8, "log_loss": 0.5} for part in ("valid", "test")}}
    optimizers.study(found, PLAN, Measured(), lambda: None)
    lines = optimizers.lines("clicks", found)
    assert lines[2].split()[:5] == ["LazyAdam", "0.3", "valid_auc", "0.7110", "±"]
    assert lines[3].split() == ["valid_auc", "-0.2000", "[-0.2000,", "-0.2000]"]
    assert lines[-1] == "  best possible: AUC 0.8000 (validation), 0.8000 (test)"


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ({"epochs": 1}, "was measured with other settings. Remove it to start anew."),
        (
            {"data": {"click log": {"rows": {"train": 9}}}},
            "has {'train': 9} rows of click log, not {'train': 320, 'valid': 40, 'test': 40}. Remove it to start anew.",
        ),
    ],
    ids=["settings", "rows"],
)
def test_results_of_something_else_are_refused_and_kept(tmp_path, monkeypatch, capsys, known, line):
    path = tmp_path / "optimizers.json"
    path.write_text(json.dumps({"rate_seed": 0, **optimizers.settings(optimizers.FULL), "data": {}} | known))
    before = path.read_bytes()
    monkeypatch.setattr(optimizers, "RESULTS", path)
    monkeypatch.setattr(optimizers, "LOG_ROWS", 400)
    with pytest.raises(SystemExit):
        optimizers.main([])
    assert f"{path} {line}" in capsys.readouterr().err
    assert path.read_bytes() == before


class Untested(Measured):
    """Runs on rows without a test part."""

    def __call__(self, optimizer, seed, *, test):
        run = super().__call__(optimizer, seed, test=test)
        return {"valid_auc": run["valid_auc"], "valid_log_loss": 2 * run["valid_auc"]}


def test_of_rows_without_a_test_part_validation_alone_is_compared_and_shown(tmp_path, monkeypatch):
    found = start()
    optimizers.study(found, PLAN, Untested(), lambda: None)
    summary = found["summary"]["LazyAdam"]
    assert [*summary] == ["valid_auc", "valid_log_loss", "differences"]
    assert summary["differences"]["Adam"]["valid_log_loss"]["mean"] == pytest.approx(-0.4)
    assert optimizers.lines("tags", found)[3].split() == ["valid_auc", "-0.2000", "[-0.2000,", "-0.2000]"]
    (tmp_path / "optimizers.json").write_text(json.dumps({"data": {"lastfm-tags": found}}))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.optimizers().splitlines()[3] == "| lastfm-tags | LazyAdam | 0.3 | 0.7110 ± 0.0097 |  |  |  |"


def write_tags(folder, rows):
    rng = np.random.default_rng(0)
    for part in ("train", "valid"):
        columns = {name: rng.integers(0, 9, rows) for name in ("user", "artist", "tag")}
        pq.write_table(pa.table({**columns, "label": columns["tag"] % 2}), folder / f"{part}.parquet")


def test_tags_are_three_categories_and_two_parts(tmp_path):
    write_tags(tmp_path, 300)
    data = optimizers.tags(tmp_path)
    assert {part: len(encoded) for part, encoded in data.encoded.items()} == {"train": 300, "valid": 300}
    assert [feature.name for feature in data.features.single] == ["user", "artist", "tag"]
    assert len(optimizers.tags(tmp_path, 40).train) == 40
    run = optimizers.trained(data, "lazyadam", 1, 1, test=True, embedding_dim=2)
    assert {"valid_auc", "valid_log_loss"} <= run.keys()
    assert "test_auc" not in run


@pytest.mark.slow
def test_quick_run_compares_the_two_adams_and_writes_nothing(run_python):
    before = optimizers.RESULTS.read_bytes() if optimizers.RESULTS.exists() else None
    script = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['optimizers', '--quick']\n"
        f"runpy.run_path({str(BENCHMARKS)!r}, run_name='__main__')"
    )
    lines = run_python(script).stdout.splitlines()
    seeds = [(line.split()[0], line.split()[3]) for line in lines if " seed " in line]
    assert seeds == [(name, seed) for seed in "012" for name in ("Adam", "LazyAdam")]
    assert lines[-1].startswith("best on validation, average: ")
    assert (optimizers.RESULTS.read_bytes() if optimizers.RESULTS.exists() else None) == before
