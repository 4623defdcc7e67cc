"""What the speed benchmarks stand on: workloads, statistics, and runners that are processes of their own."""

import functools
import json
import sys
import textwrap
from itertools import count

import numpy as np
import pytest
from lib import timing
from lib.places import BENCHMARKS
from lib.runners import LEAST_CALLS, MOST_CALLS, WARM_UP, Process, RunnerError, Side, ask_in_turn, fleet, median_call
from lib.workloads import BAG_VOCABULARY, MOST_IN_BAG, Bags, generate, generate_bags, workload
from peers import interface

FAKE = f"""
import os, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from peers.interface import Runner, serve

def load():
    print("what libraries print")
    class Fake(Runner):
        versions = ("numpy",)
        seen = []
        def __init__(self, workload, optimizer, options):
            super().__init__(workload, optimizer, options)
            if optimizer == "sgd":
                raise ValueError("no such\\noptimizer")
        def step(self, number):
            os.write(1, b"more of it\\n")
            if self.options.get("dies") and number == 4:
                print("out of luck", file=sys.stderr)
                os._exit(3)
        def fit(self, num_rows):
            return num_rows / 2
        def parameters(self):
            return sum(self.workload.vocabulary_sizes)
    return Fake

serve(load)
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the fake runner, whatever the side."""
    path = tmp_path_factory.mktemp("runner") / "fake.py"
    path.write_text(FAKE)
    return functools.partial(Process, command=lambda side: [sys.executable, str(path)])


# --- workloads


@pytest.mark.parametrize(("name", "rows"), [("W1", 1_000_000), ("W2", 5_382), ("W3", 10_000), ("W5", 10_000)])
def test_vocabularies_add_up_to_the_rows_asked_for(name, rows):
    shape = workload(name, rows if name == "W3" else None)
    assert sum(shape.vocabulary_sizes) == rows
    assert min(shape.vocabulary_sizes) >= 3
    assert list(shape.vocabulary_sizes) == sorted(shape.vocabulary_sizes)


def test_ids_stay_within_their_fields_and_every_part_has_its_type():
    shape = workload("W1", 300)
    rows = generate(shape, 5000, seed=3)
    assert [field.min() for field in rows.ids.T] == [0] * 26
    assert [field.max() + 1 for field in rows.ids.T] == list(shape.vocabulary_sizes)
    assert (rows.ids.dtype, rows.numbers.dtype, rows.labels.dtype) == (np.int32, np.float32, np.float32)
    assert (rows.ids.shape, rows.numbers.shape, rows.labels.shape) == ((5000, 26), (5000, 13), (5000,))
    assert abs(rows.numbers.mean()) < 0.02
    assert abs(rows.numbers.std() - 1) < 0.02
    assert set(rows.labels) == {0, 1}
    assert abs(rows.labels.mean() - 0.25) < 0.03


def test_same_seed_gives_the_same_rows_and_another_seed_others():
    first, again, other = (generate(workload("W1", 300), 50, seed) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.ids != other.ids).any()


def test_batch_of_w1_touches_about_22_thousand_distinct_rows():
    shape = workload("W1")
    rows = generate(shape, shape.batch_size, seed=0)
    distinct = len({(field, value) for row in rows.ids.tolist() for field, value in enumerate(row)})
    assert 20_000 < distinct < 24_000


def test_frequent_ids_are_the_same_in_every_batch_and_do_not_lie_side_by_side():
    shape = workload("W1")
    first, second = (np.bincount(generate(shape, 20_000, seed).ids[:, -1]) for seed in (0, 1))
    frequent = np.argsort(-first)[:5]
    assert set(frequent) == set(np.argsort(-second)[:5])
    assert np.diff(np.sort(frequent)).min() > 100


def test_unknown_workload_is_refused():
    with pytest.raises(ValueError, match=r"Unknown workload 'W9'; known: W1, W2, W3, W5\."):
        workload("W9")


def test_too_few_rows_for_the_fields_are_refused():
    with pytest.raises(ValueError, match=r"^26 fields of at least 3 values need more rows; received 40\.$"):
        workload("W1", 40)


def test_bags_hold_21_values_on_average_and_100_at_most():
    lengths = np.diff(generate_bags(20_000, seed=0).row_splits)
    assert (lengths.min(), lengths.max()) == (1, MOST_IN_BAG)
    assert 20 < lengths.mean() < 22
    assert generate_bags(200, seed=0).values.max() < BAG_VOCABULARY


def test_padded_bags_are_ids_plus_one_and_zeros():
    padded = Bags(np.array([5, 0, 7], np.int32), np.array([0, 2, 2, 3])).padded()
    assert padded.shape == (3, MOST_IN_BAG)
    assert [[value for value in row if value] for row in padded.tolist()] == [[6, 1], [], [8]]


# --- statistics


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 1]), (5, [0, 4]), (6, [0, 5]), (9, [1, 7]), (20, [5, 14])])
def test_interval_lies_between_the_order_statistics_of_the_tables(count, expected):
    assert timing.interval(np.random.default_rng(0).permutation(count)) == expected


def test_times_as_fast_is_the_median_of_the_ratios_of_each_round():
    found = timing.times_as_fast(np.array([1.0, 2.0, 4.0]), np.array([3.0, 10.0, 8.0]))
    assert found == {"median": 3.0, "interval": [2.0, 5.0]}


# --- the server and its driver


def test_runner_answers_what_it_is_asked_whatever_its_library_prints(start):
    with fleet([Side("own", "adam")], "W1", 300, start=start) as (process,):
        assert process.ready["parameters"] == 300
        assert process.ready["versions"]["numpy"] == np.__version__
        assert len(process.ask("step", calls=3)["seconds"]) == 3
        assert process.ask("fit", rows=10) == {"seconds": 5.0}
        memory = process.ask("memory")
        assert 0 < memory["megabytes"] <= memory["peak_megabytes"]


def test_what_a_runner_cannot_do_is_one_line_and_it_goes_on(start):
    with fleet([Side("deepctr", "adam", {"l2": 0})], "W1", 300, start=start) as (process,):
        with pytest.raises(RunnerError, match=r"^deepctr adam l2=0: NotImplementedError: this runner does not time"):
            process.ask("predict", rows=1, calls=1)
        with pytest.raises(RunnerError, match=r"steps, fits, predicts, tells its memory or stops; received 'dance'"):
            process.ask("dance")
        assert process.ask("fit", rows=2) == {"seconds": 1.0}


def test_side_that_cannot_start_is_left_out_with_a_line(start, capfd):
    with fleet([Side("own", "sgd"), Side("own", "adam")], "W1", 300, start=start) as processes:
        assert [process.side.optimizer for process in processes] == ["adam"]
    assert capfd.readouterr().out == "own sgd: ValueError: no such optimizer\n"


def test_side_that_dies_is_left_out_with_its_last_word(start, capfd):
    sides = [Side("own", "adam", {"dies": True}), Side("own", "adam")]
    with fleet(sides, "W1", 300, start=start) as processes:
        taken = ask_in_turn(processes, lambda process: process.ask("step", calls=2)["seconds"][0], rounds=3)
    assert {process.side.name: len(values) for process, values in taken.items()} == {"own adam": 3}
    assert capfd.readouterr().out == "own adam dies=True: ended with status 3: out of luck\n"


def test_sides_are_asked_in_turn_and_a_warm_up_does_not_count():
    asked = []
    numbers = count()

    def ask(process):
        asked.append(process)
        return next(numbers)

    taken = ask_in_turn(["a", "b"], ask, 2, warm_up=1)
    assert asked == ["a", "b"] * 3
    assert {name: values.tolist() for name, values in taken.items()} == {"a": [2, 4], "b": [3, 5]}


@pytest.mark.parametrize(("seconds", "calls"), [(0.125, 4), (10.0, LEAST_CALLS), (1e-6, MOST_CALLS)])
def test_turn_lasts_half_a_second_and_gives_the_median_after_warm_calls(seconds, calls):
    asked = []

    class Asked:
        def ask(self, do, calls, rows):
            asked.append((do, calls, rows))
            return {"seconds": [99.0] * WARM_UP + np.linspace(0, 2 * seconds, calls - WARM_UP).tolist()}

    assert median_call("predict", rows=7)(Asked()) == pytest.approx(seconds * 1e3)
    assert asked == [("predict", WARM_UP + LEAST_CALLS, 7), ("predict", WARM_UP + calls, 7)]


def test_the_file_of_a_runner_in_the_docstring_is_python():
    _, _, example = interface.__doc__.partition("    from interface import")
    compile(textwrap.dedent(f"    from interface import{example}"), "example", "exec")


def test_first_step_counts_building_and_training_but_neither_import_nor_conversion(monkeypatch):
    clock = [0.0]

    def lasts(seconds):
        clock[0] += seconds

    class Fake(interface.Runner):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            lasts(5)

        def convert(self, rows):
            lasts(100)
            return rows

        def step(self, number):
            assert len(self.batches[number].labels) == 1024
            lasts(1)

        def parameters(self):
            return 0

    def load():
        lasts(7)
        return Fake

    monkeypatch.setattr(interface.time, "perf_counter", lambda: clock[0])
    for name in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL"):  # the server sets them
        monkeypatch.setenv(name, "3")
    ready = interface._Server({"workload": "W2"}).start(load)
    assert (ready["import_seconds"], ready["first_step_seconds"]) == (7, 6)
    assert json.dumps(ready)
