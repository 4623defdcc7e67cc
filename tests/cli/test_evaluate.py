"""`nfm-tfrs evaluate`: the exact metrics of a saved model, by the label, weight and users of its run."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from nfm_tfrs import load_model
from nfm_tfrs.data import parse_split
from nfm_tfrs.keras_compat import tf


def test_evaluate_takes_label_weight_and_users_of_the_run_and_equals_what_train_reported(
    trained, ratings, done, tmp_path
):
    from sklearn.metrics import roc_auc_score

    table = pq.read_table(ratings)
    output = done("evaluate", "--model", trained.folder, "--data", ratings)
    columns = {
        "user_id": table["user_id"].to_numpy(),
        "film": np.array([film or "" for film in table["film"].to_pylist()]),
        "genres": tf.ragged.constant(table["genres"].to_pylist(), dtype=tf.string),
        "price": table["price"].to_numpy(),
    }
    logits = load_model(trained.folder / "model.keras")(columns).numpy()[:, 0]
    weights = table["weight"].to_numpy()
    expected = roc_auc_score(table["rating"].to_numpy() >= 4, logits, sample_weight=weights)
    assert f"{expected:.4f}" in output
    beside = json.loads((trained.folder / "metrics.json").read_text())["test"]
    parts = parse_split("user-time:user_id,timestamp").parts(table)
    pq.write_table(table.take(parts.test), tmp_path / "test.parquet")
    output = done("evaluate", "--model", trained.folder, "--data", tmp_path / "test.parquet")
    for name in ("auc", "log_loss", "grouped_auc"):
        assert f"{beside[name]:.4f}" in output


def test_a_run_of_version_0_1_0_is_judged_as_it_was(yesterday, done):
    output = done("evaluate", "--model", yesterday / "run", "--data", yesterday / "run_predictions.parquet")
    expected = (yesterday / "evaluate.txt").read_text()
    words = [word for word in expected.split() if not "─" <= word[0] <= "╿"]  # tables had frames then
    assert output.split() == words


def test_evaluate_needs_a_label(trained, ratings, refused, tmp_path):
    alone = tmp_path / "alone.keras"
    alone.write_bytes((trained.folder / "model.keras").read_bytes())
    assert "Pass --label" in refused("evaluate", "--model", alone, "--data", ratings)


@pytest.mark.slow
def test_ids_of_a_csv_keep_the_type_of_the_features(done, tmp_path):
    shops = [f"{i % 10:03d}" for i in range(200)]
    frame = pd.DataFrame({"shop": shops, "user": [i % 7 for i in range(200)], "click": [i % 2 for i in range(200)]})
    frame["shop"] = frame["shop"].where(frame["shop"] != "009", "x9")
    frame.to_csv(tmp_path / "train.csv", index=False)
    small = ("--epochs", 1, "--set", "embedding_dim=2", "--out", tmp_path / "run")
    done("train", "--data", tmp_path / "train.csv", "--label", "click", *small)
    frame[frame["shop"] != "x9"].to_csv(tmp_path / "new.csv", index=False)  # read alone, its shops are integers
    output = done("evaluate", "--model", tmp_path / "run", "--data", tmp_path / "new.csv")
    shop_row = next(line for line in output.splitlines() if "shop" in line)
    assert shop_row.count("0.00%") == 2  # none missing, none unknown


def test_a_file_that_the_model_was_trained_on_is_named_and_another_is_not(trained, ratings, run, tmp_path):
    said = "trained or chosen on rows of"
    out = tmp_path / "predictions.csv"
    for command in (("evaluate",), ("predict", "--out", out)):
        result = run(*command, "--model", trained.folder, "--data", ratings)
        assert f"{said} {ratings}: " in result.stderr
    other = tmp_path / "other.parquet"
    other.write_bytes(ratings.read_bytes())
    result = run("evaluate", "--model", trained.folder, "--data", other)
    assert result.exit_code == 0
    assert said not in result.stderr
