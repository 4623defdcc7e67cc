"""`nfm-tfrs predict`: a file's rows with the model's prediction."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def test_predict_writes_probabilities_beside_the_rows(trained, ratings, done, tmp_path):
    out = tmp_path / "predictions.parquet"
    done("predict", "--model", trained.folder / "model.keras", "--data", ratings, "--out", out)
    table = pq.read_table(out)
    assert table.drop_columns(["prediction"]).equals(pq.read_table(ratings))
    assert 0 < min(table["prediction"].to_pylist()) < max(table["prediction"].to_pylist()) < 1
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_predict_leaves_lists_out_of_csv_and_says_so(trained, ratings, done, tmp_path):
    output = done("predict", "--model", trained.folder, "--data", ratings, "--out", tmp_path / "p.csv")
    assert "left out genres" in output
    assert "prediction" in (tmp_path / "p.csv").read_text().splitlines()[0]


def test_a_run_of_version_0_1_0_predicts_as_it_did(yesterday, done, tmp_path):
    before = pq.read_table(yesterday / "run_predictions.parquet")
    pq.write_table(before.drop_columns(["prediction"]), tmp_path / "rows.parquet")
    out = tmp_path / "predictions.parquet"
    done("predict", "--model", yesterday / "run", "--data", tmp_path / "rows.parquet", "--out", out)
    after = pq.read_table(out)
    np.testing.assert_allclose(after["prediction"].to_numpy(), before["prediction"].to_numpy(), rtol=1e-5)
    assert after.drop_columns(["prediction"]).equals(before.drop_columns(["prediction"]))


def test_predict_refuses_rows_that_it_cannot_predict_for(trained, ratings, refused, tmp_path):
    table = pq.read_table(ratings)
    twice = tmp_path / "twice.parquet"
    pq.write_table(table.append_column("prediction", table["price"]), twice)
    out = ("--out", tmp_path / "p.csv")
    line = refused("predict", "--model", trained.folder, "--data", twice, *out)
    assert "a column 'prediction' already" in line
    typed = tmp_path / "typed.parquet"
    position = table.schema.get_field_index("user_id")
    pq.write_table(table.set_column(position, "user_id", table["user_id"].cast(pa.string())), typed)
    assert "user_id" in refused("predict", "--model", trained.folder, "--data", typed, *out)
