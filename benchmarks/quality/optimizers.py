"""Row-wise Adam and Adagrad against Keras' own: the quality of an NFM with the package's defaults.

usage: python benchmarks optimizers [ratings.parquet] [--tags lastfm-tags] [--quick]

On MovieLens-small (if its ratings.parquet is given), on Last.fm tags (if the folder of its train.parquet and
valid.parquet is given; it has no test rows, and validation alone is reported) and on a generated click log. The rate of
each optimizer is the one with the best validation AUC, of a seed that is used for nothing else. Then five other seeds
train at that rate, the same ones for each optimizer, so that differences are paired: of one seed, one initial model,
one order of rows, one dropout. Only these runs are judged on the test rows, and nothing is chosen by them. One seed
does not tell rates well apart, so a row-wise optimizer whose rate is not that of Keras' own runs at that one too. The
intervals speak of other seeds on the same rows, not of other rows. Every run is written at once; started again, it goes
on where it stopped.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lib.places import BENCHMARKS
from lib.timing import machine, versions
from scipy import stats

from nfm_tfrs import metrics
from nfm_tfrs.data import parse_split
from nfm_tfrs.data.parts import Prepared, encode_tables
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.target import Target
from nfm_tfrs.training import evaluate, fit
from nfm_tfrs.training.recipe import PATIENCE
from quality.movielens import prepared, spread

RESULTS = BENCHMARKS / "results" / "optimizers.json"
ADAM_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
ADAGRAD_RATES = (0.02, 0.05, 0.1, 0.2)
REFERENCES = ("Adam", "Adagrad")  # dense Adam, and the package's default
TWINS = {"LazyAdam": "Adam", "LazyAdagrad": "Adagrad"}  # of a row-wise optimizer, Keras' own
METRICS = ("valid_auc", "test_auc", "test_log_loss")
VALID_METRICS = ("valid_auc", "valid_log_loss")  # where there are no test rows
TAG_COLUMNS = ("user", "artist", "tag")
LOG_ROWS, LOG_SEED = 50_000, 0

Run = dict[str, Any]


class Candidate(NamedTuple):
    """An optimizer and the rates it may have."""

    make: Callable[[float], Any]
    rates: tuple[float, ...]


class Plan(NamedTuple):
    """The optimizers, the seeds and the epochs of a study."""

    candidates: dict[str, Candidate]
    rate_seed: int = 0
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    epochs: int = 30


CANDIDATES = {
    "Adam": Candidate(keras.optimizers.Adam, ADAM_RATES),
    "LazyAdam": Candidate(LazyAdam, ADAM_RATES),
    "Adagrad": Candidate(keras.optimizers.Adagrad, ADAGRAD_RATES),
    "LazyAdagrad": Candidate(LazyAdagrad, ADAGRAD_RATES),
}
FULL = Plan(CANDIDATES)
# Two seeds: there is no interval of a single one.
QUICK = Plan({name: Candidate(CANDIDATES[name].make, (1e-3,)) for name in ("Adam", "LazyAdam")}, seeds=(1, 2), epochs=1)


def clicks(rows: int) -> tuple[Prepared, dict[str, Any]]:
    """The parts of a click log, split by time, and how well the logits its clicks were drawn from do on them."""
    log = click_log(rows, seed=LOG_SEED, order=2)
    split = parse_split("time:timestamp")
    data = prepare(log.table, "click", split)
    of_part = split.parts(log.table)._asdict()
    best = {
        part: _auc_and_loss(data.encoded[part].labels, log.true_logits[of_part[part]]) for part in ("valid", "test")
    }
    return data, {"seed": LOG_SEED, "best_possible": best}


def tags(folder: Path, most: int | None = None) -> Prepared:
    """Last.fm tags: users, artists and tags, categories all; the first `most` rows of each part where that is given."""
    tables = {part: read_table(folder / f"{part}.parquet").slice(0, most) for part in ("train", "valid")}
    kinds = dict.fromkeys(TAG_COLUMNS, "category")
    features = FeatureSpec.from_table(tables["train"], columns=TAG_COLUMNS, kinds=kinds)
    return encode_tables(tables, FeatureEncoder(features), Target.of("label"))


def trained(data: Prepared, optimizer: Any, seed: int, epochs: int, *, test: bool, **arguments: Any) -> Run:
    """What came out of training one NFM with these arguments, stopped early on validation AUC.

    The test rows are judged only if asked for, and where there are any.
    """
    start = time.perf_counter()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = NFM(data.features, **arguments)
    model.compile(optimizer)
    history = fit(
        model,
        data.train.dataset(256, shuffle=True, seed=seed),
        data.valid.dataset(4096),
        epochs=epochs,
        patience=PATIENCE,
    )
    run: Run = {"epochs": len(history["loss"]), "seconds": round(time.perf_counter() - start, 1)}
    for part in ("valid", "test") if test and "test" in data.encoded else ("valid",):
        report = evaluate(model, data.encoded[part])
        run |= {f"{part}_{metric}": report[metric] for metric in ("auc", "log_loss")}
    return run


def chosen_rate(tried: dict[str, Run]) -> float:
    """The rate of the best validation AUC; of equal ones the first."""
    return float(max(tried, key=lambda rate: tried[rate]["valid_auc"]))


def contenders(chosen: dict[str, float]) -> dict[str, tuple[str, float]]:
    """Optimizer and rate of all that are judged: each at its own rate, the row-wise ones at their twin's as well."""
    own = {name: (name, rate) for name, rate in chosen.items()}
    other = {
        f"{name}, {twin}'s rate": (name, chosen[twin])
        for name, twin in TWINS.items()
        if {name, twin} <= chosen.keys() and chosen[name] != chosen[twin]
    }
    return own | other


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean of ours - theirs, pair by pair, and its 95 % t interval."""
    gaps = np.subtract(ours, theirs)
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return {"mean": float(gaps.mean()), "interval": [float(gaps.mean() - half), float(gaps.mean() + half)]}


def compared(runs: dict[str, dict[str, Run]]) -> dict[str, Any]:
    """Mean and spread over seeds of each contender, and its paired differences to the two of `REFERENCES`."""
    tested = all("test_auc" in run for of in runs.values() for run in of.values())
    judged = METRICS if tested else VALID_METRICS
    values = {
        name: {metric: [of[seed][metric] for seed in sorted(of)] for metric in judged} for name, of in runs.items()
    }
    return {
        name: {
            **spread([{metric: run[metric] for metric in judged} for run in of.values()]),
            "differences": {
                reference: {metric: difference(values[name][metric], values[reference][metric]) for metric in judged}
                for reference in REFERENCES
                if reference in runs and reference != name
            },
        }
        for name, of in runs.items()
    }


def best_on_validation(summaries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The optimizer of the highest mean validation AUC on each data set, and on the average of all of them.

    Each at its own rate: what runs at another's is not among them.
    """

    def best(*of: dict[str, Any]) -> str:
        names = [name for name in of[0] if name in CANDIDATES]
        return max(names, key=lambda name: np.mean([summary[name]["valid_auc"]["mean"] for summary in of]))

    return {**{name: best(summary) for name, summary in summaries.items()}, "average": best(*summaries.values())}


def study(found: dict[str, Any], plan: Plan, measure: Callable[..., Run], write: Callable[[], None]) -> None:
    """Adds to `found` what the plan still lacks in it: the runs of all rates, those of all seeds, and the summary.

    Args:
        found: `rates` (optimizer, rate, run), `chosen` (contender, rate), `runs` (contender, seed, run), `summary`.
        plan: What to run.
        measure: Called with a new optimizer, a seed and whether to judge the test rows; returns the run.
        write: Called after each run.
    """
    for name, (make, rates) in plan.candidates.items():
        tried = found["rates"].setdefault(name, {})
        for rate in rates:
            if str(rate) not in tried:
                tried[str(rate)] = measure(make(rate), plan.rate_seed, test=False)
                _print(name, rate, plan.rate_seed, tried[str(rate)])
                write()
    judged = contenders({name: chosen_rate(found["rates"][name]) for name in plan.candidates})
    before, found["chosen"] = found["chosen"], {label: rate for label, (_, rate) in judged.items()}
    # What ran at another rate is of no use.
    found["runs"] = {
        label: found["runs"].get(label, {}) if before.get(label) == rate else {} for label, (_, rate) in judged.items()
    }
    for seed in plan.seeds:
        for label, (name, rate) in judged.items():
            runs = found["runs"][label]
            if str(seed) not in runs:
                runs[str(seed)] = measure(plan.candidates[name].make(rate), seed, test=True)
                _print(label, rate, seed, runs[str(seed)])
                write()
    found["summary"] = compared(found["runs"])
    write()


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """The summary of a data set, as it is printed."""
    text = [f"{name}: mean ± standard deviation over seeds; differences to Adam with their 95 % interval"]
    for optimizer, summary in found["summary"].items():
        judged = [metric for metric in (*VALID_METRICS, *METRICS[1:]) if metric in summary]
        means = "  ".join(f"{metric} {summary[metric]['mean']:.4f} ± {summary[metric]['sd']:.4f}" for metric in judged)
        text.append(f"  {optimizer:27} {found['chosen'][optimizer]:<7g} {means}")
        for metric, gap in summary["differences"].get("Adam", {}).items():
            low, high = gap["interval"]
            text.append(f"    {metric:13} {gap['mean']:+.4f} [{low:+.4f}, {high:+.4f}]")
    if "best_possible" in found:
        best = found["best_possible"]
        text.append(f"  best possible: AUC {best['valid']['auc']:.4f} (validation), {best['test']['auc']:.4f} (test)")
    return text


def settings(plan: Any) -> dict[str, Any]:
    """All that a result depends on, but for the data, and what only its script knows."""
    packages = ["nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "numpy", "scipy"]
    return {
        "seeds": list(plan.seeds),
        "epochs": plan.epochs,
        "patience": PATIENCE,
        "batch_size": 256,
        "machine": machine(),
        "python": platform.python_version(),
        "versions": versions(packages),
    }


def resumed(
    path: Path | None, start: dict[str, Any], parser: argparse.ArgumentParser
) -> tuple[dict[str, Any], Callable[[], None]]:
    """Returns what was measured with these settings before, or nothing, under `data`; and what writes it, whole.

    Without a path there is nothing before, and nothing is written.
    """
    results = {**start, "data": {}}
    if path is not None and path.exists():
        known = json.loads(path.read_text())
        if any(known.get(name) != value for name, value in start.items()):
            parser.error(f"{path} was measured with other settings. Remove it to start anew.")
        results = known

    def write() -> None:
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            whole = path.with_suffix(".part")
            whole.write_text(json.dumps(results, indent=1) + "\n")
            whole.replace(path)

    return results, write


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, nargs="?", help="of MovieLens-small; without it only the click log")
    parser.add_argument("--tags", type=Path, help="the folder of Last.fm tags; without it not these")
    parser.add_argument(
        "--quick", action="store_true", help="Adam and LazyAdam, few clicks, one epoch, one rate; writes nothing"
    )
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    start = {"rate_seed": plan.rate_seed, **settings(plan)}
    results, write = resumed(None if options.quick else RESULTS, start, parser)
    sets: dict[str, tuple[Prepared, dict[str, Any]]] = {}
    if options.ratings:
        sets["movielens-small"] = prepared(read_table(options.ratings), None), {}
    if options.tags:
        sets["lastfm-tags"] = tags(options.tags, 4000 if options.quick else None), {}
    sets["click log"] = clicks(2000 if options.quick else LOG_ROWS)
    for name, (data, facts) in sets.items():
        rows = {part: len(encoded) for part, encoded in data.encoded.items()}
        print(f"{name}: {rows}", flush=True)
        nothing: dict[str, Any] = {"rows": rows, **facts, "rates": {}, "chosen": {}, "runs": {}}
        found = results["data"].setdefault(name, nothing)
        if found["rows"] != rows:
            parser.error(f"{RESULTS} has {found['rows']} rows of {name}, not {rows}. Remove it to start anew.")

        def measure(optimizer: Any, seed: int, *, test: bool, data: Prepared = data) -> Run:
            return trained(data, optimizer, seed, plan.epochs, test=test)

        study(found, plan, measure, write)
        print("\n".join(lines(name, found)), flush=True)
    results["best_on_validation"] = best_on_validation(
        {name: found["summary"] for name, found in results["data"].items()}
    )
    write()
    for name, optimizer in results["best_on_validation"].items():
        print(f"best on validation, {name}: {optimizer}")


def _print(name: str, rate: float, seed: int, run: Run) -> None:
    print(
        f"  {name:27} {rate:<7g} seed {seed}  " + "  ".join(f"{key} {value:.4g}" for key, value in run.items()),
        flush=True,
    )


def _auc_and_loss(labels: Any, logits: np.ndarray) -> dict[str, float]:
    return {"auc": metrics.auc(labels, logits), "log_loss": metrics.log_loss(labels, logits)}


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
