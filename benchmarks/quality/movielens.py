"""Choose the package's defaults on MovieLens-small's validation rows, then judge them on its test rows, once.

usage: python benchmarks movielens ratings.parquet [--test] [--quick] [--seeds 3] [--settings NAME ...]

Each setting differs from the defaults of the model in what its name says. Without --test no test row is judged. With it
these defaults, what `nfm-tfrs train` trains, the mean of its runs over the seeds, and logistic regression and LightGBM
(pip install lightgbm) on the same features are judged on the test rows, each once: what stands in the results is not
judged again.
"""

import argparse
import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from lib.baselines import boosted, logistic
from lib.places import BENCHMARKS

from nfm_tfrs import metrics
from nfm_tfrs.data import parse_split
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.training import evaluate, fit, predict
from nfm_tfrs.training.recipe import PATIENCE, Recipe

RESULTS = BENCHMARKS / "results" / "movielens.json"
TRAIN = "nfm-tfrs train"
COLUMNS = ("user_id", "movie_id", "year", "genres")
OPTIMIZERS = {"adagrad": keras.optimizers.Adagrad, "adam": keras.optimizers.Adam}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "min_count=1": {"min_count": 1},
    "min_count=3": {"min_count": 3},
    "min_count=10": {"min_count": 10},
    "adagrad 0.02": {"optimizer": ("adagrad", 0.02)},
    "adagrad 0.1": {"optimizer": ("adagrad", 0.1)},
    "adam 1e-3": {"optimizer": ("adam", 1e-3)},
    "adam 3e-4": {"optimizer": ("adam", 3e-4)},
    "batch_size=128": {"batch_size": 128},
    "batch_size=512": {"batch_size": 512},
    "batch_size=1024": {"batch_size": 1024},
    "embedding_dim=16": {"model": {"embedding_dim": 16}},
    "embedding_dim=32": {"model": {"embedding_dim": 32}},
    "hidden_units=()": {"model": {"hidden_units": ()}},
    "hidden_units=(128,)": {"model": {"hidden_units": (128,)}},
    "interaction_dropout=0.3": {"model": {"interaction_dropout": 0.3}},
    "interaction_dropout=0.7": {"model": {"interaction_dropout": 0.7}},
    "batch_norm_momentum=0.9": {"model": {"batch_norm_momentum": 0.9}},
    "no batch norm": {"model": {"batch_norm": False, "interaction_batch_norm": False}},
    "embedding_l2=0.01": {"model": {"embedding_l2": 0.01}},
    "embedding_stddev=0.05": {"model": {"embedding_stddev": 0.05}},
}


def prepared(ratings: Any, min_count: int | None) -> Prepared:
    """The three parts of the ratings, encoded; by the package's own min_count if none is given."""
    rules = {} if min_count is None else {"min_count": min_count}
    split = parse_split("user-time:user_id,timestamp")
    return prepare(ratings, "rating>=4", split, columns=COLUMNS, **rules)


def fitted(data: Prepared, setting: dict[str, Any], seed: int, epochs: int) -> Any:
    """A model trained with one setting and stopped early on validation AUC."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = NFM(data.features, **setting.get("model", {}))
    name, rate = setting.get("optimizer", (None, None))
    model.compile(OPTIMIZERS[name](rate) if name else None)
    batch_size = setting.get("batch_size", 256)
    fit(
        model,
        data.train.dataset(batch_size, shuffle=True, seed=seed),
        data.valid.dataset(4096),
        epochs=epochs,
        patience=PATIENCE,
    )
    return model


def spread(reports: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over seeds (none of a single run), metric by metric."""
    return {
        name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}
        for name in reports[0]
        if (values := [report[name] for report in reports])
    }


def logistic_regression(data: Prepared) -> np.ndarray:
    """Test logits of scikit-learn's logistic regression, its C chosen on validation."""
    return logistic(data)("test")


def lightgbm(data: Prepared, seed: int) -> np.ndarray:
    """Test logits of LightGBM: categories as such, shares of genres, size chosen and stopped on validation."""
    plain = {"cat_smooth": 20, "subsample": 1.0, "subsample_freq": 0, "colsample_bytree": 1.0}
    return boosted(data, seed, (15, 31, 63), **plain)("test")


def shown(of: Mapping[str, Any]) -> str:
    """A mean and its standard deviation, if there is one, as they are printed."""
    return f"{of['mean']:.4f}" + ("" if of["sd"] is None else f" ± {of['sd']:.4f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, the defaults; writes nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=None)
    options = parser.parse_args(arguments)
    seeds, epochs = (1, 1) if options.quick else (options.seeds, 50)
    names = ["defaults"] if options.quick else (list(SETTINGS) if options.settings is None else options.settings)
    ratings = read_table(options.ratings)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"valid": {}, "test": {}}
    for name in names:
        data = prepared(ratings, SETTINGS[name].get("min_count"))
        reports = [evaluate(fitted(data, SETTINGS[name], seed, epochs), data.valid) for seed in range(seeds)]
        results["valid"][name] = spread(reports)
        found = results["valid"][name]
        print(f"{name:26} valid AUC {shown(found['auc'])}  log loss {found['log_loss']['mean']:.4f}", flush=True)
        if not options.quick:
            _write(results, seeds)
    if options.test:
        data = prepared(ratings, None)
        for name, report in judged(data, seeds, epochs, done=() if options.quick else results["test"]):
            results["test"][name] = report
            print(name, {metric: round(value["mean"], 4) for metric, value in report.items()}, flush=True)
            if not options.quick:
                _write(results, seeds)


def judged(data: Prepared, seeds: int, epochs: int, *, done: Collection[str]) -> Iterator[tuple[str, Any]]:
    """What each model reaches on the test rows, over seeds, but for those that it is known of."""
    labels, users = data.test.labels, data.tables["test"]["user_id"]
    trained: list[np.ndarray] = []

    def by_train(seed: int) -> np.ndarray:
        keras.backend.clear_session()
        told = {"epochs": epochs} if epochs == 1 else {}
        trained.append(predict(Recipe.default("nfm").fit(data, seed=seed, **told).model, data.test))
        return trained[-1]

    runs: dict[str, Callable[[], list[np.ndarray]]] = {
        "NFM, the package's defaults": lambda: [
            predict(fitted(data, {}, seed, epochs), data.test) for seed in range(seeds)
        ],
        TRAIN: lambda: [by_train(seed) for seed in range(seeds)],
        f"{TRAIN}, the mean of its runs": lambda: [np.mean(trained, axis=0)] if trained else [],
        "logistic regression": lambda: [logistic_regression(data)],
        "LightGBM": lambda: [lightgbm(data, seed) for seed in range(seeds)],
    }
    for name, logits in runs.items():
        if name not in done and (found := logits()):
            yield name, spread([metrics.evaluate_binary(labels, one, users) for one in found])


def _write(results: dict[str, Any], seeds: int) -> None:
    packages = ["tensorflow", "tf-keras", "tensorflow-recommenders", "scikit-learn", "numpy"]
    packages += ["lightgbm"] if results["test"] else []
    results["seeds"] = seeds
    results["python"] = platform.python_version()
    results["versions"] = {package: metadata.version(package) for package in packages}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
