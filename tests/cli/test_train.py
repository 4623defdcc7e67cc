"""`nfm-tfrs train`: what a run's folder holds, and that options do what they say."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.train import RecipeOptions
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import Best

FOUR = ("--columns", "user_id,film,genres,price")
TWO = ("--columns", "user_id,film", "--set", "embedding_dim=4", "--epochs", 1)


def weights_equal(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def read_json(path):
    return json.loads(path.read_text())


def test_train_writes_model_features_metrics_curves_and_logs(trained):
    written = {"model.keras", "features.json", "metrics.json", "run.json", "curves.png", "rows.parquet", "tensorboard"}
    assert {path.name for path in trained.folder.iterdir()} == written
    metrics = read_json(trained.folder / "metrics.json")
    named = {"auc", "log_loss", "calibration_error", "predicted_to_actual", "grouped_auc", "groups"}
    assert set(metrics["test"]) == named
    assert len(metrics["history"]["val_auc"]) <= 3
    for name, value in metrics["constant"].items():
        assert f"The training rows' mean for every row: {name.partition('_')[2]} {value:.4f}." in trained.output
    assert set(metrics["constant"]) == {"valid_log_loss", "test_log_loss"}
    assert 0.5 < metrics["constant"]["test_log_loss"] < 0.75
    assert (trained.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    for part in ("valid rows", "test rows", "missing and unknown"):
        assert part in trained.output.lower()


def test_train_infers_from_the_named_columns_alone(trained):
    features = read_json(trained.folder / "features.json")["features"]
    assert [feature["name"] for feature in features] == ["user_id", "film", "genres", "price"]


def test_run_json_tells_the_recipe_the_data_the_versions_and_the_date(trained, ratings):
    written = read_json(trained.folder / "run.json")
    told = {
        name: written[name] for name in ("label", "weight", "task", "split", "groups", "seed", "epochs", "patience")
    }
    assert told == {
        "label": "rating >= 4",
        "weight": "weight",
        "task": "binary",
        "split": "user-time:user_id,timestamp",
        "groups": "user_id",
        "seed": 0,
        "epochs": 3,
        "patience": 4,
    }
    assert written["recipe"] == {
        "model": "nfm",
        "training": {"schedule": "constant", "rate_rows": 256, "averaging": 0.999, "batch_size": 128},
        "config": {"members": 4, "task": "binary", "embedding_dim": 8, "hidden_units": [16]},
    }
    assert written["data"]["paths"] == [str(ratings)]
    assert len(written["data"]["fingerprint"]) == 64
    assert {"nfm-tfrs", "tensorflow", "tf-keras", "python"} <= set(written["versions"])
    assert pd.Timestamp(written["date"]).tz is not None


@pytest.mark.slow
def test_a_run_can_be_repeated_from_its_folder(trained):
    from nfm_tfrs.training import repeat_run

    assert weights_equal(repeat_run(trained.folder).model, load_model(trained.folder / "model.keras"))


@pytest.mark.slow
def test_train_takes_the_recipe_and_the_features_of_a_run(trained, ratings, done, tmp_path):
    config = ("--config", trained.folder / "run.json", "--weight", "weight", "--epochs", 1)
    done("train", "--data", ratings, "--label", "rating>=4", *config, "--out", tmp_path / "run")
    again, before = read_json(tmp_path / "run" / "run.json"), read_json(trained.folder / "run.json")
    assert again["recipe"] == before["recipe"]
    assert (tmp_path / "run" / "features.json").read_text() == (trained.folder / "features.json").read_text()


def test_train_fits_a_regression_on_categories_and_numbers_that_options_name(ratings, done, tmp_path):
    kinds = ("--columns", "user_id,price,timestamp", "--category", "timestamp", "--number", "user_id, price")
    small = ("--set", "embedding_dim=4", "--epochs", 1, "--min-count", 1, "--out", tmp_path / "run")
    done("train", "--data", ratings, "--label", "rating", "--task", "regression", *kinds, *small)
    assert set(read_json(tmp_path / "run" / "metrics.json")["test"]) == {"rmse", "mae"}
    features = {entry["name"]: entry for entry in read_json(tmp_path / "run" / "features.json")["features"]}
    assert {name: entry["type"] for name, entry in features.items()} == {
        "user_id": "numeric",  # by itself, 30 whole numbers are categories and 900 different ones are not
        "price": "numeric",
        "timestamp": "categorical",
    }


def test_overwrite_keeps_the_old_run_until_the_new_one_is_whole(trained, ratings, done, refused, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained.folder, out)
    before = (out / "model.keras").read_bytes()
    refused("train", "--data", ratings, "--label", "rating>=0", "--out", out, "--overwrite")
    assert (out / "model.keras").read_bytes() == before
    done("train", "--data", ratings, "--label", "rating>=4", "--out", out, *TWO, "--overwrite")
    assert (out / "model.keras").read_bytes() != before
    assert not (out / "tensorboard").exists()  # of the old run
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_streamed_and_read_training_rows_agree_on_features_and_reach_the_same_quality(separate, done, tmp_path):
    files = ("--data", separate["train"], "--valid", separate["valid"], "--test", separate["test"])
    small = ("--epochs", 2, "--set", "embedding_dim=8", "--weight", "weight", "--groups", "user_id")
    metrics = {}
    for name, option in (("read", []), ("streamed", ["--stream"])):
        output = done("train", *files, "--label", "rating>=4", *FOUR, *small, *option, "--out", tmp_path / name)
        assert "training steps an epoch" in output
        metrics[name] = read_json(tmp_path / name / "metrics.json")
    assert (tmp_path / "read" / "features.json").read_text() == (tmp_path / "streamed" / "features.json").read_text()
    assert metrics["read"]["test"]["groups"] == metrics["streamed"]["test"]["groups"]
    losses = metrics["streamed"]["history"]["loss"]
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(metrics["read"]["history"]["loss"], abs=0.06)  # the same rows in another order


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_cache_changes_no_result(ratings, separate, done, tmp_path, stream):
    streamed = ("--data", separate["train"], "--valid", separate["valid"], "--stream")
    files = streamed if stream else ("--data", ratings)
    common = ("--label", "rating>=4", *FOUR, "--weight", "weight", "--epochs", 2, "--groups", "user_id")
    runs = {"without": (), "written": ("--cache", tmp_path / "cache"), "opened": ("--cache", tmp_path / "cache")}
    for name, cache in runs.items():
        done("train", *files, *common, *cache, "--out", tmp_path / name)
    for file in ("metrics.json", "features.json"):
        assert len({(tmp_path / name / file).read_text() for name in runs}) == 1
    told = [read_json(tmp_path / name / "run.json") for name in runs]
    for written in told:  # when and how it was asked for differs, and streamed rows are known once they are cached
        del written["date"], written["command"]
        if stream:
            del written["data"]["fingerprint"]
    assert told[0] == told[1] == told[2]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    models = [load_model(tmp_path / name / "model.keras") for name in runs]
    assert weights_equal(models[0], models[1])
    assert weights_equal(models[0], models[2])


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        ("file", "file is a file. Choose a folder."),
        ("file/cache", "cannot be written: Not a directory. Choose another folder."),
    ],
)
def test_a_cache_that_cannot_be_is_refused(ratings, refused, tmp_path, cache, line):
    (tmp_path / "file").write_text("mine")
    arguments = ("--data", ratings, "--label", "rating>=4", "--cache", tmp_path / cache, "--out", tmp_path / "run")
    assert line in refused("train", *arguments)


def test_a_cache_keeps_nothing_where_there_is_no_such_column_of_groups(ratings, refused, tmp_path):
    arguments = ("--data", ratings, "--label", "rating>=4", "--groups", "person", "--cache", tmp_path / "cache")
    line = refused("train", *arguments, "--out", tmp_path / "run")
    assert "There is no column 'person', which --groups reads. The data has 'user_id'" in line
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "policy"), [("mixed_float16", "mixed_float16"), ("auto", "float32")])
def test_train_takes_a_precision_which_the_model_keeps(ratings, done, tmp_path, precision, policy):
    given = ("--precision", precision, "--out", tmp_path / "run")
    done("train", "--data", ratings, "--label", "rating>=4", *TWO, *given)
    assert load_model(tmp_path / "run" / "model.keras").dtype_policy.name == policy
    done("evaluate", "--model", tmp_path / "run", "--data", ratings)
    done("predict", "--model", tmp_path / "run", "--data", ratings, "--out", tmp_path / "p.csv")


def test_a_model_is_float32_where_no_precision_is_given(trained):
    assert load_model(trained.folder / "model.keras").dtype_policy.name == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "rating"], "not binary"),
        (["--label", "rating>=4", "--split", "random:1,0,0"], "leaves no row for valid"),
        (["--label", "rating>=0"], "The train rows need positives and negatives of a weight above 0"),
        pytest.param(
            ["--label", "rating>=4", "--learning-rate", "1e30", "--batch-size", "32"],
            "Lower the learning rate.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(ratings, refused, tmp_path, arguments, message):
    line = refused("train", "--data", ratings, "--out", tmp_path / "run", "--epochs", "1", *arguments)
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "half"], "dtype must be one of auto, float32, mixed_bfloat16"),
        (["--set", "hidden_units=true"], "hidden_units"),
        (["--set", "batch_norm=maybe"], "batch_norm must be True or False; received 'maybe'."),
    ],
)
def test_a_value_that_a_model_does_not_take_is_refused_before_rows_are_read(
    header_alone, refused, tmp_path, arguments, message
):
    line = refused("train", "--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "run", *arguments)
    assert message in line


def test_rows_that_cannot_be_read_are_refused(header_alone, refused, tmp_path):
    """What the test above leans on."""
    assert "ratings.parquet" in refused(
        "train", "--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "run"
    )


def test_negative_weights_are_refused(ratings, refused, tmp_path):
    table = pq.read_table(ratings)
    position = table.schema.get_field_index("weight")
    negative = tmp_path / "negative.parquet"
    pq.write_table(table.set_column(position, "weight", pa.array(np.full(table.num_rows, -1.0))), negative)
    line = refused("train", "--data", negative, "--label", "rating>=4", "--weight", "weight", "--out", tmp_path / "run")
    assert "Weight column 'weight' is -1.0 in row 0. Give finite weights of 0 or more." in line


# --- what a search found ----------------------------------------------------------------------------------------------


def test_a_search_of_version_0_1_0_is_trained_with_its_features(yesterday, ratings, done, tmp_path):
    config = ("--config", yesterday / "best_of_ratings.json", "--epochs", 1, "--out", tmp_path / "run")
    output = done("train", "--data", ratings, "--label", "rating>=4", *config)
    assert "--repeat" not in output  # nothing is known of how the search made its model
    best = read_json(yesterday / "best_of_ratings.json")
    assert read_json(tmp_path / "run" / "features.json") == best["config"]["features"]
    recipe = read_json(tmp_path / "run" / "run.json")["recipe"]
    assert recipe["training"] == best["training"]
    assert recipe["config"] == {name: value for name, value in best["config"].items() if name != "features"}


def test_a_repeated_search_keeps_its_task(yesterday):
    best = Best.from_file(yesterday / "best_of_ratings.json").recipe
    repeating = RecipeOptions(config=yesterday / "best_of_ratings.json", repeat=True)
    for task in (None, "binary"):
        assert repeating.recipe(best, task).config["task"] == "binary"
    with pytest.raises(ValueError, match=r"^--repeat trains the search's binary model; received --task regression\. "):
        repeating.recipe(best, "regression")


def test_a_config_is_not_imported_unless_it_is_trusted(header_alone, yesterday, refused, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    written = read_json(yesterday / "best_of_ratings.json")
    names = {"module": "theirs", "class_name": "Block", "registered_name": "Block", "config": {}}
    written["config"]["interaction"] = names
    (tmp_path / "best.json").write_text(json.dumps(written))
    config = ("--config", tmp_path / "best.json", "--out", tmp_path / "run")
    command = ("train", "--data", header_alone, "--label", "rating>=4", *config)
    assert "The config names theirs.Block, which is not registered in this process" in refused(*command)
    assert not (tmp_path / "ran").exists()
    refused(*command, "--trust")  # it holds no such class
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "training", "options", "named"),
    [
        ('{"embedding_dim": "x"}', "{}", (), True),
        ('{"hidden_units": {"a": 1}}', "{}", (), True),
        ('{"embedding_dim": 8}', "{}", ("--set", "embedding_dim=x"), False),
    ],
)
def test_a_value_of_best_json_that_makes_no_model_names_the_file(
    header_alone, refused, tmp_path, config, training, options, named
):
    best = tmp_path / "best.json"
    best.write_text(f'{{"model": "nfm", "config": {config}, "training": {training}}}')
    rows = ("--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "run", "--config", best)
    assert refused("train", *rows, *options).startswith(f"nfm-tfrs: {best}: ") is named
