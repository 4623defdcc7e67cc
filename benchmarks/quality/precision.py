"""Quality by precision: an NFM with the package's defaults in float32, bfloat16 and float16.

usage: python benchmarks precision [ratings.parquet] [--quick]

On MovieLens-small (if its ratings.parquet is given) and on a generated click log, five seeds, the same ones for each
precision: of one seed, one initial model, one order of rows, one dropout, so that differences are paired. Nothing is
chosen here. The intervals speak of other seeds on the same rows, not of other rows. Every run is written at once;
started again, it goes on where it stopped.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from lib.places import BENCHMARKS

from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.precision import Precision
from quality.movielens import prepared, spread
from quality.optimizers import LOG_ROWS, METRICS, Run, clicks, difference, resumed, settings, trained

RESULTS = BENCHMARKS / "results" / "precision.json"
REFERENCE, *HALF = (precision for precision in get_args(Precision) if precision != "auto")


class Plan(NamedTuple):
    """The seeds and the epochs of a study."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    epochs: int = 30


def study(found: dict[str, Any], plan: Plan, measure: Callable[[str, int], Run], write: Callable[[], None]) -> None:
    """Adds to `found` the runs (precision, seed, run) that it lacks, and the summary.

    Args:
        found: What there is.
        plan: What to run.
        measure: Called with a precision and a seed; returns the run.
        write: Called after each run.
    """
    for seed in plan.seeds:
        for precision in (REFERENCE, *HALF):
            runs = found.setdefault("runs", {}).setdefault(precision, {})
            if str(seed) not in runs:
                runs[str(seed)] = measure(precision, seed)
                shown = "  ".join(f"{name} {value:.4g}" for name, value in runs[str(seed)].items())
                print(f"  {precision:15} seed {seed}  {shown}", flush=True)
                write()
    found["summary"] = {
        precision: {
            **spread([{metric: run[metric] for metric in METRICS} for run in runs.values()]),
            "differences": {
                metric: difference(
                    *([of[seed][metric] for seed in sorted(of)] for of in (runs, found["runs"][REFERENCE]))
                )
                for metric in METRICS
                if precision != REFERENCE
            },
        }
        for precision, runs in found["runs"].items()
    }
    write()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, nargs="?", help="of MovieLens-small; without it only the click log")
    parser.add_argument("--quick", action="store_true", help="few clicks, two seeds, one epoch; writes nothing")
    options = parser.parse_args(arguments)
    plan = Plan((1, 2), 1) if options.quick else Plan()
    results, write = resumed(None if options.quick else RESULTS, settings(plan), parser)
    sets = {"movielens-small": prepared(read_table(options.ratings), None)} if options.ratings else {}
    sets["click log"], _ = clicks(2000 if options.quick else LOG_ROWS)
    for name, data in sets.items():
        print(name, flush=True)

        def measure(precision: str, seed: int, data: Any = data) -> Run:
            return trained(data, None, seed, plan.epochs, test=True, dtype=precision)

        study(results["data"].setdefault(name, {}), plan, measure, write)
        for precision, summary in results["data"][name]["summary"].items():
            for metric, gap in summary["differences"].items():
                low, high = gap["interval"]
                print(f"  {precision:15} {metric:13} {gap['mean']:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
