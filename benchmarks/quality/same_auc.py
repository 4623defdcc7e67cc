"""Seconds of training until a validation AUC is reached, on a click log of a million rows: ours, LightGBM, myFM.

usage: python benchmarks same_auc [--quick] [--seeds 3] [--rows 1000000]     (pip install lightgbm myfm scipy)

The log (`nfm_tfrs.data.synthetic`, pairs planted, best AUC 0.8) is split by time and encoded once for all: ids and
standardised numbers; the bag of interests is left out, which LightGBM does not know. Ours is the package's default NFM
with batches of 1024, tracing included; LightGBM has 63 leaves, a rate of 0.1 and categories as such; myFM, a
factorization machine in C++ by Gibbs sampling, has rank 16. Each side trains in parts and is judged behind each part,
which does not count. The target is what the weakest side reaches at best, less 0.0005: all of them reach it.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from lib.baselines import dense, sparse_rows
from lib.places import RESULTS
from lib.timing import machine, versions

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.features.encoder import IDS
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.training import predict

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy", "lightgbm", "myfm")
COLUMNS = ("user_id", "site", "city", "device", "ad_id", "category", "hour", "price", "age")
BATCH_SIZE = 1024
MARGIN = 0.0005


class Parts(NamedTuple):
    """How much each side trains: steps a part and parts, trees a part and parts, samples a part and parts."""

    steps: int = 100
    step_parts: int = 40
    trees: int = 20
    tree_parts: int = 30
    samples: int = 5
    sample_parts: int = 12


QUICK = Parts(2, 3, 2, 3, 1, 2)
Curve = list[tuple[float, float]]  # seconds of training so far, validation AUC


def ours(data: Prepared, seed: int, parts: Parts) -> Iterator[Callable[[], np.ndarray]]:
    """Trains a part of the package's NFM; yields what predicts the validation rows."""
    keras.utils.set_random_seed(seed)
    model = NFM(data.features)
    model.compile()
    rows = data.train.dataset(BATCH_SIZE, shuffle=True, seed=seed).repeat()
    for part in range(parts.step_parts):
        model.fit(rows, initial_epoch=part, epochs=part + 1, steps_per_epoch=parts.steps, verbose=0)
        yield lambda: predict(model, data.valid)


def lightgbm(data: Prepared, seed: int, parts: Parts) -> Iterator[Callable[[], np.ndarray]]:
    """The same of LightGBM."""
    import lightgbm as lgb

    categories = list(range(data.train.columns[IDS].shape[1]))
    rows = lgb.Dataset(dense(data, "train"), data.train.labels, categorical_feature=categories)
    settings = {"objective": "binary", "num_leaves": 63, "learning_rate": 0.1, "seed": seed, "verbose": -1}
    booster = lgb.Booster(settings, rows)
    for _ in range(parts.tree_parts):
        for _ in range(parts.trees):
            booster.update()
        yield lambda: booster.predict(dense(data, "valid"), raw_score=True)


def myfm(data: Prepared, seed: int, parts: Parts) -> Iterator[Callable[[], np.ndarray]]:
    """The same of myFM, which cannot go on: each part trains anew, for as many samples more."""
    from myfm import MyFMClassifier

    train, valid = sparse_rows(data, "train"), sparse_rows(data, "valid")
    for part in range(parts.sample_parts):
        samples = parts.samples * (part + 1)
        machine = MyFMClassifier(rank=16, random_seed=seed).fit(
            train, data.train.labels, n_iter=samples, n_kept_samples=max(1, samples // 2)
        )
        yield lambda machine=machine: machine.predict_proba(valid)


def curve(side: Callable[..., Iterator[Callable[[], np.ndarray]]], data: Prepared, seed: int, parts: Parts) -> Curve:
    """Seconds of training so far and the validation AUC behind each part; of myFM the seconds of that part alone."""
    found: Curve = []
    spent, start = 0.0, time.perf_counter()
    for scores in side(data, seed, parts):
        seconds = time.perf_counter() - start
        spent = seconds if side is myfm else spent + seconds
        found.append((spent, float(metrics.auc(data.valid.labels, scores()))))
        start = time.perf_counter()
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows and parts, one seed; writes nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    rows, seeds, parts = (3_000, 1, QUICK) if options.quick else (options.rows, options.seeds, Parts())
    table = click_log(rows, seed=0).table.select([*COLUMNS, "timestamp", "click"])
    data = prepare(table, "click", parse_split("time:timestamp"))
    sides = {"own": ours, "lightgbm": lightgbm, "myfm": myfm}
    curves: dict[str, list[Curve]] = {name: [] for name in sides}
    for seed in range(seeds):
        for name, side in sides.items():
            curves[name].append(curve(side, data, seed, parts))
            seconds, auc = max(curves[name][-1], key=lambda point: point[1])
            print(f"  {name:9} seed {seed}  best AUC {auc:.4f} after {seconds:.1f} s", flush=True)
    target = min(max(auc for _, auc in one) for found in curves.values() for one in found) - MARGIN
    reached = {
        name: [next(seconds for seconds, auc in one if auc >= target) for one in found]
        for name, found in curves.items()
    }
    for name, seconds in reached.items():
        print(
            f"  {name:9} AUC {target:.4f} after {np.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        )
    result = {"rows": rows, "machine": machine(), "target": target, "seconds": reached, "curves": curves}
    if not options.quick:
        result["versions"] = versions(PACKAGES)
        (RESULTS / "same_auc.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
