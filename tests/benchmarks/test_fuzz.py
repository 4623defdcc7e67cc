"""Files changed at random open or are refused in one line; for half an hour: `python benchmarks fuzz`."""

import sys
from random import Random

import pytest
from lib.changes import changed_bytes, changed_json, changed_lines
from trust import fuzz

ROUNDS = {"saved_model": 20, "keras_parts": 40, "cache": 40}


def last(kind, folder, seeds):
    *_, found = fuzz.run(kind, folder, seeds)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_what_is_changed_opens_or_is_refused_in_one_line(kind, tmp_path):
    found = last(kind, tmp_path, range(ROUNDS.get(kind, 80)))
    assert found.findings == {}
    assert found.attempts == ROUNDS.get(kind, 80)
    assert kind == "cache" or found.refused > 0


@pytest.mark.parametrize(
    ("error", "right"),
    [
        (ValueError("changed.csv has no rows."), True),
        (KeyError("column 'x' is missing"), True),
        (ValueError("changed.csv\nhas no rows."), False),
        (ValueError("bad magic number"), False),
        (TypeError("changed.csv has no rows."), False),
        (ValueError("changed.csv " + "x" * 999), False),
    ],
)
def test_what_is_refused_is_one_line_about_it(error, right):
    assert (fuzz.wrong(error) is None) == right


def evil(random):
    import evil_module

    assert evil_module


def damaged(random):
    raise OSError("damaged")


def slow(random):
    raise ValueError("changed.csv has no rows.")


@pytest.mark.parametrize(
    ("attempt", "finding"),
    [(evil, "imported a module that the file named"), (damaged, "OSError: damaged"), (slow, "took 0 s and 0 MB")],
)
def test_a_planted_fault_is_found_by_its_seed(attempt, finding, tmp_path, monkeypatch):
    monkeypatch.setitem(fuzz.KINDS, "planted", lambda folder: attempt)
    if attempt is slow:
        monkeypatch.setattr(fuzz, "SECONDS", -1.0)
    try:
        assert last("planted", tmp_path, range(3, 5)).findings == {3: finding, 4: finding}
    finally:
        sys.modules.pop("evil_module", None)


@pytest.mark.parametrize("seed", range(20))
def test_changes_follow_from_the_seed_and_leave_the_honest_as_it_is(seed):
    honest = {"a": [1, 2, {"b": "x"}], "c": None}
    first, second = (changed_json(honest, Random(seed)) for _ in range(2))
    assert repr(first) == repr(second)
    assert honest == {"a": [1, 2, {"b": "x"}], "c": None}
    assert changed_bytes(b"abc", Random(seed)) == changed_bytes(b"abc", Random(seed))
    assert changed_lines("a,b\n1,2", ",", Random(seed)) == changed_lines("a,b\n1,2", ",", Random(seed))


def test_most_changes_change_something():
    honest = {"a": [1, 2, {"b": "x"}], "c": None}
    assert sum(repr(changed_json(honest, Random(seed))) != repr(honest) for seed in range(50)) > 40
    assert sum(changed_bytes(b"abcdefgh" * 9, Random(seed)) != b"abcdefgh" * 9 for seed in range(50)) > 40
    assert sum(changed_lines("a,b\n1,2", ",", Random(seed)) != "a,b\n1,2" for seed in range(50)) > 40
