"""What settings of a search refuse before any row is read."""

import math

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs.data import prepare
from nfm_tfrs.tuning import Budget, Schedule, Space
from nfm_tfrs.tuning.search import check_space, claim, search


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Space(max_parameters=0), "max_parameters must be a whole number of 1 or more; received 0."),
        (lambda: Space(max_parameters="x"), "max_parameters must be a whole number of 1 or more; received 'x'."),
        (lambda: Space(max_latency=0.0), "max_latency must be a number above 0; received 0.0."),
        (lambda: Space(max_latency=math.nan), "max_latency must be a number above 0; received nan."),
        (
            lambda: Budget(trials=2.5),
            "A budget needs trials or minutes above 0; received 2.5 and None. Give one or both.",
        ),
        (
            lambda: Budget(minutes="3"),
            "A budget needs trials or minutes above 0; received None and '3'. Give one or both.",
        ),
        (
            lambda: Schedule(slices=2.5),
            "A training needs passes above 0 and a slice or more; received 12 and 2.5.",
        ),
        (
            lambda: Schedule(passes=math.inf),
            "A training needs passes above 0 and a slice or more; received inf and 27.",
        ),
        (lambda: Schedule(passes="3"), "A training needs passes above 0 and a slice or more; received '3' and 27."),
    ],
)
def test_numbers_that_are_none_or_out_of_range_are_refused(make, line):
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert str(caught.value) == line


def test_a_budget_takes_numbers_of_numpy():
    assert Budget(trials=np.int64(3), minutes=np.float32(0.5)).seconds == 30


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_settings_that_are_damaged_are_refused_with_their_file(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"settings\.json holds no settings of a search: .*\. Choose another folder\.$"
    ):
        claim(tmp_path, {"seed": 0})


@pytest.mark.parametrize(
    ("fixed", "line"),
    [
        ({"averaging": 2}, "averaging must be at least 0 and below 1; received 2."),
        ({"averaging": 0.9, "schedule": "cosine"}, "Averaged weights gain nothing with schedule="),
        ({"learning_rate": "abc"}, "learning_rate must be a number of 0 or more; received 'abc'."),
        ({"rate_rows": 0}, "rate_rows must be a whole number of 1 or more; received 0."),
        ({"schedule": "plateau", "schedule_arguments": 3}, "schedule_arguments must be an object of names and values"),
        ({"schedule_arguments": None}, "schedule_arguments must be an object of names and values; received None."),
        ({"schedule_arguments": {"looks": 3}}, "A constant rate takes no schedule_arguments; received looks."),
        ({"optimizer_arguments": 3}, "optimizer_arguments must be an object of names and values; received 3."),
        ({"optimizer": "adma"}, "optimizer must be one of "),
    ],
)
def test_a_fixed_training_that_there_is_not_is_refused(fixed, line):
    with pytest.raises(ValueError, match=r".") as caught:
        Space(fixed=fixed)
    assert str(caught.value).startswith(line)


WRONG = [
    ({"members": 0}, "members must be a whole number of 1 or more; received 0."),
    ({"embedding_l2_by": "foo"}, 'embedding_l2_by must be "batch" or "frequency"; received'),
    ({"optimizer": "adam", "optimizer_arguments": {"beta_1": "x"}}, "beta_1 must be at least 0 and below 1; rec"),
    ({"optimizer": "adam", "optimizer_arguments": {"bta_1": 0.5}}, "The optimizer adam cannot be made with "),
]


@pytest.mark.parametrize(("fixed", "line"), WRONG)
@pytest.mark.parametrize("models", [("ranking",), ("fm", "NFM")])
def test_what_is_fixed_is_made_once_before_any_row_is_read(fixed, line, models):
    with pytest.raises(ValueError, match=f"^{line}"):
        check_space(Space(fixed=fixed, models=models), "binary")


@pytest.mark.parametrize(
    "fixed",
    [
        {"schedule": "cosine"},
        {"embedding_l2_by": "frequency"},
        {"self_ensemble": 1.0},
        {"hidden_units": []},
        {"interaction": "cross", "structure": "concat"},
        {"numeric": "bottom_mlp", "dtype": "mixed_bfloat16"},
        {"schedule": "plateau", "schedule_arguments": {"looks": 3}, "averaging": 0.9},
        {"optimizer": "sgd", "learning_rate": 0.1, "optimizer_arguments": {"momentum": 0.9}},
    ],
)
def test_what_can_be_made_with_some_of_what_is_drawn_is_searched(fixed):
    check_space(Space(fixed=fixed, models=("ranking", "nfm")), "binary")
    check_space(Space(fixed=fixed, models=("dcnv2",)), "regression")


@pytest.mark.parametrize(("fixed", "line"), WRONG)
def test_a_search_of_what_cannot_be_made_claims_no_folder(tmp_path, fixed, line):
    labels = [0, 1] * 20
    rows = pa.table({"film": ["a", "b", "c", "d"] * 10, "user": [0, 1, 2, 3] * 10, "click": labels})
    out = tmp_path / "search"
    with pytest.raises(ValueError, match=f"^{line}"):
        search(prepare(rows, "click", "random"), out=out, budget=Budget(trials=1), space=Space(fixed=fixed))
    assert not out.exists()
