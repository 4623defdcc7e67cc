"""What histories are worth on MovieLens-small: validation AUC without them, with counts, and with what the lists hold.

usage: python benchmarks histories [ratings.parquet] [--quick]

The defaults of `movielens`; the same and how many films the user has rated and which share of them was liked; the same
and the last 20 films, liked and other ones apart, pooled by mean; and by attention, where the package has it. Each is
trained with five seeds, the same ones for all, so that differences are paired. "known users" is the split of
`movielens`, by time within each user. For "new users" the users are dealt into ten parts: seed n validates on the users
of part n, who are in no training row, and trains on the others; those of part 0 are kept off. Their rows see their own
earlier rows, as those of a user who has just come do. Nothing is judged on test rows. Every run is written at once;
started again, it goes on where it stopped. Without a file it takes NFM_TFRS_MOVIELENS.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lib.places import BENCHMARKS
from lib.timing import machine, versions

from nfm_tfrs.data import Target, histories, parse_split
from nfm_tfrs.data.parts import Prepared, encode_tables
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.specs import MODEL_ARGUMENTS
from quality.movielens import COLUMNS, spread
from quality.optimizers import Run, difference, resumed, trained

RESULTS = BENCHMARKS / "results" / "histories.json"
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
TARGET = Target.parse("rating>=4")
SEEDS, EPOCHS, PARTS, LAST = (1, 2, 3, 4, 5), 30, 10, 20
NUMBERS = ("movie_id_history_count", "movie_id_history_mean")
LISTS = ("movie_id_history_liked", "movie_id_history_other")
DEFAULTS = "defaults"
WAYS: dict[str, tuple[str, ...]] = {
    DEFAULTS: COLUMNS,
    "counts": (*COLUMNS, *NUMBERS),
    "histories by mean, counts": (*COLUMNS, *NUMBERS, *LISTS),
    "histories by attention, counts": (*COLUMNS, *NUMBERS, *LISTS),
}
ARGUMENTS: dict[str, dict[str, Any]] = {"histories by attention, counts": {"history_combiner": "attention"}}
METRICS = ("valid_auc", "valid_log_loss")
Measure = Callable[[str, int], Run]
KNOWN, NEW = "known users", "new users"


def ways() -> list[str]:
    """The ways that this version of the package has."""
    return [way for way in WAYS if all(argument in MODEL_ARGUMENTS for argument in ARGUMENTS.get(way, ()))]


def divided(ratings: pa.Table, users: str, seed: int) -> dict[str, pa.Table]:
    """The rows to train and to validate on."""
    if users == KNOWN:
        parts = parse_split("user-time:user_id,timestamp").parts(ratings)
        return {"train": ratings.take(pa.array(parts.train)), "valid": ratings.take(pa.array(parts.valid))}
    distinct = pc.unique(ratings["user_id"]).sort()
    part_of = np.random.default_rng(0).permutation(len(distinct)) % PARTS
    parts = part_of[pc.index_in(ratings["user_id"], value_set=distinct).to_numpy()]
    return {
        "train": ratings.filter(pa.array((parts != seed % PARTS) & (parts != 0))),
        "valid": ratings.filter(pa.array(parts == seed % PARTS)),
    }


def encoded(parts: dict[str, pa.Table], way: str) -> Prepared:
    """The parts, encoded by the features of the training rows."""
    features = FeatureSpec.from_table(parts["train"], columns=list(WAYS[way]))
    return encode_tables(parts, FeatureEncoder(features), TARGET)


def study(found: dict[str, Any], seeds: Sequence[int], measure: Measure, write: Callable[[], None]) -> None:
    """Adds to `found` the runs (way, seed, run) that it lacks, and the summary.

    Args:
        found: What there is.
        seeds: The seeds.
        measure: Called with a way and a seed; returns the run.
        write: Called after each run.
    """
    for seed in seeds:
        for way in ways():
            runs = found.setdefault("runs", {}).setdefault(way, {})
            if str(seed) not in runs:
                runs[str(seed)] = measure(way, seed)
                shown = "  ".join(f"{name} {value:.4g}" for name, value in runs[str(seed)].items())
                print(f"  {way:32} seed {seed}  {shown}", flush=True)
                write()
    found["summary"] = {
        way: {
            **spread([{metric: run[metric] for metric in METRICS} for run in runs.values()]),
            "gain": {
                metric: difference(
                    *([of[seed][metric] for seed in sorted(of)] for of in (runs, found["runs"][DEFAULTS]))
                )
                for metric in METRICS
                if way != DEFAULTS and len(runs) > 1
            },
        }
        for way, runs in found["runs"].items()
    }
    write()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, nargs="?", default=os.environ.get("NFM_TFRS_MOVIELENS"))
    parser.add_argument("--quick", action="store_true", help="5,000 rows, two seeds, one epoch; writes nothing")
    options = parser.parse_args(arguments)
    if options.ratings is None:
        parser.error("ratings.parquet of MovieLens-small is missing. Give it, or set NFM_TFRS_MOVIELENS.")
    seeds, epochs = (SEEDS[:2], 1) if options.quick else (SEEDS, EPOCHS)
    told = {"seeds": list(seeds), "epochs": epochs, "parts": PARTS, "last": LAST}
    start = {**told, "versions": versions(PACKAGES), "machine": machine()}
    results, write = resumed(None if options.quick else RESULTS, start, parser)
    ratings = read_table(options.ratings).slice(0, 5_000 if options.quick else None)
    ratings = histories(ratings, user="user_id", time="timestamp", of="movie_id", last=LAST, rating=TARGET.label)
    for users in (KNOWN, NEW):
        print(users, flush=True)

        def measure(way: str, seed: int, users: str = users) -> Run:
            data = encoded(divided(ratings, users, seed), way)
            return trained(data, None, seed, epochs, test=False, **ARGUMENTS.get(way, {}))

        study(results["data"].setdefault(users, {}), seeds, measure, write)
        for way, summary in results["data"][users]["summary"].items():
            for metric, gap in summary["gain"].items():
                low, high = gap["interval"]
                print(f"  {way:32} {metric:15} {gap['mean']:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    keras.utils.disable_interactive_logging()
    main()
