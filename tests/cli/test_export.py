"""`nfm-tfrs export`: from a run to what is served."""

import json

import numpy as np
import pyarrow.parquet as pq

from nfm_tfrs.serving import load


def test_a_run_is_exported_with_its_rows_its_metrics_and_a_calibration(trained, ratings, done, tmp_path):
    out = tmp_path / "served"
    said = done(
        *("export", "--model", trained.folder, "--out", out, "--user", "user_id", "--quantize", "int8"),
        *("--calibrate", "platt", "--optional", "price"),
    )

    assert f"Wrote {out}" in said.replace("\n", "")
    assert "Calibration: Platt" in said
    assert "largest difference" in said
    card = (out / "README.md").read_text()
    assert "95 % interval [" in card
    assert "fingerprint of the rows" in card
    assert "model-index:" not in card  # its metrics are the model's, before the table was rounded
    assert ", fitted on these rows" in card
    assert str(trained.folder) not in card
    assert str(ratings) not in card
    kept = pq.read_table(trained.folder / "rows.parquet")
    assert 0 < kept.num_rows <= 64
    assert f"serving_default of {kept.num_rows} rows" in json.loads((out / "parity.json").read_text())["differences"]
    scores = load(out).predict_proba(pq.read_table(ratings))
    assert np.all((scores >= 0) & (scores <= 1))


def test_validation_rows_may_be_given(trained, ratings, done, tmp_path):
    done("export", "--model", trained.folder, "--out", tmp_path / "plain")
    assert "model-index:" in (tmp_path / "plain" / "README.md").read_text()
    said = done(
        *("export", "--model", trained.folder, "--out", tmp_path / "e", "--format", "onnx", "--calibrate", "isotonic"),
        *("--valid", ratings),
    )

    assert "isotonic" in said
    assert (tmp_path / "e" / "model.onnx").exists()


def test_slips_are_one_line(trained, ratings, refused, tmp_path):
    out = ("--out", tmp_path / "e")
    assert "format is savedmodel or onnx" in refused("export", "--model", trained.folder, *out, "--format", "pb")
    assert "There is no saved model" in refused("export", "--model", tmp_path / "none", *out)
    line = refused("export", "--model", trained.folder / "model.keras", *out, "--user", "town")
    assert "town" in line
    assert list(tmp_path.iterdir()) == []


def test_a_model_beside_no_run_needs_a_label_for_its_rows(trained, ratings, refused, done, tmp_path):
    alone = tmp_path / "model.keras"
    alone.write_bytes((trained.folder / "model.keras").read_bytes())

    calibrated = ("--valid", ratings, "--calibrate", "platt")

    assert "Pass --label" in refused("export", "--model", alone, "--out", tmp_path / "e", *calibrated)
    line = refused("export", "--model", alone, "--out", tmp_path / "e", "--label", "rating>=4")
    assert "--valid and --label are for --calibrate and --quantize" in line
    done(*("export", "--model", alone, "--out", tmp_path / "e", "--label", "rating>=4"), *calibrated)
