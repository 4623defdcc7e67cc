"""What a search ends with: what won, what was tried, and why what failed did."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nfm_tfrs.evidence import Evidence
from nfm_tfrs.report.summary import summary

YESTERDAY = Path(__file__).parents[1] / "yesterday"  # what version 0.1.0 wrote


@pytest.fixture(scope="module")
def evidence():
    return Evidence.from_json(json.loads((YESTERDAY / "search.json").read_text()))


def lines_of(evidence):
    return summary(replace(evidence.finalists[0].candidate, passes=evidence.passes), evidence)


def test_summary_names_the_winner_and_what_makes_it(evidence):
    lines, first = lines_of(evidence), evidence.finalists[0]
    assert lines[0] == (
        f"Won: {first.candidate.model} of trial {first.trial}, {evidence.objective.name} {first.mean:.4f} ± "
        f"{first.sd:.4f} over {len(first.runs)} seeds."
    )
    said = " ".join(lines)
    assert f"embedding_dim={first.candidate.config['embedding_dim']}" in said
    assert f"optimizer={first.candidate.optimizer}" in said
    assert max(map(len, lines[:-1])) <= 80


def test_summary_says_where_what_is_trained_without_a_search_won(evidence):
    first = replace(evidence.finalists[0], trial="default")
    line = lines_of(replace(evidence, finalists=(first,)))[0]
    assert line.startswith(f"Won: {first.candidate.model} as without a search, val_auc ")


def test_summary_names_the_arguments_of_a_schedule(evidence):
    candidate = replace(evidence.finalists[0].candidate, schedule="one_cycle", schedule_arguments={"warm_up": 0.1})
    assert "schedule_arguments={'warm_up': 0.1}" in " ".join(summary(candidate, evidence))


def test_summary_counts_configurations_and_failures_by_their_reason(evidence):
    trials = tuple(
        replace(trial, id=str(number), parent="0" if number == 9 else None, status=status, message=message)
        for number, trial in enumerate([evidence.trials[0]] * 10)
        for status, message in [
            ("FAILED", "It diverged.\nSomewhere.")
            if number < 3
            else ("FAILED", "No memory.")
            if number == 3
            else ("COMPLETED", None)
        ]
    )
    lines = lines_of(replace(evidence, trials=trials, diverged=()))
    assert lines[-3:] == [
        "Tried 9 configurations in 10 trials; 4 failed.",
        "  3 trials: It diverged.",
        "  1 trial: No memory.",
    ]


def test_reasons_that_differ_by_their_numbers_are_one(evidence):
    messages = ["26 s of a training are more than 24 s.", "25.8 s of a training are more than 24 s.", "No memory."]
    trials = tuple(replace(evidence.trials[0], parent=None, status="FAILED", message=message) for message in messages)
    assert lines_of(replace(evidence, trials=trials, diverged=()))[-2:] == [
        "  2 trials, such as: 26 s of a training are more than 24 s.",
        "  1 trial: No memory.",
    ]


def test_summary_of_a_search_without_failures_says_so(evidence):
    well = tuple(replace(trial, parent=None, status="COMPLETED", message=None) for trial in evidence.trials[:1])
    first = replace(evidence.finalists[0], sd=None, runs=evidence.finalists[0].runs[:1])
    lines = lines_of(replace(evidence, trials=well, finalists=(first,), diverged=()))
    assert lines[-1] == "Tried 1 configuration in 1 trial; none failed."
    assert lines[0].endswith("over 1 seed.")
