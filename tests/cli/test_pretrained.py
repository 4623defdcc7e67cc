"""`train --pretrained`: rows that begin at vectors of a file, what the run remembers, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import repeat_run

TWO = ("--columns", "user_id,film", "--set", "embedding_dim=4", "--epochs", 3)
FILMS = [f"film {number}" for number in range(1, 18)]
ROWS = np.random.default_rng(0).normal(scale=0.05, size=[17, 6]).astype(np.float32)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "films.parquet"
    pq.write_table(pa.table({"film": FILMS, "vector": ROWS.tolist()}), path)
    return path


def told(ratings, out, *more):
    return ("train", "--data", ratings, "--label", "rating>=4", "--out", out, *TWO, *more)


def rows_of(model):
    """The rows of the model's films, by name."""
    place = next(n for n, layout in enumerate(model.embedding.layouts) if "film" in layout.tables)
    first, _ = model.embedding.layouts[place].tables["film"]
    rows = model.embedding.tables[place].numpy()[first + 1 :]
    return dict(zip(model.features["film"].vocabulary, rows, strict=False))


def features_file(path, **more):
    features = [
        {"type": "categorical", "name": "film", "vocabulary": FILMS, **more},
        {"type": "categorical", "name": "user_id", "vocabulary_size": 30},
    ]
    path.write_text(json.dumps({"features": features}))
    return path


def test_frozen_rows_are_the_file_s_also_after_training_and_the_run_remembers_them(ratings, vectors, done, tmp_path):
    output = done(*told(ratings, tmp_path / "run", "--pretrained", f"film:{vectors}", "--frozen", "--resume"))
    assert "film: 17 of 19 values (89.5%), of 17 vectors" in output
    model = load_model(tmp_path / "run" / "model.keras")
    assert (model.features["film"].embedding_dim, model.features["film"].frozen) == (6, True)
    found = rows_of(model)
    for film, row in zip(FILMS, ROWS, strict=True):
        np.testing.assert_array_equal(found[film], row)
    assert not found["film 18"].any()
    record = RunRecord.from_file(tmp_path / "run" / "run.json")
    assert record.pretrained["film"]["path"] == str(vectors)
    assert record.pretrained["film"]["frozen"] is True
    written = json.loads((tmp_path / "run" / "features.json").read_text())["features"]
    assert written[1]["frozen"] is True

    again = told(ratings, tmp_path / "run", "--pretrained", f"film:{vectors}", "--frozen", "--resume")
    assert "is finished" in done(*again)
    repeated = repeat_run(tmp_path / "run").model
    assert all(map(np.array_equal, repeated.get_weights(), model.get_weights()))


def test_another_file_is_another_training(ratings, vectors, done, refused, tmp_path):
    done(*told(ratings, tmp_path / "run", "--pretrained", f"film:{vectors}", "--resume"))
    model = load_model(tmp_path / "run" / "model.keras")
    assert not model.features["film"].frozen
    moved = [row[:6] - want for row, want in zip((rows_of(model)[film] for film in FILMS), ROWS, strict=True)]
    assert 0 < np.abs(moved).max() < 0.5  # they began there
    np.savez(tmp_path / "other.npz", values=np.array(FILMS), rows=-ROWS)
    other = tmp_path / "other.npz"
    line = refused(*told(ratings, tmp_path / "run", "--pretrained", f"film:{other}", "--resume"))
    assert "is a finished run whose pretrained.film" in line

    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["pretrained"]["film"]["path"] = str(other)
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="holds other vectors than those that the run began at"):
        repeat_run(tmp_path / "run")
    other.unlink()
    with pytest.raises(FileNotFoundError, match="at whose vectors the rows of 'film' began"):
        repeat_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("command", "more", "remedy"),
    [
        ("train", (), "Pass --pretrained film:FILE, or take frozen out of its features.json."),
        ("tune", ("--max-trials", 1), "Search without frozen, and pass the vectors of 'film' to a training with the"),
    ],
)
def test_frozen_features_without_rows_are_refused_before_rows_are_read(
    command, more, remedy, header_alone, refused, tmp_path
):
    path = features_file(tmp_path / "features.json", frozen=True, embedding_dim=6)
    line = refused(
        command, "--data", header_alone, "--label", "rating>=4", "--out", tmp_path / "run", *more, "--features", path
    )
    assert f"Feature 'film' is frozen, and its rows would stay zero. {remedy}" in line
    assert not (tmp_path / "run").exists()


def test_a_feature_that_is_frozen_stays_so_and_a_file_below_home_is_found_again(
    ratings, vectors, done, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(vectors.parent))
    path = features_file(tmp_path / "features.json", frozen=True)
    options = ("--features", path, "--set", "embedding_dim=4", "--epochs", 1, "--pretrained", f"film:~/{vectors.name}")
    done("train", "--data", ratings, "--label", "rating>=4", "--out", tmp_path / "run", *options)
    model = load_model(tmp_path / "run" / "model.keras")
    assert model.features["film"].frozen
    np.testing.assert_array_equal([rows_of(model)[film] for film in FILMS], ROWS)
    record = RunRecord.from_file(tmp_path / "run" / "run.json")
    state = files_state([vectors], contents=True)
    assert record.pretrained == {"film": {"path": str(vectors), "frozen": True, "state": state}}
    repeated = repeat_run(tmp_path / "run").model
    assert all(map(np.array_equal, repeated.get_weights(), model.get_weights()))


def test_vectors_of_another_length_than_the_features_say_are_refused(header_alone, vectors, refused, tmp_path):
    path = features_file(tmp_path / "features.json", embedding_dim=8)
    told = ("--features", path, "--pretrained", f"film:{vectors}", "--out", tmp_path / "run")
    line = refused("train", "--data", header_alone, "--label", "rating>=4", *told)
    assert "has vectors of 6 numbers, and feature 'film' has embedding_dim=8. Give it 6, or none." in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--frozen",), "--frozen leaves pretrained rows as they are. Pass --pretrained FEATURE:FILE too."),
        (("--pretrained", "film"), "--pretrained takes FEATURE:FILE, such as film:vectors.parquet; received 'film'."),
        (("--pretrained", "film:a.npz", "--pretrained", "film:b.npz"), "names the feature 'film' twice."),
        (("--pretrained", "film:none.npz"), "There is no file none.npz of vectors."),
        (("--pretrained", "film:{vectors}", "--from", "run"), "--from and --repeat say it too. Pass one of them."),
        (("--pretrained", "movie:{vectors}"), "There is no feature 'movie' for vectors to be of"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, line, ratings, vectors, refused, tmp_path):
    given = [option.replace("{vectors}", str(vectors)) for option in options]
    assert line in refused(*told(ratings, tmp_path / "run", *given))
    assert not (tmp_path / "run").exists()
