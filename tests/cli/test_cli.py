"""The command line, from a file to a saved model and back; every message a user can meet."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nfm_tfrs.cli import app
from nfm_tfrs.data import parse_split
from nfm_tfrs.runs.saving import load_model


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = 900
    user, item = rng.integers(0, 30, rows), rng.integers(0, 20, rows)
    genres = [["drama"] * (i % 2) + ["comedy"] * (i % 3 == 0) for i in item.tolist()]
    liked = (user + item) % 2 == 0
    table = pa.table(
        {
            "user_id": user,
            "film": [f"film {i}" if i else None for i in item],
            "genres": pa.array(genres, pa.list_(pa.string())),
            "price": rng.normal(5, 2, rows),
            "rating": np.where(liked, 4.5, 2.0) + rng.choice([0.0, 0.5], rows),
            "timestamp": np.arange(rows),
            "weight": rng.uniform(0.5, 1.5, rows),
        }
    )
    path = tmp_path_factory.mktemp("data") / "ratings.parquet"
    pq.write_table(table, path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """The one line that a refused command writes."""
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def trained(ratings, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run(
        *("train", "--data", ratings, "--label", "rating>=4", "--split", "user-time:user_id,timestamp", "--out", out),
        *("--columns", "user_id,film,genres,price", "--groups", "user_id", "--weight", "weight", "--tensorboard"),
        *("--set", "embedding_dim=8", "--set", "hidden_units=[16]", "--epochs", 3, "--batch-size", 128),
    )
    assert result.exit_code == 0, result.output
    return out, result


def test_train_writes_model_features_metrics_curves_and_logs(trained):
    out, result = trained
    assert {path.name for path in out.iterdir()} == {
        "model.keras",
        "features.json",
        "metrics.json",
        "run.json",
        "curves.png",
        "tensorboard",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"auc", "log_loss", "calibration_error", "predicted_to_actual", "grouped_auc", "groups"} == set(
        metrics["test"]
    )
    assert len(metrics["history"]["val_auc"]) <= 3
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    for part in ("valid rows", "test rows", "missing and unknown"):
        assert part in result.output.lower()


def test_train_infers_from_the_named_columns_alone(trained):
    features = json.loads((trained[0] / "features.json").read_text())["features"]
    assert [feature["name"] for feature in features] == ["user_id", "film", "genres", "price"]


def test_evaluate_takes_label_weight_and_users_of_the_run_and_equals_what_train_reported(trained, ratings, tmp_path):
    from sklearn.metrics import roc_auc_score

    from nfm_tfrs import load_model

    table = pq.read_table(ratings)
    result = run("evaluate", "--model", trained[0], "--data", ratings)
    assert result.exit_code == 0, result.output
    model = load_model(trained[0] / "model.keras")
    columns = {
        "user_id": table["user_id"].to_numpy(),
        "film": np.array([film or "" for film in table["film"].to_pylist()]),
        "price": table["price"].to_numpy(),
    }
    import tensorflow as tf

    columns["genres"] = tf.ragged.constant(table["genres"].to_pylist(), dtype=tf.string)
    logits = model(columns).numpy()[:, 0]
    weights = table["weight"].to_numpy()
    expected = roc_auc_score(table["rating"].to_numpy() >= 4, logits, sample_weight=weights)
    assert f"{expected:.4f}" in result.output
    beside = json.loads((trained[0] / "metrics.json").read_text())["test"]
    parts = parse_split("user-time:user_id,timestamp").parts(table)
    pq.write_table(table.take(parts.test), tmp_path / "test.parquet")
    result = run("evaluate", "--model", trained[0], "--data", tmp_path / "test.parquet")
    for name in ("auc", "log_loss", "grouped_auc"):
        assert f"{beside[name]:.4f}" in result.output


def test_predict_writes_probabilities_beside_the_rows(trained, ratings, tmp_path):
    out = tmp_path / "predictions.parquet"
    result = run("predict", "--model", trained[0] / "model.keras", "--data", ratings, "--out", out)
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    assert table.drop_columns(["prediction"]).equals(pq.read_table(ratings))
    assert 0 < min(table["prediction"].to_pylist()) < max(table["prediction"].to_pylist()) < 1
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_predict_leaves_lists_out_of_csv_and_says_so(trained, ratings, tmp_path):
    result = run("predict", "--model", trained[0], "--data", ratings, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "left out genres" in result.output
    assert "prediction" in (tmp_path / "p.csv").read_text().splitlines()[0]


def test_describe_prints_features_rates_and_writes_a_spec_that_train_takes(ratings, tmp_path):
    spec = tmp_path / "features.json"
    result = run("describe", "--data", ratings, "--exclude", "rating,weight,timestamp", "--out", spec)
    assert result.exit_code == 0, result.output
    missing = np.mean([film is None for film in pq.read_table(ratings)["film"].to_pylist()])
    assert f"{missing:.2%}" in result.output
    result = run(
        *("train", "--data", ratings, "--label", "rating>=4", "--features", spec, "--epochs", 1),
        *("--set", "embedding_dim=4", "--out", tmp_path / "run", "--optimizer", "sgd", "--learning-rate", 0.1),
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "features.json").read_text() == spec.read_text()


def test_train_fits_a_regression(ratings, tmp_path):
    result = run(
        *("train", "--data", ratings, "--label", "rating", "--task", "regression", "--epochs", 1),
        *("--columns", "user_id,film", "--set", "embedding_dim=4", "--out", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.output
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]) == {"rmse", "mae"}


@pytest.mark.slow
def test_quickstart_beats_chance_and_names_the_best_possible(tmp_path):
    result = run("quickstart", "--rows", 4000, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "Best possible AUC" in result.output
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["auc"] > 0.55


def test_an_output_that_exists_is_kept(trained, ratings, tmp_path):
    before = (trained[0] / "metrics.json").read_text()
    line = refused("train", "--data", ratings, "--label", "rating>=4", "--out", trained[0])
    assert "exists already. Choose another --out, or pass --overwrite" in line
    assert (trained[0] / "metrics.json").read_text() == before
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    assert "exists already" in refused("predict", "--model", trained[0], "--data", ratings, "--out", kept)
    assert "exists already" in refused("describe", "--data", ratings, "--out", kept)
    assert kept.read_text() == "mine"


def test_overwrite_keeps_the_old_run_until_the_new_one_is_whole(trained, ratings, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained[0], out)
    before = (out / "model.keras").read_bytes()
    refused("train", "--data", ratings, "--label", "nothing>=4", "--out", out, "--overwrite")
    assert (out / "model.keras").read_bytes() == before
    small = ("--epochs", 1, "--set", "embedding_dim=4", "--columns", "user_id,film", "--overwrite")
    result = run("train", "--data", ratings, "--label", "rating>=4", "--out", out, *small)
    assert result.exit_code == 0, result.output
    assert (out / "model.keras").read_bytes() != before
    assert not (out / "tensorboard").exists()  # of the old run
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_overwrite_spares_a_folder_that_is_no_run(ratings, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "run.json").write_text("{}")
    line = refused("train", "--data", ratings, "--label", "rating>=4", "--out", tmp_path, "--overwrite")
    assert "holds thesis.tex, which is not of a run. Move it, or choose another --out." in line
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_streamed_and_read_training_rows_agree_on_features_and_reach_the_same_quality(ratings, tmp_path):
    table = pq.read_table(ratings)
    parts = {"train": table.slice(0, 700), "valid": table.slice(700, 100), "test": table.slice(800)}
    for name, part in parts.items():
        pq.write_table(part, tmp_path / f"{name}.parquet")
    files = ("--data", tmp_path / "train.parquet", "--valid", tmp_path / "valid.parquet")
    common = ("--test", tmp_path / "test.parquet", "--label", "rating>=4", "--columns", "user_id,film,genres,price")
    small = ("--epochs", 2, "--set", "embedding_dim=8", "--weight", "weight", "--groups", "user_id")
    metrics = {}
    for name, option in (("read", []), ("streamed", ["--stream"])):
        result = run("train", *files, *common, *small, *option, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "training steps an epoch" in result.output
        metrics[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    assert (tmp_path / "read" / "features.json").read_text() == (tmp_path / "streamed" / "features.json").read_text()
    assert metrics["read"]["test"]["groups"] == metrics["streamed"]["test"]["groups"]
    losses = metrics["streamed"]["history"]["loss"]
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(metrics["read"]["history"]["loss"], abs=0.03)  # the same rows in another order


@pytest.mark.parametrize("stream", [False, True])
def test_a_cache_changes_no_result(ratings, tmp_path, stream):
    table = pq.read_table(ratings)
    for name, part in (("train", table.slice(0, 700)), ("valid", table.slice(700))):
        pq.write_table(part, tmp_path / f"{name}.parquet", row_group_size=200)
    separate = ("--data", tmp_path / "train.parquet", "--valid", tmp_path / "valid.parquet", "--stream")
    files = separate if stream else ("--data", ratings)
    common = ("--label", "rating>=4", "--columns", "user_id,film,genres,price", "--weight", "weight", "--epochs", 2)
    runs = {"without": (), "written": ("--cache", tmp_path / "cache"), "opened": ("--cache", tmp_path / "cache")}
    for name, cache in runs.items():
        result = run("train", *files, *common, "--groups", "user_id", *cache, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    for file in ("metrics.json", "features.json", "run.json"):
        assert len({(tmp_path / name / file).read_text() for name in runs}) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1
    models = [load_model(tmp_path / name / "model.keras") for name in runs]
    for weights in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(weights[0], weights[1])
        np.testing.assert_array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        ("file", "file is a file. Choose a folder."),
        ("file/cache", "cannot be written: Not a directory. Choose another folder."),
    ],
)
def test_a_cache_that_cannot_be_is_refused(ratings, tmp_path, cache, line):
    (tmp_path / "file").write_text("mine")
    arguments = ("--data", ratings, "--label", "rating>=4", "--cache", tmp_path / cache, "--out", tmp_path / "run")
    assert line in refused("train", *arguments)


def test_a_cache_keeps_nothing_where_there_is_no_such_column_of_groups(ratings, tmp_path):
    arguments = ("--data", ratings, "--label", "rating>=4", "--groups", "person", "--cache", tmp_path / "cache")
    assert "There is no column 'person'" in refused("train", *arguments, "--out", tmp_path / "run")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "policy"), [("mixed_float16", "mixed_float16"), ("auto", "float32"), (None, "float32")]
)
def test_train_takes_a_precision_which_the_model_keeps(ratings, tmp_path, precision, policy):
    given = [] if precision is None else ["--precision", precision]
    arguments = ["--data", ratings, "--label", "rating>=4", "--epochs", 1, "--out", tmp_path / "run"]
    result = run("train", *arguments, "--columns", "user_id,film", *given)
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "run" / "model.keras").dtype_policy.name == policy
    assert run("evaluate", "--model", tmp_path / "run", "--data", ratings).exit_code == 0
    assert run("predict", "--model", tmp_path / "run", "--data", ratings, "--out", tmp_path / "p.csv").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "rating>>4"], "received 'rating>>4'"),
        (["--label", "rating"], "not binary"),
        (["--label", "rating>=4", "--split", "never"], "received 'never'"),
        (["--label", "rating>=4", "--task", "ranking"], "--task is binary or regression; received 'ranking'"),
        (["--label", "rating>=4", "--set", "embedding_dim"], "--set takes NAME=VALUE; received 'embedding_dim'"),
        (["--label", "rating>=4", "--model", "nfn"], "nfm"),
        (
            ["--label", "rating>=4", "--groups", "person"],
            "There is no column 'person', which --groups reads. The data has",
        ),
        (["--label", "rating>=4", "--columns", "person"], "There is no column 'person'. The data has 'user_id'"),
        (["--label", "rating>=4", "--weight", "timestamp2"], "timestamp2"),
        (["--label", "rating>=4", "--set", "embeding_dim=3"], "embeding_dim"),
        (["--label", "rating>=4", "--optimizer", "adamm"], "adamm"),
        (["--label", "rating>=4", "--precision", "half"], "dtype must be one of auto, float32, mixed_bfloat16"),
        (["--label", "rating>=4", "--config", __file__], "is no best.json of a search"),
        (["--label", "rating>=4", "--precision", "auto", "--set", "dtype=float32"], "Pass one of them."),
        (["--label", "rating>=4", "--split", "random:1,0,0"], "leaves no row for valid"),
        (
            ["--label", "rating>=4", "--stream"],
            "Beside --stream the rows to choose on come from files of their own. Pass --valid.",
        ),
        (["--label", "rating>=4", "--test", "test.parquet"], "Pass --valid."),
        (["--label", "rating>=4", "--valid", "v.parquet", "--split", "random"], "Pass one of them."),
        (["--label", "rating>=4", "--features", "f.json", "--columns", "film"], "Pass it alone, or edit the file."),
        (["--label", "rating>=4", "--features", "f.json", "--min-count", "2"], "Pass it alone, or edit the file."),
        (["--label", "rating>=4", "--set", "hidden_units=true"], "hidden_units"),
        (["--label", "rating>=4", "--set", "batch_norm=maybe"], "batch_norm must be True or False; received 'maybe'."),
        (["--label", "rating>=0"], "The train rows need positives and negatives of a weight above 0"),
        (["--label", "rating>=4", "--learning-rate", "1e30", "--batch-size", "32"], "Lower the learning rate."),
    ],
)
def test_train_refuses_in_one_line(ratings, tmp_path, arguments, message):
    line = refused("train", "--data", ratings, "--out", tmp_path / "run", "--epochs", "1", *arguments)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_what_lies_at_the_output_must_be_of_its_kind(trained, ratings, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    line = refused("train", "--data", ratings, "--label", "rating>=4", "--out", tmp_path / "file", "--overwrite")
    assert "file is a file. Choose another --out." in line
    out = tmp_path / "folder.csv"
    assert "folder.csv is a folder." in refused(
        "predict", "--model", trained[0], "--data", ratings, "--out", out, "--overwrite"
    )


def test_a_features_file_that_is_not_one_is_named(ratings, tmp_path):
    spec = tmp_path / "features.json"
    for text, message in (
        ("{", "A feature spec is JSON"),
        ("[]", 'an object with a list "features"'),
        ('{"features": [{"type": "categorial", "name": "film"}]}', "received 'categorial'"),
        ('{"features": [{"type": "numeric", "name": "price", "men": 1}]}', "has no argument 'men'"),
    ):
        spec.write_text(text)
        line = refused("describe", "--data", ratings, "--features", spec)
        assert line.startswith(f"nfm-tfrs: {spec}: ")
        assert message in line


def test_predict_refuses_in_one_line(trained, ratings, tmp_path):
    assert "ends in .parquet or .csv" in refused(
        "predict", "--model", trained[0], "--data", ratings, "--out", tmp_path / "predictions.txt"
    )
    assert "There is no saved model" in refused(
        "predict", "--model", tmp_path / "none", "--data", ratings, "--out", tmp_path / "p.csv"
    )
    twice = tmp_path / "twice.parquet"
    table = pq.read_table(ratings)
    pq.write_table(table.append_column("prediction", table["price"]), twice)
    assert "a column 'prediction' already" in refused(
        "predict", "--model", trained[0], "--data", twice, "--out", tmp_path / "p.csv"
    )
    typed = tmp_path / "typed.parquet"
    position = table.schema.get_field_index("user_id")
    pq.write_table(table.set_column(position, "user_id", table["user_id"].cast(pa.string())), typed)
    assert "user_id" in refused("predict", "--model", trained[0], "--data", typed, "--out", tmp_path / "p.csv")


def test_evaluate_needs_a_label(trained, ratings, tmp_path):
    alone = tmp_path / "alone.keras"
    alone.write_bytes((trained[0] / "model.keras").read_bytes())
    assert "Pass --label" in refused("evaluate", "--model", alone, "--data", ratings)


def test_negative_weights_are_refused(ratings, tmp_path):
    table = pq.read_table(ratings)
    position = table.schema.get_field_index("weight")
    negative = tmp_path / "negative.parquet"
    pq.write_table(table.set_column(position, "weight", pa.array(np.full(table.num_rows, -1.0))), negative)
    line = refused("train", "--data", negative, "--label", "rating>=4", "--weight", "weight", "--out", tmp_path / "run")
    assert "Weight column 'weight' is -1.0 in row 0. Give finite weights of 0 or more." in line


def test_help_needs_no_tensorflow(tmp_path):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom nfm_tfrs.cli import app\n"
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_left_out_column_and_an_error_are_one_line_each(tmp_path):
    """In a process of its own, as a user runs it."""
    table = pa.table({"user": [1, 2] * 50, "empty": pa.nulls(100, pa.string()), "click": [0, 1, 1, 0] * 25})
    pq.write_table(table, tmp_path / "clicks.parquet")
    command = [Path(sys.executable).with_name("nfm-tfrs"), "describe", "--data", "clicks.parquet"]
    ran = subprocess.run([*command, "--exclude", "click"], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = [line for line in ran.stderr.splitlines() if line.startswith("nfm-tfrs")]
    assert ours == ["nfm-tfrs: Column 'empty' is left out: every value is missing."]
    ran = subprocess.run([*command, "--columns", "nobody"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "nfm-tfrs: There is no column 'nobody'. The data has 'user', 'empty', 'click'.\n"


def test_names_with_brackets_and_a_pandas_index_do_no_harm(tmp_path):
    frame = pd.DataFrame({"user": [1, 2] * 60, "price[/kg]": np.arange(120.0), "click": [0, 1, 1, 0] * 30})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "shuffled.parquet")
    with pytest.warns(UserWarning, match="'__index_level_0__' is left out: it is the index of a pandas DataFrame"):
        result = run("describe", "--data", tmp_path / "shuffled.parquet", "--exclude", "click")
    assert result.exit_code == 0, result.output
    assert result.output.count("price[/kg]") == 2


def test_ids_of_a_csv_keep_the_type_of_the_features(tmp_path):
    shops = [f"{i % 10:03d}" for i in range(200)]
    frame = pd.DataFrame({"shop": shops, "user": [i % 7 for i in range(200)], "click": [i % 2 for i in range(200)]})
    frame["shop"] = frame["shop"].where(frame["shop"] != "009", "x9")
    frame.to_csv(tmp_path / "train.csv", index=False)
    small = ("--epochs", 1, "--set", "embedding_dim=2", "--out", tmp_path / "run")
    result = run("train", "--data", tmp_path / "train.csv", "--label", "click", *small)
    assert result.exit_code == 0, result.output
    frame[frame["shop"] != "x9"].to_csv(tmp_path / "new.csv", index=False)  # read alone, its shops are integers
    result = run("evaluate", "--model", tmp_path / "run", "--data", tmp_path / "new.csv")
    assert result.exit_code == 0, result.output
    shop_row = next(line for line in result.output.splitlines() if "shop" in line)
    assert shop_row.count("0.00%") == 2  # none missing, none unknown
