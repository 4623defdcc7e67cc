"""What embeds columns is measured beside other people's code, each pair within the bound of the tests."""

import json

import pytest
from lib.places import RESULTS
from trust import parity


def test_every_difference_that_was_measured_is_within_the_bound():
    found = json.loads((RESULTS / "parity.json").read_text())["largest_difference"]
    assert [len(of) for of in found.values()] == [6, 4]
    assert all(0 <= difference <= 1e-5 for of in found.values() for difference in of.values())


@pytest.mark.slow
def test_the_kept_references_are_compared(capsys):
    pytest.importorskip("deepctr", reason="needs DeepCTR; run: pip install --no-deps deepctr==0.9.4")
    parity.main(["--quick"])
    shown = capsys.readouterr().out.splitlines()  # DeepCTR itself may print a line
    assert len([line for line in shown if line.startswith(("DeepCTR ", "rtdl-"))]) == 10
