"""`nfm-tfrs drift`: an exit status for a pipeline, the worst feature named, and slips found before anything costly."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def moved(ratings, tmp_path_factory):
    """The ratings of a night on which everything cost more, and other films were seen."""
    table = pq.read_table(ratings)
    prices = pa.array(table["price"].to_numpy() + 30)
    films = pa.array([f"film {n % 10}" for n in range(table.num_rows)])
    table = table.set_column(table.schema.get_field_index("price"), "price", prices)
    path = tmp_path_factory.mktemp("moved") / "tonight.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index("film"), "film", films), path)
    return path


def test_rows_alike_end_with_0_and_say_which_came_nearest(trained, ratings, done):
    said = done("drift", "--model", trained.folder, "--data", ratings)

    assert "No feature drifted; " in said
    assert " came nearest: distance 0.0" in said
    assert "900 rows against the " in said


def test_rows_that_moved_end_with_3_name_the_worst_and_are_written(trained, moved, run, tmp_path):
    out = tmp_path / "drift.json"

    result = run("drift", "--model", trained.folder, "--data", moved, "--out", out)

    assert result.exit_code == 3
    assert result.stderr == ""
    assert (
        "2 of 4 features drifted, price most: distance 1.000, above 0.1 and above what chance shows, 0."
        in result.output
    )
    assert f"Wrote {out}." in result.output.replace("\n", "")
    assert max(len(line) for line in result.output.splitlines() if line.startswith("price")) > 80  # one line each
    lines = [line.split() for line in result.output.splitlines()]
    assert [line[0] for line in lines if line and line[-1] == "yes"] == ["price", "film"]
    written = json.loads(out.read_text())
    assert (written["worst"], written["drifted"], written["rows"]) == ("price", True, 900)
    assert [one["feature"] for one in written["features"]][:2] == ["price", "film"]


def test_a_threshold_can_be_set(trained, moved, run):
    result = run("drift", "--model", trained.folder, "--data", moved, "--threshold", 0.7)

    assert "1 of 4 features drifted, price most: distance 1.000, above 0.7 and " in result.output


def test_the_help_says_what_the_exit_status_means(done):
    said = " ".join(done("drift", "--help").split())

    assert "0 where no feature has drifted, 3 where one has, and 1 where something is wrong" in said


def test_at_most_twenty_features_are_shown_and_all_are_written(run, done, tmp_path):
    rng = np.random.default_rng(0)
    columns = {f"n{number}": rng.normal(size=300) for number in range(23)}
    pq.write_table(pa.table({**columns, "click": rng.integers(0, 2, 300)}), tmp_path / "train.parquet")
    small = ("--set", "embedding_dim=2", "--set", "hidden_units=[2]", "--epochs", 1, "--out", tmp_path / "run")
    done("train", "--data", tmp_path / "train.parquet", "--label", "click", *small)

    night = {name: values + 9 * (name == "n7") for name, values in columns.items()}
    pq.write_table(pa.table(night), tmp_path / "night.parquet")
    out = ("--out", tmp_path / "drift.json")
    result = run("drift", "--model", tmp_path / "run", "--data", tmp_path / "night.parquet", *out)

    assert result.exit_code == 3
    shown = [line.split()[0] for line in result.output.splitlines() if line.startswith("n")]
    assert len(shown) == 20
    assert shown[0] == "n7"
    assert "and 3 features more, none of them worse." in result.output
    assert len(json.loads((tmp_path / "drift.json").read_text())["features"]) == 23


# --- slips ------------------------------------------------------------------------------------------------------------


def test_slips_are_one_line(trained, ratings, yesterday, refused, tmp_path):
    model = ("--model", trained.folder)
    assert "--threshold must be at least 0 and below 1; received 1.5" in refused(
        "drift", *model, "--data", ratings, "--threshold", "1.5"
    )
    assert "--out ends in .json; received drift.csv" in refused(
        "drift", *model, "--data", ratings, "--out", "drift.csv"
    )
    (tmp_path / "there.json").touch()
    assert "exists already" in refused("drift", *model, "--data", ratings, "--out", tmp_path / "there.json")
    assert "There is no saved model" in refused("drift", "--model", tmp_path / "none", "--data", ratings)
    assert "There is no file" in refused("drift", *model, "--data", tmp_path / "none.parquet")
    pq.write_table(pq.read_table(ratings).drop_columns(["film"]), tmp_path / "less.parquet")
    assert "'film'" in refused("drift", *model, "--data", tmp_path / "less.parquet")
    old = ("drift", "--model", yesterday / "run", "--data", yesterday / "run_predictions.parquet")
    assert "The model does not know its training rows: " in refused(*old)


def test_what_fails_leaves_no_file(trained, ratings, refused, tmp_path):
    pq.write_table(pq.read_table(ratings).slice(0, 0), tmp_path / "empty.parquet")

    line = refused(
        *("drift", "--model", trained.folder, "--data", tmp_path / "empty.parquet", "--out", tmp_path / "drift.json")
    )

    assert "no rows" in line
    assert [path.name for path in tmp_path.iterdir()] == ["empty.parquet"]


def test_slips_are_found_without_tensorflow(trained, ratings, header_alone, run_python):
    script = f"""
import sys
from typer.testing import CliRunner
from nfm_tfrs.cli import app

for slip in (
    ["--data", {str(ratings)!r}, "--threshold", "2"],
    ["--data", {str(ratings)!r}, "--out", "drift.txt"],
    ["--data", "none.parquet"],
):
    result = CliRunner().invoke(app, ["drift", "--model", {str(trained.folder)!r}, *slip])
    assert result.exit_code == 1, result.output
assert "tensorflow" not in sys.modules
"""
    run_python(script)
