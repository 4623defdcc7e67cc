"""Rows a second of training from raw columns, end to end: DLRM and DeepFM on rows of Criteo's shape, W6.

usage: python benchmarks raw [--quick] [--rounds 9]

A generated Parquet file: 26 columns of strings, of one million values in all, and 13 of numbers, a label. A round is
one pass of `fit` over the file, as `nfm-tfrs train --stream` makes it: read, hashed, shuffled, cut into batches and
trained on, with row-wise Adam. All sides take turns. DLRM has the widths of DeepRec's, whose published figure for this
shape is 59 thousand samples a second on four cores with batches of 512: another machine, so the order of it counts.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.reports import SEED, Options, Report, parse
from lib.timing import machine, machine_words, median, versions
from lib.workloads import workload

from nfm_tfrs.data import stream
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.optimizers import LazyAdam
from nfm_tfrs.target import Target
from speed.input import LABEL, spent, write
from tfrs_registry import get_model

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy", "pyarrow")
MODELS: dict[str, dict[str, Any]] = {
    "dlrm": {"embedding_dim": 16, "bottom_units": (512, 256, 64), "hidden_units": (512, 256)},
    "deepfm": {"embedding_dim": 16, "hidden_units": (400, 400, 400)},
}
BATCH_SIZES = (512, 4096)
ROWS, QUICK_ROWS, QUICK_VOCABULARY = 200_000, 9_000, 1_000


def measure(rows: int, vocabulary: int | None, rounds: int) -> dict[str, Any]:
    """Rows a second by model and batch size."""
    shape = workload("W1", vocabulary)
    categories = [CategoricalFeature(f"c{n}", num_hash_buckets=s) for n, s in enumerate(shape.vocabulary_sizes)]
    spec = FeatureSpec((*categories, *(NumericFeature(f"n{n}") for n in range(shape.numbers))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write(path, shape, rows, rows // 2, strings=True)

        def passing(name: str, batch_size: int) -> Any:
            keras.utils.set_random_seed(SEED)
            model = get_model(name, features=spec, **MODELS[name])
            model.compile(LazyAdam(1e-3))
            transform = model.encoder.encode_arrays
            batches: dict[str, Any] = {"batch_size": batch_size, "shuffle": True, "seed": SEED}

            def run() -> int:
                data = stream(path, spec=spec, target=Target.parse(LABEL), transform=transform, **batches)
                model.fit(data, epochs=1, verbose=0)
                return rows

            run()  # traced
            return run

        sides = {(name, size): passing(name, size) for name in MODELS for size in BATCH_SIZES}
        times = np.array([[spent(run).wall for run in sides.values()] for _ in range(rounds)])
    found: dict[str, Any] = {}
    for (name, size), walls in zip(sides, times.T, strict=True):
        rates = found.setdefault(name, {})[str(size)] = median(1e9 / walls)
        low, high = rates["interval"]
        print(f"  own {name:7} batch {size:5} {rates['median']:10,.0f} rows/s [{low:,.0f}, {high:,.0f}]", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    rows, vocabulary = (QUICK_ROWS, QUICK_VOCABULARY) if options.quick else (ROWS, None)
    report = Report("raw", options)
    report.measured = {
        "versions": versions(PACKAGES),
        "rows": rows,
        "models": MODELS,
        "rows_per_second": measure(rows, vocabulary, options.rounds),
    }
    print(f"  {machine_words(machine())}", flush=True)
    report.write()
    return report.measured


if __name__ == "__main__":
    main()
