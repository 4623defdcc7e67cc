"""AUC against megabytes of tables on a click log of large vocabularies: whole, hashed and compressed.

usage: python benchmarks sizes [--rows 300000] [--seeds 3] [--passes 3] [--quick]

The log (`nfm_tfrs.data.synthetic`, pairs planted, best AUC 0.8) has 3 thousand users and as many ads, is split at
random and encoded once for each way: vocabularies with a row for each value; as many hash buckets as a share of the
ids; the same vocabularies with QuotientRemainder, by product and by sum, and with MultiHash, two hashes, whose num_rows
is that share. All else is the package's default NFM with embedding_dim 16. Each training keeps the epoch with the
highest validation AUC, and is judged on the test rows. Figures are means over seeds of weights and order, of one log.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lib.places import RESULTS
from lib.timing import machine, versions

from nfm_tfrs import FeatureSpec, MultiHash, QuotientRemainder, infer_features, metrics
from nfm_tfrs.data import prepare
from nfm_tfrs.data.synthetic import ClickLog, click_log
from nfm_tfrs.training import Recipe, predict

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
LARGE = ("user_id", "ad_id")
IDS, QUICK_IDS = 3000, 2000
SHARES = (0.3, 0.1, 0.03)
WAYS = ("hash buckets", "quotient-remainder, product", "quotient-remainder, sum", "two hashes")
WHOLE = "a row for each value"
RECIPE = Recipe(model="nfm", config={"embedding_dim": 16}, batch_size=1024)


def features_of(inferred: FeatureSpec, way: str, share: float) -> FeatureSpec:
    """The features, those of large vocabularies with so many rows for each id."""
    features = inferred
    for name in LARGE if way != WHOLE else ():
        feature = inferred[name]
        rows = max(int(share * len(feature.vocabulary)), 1)
        compressions = {
            "quotient-remainder, product": QuotientRemainder(num_rows=rows),
            "quotient-remainder, sum": QuotientRemainder(num_rows=rows, operation="sum"),
            "two hashes": MultiHash(num_rows=rows),
        }
        if way == "hash buckets":
            changed = replace(feature, vocabulary=None, num_hash_buckets=rows)
        else:
            changed = replace(feature, compression=compressions[way])
        features = features.replace(changed)
    return features


def trained(log: ClickLog, features: FeatureSpec, seeds: int, passes: int) -> dict[str, Any]:
    """Megabytes of the tables, and the test AUC of each seed."""
    data = prepare(log.table, "click", "random", features=features)
    found, size = [], 0
    for seed in range(seeds):
        model = RECIPE.fit(data, seed=seed, epochs=passes, patience=1).model
        size = sum(int(np.prod(table.shape)) for table in model.embedding.tables)
        labels = data.test.labels
        found.append(metrics.auc(labels, predict(model, data.test)))
    return {"megabytes": 4 * size / 1e6, "auc": float(np.mean(found)), "each": found}


def measured(log: ClickLog, shares: Sequence[float], seeds: int, passes: int) -> dict[str, list[dict[str, Any]]]:
    """By way, what each share of rows comes to."""
    inferred = infer_features(log.table, exclude=["click", "timestamp"], min_count=1)
    found: dict[str, list[dict[str, Any]]] = {}
    for way in (WHOLE, *WAYS):
        for share in (1.0,) if way == WHOLE else shares:
            features = features_of(inferred, way, share)
            found.setdefault(way, []).append({"share": share, **trained(log, features, seeds, passes)})
            print(way, json.dumps(found[way][-1]), flush=True)
    return found


def draw(ways: Mapping[str, Sequence[Mapping[str, Any]]], best: float, path: Path) -> None:
    """Draws the mean AUC of each way against megabytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for way, points in ways.items():
        sizes, scores = ([point[name] for point in points] for name in ("megabytes", "auc"))
        axes.plot(sizes, scores, marker="o", linestyle="none" if way == WHOLE else "-", label=way)
    axes.axhline(best, color="grey", linestyle=":", label="the best there is")
    axes.set(xlabel="megabytes of tables", ylabel="test AUC", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows and ids, one seed and pass; writes no results")
    options = parser.parse_args(arguments)
    rows, seeds, passes = (2000, 1, 1) if options.quick else (options.rows, options.seeds, options.passes)
    ids = QUICK_IDS if options.quick else IDS
    log = click_log(rows, seed=0, sizes=dict.fromkeys(LARGE, ids))
    ways = measured(log, SHARES[1:2] if options.quick else SHARES, seeds, passes)
    if options.quick:
        return
    results = {
        "rows": rows,
        "ids": ids,
        "seeds": seeds,
        "passes": passes,
        "best": log.best_auc,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "ways": ways,
    }
    (RESULTS / "sizes.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(ways, log.best_auc, RESULTS / "sizes.png")


if __name__ == "__main__":
    main()
