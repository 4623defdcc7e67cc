"""`nfm-tfrs describe`: the features inferred from a file, and a file of them that train takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_describe_prints_features_rates_and_writes_a_spec_that_train_takes(ratings, done, tmp_path):
    spec = tmp_path / "features.json"
    output = done("describe", "--data", ratings, "--exclude", "rating,weight,timestamp", "--out", spec)
    missing = np.mean([film is None for film in pq.read_table(ratings)["film"].to_pylist()])
    assert f"{missing:.2%}" in output
    done(
        *("train", "--data", ratings, "--label", "rating>=4", "--features", spec, "--epochs", 1),
        *("--set", "embedding_dim=4", "--out", tmp_path / "run", "--optimizer", "sgd", "--learning-rate", 0.1),
    )
    assert (tmp_path / "run" / "features.json").read_text() == spec.read_text()


def test_describe_infers_a_category_and_a_number_where_options_say_so(ratings, done, tmp_path):
    spec = tmp_path / "features.json"
    kinds = ("--columns", "user_id,weight,timestamp", "--category", "timestamp", "--number", "user_id,weight")
    done("describe", "--data", ratings, *kinds, "--min-count", 1, "--out", spec)
    found = {entry["name"]: entry["type"] for entry in json.loads(spec.read_text())["features"]}
    assert found == {"user_id": "numeric", "weight": "numeric", "timestamp": "categorical"}


def test_describe_embeds_numbers_and_finds_their_limits_where_an_option_says_so(ratings, done, tmp_path):
    spec = tmp_path / "features.json"
    rules = ("--columns", "film,weight", "--number", "weight", "--number-encoder", "piecewise")
    output = done("describe", "--data", ratings, *rules, "--out", spec)
    (number,) = [entry for entry in json.loads(spec.read_text())["features"] if entry["type"] == "numeric"]
    assert number["encoder"] == "piecewise"
    assert number["boundaries"] == sorted(set(number["boundaries"]))
    assert f"piecewise, {len(number['boundaries'])} boundaries" in " ".join(output.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "A feature spec is JSON"),
        ("[]", 'an object with a list "features"'),
        ('{"features": [{"type": "categorial", "name": "film"}]}', "received 'categorial'"),
        ('{"features": [{"type": "numeric", "name": "price", "men": 1}]}', "has no argument 'men'"),
    ],
)
def test_a_features_file_that_is_not_one_is_named(ratings, refused, tmp_path, text, message):
    spec = tmp_path / "features.json"
    spec.write_text(text)
    line = refused("describe", "--data", ratings, "--features", spec)
    assert line.startswith(f"nfm-tfrs: {spec}: ")
    assert message in line


@pytest.mark.slow
def test_a_left_out_column_is_one_line(tmp_path):
    """In a process of its own, as a user runs it."""
    table = pa.table({"user": [1, 2] * 50, "empty": pa.nulls(100, pa.string()), "click": [0, 1, 1, 0] * 25})
    pq.write_table(table, tmp_path / "clicks.parquet")
    command = [Path(sys.executable).with_name("nfm-tfrs"), "describe", "--data", "clicks.parquet"]
    ran = subprocess.run([*command, "--exclude", "click"], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = [line for line in ran.stderr.splitlines() if line.startswith("nfm-tfrs")]
    assert ours == ["nfm-tfrs: Column 'empty' is left out: every value is missing."]


def test_names_with_brackets_and_a_pandas_index_do_no_harm(done, tmp_path):
    frame = pd.DataFrame({"user": [1, 2] * 60, "price[/kg]": np.arange(120.0), "click": [0, 1, 1, 0] * 30})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "shuffled.parquet")
    with pytest.warns(UserWarning, match="'__index_level_0__' is left out: it is the index of a pandas DataFrame"):
        output = done("describe", "--data", tmp_path / "shuffled.parquet", "--exclude", "click")
    assert output.count("price[/kg]") == 2


def test_describe_without_a_spec_imports_no_tensorflow(run_python, ratings):
    """Its import alone takes seconds, and so does an encoder of many columns."""
    script = (
        f"import sys; sys.argv = ['nfm-tfrs', 'describe', '--data', {str(ratings)!r}]\n"
        "from nfm_tfrs.cli import main\ntry: main()\nfinally: print('tensorflow' in sys.modules)"
    )
    assert run_python(script).stdout.splitlines()[-1] == "False"


def test_lines_in_a_file_stay_whole(done, tmp_path):
    pq.write_table(pa.table({"name " * 30: ["a", "b"] * 50}), tmp_path / "long.parquet")
    lines = done("describe", "--data", tmp_path / "long.parquet").splitlines()
    assert any(line.startswith("name " * 30) and "vocabulary of strings: a, b" in line for line in lines)


def test_describe_shows_the_rate_of_the_label_and_leaves_its_column_out(ratings, done, refused):
    share = np.mean(pq.read_table(ratings)["rating"].to_numpy() >= 4)
    output = done("describe", "--data", ratings, "--label", "rating>=4", "--exclude", "timestamp")
    assert output.splitlines()[0] == f"label rating >= 4: {share:.2%} of 900 rows are 1"
    assert not any(line.startswith("rating") for line in output.splitlines())
    first = done("describe", "--data", ratings, "--label", "rating", "--exclude", "timestamp").splitlines()[0]
    assert first.startswith("label rating: mean ")
    assert first.endswith("from 2 to 5, in 900 rows")
    assert "which --label reads" in refused("describe", "--data", ratings, "--label", "ratng")
