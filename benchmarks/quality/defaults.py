"""Choose how models are trained by default: what wins on validation over several sets together.

usage: python benchmarks defaults [--sets NAME ...] [--candidates NAME ...] [--seeds 5] [--gather] [--quick]

MovieLens-small and Last.fm's tags (the environment says where they lie: NFM_TFRS_MOVIELENS, a ratings.parquet, and
NFM_TFRS_LASTFM, a folder of train.parquet and valid.parquet), click logs with pairs and with triples, and
scikit-learn's digits. Each candidate differs from an NFM as it is by itself, `one member`, in what its name says, and
is trained by a `Recipe` until validation brings nothing better, with seeds of its own; differences are paired by seed.
No test row is judged. LightGBM and logistic regression have the same rows and features (pip install lightgbm). What
three trainings averaged would reach is computed from the logits of seeds 0 to 2. Every run is kept in benchmarks/.runs;
what is done is not done again.
"""

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.baselines import boosted, logistic
from lib.places import BENCHMARKS
from lib.sets import SETS
from lib.timing import machine, versions

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.training import Recipe, evaluate, predict
from nfm_tfrs.training.recipe import PATIENCE
from quality.movielens import spread
from quality.optimizers import difference

RESULTS = BENCHMARKS / "results" / "defaults.json"
RUNS = BENCHMARKS / ".runs" / "defaults"
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
REFERENCE = "one member"
PEERS = ("LightGBM", "logistic regression")
ONE: dict[str, Any] = {"members": 1}
ADAM: dict[str, Any] = {"optimizer": "lazyadam", "learning_rate": 1e-3}
# What a recipe is told, `model` being the model's own arguments and `patience` that of the training.
CANDIDATES: dict[str, dict[str, Any]] = {
    REFERENCE: {"model": ONE},
    "averaged weights": {"model": ONE, "averaging": 0.999},
    "plateau": {"model": ONE, "schedule": "plateau"},
    "four members": {"model": {"members": 4}},
    "four members, averaged weights": {"model": {"members": 4}, "averaging": 0.999},
    "four members, averaged weights, no norm in the tower": {
        "model": {"members": 4, "batch_norm": False},
        "averaging": 0.999,
    },
    "four members, plateau": {"model": {"members": 4}, "schedule": "plateau"},
    "four members of dim 16": {"model": {"members": 4, "member_dim": 16}},
    "one wide member": {"model": {**ONE, "embedding_dim": 256}},
    "one-cycle": {"model": ONE, "schedule": "one_cycle", "passes": 20, "patience": 20},
    "accumulator 1e-3": {"model": ONE, "optimizer_arguments": {"initial_accumulator_value": 1e-3}},
    "patience 8": {"model": ONE, "patience": 8},
    "batch 1024": {"model": ONE, "batch_size": 1024},
    "Adam, dense": {"model": ONE, **ADAM, "optimizer_arguments": {"lazy": False}},
    "no norm in the tower": {"model": {**ONE, "batch_norm": False}},
    "dropout behind the norm": {"model": {**ONE, "interaction_dropout": 0.0, "dropout": 0.5}},
    "LazyAdam": {"model": ONE, **ADAM},
}


def trained(data: Prepared, told: Mapping[str, Any], seed: int, *, epochs: int | None, folder: Path) -> None:
    """Trains one candidate; writes what it reached, and its validation logits."""
    start = time.perf_counter()
    keras.backend.clear_session()
    told = dict(told)
    model, patience = told.pop("model"), told.pop("patience", PATIENCE)
    recipe = Recipe(model="nfm", config=model, **told)
    found = recipe.fit(data, seed=seed, epochs=epochs, patience=patience)
    report = evaluate(found.model, data.valid)
    run = {metric: report[metric] for metric in ("auc", "log_loss")}
    run |= {"epochs": len(found.history["loss"]), "seconds": round(time.perf_counter() - start, 1)}
    _write(folder, seed, run, predict(found.model, data.valid))


def peer(data: Prepared, name: str, seed: int, *, folder: Path) -> None:
    """Fits a peer; writes what it reached, and its validation logits."""
    start = time.perf_counter()
    logits = (boosted(data, seed) if name == PEERS[0] else logistic(data))("valid")
    run = {**averaged(data.valid.labels, [logits]), "epochs": 0, "seconds": round(time.perf_counter() - start, 1)}
    _write(folder, seed, run, logits)


def _write(folder: Path, seed: int, run: Mapping[str, float], logits: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{seed}.npy", logits)
    (folder / f"{seed}.json").write_text(json.dumps(run))


def folder_of(runs: Path, name: str, candidate: str) -> Path:
    """Where the runs of a candidate on a set are kept."""
    return runs / name / candidate.replace(" ", "-").replace(",", "")


def summarised(runs: Mapping[str, Mapping[int, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean and spread of each candidate over seeds, and its paired difference from the reference where it has one."""
    reference, found = runs.get(REFERENCE, {}), {}
    for name, of in runs.items():
        found[name] = spread([dict(of[seed]) for seed in sorted(of)]) | {"seeds": len(of)}
        both = sorted(set(of) & set(reference))
        if name != REFERENCE and len(both) > 1:
            found[name]["gained"] = {
                metric: difference([of[s][metric] for s in both], [reference[s][metric] for s in both])
                for metric in ("auc", "log_loss")
            }
    return found


def averaged(labels: np.ndarray, logits: Sequence[np.ndarray]) -> dict[str, float]:
    """AUC and log loss of the mean of several trainings' logits."""
    mean = np.mean(logits, axis=0, dtype=np.float64)
    return {"auc": float(metrics.auc(labels, mean)), "log_loss": float(metrics.log_loss(labels, mean))}


def over_sets(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each candidate that has run on every set the mean gain in AUC over sets, and its 95 % interval over runs."""
    complete = [name for name in CANDIDATES if found and all("gained" in of.get(name, {}) for of in found.values())]
    gains = {}
    for name in complete:
        parts = [of[name]["gained"]["auc"] for of in found.values()]
        # Sets are independent: the squares of their half-widths add up.
        half = float(np.sqrt(sum((part["mean"] - part["interval"][0]) ** 2 for part in parts))) / len(parts)
        mean = float(np.mean([part["mean"] for part in parts]))
        gains[name] = {"mean": mean, "interval": [mean - half, mean + half]}
    return gains


def gathered(runs: Path, sets: Sequence[str]) -> dict[str, Any]:
    """All runs that are kept, summarised."""
    found, ensembles = {}, {}
    for name in sets:
        of: dict[str, dict[int, Any]] = {}
        for candidate in (*CANDIDATES, *PEERS):
            files = sorted(folder_of(runs, name, candidate).glob("*.json"))
            if files:
                of[candidate] = {int(file.stem): json.loads(file.read_text()) for file in files}
        if of:
            found[name] = summarised(of)
            labels = SETS[name]().valid.labels
            files = {one: [folder_of(runs, name, one) / f"{seed}.npy" for seed in range(3)] for one in of}
            ensembles[name] = {
                candidate: averaged(labels, [np.load(file) for file in three])
                for candidate, three in files.items()
                if all(file.exists() for file in three)
            }
    return {"sets": found, "three averaged": ensembles, "over sets": over_sets(found)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--candidates", nargs="+", choices=[*CANDIDATES, *PEERS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of what is kept")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, digits; writes no results")
    parser.add_argument("--gather", action="store_true", help="train nothing; summarise what is kept")
    options = parser.parse_args(arguments)
    names, seeds, epochs = options.sets, range(options.seeds), None
    if options.quick:
        names, seeds, epochs = ["digits"], range(1), 1
    for name in () if options.gather else names:
        data = SETS[name]()
        for seed in seeds:  # of all candidates the first, so that what is there is comparable at any time
            for candidate in options.candidates or (*CANDIDATES, *PEERS):
                folder = folder_of(options.runs, name, candidate)
                if not (folder / f"{seed}.json").exists():
                    if candidate in PEERS:
                        peer(data, candidate, seed, folder=folder)
                    else:
                        trained(data, CANDIDATES[candidate], seed, epochs=epochs, folder=folder)
                    print(name, candidate, seed, (folder / f"{seed}.json").read_text(), flush=True)
    if options.quick:
        return
    results = {"machine": machine(), "python": platform.python_version(), "versions": versions(PACKAGES)}
    results |= {"patience": PATIENCE, **gathered(options.runs, list(SETS))}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for name, gain in results["over sets"].items():
        low, high = gain["interval"]
        print(f"{name:32} {gain['mean']:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
