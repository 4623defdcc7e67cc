"""What an encoder of numbers is worth: validation and test AUC by encoder, beside LightGBM.

usage: python benchmarks numbers [--quick] [--seeds 5] [--data NAME ...]     (pip install lightgbm)

On a generated click log whose truth rises and falls with its numbers, so that the best possible AUC is known, and on
the digits of scikit-learn: 1,797 rows of 16 numbers, the ink in each row and column of a picture, of which the label
says whether the digit is 5 or more. It is the largest table that scikit-learn ships, the others being downloads; by its
64 pixels themselves a model of linear numbers tells the label without an error. An NFM with the package's defaults, of
dim 16, is trained with each encoder of the same numbers, limits being found in the training rows, and stopped on
validation AUC; differences from linear numbers are paired by seed. LightGBM has the same rows and features; its number
of leaves is chosen, and its trees are stopped, on the same validation rows.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from typing import Any

from lib import sets
from lib.baselines import boosted
from lib.places import BENCHMARKS
from lib.timing import machine, versions

from nfm_tfrs import metrics
from nfm_tfrs.data import parse_split
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.features.number_encoders import LINEAR, NUMBER_ENCODERS
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.training import evaluate, fit
from nfm_tfrs.training.recipe import PATIENCE
from quality.movielens import spread
from quality.optimizers import difference

RESULTS = BENCHMARKS / "results" / "numbers.json"
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "scikit-learn", "numpy")
LOG_ROWS, LOG_SEED, DIM, EPOCHS = 40_000, 1, 16, 40
BATCH_SIZES = {"click log": 512, "digits": 64}
TREES = "LightGBM"

Run = dict[str, float]


def clicks(rows: int) -> tuple[Prepared, dict[str, Any]]:
    """The parts of a click log, split by time, and how well the logits its clicks were drawn from do on them."""
    log = click_log(rows, seed=LOG_SEED, numbers="waves")
    split = parse_split("time:timestamp")
    data = prepare(log.table, "click", split, number_encoder=LINEAR)
    rows_of = split.parts(log.table)._asdict()
    best = {
        f"{part}_auc": metrics.auc(data.encoded[part].labels, log.true_logits[rows_of[part]])
        for part in ("valid", "test")
    }
    return data, {"rows": rows, "best_possible": best}


def digits() -> tuple[Prepared, dict[str, Any]]:
    """The parts of scikit-learn's digits, as the ink in each row and each column of their pictures."""
    data = sets.digits(number_encoder=LINEAR)
    return data, {"rows": sum(len(part) for part in data.encoded.values())}


def trained(data: Prepared, encoder: str, seed: int, *, epochs: int, batch_size: int) -> Run:
    """What came out of training one NFM."""
    start = time.perf_counter()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = NFM(data.features, embedding_dim=DIM, number_encoder=encoder)
    model.compile()
    train = data.train.dataset(batch_size, shuffle=True, seed=seed)
    history = fit(model, train, data.valid.dataset(4096), epochs=epochs, patience=PATIENCE)
    run: Run = {"epochs": len(history["loss"]), "seconds": round(time.perf_counter() - start, 1)}
    for part in ("valid", "test"):
        report = evaluate(model, data.encoded[part])
        run |= {f"{part}_{metric}": report[metric] for metric in ("auc", "log_loss")}
    return run


def trees(data: Prepared, seed: int) -> Run:
    """What came out of LightGBM."""
    start = time.perf_counter()
    logits = boosted(data, seed)
    run: Run = {"seconds": round(time.perf_counter() - start, 1)}
    for part in ("valid", "test"):
        labels, found = data.encoded[part].labels, logits(part)
        run |= {f"{part}_auc": metrics.auc(labels, found), f"{part}_log_loss": metrics.log_loss(labels, found)}
    return run


def summarised(runs: dict[str, dict[str, Run]]) -> dict[str, Any]:
    """Mean and spread over seeds by encoder, and the paired difference from linear numbers."""
    found: dict[str, Any] = {}
    for name, of in runs.items():
        seeds = sorted(of)
        found[name] = spread([of[seed] for seed in seeds])
        if name != LINEAR and len(seeds) > 1:
            found[name]["less linear"] = {
                metric: difference([of[s][metric] for s in seeds], [runs[LINEAR][s][metric] for s in seeds])
                for metric in ("valid_auc", "test_auc", "test_log_loss")
            }
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, prints, writes and returns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few clicks, one seed, one epoch; writes nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", choices=BATCH_SIZES, default=list(BATCH_SIZES))
    options = parser.parse_args(arguments)
    seeds, epochs = (range(1, 2), 1) if options.quick else (range(1, 1 + options.seeds), EPOCHS)
    makers = {"click log": lambda: clicks(2000 if options.quick else LOG_ROWS), "digits": digits}
    settings = {"seeds": len(seeds), "dim": DIM, "machine": machine(), "python": platform.python_version()}
    results: dict[str, Any] = {**settings, "versions": versions((*PACKAGES, "lightgbm")), "data": {}}
    if RESULTS.exists() and not options.quick:
        results["data"] |= json.loads(RESULTS.read_text())["data"]
    for name in options.data:
        data, about = makers[name]()
        runs: dict[str, dict[str, Run]] = {encoder: {} for encoder in (*NUMBER_ENCODERS, TREES)}
        for seed in seeds:
            for encoder in NUMBER_ENCODERS:
                runs[encoder][str(seed)] = trained(data, encoder, seed, epochs=epochs, batch_size=BATCH_SIZES[name])
            runs[TREES][str(seed)] = trees(data, seed)
        results["data"][name] = {**about, "summary": summarised(runs), "runs": runs}
        for encoder, of in results["data"][name]["summary"].items():
            shown = "  ".join(f"{metric} {of[metric]['mean']:.4f}" for metric in ("valid_auc", "test_auc", "seconds"))
            print(f"{name:10} {encoder:10} {shown}", flush=True)
        if not options.quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
