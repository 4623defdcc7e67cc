"""A short training evaluates its own rows about as it trained on them."""

import json

import pytest
from quality import short_training

from tfrs_registry import list_models

HEAVY = ("nfm", "dcn", "afn")  # BatchNorm behind the blocks, none, and inside of them


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in HEAVY else pytest.mark.slow) for n in list_models()])
def test_forty_steps_evaluate_as_they_trained(name):
    (((trained, evaluated),),) = short_training.errors(name, "regression", seeds=1, epochs=[4])

    assert evaluated <= short_training.BOUND * trained


def test_the_results_are_within_the_bound():
    results = json.loads(short_training.FILE.read_text())

    assert set(results["models"]) == set(list_models())
    assert results["seeds"] == 5
    for tasks in results["models"].values():
        for steps in tasks.values():
            assert list(steps) == ["40", "80", "160"]
            assert all(at["evaluated"] <= short_training.BOUND * at["trained"] for at in steps.values())


@pytest.mark.slow
def test_a_quick_run_shows_a_line_and_writes_nothing(capsys):
    before = short_training.FILE.read_bytes()
    short_training.main(["--quick", "--tasks", "binary"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nfm        binary     log_loss 40 steps 0.")
    assert short_training.FILE.read_bytes() == before
