"""What tests of searches share."""

import gc
import itertools
import json
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.training.recipe import Recipe, Trained
from nfm_tfrs.tuning import Budget, Finals, Found, Schedule, Space, search
from nfm_tfrs.tuning.slices import Slices

SPACE = {
    "blocks": ("fm", "bi_interaction", "inner_product"),
    "batch_sizes": (64,),
    "fixed": {"embedding_dim": 4, "hidden_units": [4]},
}
SCHEDULE = {"passes": 2, "slices": 3, "patience": 3}
ONE = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=1)}


@pytest.fixture
def num_graphs() -> Callable[[], int]:
    """Counts what was traced and is still held by anything."""

    def count() -> int:
        keras.backend.clear_session()
        gc.collect()
        return sum(isinstance(thing, tf.Graph) for thing in gc.get_objects())

    return count


@pytest.fixture(scope="session")
def clicks() -> Prepared:
    """Rows so few that they say nothing: ids, a bag and a number."""
    return prepare(click_log(300, seed=0).table, "click", "time:timestamp", columns=["user_id", "interests", "price"])


@pytest.fixture(scope="session")
def run() -> Callable[..., Found]:
    """Searches with small settings: four trials, of which one goes on, and two finalists of two seeds.

    `space` and `schedule` are dicts of what differs from the small settings; `one=True` is one trial and one finalist
    of one seed.
    """

    def run(data: Prepared, out: Path, *, space: Any = (), schedule: Any = (), one: bool = False, **more: Any) -> Found:
        few = ONE if one else {"budget": Budget(trials=4), "finals": Finals(finalists=2, seeds=2)}
        return search(
            data,
            out=out,
            space=Space(**{**SPACE, **dict(space)}),
            schedule=Schedule(**{**SCHEDULE, **dict(schedule)}),
            **{**few, **more},
        )

    return run


@pytest.fixture(scope="session")
def eagerly() -> Callable[[], AbstractContextManager[None]]:
    """Trains without graphs: on so few rows most of the time goes by in tracing."""

    @contextmanager
    def eagerly() -> Iterator[None]:
        tf.config.run_functions_eagerly(True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Even though the `tf.config", UserWarning)  # of tf.data, each time
                yield
        finally:
            tf.config.run_functions_eagerly(False)

    return eagerly


class CountingModel:
    """Stands for a model where only what is decided matters: it counts the slices that it was trained for."""

    def __init__(self, candidate: Any) -> None:
        self.candidate = candidate
        self.luck = zlib.crc32(json.dumps(candidate.to_json()).encode()) / 2**32
        self.slices, self.stop_training = 0, False
        self.loss = float("nan") if (candidate.learning_rate or 0) > 1e6 else 0.5
        self.optimizer = SimpleNamespace(build=lambda variables: None)
        self.trainable_variables: list[Any] = []
        self.objective = ("val_auc", "max")
        self.is_binary = True

    def __call__(self, columns: Any, training: bool) -> tf.Tensor:
        return tf.zeros([100, 1])

    def fit(self, dataset: Any, *, epochs: int, initial_epoch: int, callbacks: Any, verbose: int) -> Any:
        assert (dataset.number, epochs) == (initial_epoch, initial_epoch + 1)
        self.slices += 1
        return SimpleNamespace(history={"loss": [self.loss]})

    def count_params(self) -> int:
        units: list[int] = self.candidate.config.get("hidden_units", [64])
        of_one = 1000 + sum(before * after for before, after in itertools.pairwise([4, *units, 1]))
        return of_one * int(self.candidate.config.get("members", 1))

    def get_weights(self) -> int:
        return self.slices

    def set_weights(self, weights: int) -> None:
        self.slices = weights

    def save_weights(self, path: Path) -> None:
        path.write_text(str(self.slices))

    def load_weights(self, path: Path) -> Any:
        self.slices = int(path.read_text())
        return SimpleNamespace(expect_partial=lambda: None)

    def save(self, path: Path) -> None:
        path.write_text(str(self.slices))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a search decide on models that only count: their AUC grows with each slice, from where luck put it."""

    def fit(recipe: Recipe, data: Prepared, *, seed: int, callbacks: Any = ()) -> Trained:
        """Trains as without a search, to the lowest score that there is."""
        model = CountingModel(recipe)
        model.luck, model.slices = 0.0, 1
        return Trained(model, {"loss": [0.5, 0.5], "val_auc": [0.51, 0.4]})

    def predict(model: CountingModel, part: EncodedPart) -> np.ndarray:
        return np.random.default_rng(int(1e6 * model.luck) + model.slices).normal(size=len(part))

    def evaluate(model: CountingModel, part: EncodedPart) -> dict[str, float]:
        return {"auc": 0.5 + 0.2 * model.luck + 0.01 * model.slices, "log_loss": 0.7}

    monkeypatch.setattr(Slices, "dataset", lambda self, number, batch_size: SimpleNamespace(number=number))
    monkeypatch.setattr(Recipe, "build", lambda self, features, *, steps: CountingModel(self))
    monkeypatch.setattr(Recipe, "fit", fit)
    monkeypatch.setattr("nfm_tfrs.tuning.default.evaluate", evaluate)
    for name in ("tuner", "finalists"):  # a plateau's, without variables
        monkeypatch.setattr(f"nfm_tfrs.tuning.{name}.follow", lambda model, looks, score, state: looks.look(score))
    # Scores that always rise would never end.
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.EPOCHS", 0)
    monkeypatch.setattr("nfm_tfrs.tuning.finalists.EPOCHS", 0)
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", evaluate)
    monkeypatch.setattr("nfm_tfrs.tuning.finalists.evaluate", evaluate)
    monkeypatch.setattr("nfm_tfrs.tuning.finalists.predict", predict)
    # There are no graphs to collect, and the page takes longer to draw than all the rest.
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.gc", SimpleNamespace(collect=lambda: None))
    monkeypatch.setattr("nfm_tfrs.tuning.outcome.write_report", lambda evidence, path: None)
