"""What tests of the commands share: rows, a way to run a command, and one trained run."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nfm_tfrs.cli import app


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """Runs a command in this process; returns its exit code, output and what it wrote to standard error."""

    def run(*arguments: object) -> Any:
        with warnings.catch_warnings():  # tests/features/test_infer.py looks at it
            warnings.filterwarnings("ignore", "Column 'timestamp' of integers became a number")
            return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def done(run: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that ends well; returns its output."""

    def done(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return str(result.output)

    return done


@pytest.fixture(scope="session")
def refused(run: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that is refused; returns the one line that it writes."""

    def refused(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        return str(result.stderr)

    return refused


@pytest.fixture(scope="session")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings of 20 films by 30 users, with a feature of each kind, a time and a weight."""
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


@pytest.fixture(scope="session")
def separate(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ratings in files of their own: train, valid and test."""
    table, folder = pq.read_table(ratings), tmp_path_factory.mktemp("separate")
    parts = {"train": table.slice(0, 700), "valid": table.slice(700, 100), "test": table.slice(800)}
    for name, part in parts.items():
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=200)
    return {name: folder / f"{name}.parquet" for name in parts}


@pytest.fixture(scope="session")
def header_alone(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ratings with zeros for rows: a Parquet file whose columns can be told, and whose rows cannot be read."""
    written = bytearray(ratings.read_bytes())
    footer = int.from_bytes(written[-8:-4], "little") + 8
    written[4:-footer] = bytes(len(written) - footer - 4)
    path = tmp_path_factory.mktemp("header") / "ratings.parquet"
    path.write_bytes(written)
    return path


@pytest.fixture(scope="session")
def trained(ratings: Path, done: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of `train` with weights, users and logs: its folder and its output."""
    out = tmp_path_factory.mktemp("runs") / "run"
    output = done(
        *("train", "--data", ratings, "--label", "rating>=4", "--split", "user-time:user_id,timestamp", "--out", out),
        *("--columns", "user_id,film,genres,price", "--groups", "user_id", "--weight", "weight", "--tensorboard"),
        *("--set", "embedding_dim=8", "--set", "hidden_units=[16]", "--epochs", 3, "--batch-size", 128),
    )
    return SimpleNamespace(folder=out, output=output)


@pytest.fixture(scope="session")
def yesterday() -> Path:
    """What version 0.1.0 wrote."""
    return Path(__file__).parents[1] / "yesterday"
