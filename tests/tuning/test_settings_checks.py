"""What settings of a search refuse before any row is read."""

import math

import numpy as np
import pytest

from nfm_tfrs.tuning import Budget, Schedule, Space
from nfm_tfrs.tuning.search import claim


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
