"""Claim: on click logs a search comes within 0.01 of the best AUC there is, and above the default NFM.

usage: python benchmarks search_clicks [--seeds 10] [--quick]

The logs are drawn, so the best AUC is known: that of the logits they were drawn from, on the same test rows. For each
seed there is a log with pairs and one with triples, of a million rows, split by time; each is searched with the default
strategy over every block, two passes a training, on one processor, for fifteen minutes, without what the prior holds of
click logs. Batches
have 1024 rows, embeddings 16 numbers, and the optimizer is LazyAdam: comparisons of click models use to fix these, and
Adam. The better of two finalists, and an NFM with the package's defaults, four passes at most, are judged on the test
rows. What is done is not done again. Linux only.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.places import BENCHMARKS, SEARCHES, command_of
from lib.timing import machine, side_by_side, versions

from nfm_tfrs import metrics
from nfm_tfrs.data import parse_split, prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.training import predict
from nfm_tfrs.tuning import Budget, Finals, Schedule, Space, search
from nfm_tfrs.tuning.prior import known_sets
from quality.movielens import fitted, spread

RESULTS = BENCHMARKS / "results" / "search_clicks.json"
ORDERS = {"pairs": 2, "triples": 3}
MINUTES = {"pairs": 15, "triples": 15}
SETS = ("clicks-pairs", "clicks-triples")  # as the prior calls them
ROWS, QUICK_ROWS = 1_000_000, 3_000
CLOSE = 0.01
FIXED = {"batch_size": 1024, "embedding_dim": 16, "optimizer": "lazyadam"}
FIRST = 30  # seed; all of this was chosen on logs of others
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-tuner", "numpy")


def run(variant: str, seed: int, minutes: float, folder: Path, *, quick: bool) -> None:
    """Searches one log; writes test AUCs of the winner, of the default NFM and of the true logits."""
    log = click_log(QUICK_ROWS if quick else ROWS, seed=seed, order=ORDERS[variant])
    data = prepare(log.table, "click", parse_split("time:timestamp"))
    best = log.true_logits[-len(data.test) :]  # the log is in the order of time
    if not np.array_equal(log.table["click"].to_numpy()[-len(data.test) :], data.test.labels):
        sys.exit("The test rows are not the last ones of the log.")
    start = time.monotonic()
    found = search(
        data.without("test"),
        out=folder / f"{variant}-{seed}",
        budget=Budget(minutes=minutes),
        space=Space(fixed=FIXED, prior_without=tuple(name for name in SETS if name in known_sets())),
        schedule=Schedule(passes=2, slices=18, patience=6),
        finals=Finals(finalists=2, seeds=1),
        seed=seed,
    )
    seconds = time.monotonic() - start
    default = fitted(data, {}, seed, 4)
    logits = {"best": best, "searched": predict(found.model, data.test), "NFM": predict(default, data.test)}
    result = {
        **{name: float(metrics.auc(data.test.labels, of)) for name, of in logits.items()},
        "winner": found.evidence.finalists[0].candidate.to_json(),
        "configurations": sum(trial.parent is None for trial in found.evidence.trials),
        "seconds": round(seconds),
    }
    (folder / f"{variant}-{seed}.json").write_text(json.dumps(result))
    print(f"{variant} {seed}: { ({name: round(result[name], 4) for name in logits}) }", flush=True)


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread, and how many of the searches hold what is claimed."""
    return {
        "auc": spread([{name: run[name] for name in ("best", "searched", "NFM")} for run in runs]),
        "below the best": spread([{"auc": run["best"] - run["searched"]} for run in runs])["auc"],
        "within 0.01 of the best": sum(run["best"] - run["searched"] <= CLOSE for run in runs),
        "above the default NFM": sum(run["searched"] > run["NFM"] for run in runs),
        "of": len(runs),
    }


def folder_of(options: argparse.Namespace, variant: str) -> Path:
    """Returns the folder of the searches of a variant, which is there then."""
    folder: Path = options.folder / ("clicks quick" if options.quick else f"clicks {MINUTES[variant]} minutes")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=SEARCHES)
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, seconds; writes no results")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help="this search alone")
    options = parser.parse_args(arguments)
    if options.one:
        variant, seed = options.one
        minutes = 0.1 if options.quick else MINUTES[variant]
        run(variant, int(seed), minutes, folder_of(options, variant), quick=options.quick)
        return
    jobs = [(name, seed) for name in ORDERS for seed in range(FIRST, FIRST + (1 if options.quick else options.seeds))]
    files = {job: folder_of(options, job[0]) / "{}-{}.json".format(*job) for job in jobs}
    command = [*command_of("search_clicks"), "--folder", str(options.folder), *["--quick"] * options.quick]
    side_by_side([[*command, "--one", name, str(seed)] for (name, seed), file in files.items() if not file.exists()])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ORDERS}
    for (name, _), file in files.items():
        runs[name].append(json.loads(file.read_text()))
    found = {name: summary(of) for name, of in runs.items()}
    print(json.dumps(found, indent=1))
    if not options.quick:
        results = {"minutes": MINUTES, "rows": ROWS, "machine": machine(), "versions": versions(PACKAGES)}
        RESULTS.write_text(json.dumps({**results, **found, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
