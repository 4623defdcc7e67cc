"""The model card: every figure, and what it says where one is missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nfm_tfrs.evidence import Difference, Evidence
from nfm_tfrs.report.card import card

YESTERDAY = Path(__file__).parents[1] / "yesterday"  # what version 0.1.0 wrote


@pytest.fixture(scope="module")
def evidence():
    return Evidence.from_json(json.loads((YESTERDAY / "search.json").read_text()))


def card_of(evidence):
    return card(replace(evidence.finalists[0].candidate, passes=evidence.passes), evidence)


def test_card_of_an_earlier_search_is_the_same_to_the_byte(evidence):
    assert card_of(evidence) == (YESTERDAY / "card.md").read_text()


@pytest.mark.parametrize(("constant", "warned"), [(0.1, True), (9.0, False)])
def test_card_says_what_a_constant_would_have_scored(evidence, constant, warned):
    text = card_of(replace(evidence, test=replace(evidence.test, constant={"log_loss": constant})))
    assert f"- log_loss of the training rows' mean for every row: {constant:.4f}\n" in text
    assert ("\n\nThe model is no better than the mean" in text) == warned


def test_card_holds_what_makes_the_model_again(evidence):
    made = json.loads(card_of(evidence).partition("```json\n")[2].partition("```")[0])
    assert made["training"]["passes"] == evidence.passes
    assert made["config"]["dtype"] == "float32"


def test_card_without_test_rows_label_and_split_says_so(evidence):
    data = replace(evidence.data, test=None, label=None, split=None)
    text = card_of(replace(evidence, test=None, data=data))
    assert "## Test rows, judged once\n\nNone were given.\n" in text
    assert f"## Made from\n\n- fingerprint: {data.fingerprint}\n- train rows: 720\n- valid rows: 90\n- 2 passes" in text


def test_card_names_what_diverged(evidence):
    assert "\n\nDiverged with every seed: trial 0001, 0003.\n\n" in card_of(
        replace(evidence, diverged=("0001", "0003"))
    )


def test_a_finalist_of_one_seed_has_no_spread_and_an_interval_without_a_value_is_nan(evidence):
    first, second = evidence.finalists
    first = replace(first, sd=None, runs=first.runs[:1])
    second = replace(second, difference=Difference(mean=-0.1, low=float("nan"), high=float("nan")))
    text = card_of(replace(evidence, finalists=(first, second)))
    assert "| 0004 | 0.7327 |  | 1 |  |\n" in text
    assert "| 0000 | 0.5749 | 0.0232 | 2 | -0.1000 [+nan, +nan] |\n" in text
    assert "- seeds of the runs: 1\n" in text
