"""What tests of several folders share."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # before any module starts a GPU others use too

Completed = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True, scope="module")
def _memory_given_back() -> Iterator[None]:
    """Lets go of what a module's trainings have traced: 13 MB each, of which a whole run would fill the memory."""
    if "tensorflow" not in sys.modules:
        yield
        return
    from nfm_tfrs.keras_compat import keras
    from nfm_tfrs.keras_compat.private import forgotten_gradients

    with forgotten_gradients():
        yield
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Completed]:
    """Run a script in a fresh interpreter, outside the checkout and without TF_USE_LEGACY_KERAS."""
    tmp_path_factory.getbasetemp()  # here: two threads of `start_python` would both make it, and one fail

    def run(script: str, *, status: int = 0, folder: Path | None = None, **variables: str) -> Completed:
        inherited = {k: v for k, v in os.environ.items() if k not in ("TF_USE_LEGACY_KERAS", "PYTHONPATH")}
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=folder or tmp_path_factory.mktemp("run"),
            env={**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
            timeout=300,
        )
        assert done.returncode == status, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def start_python(run_python: Callable[..., Completed]) -> Iterator[Callable[..., dict[str, Future[Completed]]]]:
    """Start scripts two at a time, to be waited for one by one: each spends seconds importing TensorFlow."""
    pool = ThreadPoolExecutor(2)

    def start(scripts: Iterable[str]) -> dict[str, Future[Completed]]:
        return {script: pool.submit(run_python, script) for script in scripts}

    yield start
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def add_distribution(tmp_path: Path) -> Callable[..., str]:
    """Lay out a package's metadata and one module as an install would; returns the folder for PYTHONPATH."""

    def add(name: str, version: str, *, entry_points: str = "", module: str = "", folder: str = "site") -> str:
        site = tmp_path / folder
        metadata = site / f"{name}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        if module:
            (site / f"{name}.py").write_text(module)
        return str(site)

    return add


@pytest.fixture(scope="session")
def film_features() -> list[Any]:
    """One feature of each kind: ids, strings, a bag and a number."""
    from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature

    return [
        CategoricalFeature("user", vocabulary_size=6),
        CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
        MultiCategoricalFeature("genres", vocabulary=["a", "b", "c"]),
        NumericFeature("price", mean=1.0, std=2.0),
    ]


@pytest.fixture(scope="session")
def film_rows() -> Callable[..., tuple[dict[str, Any], Any]]:
    """Make rows of `film_features`, unknown and missing ones among them: columns as NumPy or ragged, and 0/1 labels."""
    import numpy as np

    from nfm_tfrs.keras_compat import tf

    def rows(count: int, seed: int = 0) -> tuple[dict[str, Any], Any]:
        rng = np.random.default_rng(seed)
        user = rng.integers(-1, 7, count)
        price = rng.normal(1.0, 2.0, count)
        columns = {
            "user": user,
            "city": rng.choice(["Rome", "Oslo", "Paris", ""], count),
            "genres": tf.ragged.constant(
                [rng.choice(["a", "b", "c", "x"], rng.integers(0, 4)).tolist() for _ in range(count)],
                tf.string,
                ragged_rank=1,
            ),
            "price": np.where(rng.random(count) < 0.2, np.nan, price).astype(np.float32),
        }
        labels = (rng.random(count) < 1 / (1 + np.exp(3.0 - user - price))).astype(np.float32)
        return columns, labels

    return rows
