"""Histories pooled by their mean against attention to the target, where the best match in a history decides.

usage: python benchmarks attention [--quick] [--settings]

Ten generated click logs whose true logits are known (`nfm_tfrs.data.synthetic_history`), and on each two NFMs that
differ in how the history is pooled and in nothing else. Of each the distance of its test AUC to that of the true logits
is taken, the best that any model can have. Everything about them was settled on the log of seed 0, which is not among
the ten. Every run is written at once; started again, the benchmark goes on where it stopped.

With --settings the validation AUC of each kind of weights and activation on three other logs, by which the defaults of
`Attention` were chosen; no test row is read.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from lib.places import BENCHMARKS
from lib.timing import machine, versions

from nfm_tfrs.data import parse_split
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic_history import ITEMS, history_log
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.metrics.exact import auc_of
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.optimizers import LazyAdam
from nfm_tfrs.training import evaluate, fit
from quality.optimizers import difference

RESULTS = BENCHMARKS / "results" / "attention.json"
COMBINERS = ("mean", "attention")
SEEDS, QUICK_SEEDS = tuple(range(1, 11)), (1, 2)
ROWS, QUICK_ROWS = 100_000, 2_000
EPOCHS, PATIENCE = 12, 2
SETTINGS = Attention(units=(32, 16), softmax=True)
MODEL: dict[str, Any] = {"embedding_dim": 16, "hidden_units": (32,), "interaction_dropout": 0.0, "dropout": 0.0}
RATE = 3e-3
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")

SETTINGS_SEEDS = (11, 12, 13)

Run = dict[str, Any]


def features(settings: Attention = SETTINGS) -> FeatureSpec:
    """The item of the row, and the history that attends to it."""
    ids: dict[str, Any] = {"vocabulary_size": ITEMS, "embedding_name": "item"}
    seen = MultiCategoricalFeature("seen", **ids, combiner="attention", target="item_id", attention=settings)
    return FeatureSpec((CategoricalFeature("item_id", **ids), seen))


def judged(seed: int, rows: int, epochs: int) -> Run:
    """On the log of a seed the best AUC on the test rows, and that of each way of pooling."""
    log, split = history_log(rows, seed=seed), parse_split("time:timestamp")
    data = prepare(log.table, "click", split, features=features())
    labels = data.test.labels
    best = auc_of(log.true_logits[split.parts(log.table).test])(labels, 1 - labels)
    run: Run = {"best_auc": best}
    for combiner in COMBINERS:
        model, history = trained(data, seed, epochs, combiner)
        auc = evaluate(model, data.encoded["test"])["auc"]
        run[combiner] = {"epochs": len(history["loss"]), "test_auc": auc, "distance": best - auc}
    return run


def trained(data: Any, seed: int, epochs: int, combiner: str) -> tuple[NFM, dict[str, list[float]]]:
    """A model that stopped where its validation AUC was best, and what it went through."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = NFM(data.features, **MODEL, history_combiner=combiner)
    model.compile(LazyAdam(RATE))
    train = data.train.dataset(256, shuffle=True, seed=seed)
    return model, fit(model, train, data.valid.dataset(4096), epochs=epochs, patience=PATIENCE)


def settings_tried(seeds: Sequence[int], rows: int, epochs: int) -> dict[str, list[float]]:
    """The best validation AUC on the log of each seed, of each kind of weights and activation."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        table = history_log(rows, seed=seed).table
        for softmax, activation in itertools.product((False, True), ("dice", "prelu", "relu")):
            settings = Attention(units=SETTINGS.units, softmax=softmax, activation=activation)
            data = prepare(table, "click", parse_split("time:timestamp"), features=features(settings))
            _, history = trained(data, seed, epochs, "attention")
            name = f"{activation}, {'softmax' if softmax else 'plain'}"
            found.setdefault(name, []).append(max(history["val_auc"]))
            print(f"seed {seed}: {name} {found[name][-1]:.4f}", flush=True)
    return found


def summarised(runs: dict[str, Run]) -> dict[str, Any]:
    """Mean distances to the best AUC, their paired difference, and the share of the mean's that is left."""
    distances = {one: [run[one]["distance"] for run in runs.values()] for one in COMBINERS}
    means = {one: float(np.mean(values)) for one, values in distances.items()}
    return {
        "distance": means,
        "difference": difference(distances["attention"], distances["mean"]),
        "share_left": means["attention"] / means["mean"],
        "largest_share_left": float(np.max(np.divide(distances["attention"], distances["mean"]))),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny logs, two seeds, one pass; writes nothing")
    parser.add_argument("--settings", action="store_true", help="what the defaults of Attention were chosen by")
    options = parser.parse_args(arguments)
    quick = options.quick
    seeds, rows, epochs = (QUICK_SEEDS, QUICK_ROWS, 1) if quick else (SEEDS, ROWS, EPOCHS)
    done = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() and not quick else {}
    if options.settings:
        tried = settings_tried(seeds[:1] if quick else SETTINGS_SEEDS, rows, epochs)
        if not quick:
            RESULTS.write_text(json.dumps({**json.loads(RESULTS.read_text()), "settings": tried}, indent=1) + "\n")
        return
    runs: dict[str, Run] = {seed: run for seed, run in done.items() if int(seed) in seeds}
    for seed in seeds:
        if str(seed) not in runs:
            runs[str(seed)] = judged(seed, rows, epochs)
        run = runs[str(seed)]
        shown = ", ".join(f"{one} {run[one]['test_auc']:.4f}" for one in COMBINERS)
        print(f"seed {seed}: best {run['best_auc']:.4f}, {shown}", flush=True)
        results = {
            "rows": rows,
            "epochs": epochs,
            "learning_rate": RATE,
            "attention": SETTINGS.to_dict(),
            "machine": machine(),
            "versions": versions(PACKAGES),
            "summary": summarised(runs) if len(runs) > 1 else None,  # there is no interval of one
            "runs": runs,
        }
        if not quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    found = summarised(runs)
    shown = ", ".join(f"{one} {distance:.4f}" for one, distance in found["distance"].items())
    print(f"distance to the best AUC: {shown}; attention leaves {found['share_left']:.0%} of it", flush=True)


if __name__ == "__main__":
    main()
