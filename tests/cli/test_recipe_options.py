"""What options say of a training goes before what a best.json says; of another optimizer that says nothing."""

import json

import pytest

from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.training import Recipe

BEST = {
    "optimizer": "lazyadam",
    "optimizer_arguments": {"beta_1": 0.8},
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "schedule_arguments": {"warm_up": 0.1},
    "passes": 12,
}
NONE = {"schedule": "constant", "schedule_arguments": {}, "averaging": None, "passes": 12}
PLATEAU = {"schedule": "plateau", "schedule_arguments": {"looks": 3}}
AVERAGED = {**NONE, "averaging": 0.99}


@pytest.mark.parametrize(
    ("best", "options", "expected"),
    [
        ({}, {}, BEST),
        ({}, {"schedule": "one_cycle"}, BEST),
        ({}, {"schedule": "one_cycle", "epochs": 3}, {**BEST, "passes": 3}),  # over what it trains
        ({}, {"epochs": 3}, BEST),  # the search's schedule, cut off
        ({}, {"schedule_set": {"floor": 0.2}}, {"schedule_arguments": {"warm_up": 0.1, "floor": 0.2}}),
        ({}, {"schedule": "cosine", "schedule_set": {"floor": 0.2}}, {"schedule_arguments": {"floor": 0.2}}),
        ({}, {"schedule": "constant", "averaging": 0.99}, {**NONE, "averaging": 0.99, "learning_rate": 0.01}),
        ({}, {"optimizer_set": {"beta_2": 0.9}}, {"optimizer_arguments": {"beta_1": 0.8, "beta_2": 0.9}}),
        ({}, {"optimizer": "lazyadam"}, BEST),
        ({}, {"optimizer": "adam"}, {**NONE, "optimizer_arguments": {}, "learning_rate": None}),
        ({}, {"optimizer": "adam", "learning_rate": 0.1}, {"schedule": "one_cycle", "optimizer_arguments": {}}),
        (PLATEAU, {"optimizer": "adam"}, {**PLATEAU, "optimizer_arguments": {}, "learning_rate": None}),
        (AVERAGED, {}, {"averaging": 0.99}),
        (AVERAGED, {"averaging": 0}, {"averaging": 0}),
        (AVERAGED, {"schedule": "plateau", "epochs": 3}, {"passes": 12}),
        (AVERAGED, {"schedule": "plateau"}, {"averaging": 0.99, "schedule": "plateau"}),
        (AVERAGED, {"schedule": "cosine"}, {"averaging": None, "schedule": "cosine"}),
    ],
)
def test_options_go_before_what_a_best_json_says(best, options, expected):
    told = RecipeOptions(**options).recipe(Recipe(model="nfm", **{**BEST, **best}), None)
    assert {name: getattr(told, name) for name in expected} == expected


def test_an_argument_that_the_optimizer_does_not_take_is_refused_before_a_row_is_read(header_alone, refused, tmp_path):
    told = ("train", "--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "run")
    line = refused(*told, "--optimizer-set", "accumulator=0.001")
    assert "LazyAdagrad has no argument 'accumulator'; did you mean 'initial_accumulator_value'? Correct the" in line
    assert not (tmp_path / "run").exists()


def test_train_takes_a_schedule_over_its_passes_and_arguments_of_the_optimizer(ratings, done, tmp_path):
    told = ("--schedule", "one_cycle", "--schedule-set", "warm_up=0.5", "--optimizer-set", "epsilon=1e-6")
    small = ("--set", "embedding_dim=4", "--epochs", 2, "--batch-size", 512, "--out", tmp_path / "run")
    done("train", "--data", ratings, "--label", "rating>=4", *told, *small)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["training"] == {
        "optimizer_arguments": {"epsilon": 1e-6},
        "schedule": "one_cycle",
        "schedule_arguments": {"warm_up": 0.5},
        "rate_rows": 256,
        "batch_size": 512,
        "passes": 2,
    }


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            ["--optimizer", "adam", "--optimizer-set", "beta_1=abc"],
            "beta_1 must be at least 0 and below 1; received 'a",
        ),
        (["--optimizer-set", "clipnorm=-1"], "clipnorm must be a number of 0 or more; received -1."),
        (["--schedule-set", "looks=3"], "A constant rate takes no --schedule-set; received looks. Give --schedule too"),
        (["--schedule", "cosine", "--optimizer", "sgd"], "--schedule cosine needs the highest rate of sgd; received n"),
        (["--schedule", "cosine", "--optimizer", "sgd"], "received none. Give --learning-rate too."),
        (["--schedule", "cosine", "--averaging", 0.9], "gain nothing with --schedule cosine, whose rate ends low; re"),
        (["--schedule", "cosine", "--averaging", 0.9], "received 0.9. Leave --averaging out, or"),
        (
            ["--optimizer-set", "learning_rate=1"],
            "--optimizer-set are those beside the rate; received the rate 1.",
        ),
    ],
)
def test_a_training_that_there_is_not_is_refused_in_options_before_a_row_is_read(
    header_alone, refused, tmp_path, told, line
):
    out = tmp_path / "run"
    assert line in refused("train", "--data", header_alone, "--label", "rating>=4", "--out", out, *told)
    assert not out.exists()
