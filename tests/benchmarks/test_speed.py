"""The speed benchmarks run, compare what they are to compare, and fill the README's table."""

import json
import sys

import numpy as np
import pytest
from lib import floor, reports, speed_table
from lib.places import BENCHMARKS
from lib.runners import RunnerError
from lib.workloads import workload
from speed import cold_start, fit, latency, train_step, vocabulary

SCRIPTS = ["train_step", "fit", "vocabulary", "latency", "cold_start", "sequences", "serving"]
QUICK = {
    script: "import runpy, sys\n"
    f"sys.argv[1:] = [{script!r}, '--quick']\n"
    f"runpy.run_path({str(BENCHMARKS)!r}, run_name='__main__')"
    for script in SCRIPTS
}
MILLISECONDS = {"own": 1.0, "deepctr": 6.0, "tutorial": 16.0, "torchfm": 5.0, "fuxictr": 8.0}


class FakeProcess:
    """A runner that answers at once, with the times of `MILLISECONDS` (10 for the others), Adagrad half as long."""

    def __init__(self, side, workload, rows=None):
        if side.peer == "keras_rs":
            raise RunnerError(f"{side.name}: broken")
        self.side = side
        self.seconds = MILLISECONDS.get(side.peer, 10.0) / (2 if side.optimizer == "adagrad" else 1) / 1e3
        self.ready = {"parameters": 7, "versions": {side.peer: "1"}, "first_step_seconds": self.seconds}

    def ask(self, do, calls=0, rows=0):
        if do == "memory":
            return {"megabytes": self.seconds, "peak_megabytes": self.seconds}
        return {"seconds": self.seconds if do == "fit" else [self.seconds] * calls}

    def close(self):
        pass


def measured(script, folder, **collaborators):
    """What a script writes of fake processes of all its peers."""
    report = reports.Report(script.__name__, reports.Options(False, 6, script.PEERS), folder=folder)
    script.measure(report, reports.Options(True, 6, script.PEERS), FakeProcess, **collaborators)
    return json.loads((folder / f"{script.__name__}.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the scripts write, of fake processes."""
    folder = tmp_path_factory.mktemp("results")
    found = {
        "train_step": measured(train_step, folder, least_time=lambda shape, quick: {"milliseconds": 0.25}),
        "fit": measured(fit, folder),
        "vocabulary": measured(vocabulary, folder),
    }
    # What a quick run leaves out.
    found["train_step"]["workloads"]["W2"] = found["train_step"]["workloads"]["W1"]
    found["fit"]["workloads"]["W2"] = found["fit"]["workloads"]["W1"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_quick_run_measures_this_package_and_writes_nothing(started_quick, script):
    started, before = started_quick
    lines = started[QUICK[script]].result().stdout.splitlines()
    assert [line for line in lines if line.split()[:1] == ["own"] or "held" in line]
    assert not [line for line in lines if "error" in line.lower()]
    assert {path: path.read_bytes() for path in (BENCHMARKS / "results").iterdir()} == before


@pytest.fixture(scope="module")
def started_quick(start_python):
    """All quick runs, and the results as they were before."""
    before = {path: path.read_bytes() for path in (BENCHMARKS / "results").iterdir()}
    return start_python(QUICK.values()), before


def test_step_is_compared_with_the_peers_of_the_same_optimizer_and_with_the_floor(results):
    w1 = results["train_step"]["workloads"]["W1"]
    ratios = {(ratio["ours"], ratio["theirs"]): ratio["median"] for ratio in w1["ratios"]}
    assert ratios == {
        ("own adam", "deepctr adam"): 6.0,
        ("own adam", "tutorial adam"): 16.0,
        ("own adam", "tfrs_cross adam"): 10.0,
        ("own adam", "deepctr_torch adam"): 10.0,
        ("own adam", "fuxictr adam"): 8.0,
        ("own adam", "torchfm adam"): 5.0,
        ("own adagrad", "deepctr adagrad"): 6.0,
        ("own adagrad", "tutorial adagrad"): 16.0,
        ("own adagrad", "fbgemm adagrad"): 10.0,
        ("own dense_adam", "deepctr adam"): 6.0,
        ("own adam", "version_0_1_0 adam"): 10.0,
        ("own adam definition=paper", "version_0_1_0 adam definition=paper"): 10.0,
    }
    assert w1["floor"]["share"] == {"median": 0.25, "interval": [0.25, 0.25]}
    assert results["train_step"]["versions"]["fuxictr"] == {"fuxictr": "1"}
    assert results["train_step"]["seed"] == 0


def test_vocabulary_is_compared_by_size_and_its_memory_without_l2(results):
    found = results["vocabulary"]
    assert found["own"]["adam"]["growth"]["median"] == 1.0
    assert list(found["peers"]) == ["2000"]
    assert list(found["peers"]["2000"]["adagrad"]) == ["deepctr", "tutorial", "tfrs_cross", "keras_rs"]
    assert found["memory"]["ratio"]["median"] == pytest.approx(1 / 6)
    assert found["memory"]["deepctr adam l2=0"] == {"megabytes": 0.006, "peak_megabytes": 0.006}


def test_latency_is_measured_at_each_number_of_rows(tmp_path):
    sizes = measured(latency, tmp_path)["workloads"]["W2"]
    assert {rows: len(size["ratios"]) for rows, size in sizes.items()} == {
        "1": 5,
        "100": 5,
    }  # three peers, and both ways of version 0.1.0


def test_cold_start_takes_the_first_step_of_a_process_each_round(tmp_path):
    found = measured(cold_start, tmp_path)
    assert found["sides"]["tutorial adam"]["milliseconds"] == 16.0
    assert found["ratios"][0]["median"] == 16.0


def test_cold_start_ends_with_the_line_of_a_side_that_fails():
    def broken(side, workload, rows):
        raise RunnerError(f"{side.name}: broken")

    with pytest.raises(SystemExit, match=r"^own adam: broken$"):
        cold_start.main(["--quick"], broken)


def test_table_shows_bounds_measured_figures_what_missed_and_what_is_not_measured(results):
    rows = [line.strip("| \n").split(" | ") for line in speed_table.speed_table(results).splitlines()]
    shown = {what: (bound, figure) for what, bound, figure in rows}
    times = speed_table.TIMES
    assert rows[:2] == [["what", "at least", "measured"], ["---", "---:", "---"]]
    assert shown["W1 step, row-wise Adam, against DeepCTR's NFM"] == (f"4.4{times}", f"6.00{times} [6.00, 6.00]")
    assert (
        shown["W1 step, row-wise Adam, against the fastest torch peer's Adam"][1]
        == f"5.00{times} [5.00, 5.00] (torchfm)"
    )
    assert shown["share of the floor, W1"] == ("35 %", "25 % [25, 25] missed")
    largest = shown["W3 step, 10 M rows, row-wise Adam, against the best peer's Adam"]
    assert largest[1] == f"5.00{times} [5.00, 5.00] (torchfm) missed"
    assert shown["memory at 10 M rows over DeepCTR's without L2"] == (f"≤ 0.7{times}", f"0.17{times} [0.17, 0.17]")
    assert shown["W5 against padding and our Adagrad"] == (f"2.8{times}", "not measured")


def test_table_without_results_has_all_rows_unmeasured():
    rows = speed_table.speed_table({}).splitlines()[2:]
    assert len(rows) == len(speed_table.ROWS) == 36
    assert all(row.endswith("| not measured |") for row in rows)
    assert speed_table.speed_caption({}) == ""


def test_figure_of_times_over_theirs_is_the_ratio_turned_round():
    compared = {"ratios": [{"ours": "own adam", "theirs": "tutorial adam", "median": 2.0, "interval": [1.6, 4.0]}]}
    assert speed_table.against_best(compared, "own adam").inverse() == (0.5, 0.25, 0.625, "tutorial")


@pytest.mark.parametrize(
    ("bound", "low", "high", "holds"),
    [
        (speed_table.Bound(4.5), 4.0, 4.6, True),
        (speed_table.Bound(4.5), 4.0, 4.4, False),
        (speed_table.Bound(0.7, most=True), 0.6, 0.9, True),
        (speed_table.Bound(0.7, most=True), 0.8, 0.9, False),
    ],
)
def test_bound_holds_unless_the_interval_excludes_it(bound, low, high, holds):
    assert bound.holds(speed_table.Figure((low + high) / 2, low, high)) is holds


def test_caption_names_the_machine_and_every_version(results):
    caption = speed_table.speed_caption({**results, "input": {"versions": {"numpy": "2"}}})
    assert "deepctr 1" in caption
    assert "torchfm 1" in caption
    assert "medians of 6 interleaved rounds, seed 0" in caption


def test_caption_says_which_machine_ran_what(results):
    other = {"machine": {"cpu": "Other", "cores": 8}, "versions": {}}
    first = results["train_step"]["machine"]["cpu"]
    caption = speed_table.speed_caption({"train_step": results["train_step"], "latency": other})
    assert caption.startswith(
        f"{first}, {results['train_step']['machine']['cores']} cores (train_step); Other, 8 cores (latency)"
    )
    assert "(train_step)" not in speed_table.speed_caption(results)


def test_floor_is_the_time_of_products_rows_and_distinct_ids():
    shape = workload("W2", 100)
    dims = [(64, 64), (64, 1)]
    assert floor.flops(shape) == sum(6 * 1024 * a * b for a, b in dims)
    rows = floor.pool(shape)[0]
    distinct = len({(field, value) for row in rows.ids.tolist() for field, value in enumerate(row)})
    assert abs(floor.distinct_rows(shape) - distinct) < 5
    found = floor.floor(shape, quick=True)
    for kind in ("", "bfloat16_"):
        parts = [found[f"{kind}products_milliseconds"], found["rows_milliseconds"], found["distinct_milliseconds"]]
        assert min(parts) > 0
        assert found[f"{kind}milliseconds"] == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(4.3, 4.9, ""), (3.9, 4.9, " unsure"), (4.5, 5.6, " unsure"), (4.0, 4.3, " missed")]
)
def test_a_bound_is_kept_by_a_median_whose_interval_is_narrow(low, high, verdict):
    median = 4.6 if high > 4.4 else 4.2
    assert speed_table.Bound(4.4).verdict(speed_table.Figure(median, low, high)) == verdict


def test_version_0_1_0_is_no_peer():
    ratio = {"median": 1.2, "interval": [1.1, 1.3]}
    ratios = [{"ours": "own adam", "theirs": f"{side} adam", **ratio} for side in ("version_0_1_0", "deepctr")]
    assert speed_table.against_best({"ratios": ratios}, "own adam").against == "deepctr"


def test_few_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        reports.parse("usage", (), ["--rounds", "3"])
    assert "--rounds must be at least 6 for a 95 % interval; received 3." in capsys.readouterr().err


def test_own_runner_encodes_as_the_package_does(monkeypatch):
    from peers import interface

    monkeypatch.setitem(sys.modules, "interface", interface)  # the name it has beside a runner's script
    from peers.own import load

    from nfm_tfrs.features.encoder import IDS, NUMBERS
    from nfm_tfrs.keras_compat import tf

    shape = workload("W1", 100)
    runner = load()(shape, "adam", {})
    rows = interface.rows_of(shape, 20)
    columns, labels = runner.convert(rows)
    raw = {f"c{field}": tf.constant(ids) for field, ids in enumerate(rows.ids.T)}
    raw |= {f"n{number}": tf.constant(values) for number, values in enumerate(rows.numbers.T)}
    expected = runner._model.encoder(raw)
    assert columns.keys() == expected.keys()
    for name in (IDS, NUMBERS):
        assert columns[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(columns[name], expected[name])
    np.testing.assert_array_equal(labels, rows.labels)
