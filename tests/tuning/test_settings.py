"""What a search is told is checked before anything runs, and says what must be the same for a search to go on."""

from dataclasses import replace

import numpy as np
import pytest

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.evidence import Objective
from nfm_tfrs.features.encoder import IDS
from nfm_tfrs.tuning import Budget, Finals, Schedule, Space, keras_tuner, search
from nfm_tfrs.tuning.search import check_rows, checked_objective
from nfm_tfrs.tuning.settings import resume_key

ROWS = EncodedPart({IDS: np.zeros([3, 1], np.int64)})


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (Space, {"models": ()}, "models must list one or more; received (). Leave it out for the default."),
        (Space, {"models": "nfm"}, "models must list one or more; received 'nfm'. Leave it out for the default."),
        (Space, {"blocks": []}, "blocks must list one or more; received []. Leave it out for the default."),
        (Space, {"structures": ()}, "structures must list one or more; received (). Leave it out for the default."),
        (Space, {"precisions": ()}, "precisions must list one or more; received (). Leave it out for the default."),
        (Space, {"batch_sizes": ()}, "batch_sizes must hold one or more; received (). Leave it out for the default."),
        (Space, {"batch_sizes": (64, 0)}, "batch_sizes must be a list of widths of 1 or more; received (64, 0)."),
        (Space, {"fixed": {"batch_size": 0}}, "batch_sizes must be a list of widths of 1 or more; received (0,)."),
        (
            Space,
            {"fixed": {"x": {1, 2}}},
            "fixed holds plain numbers, strings, lists and dicts; received {'x': {1, 2}}",
        ),
        (Space, {"prior": 1}, "prior must be True or False; received 1."),
        (Budget, {}, "A budget needs trials or minutes above 0; received None and None. Give one or both."),
        (Budget, {"trials": 0}, "A budget needs trials or minutes above 0; received 0 and None. Give one or both."),
        (Budget, {"minutes": -1.0}, "A budget needs trials or minutes above 0; received None and -1.0. Give one"),
        (Budget, {"trials": 3, "minutes": 0}, "A budget needs trials or minutes above 0; received 3 and 0. Give one"),
        (Schedule, {"search": "best"}, 'search must be "halving" or "random"; received \'best\'.'),
        (Schedule, {"patience": 0}, "patience must be a whole number of 1 or more; received 0."),
        (Schedule, {"passes": 0}, "A training needs passes above 0 and a slice or more; received 0 and 27."),
        (Schedule, {"slices": 0}, "A training needs passes above 0 and a slice or more; received 12 and 0."),
        (Finals, {"finalists": 0}, "finalists must be a whole number of 1 or more; received 0."),
        (Finals, {"seeds": 1.5}, "seeds must be a whole number of 1 or more; received 1.5."),
        (Finals, {"members": 0}, "members must be a whole number of 1 or more; received 0."),
        (Finals, {"refit": 1}, "refit must be True or False; received 1."),
    ],
)
def test_a_setting_out_of_its_range_is_refused_in_one_line(settings, arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        settings(**arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_fixed_batch_size_is_the_only_one_of_the_space():
    space = Space(batch_sizes=(64, 128), fixed={"batch_size": 32, "hidden_units": (4, 2)})
    assert space.batch_sizes == (32,)
    assert space.fixed == {"hidden_units": [4, 2]}  # as JSON has it


def test_what_is_listed_twice_is_searched_once():
    assert Space(blocks=["fm", "cross", "fm"]).blocks == ("fm", "cross")


def test_a_budget_says_its_seconds():
    assert (Budget(minutes=2).seconds, Budget(trials=1).seconds) == (120, None)


@pytest.mark.parametrize(("slices", "expected"), [(27, [9, 27]), (10, [3, 10]), (3, [1, 3]), (2, [2])])
def test_rungs_rise_to_all_slices(slices, expected):
    assert Schedule(slices=slices).rungs == expected


def test_a_search_at_random_has_one_rung():
    assert Schedule(search="random").rungs == [27]


def test_the_resume_key_names_each_setting_and_the_order_of_blocks_is_none():
    space, schedule = Space(blocks=("fm", "cross"), max_parameters=9), Schedule(patience=2)
    key = resume_key(space, schedule, seed=3)
    assert key == {
        "seed": 3,
        "space.models": ("ranking",),
        "space.blocks": ["cross", "fm"],
        "space.structures": ("stacked", "parallel", "concat"),
        "space.precisions": ("float32",),
        "space.batch_sizes": (256, 512, 1024),
        "space.fixed": {},
        "space.max_parameters": 9,
        "space.max_latency": None,
        "space.prior": True,
        "space.prior_without": None,
        "schedule.search": "halving",
        "schedule.passes": 12,
        "schedule.slices": 27,
        "schedule.patience": 2,
    }
    assert resume_key(replace(space, blocks=("cross", "fm")), schedule, seed=3) == key


# --- what the search itself checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0, below 4294967294; received -1"),
        ({"seed": 2**32 - 2}, "seed must be a whole number from 0, below 4294967294; received 4294967294"),
        ({"seed": 1.5}, "seed must be a whole number from 0, below 4294967294; received 1.5"),
        ({"objective": "val_rmse"}, "objective must be one of val_auc, val_log_loss; received 'val_rmse'"),
        (
            {"space": {"fixed": {"schedule": "cosin"}}},
            "schedule must be \"constant\", .* or .*; received 'cosin'",
        ),
        ({"space": {"prior_without": ("ml",)}}, r"prior_without may hold .*, lastfm-tags, .*; received 'ml'"),
        ({"schedule": {"passes": 0.01}}, "240 rows in 0.01 passes are too few for 3 slices"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_runs(clicks, run, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(clicks, tmp_path / "search", **arguments)
    assert not (tmp_path / "search").exists()


def test_rows_that_nothing_can_be_chosen_on_are_refused_before_anything_runs(clicks, tmp_path):
    data = replace(clicks, encoded={**clicks.encoded, "valid": replace(clicks.valid, labels=None)})
    with pytest.raises(ValueError, match=r"Validation rows need labels; received none\. Prepare them with a label\."):
        search(data, out=tmp_path / "search", budget=Budget(trials=1))
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (None, None, "Validation rows need labels; received none. Prepare them with a label."),
        ([0, 1, 1], [0, 0, 0], "No validation row counts; received 3 rows. Give some of a weight above 0."),
        ([1, 1, 1], None, "The AUC needs validation rows of both classes; received 3 labels of 1. Split otherwise, or"),
        ([0, 1, 1], [0, 1, 1], "The AUC needs validation rows of both classes; received 2 labels of 1."),
    ],
)
def test_rows_that_nothing_can_be_chosen_on_are_refused(labels, weights, message):
    labels, weights = (None if given is None else np.float32(given) for given in (labels, weights))
    with pytest.raises(ValueError, match=message):
        check_rows(replace(ROWS, labels=labels, weights=weights), "val_auc")


def test_one_class_is_enough_for_another_objective():
    check_rows(replace(ROWS, labels=np.ones(3, np.float32)), "val_log_loss")


@pytest.mark.parametrize(
    ("objective", "task", "message"),
    [
        ("val_accuracy", "binary", "objective must be one of val_auc, val_log_loss; received 'val_accuracy'."),
        ("val_auc", "regression", "objective must be one of val_rmse, val_mae; received 'val_auc'."),
        (3, "binary", "objective must be one of val_auc, val_log_loss; received 3."),
        (
            keras_tuner.Objective("val_auc", "min"),
            "binary",
            "The direction of val_auc is max; received 'min'. Give the name alone.",
        ),
        (
            keras_tuner.Objective("val_auc", None),
            "binary",
            "The direction of val_auc is max; received None. Give the name alone.",
        ),
    ],
)
def test_an_objective_that_there_is_not_is_refused(objective, task, message):
    with pytest.raises(ValueError, match=message):
        checked_objective(objective, task)


@pytest.mark.parametrize(
    ("objective", "task", "expected"),
    [
        (None, "binary", Objective(name="val_auc", direction="max")),
        (None, "regression", Objective(name="val_rmse", direction="min")),
        ("val_log_loss", "binary", Objective(name="val_log_loss", direction="min")),
        (keras_tuner.Objective("val_mae", "min"), "regression", Objective(name="val_mae", direction="min")),
    ],
)
def test_the_objective_is_the_task_s_first_unless_another_is_named(objective, task, expected):
    assert checked_objective(objective, task) == expected
