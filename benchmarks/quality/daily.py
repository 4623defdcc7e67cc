"""Does training on every night pay, and growing with it? Judged on the rows of the next day.

usage: python benchmarks daily [--ratings ratings.parquet] [--log LOG] [--seeds 3] [--quick] [--strategies NAME ...]

Rows in the order of time are cut into twenty slices. A model is trained on the first five; each night from then on it
learns from the newest slice, or is trained anew from all so far, and is judged on the next one: on all its rows, and on
those with a user or an item that the first training had not seen. The click log's users and ads arrive day by day.
"""

import argparse
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lib.places import BENCHMARKS, RESULTS
from lib.timing import machine, versions

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.features.growth import Growth
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.grow import grow
from nfm_tfrs.target import Target
from nfm_tfrs.training import Recipe, predict

SLICES, FIRST, ROWS = 20, 5, 2_500
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
RECIPE = Recipe(model="nfm")


@dataclass(frozen=True)
class Strategy:
    """What happens at night.

    Args:
        growth: How vocabularies grow; None leaves them.
        state: Whether the optimizer's state comes along.
        epochs: Passes over the night's rows; 0 trains nothing, None trains anew from all rows so far.
    """

    growth: Growth | None = None
    state: bool = True
    epochs: int | None = 1


STRATEGIES = {
    "train once": Strategy(epochs=0),
    "from scratch every night": Strategy(epochs=None),
    "warm, no growth": Strategy(),
    "warm, no growth, new optimizer": Strategy(state=False),
    "warm, growth": Strategy(Growth()),
    "warm, growth, new optimizer": Strategy(Growth(), state=False),
    "warm, growth, random rows": Strategy(Growth(init="random")),
    "warm, growth, mean of the group": Strategy(Growth(init="mean:group")),
    "warm, growth, seen 3 times": Strategy(Growth(min_count=3)),
    "warm, growth, two passes": Strategy(Growth(), epochs=2),
    "warm, growth, two passes, seen 3 times": Strategy(Growth(min_count=3), epochs=2),
    "warm, growth, four passes": Strategy(Growth(), epochs=4),
}
LOGS = ("click log", "MovieLens-small")
QUICK = ("train once", "from scratch every night", "warm, no growth", "warm, growth")


@dataclass(frozen=True)
class Log:
    """Rows in the order of time, and what is read of them.

    Args:
        table: The rows.
        target: What is predicted.
        columns: The features' columns.
        ids: The columns of users and items.
    """

    table: pa.Table
    target: Target
    columns: tuple[str, ...]
    ids: tuple[str, str]

    def days(self, begin: int, end: int) -> pa.Table:
        """The rows of some slices."""
        return self.table.slice(begin * ROWS, (end - begin) * ROWS)

    def is_new(self, rows: pa.Table) -> np.ndarray:
        """Whether a row has a user or an item that the first training had not seen."""
        first = self.days(0, FIRST)
        known = [pa.compute.is_in(rows[name], value_set=first[name].combine_chunks()).to_numpy() for name in self.ids]
        return ~(known[0] & known[1])


def ratings(path: Path) -> Log:
    table = pq.read_table(path).sort_by("timestamp").slice(0, SLICES * ROWS)
    first_genre = [genres[0] if genres else "none" for genres in table["genres"].to_pylist()]
    table = table.append_column("group", pa.array(first_genre))
    return Log(table, Target.parse("rating>=4"), ("user_id", "movie_id", "year", "genres"), ("user_id", "movie_id"))


def clicks(seed: int = 0) -> Log:
    """A click log to which users and ads come day by day, half of them behind the first training."""
    table = click_log(3 * SLICES * ROWS, seed=seed).table
    day = np.arange(table.num_rows) // (3 * ROWS)
    born = np.ones(table.num_rows, bool)
    for name in ("user_id", "ad_id"):
        number = np.array([zlib.crc32(str(value).encode()) % (2 * SLICES) for value in table[name].to_pylist()])
        born &= np.maximum(number - SLICES, 0) <= day
    table = table.filter(pa.array(born)).slice(0, SLICES * ROWS)
    table = table.append_column("group", table["category"])
    columns = ("user_id", "ad_id", "site", "city", "device", "category", "hour", "interests", "price", "age")
    return Log(table, Target.parse("click"), columns, ("user_id", "ad_id"))


def trained(log: Log, end: int, seed: int) -> Any:
    """A model trained anew on the first slices, stopped early on the last tenth of them."""
    rules = {"kinds": dict.fromkeys(log.ids, "category")}
    data = prepare(log.days(0, end), log.target, "time:timestamp:0.9,0.1,0", columns=list(log.columns), **rules)
    return RECIPE.fit(data, seed=seed).model


def one_night(model: Any, log: Log, day: int, strategy: Strategy, seed: int) -> Any:
    if strategy.epochs is None:
        return trained(log, day + 1, seed)
    if not strategy.epochs:
        return model
    tonight = log.days(day, day + 1)
    if strategy.growth is not None:
        model = grow(model, tonight, strategy.growth)
    if not strategy.state:
        model.compile()
    rows = encode_part(tonight, model.encoder, log.target).dataset(RECIPE.batch_size, shuffle=True, seed=seed + day)
    model.fit(rows, epochs=strategy.epochs, verbose=0)
    return model


def nights(log: Log, strategy: Strategy, begin: Path, seed: int) -> Iterator[dict[str, float]]:
    from nfm_tfrs.runs.saving import load_model

    model = load_model(begin)
    for day in range(FIRST, SLICES - 1):
        start = time.perf_counter()
        model = one_night(model, log, day, strategy, seed)
        seconds = time.perf_counter() - start
        rows = log.days(day + 1, day + 2)
        part = encode_part(rows, model.encoder, log.target)
        logits, new = predict(model, part), log.is_new(rows)
        found = {"all": metrics.auc(part.labels, logits), "new": metrics.auc(part.labels[new], logits[new])}
        yield {**found, "log_loss": metrics.log_loss(part.labels, logits), "seconds": seconds, "new_rows": new.mean()}


def spread(values: np.ndarray) -> dict[str, float]:
    """The mean over seeds, and their standard deviation."""
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0}


def gain(values: np.ndarray) -> dict[str, Any]:
    """The mean over nights, and its 95 % interval by a bootstrap of the nights."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    return {"mean": float(values.mean()), "interval": np.quantile(drawn, [0.025, 0.975]).tolist()}


def summary(found: dict[str, list[list[dict[str, float]]]]) -> dict[str, Any]:
    """Of each strategy the means over seeds, and what it gains over training once, night by night."""
    result = {}
    for name, seeds in found.items():
        entry: dict[str, Any] = {}
        for metric in ("all", "new", "log_loss", "seconds", "new_rows"):
            values = np.array([[night[metric] for night in nights] for nights in seeds])
            entry[metric] = spread(np.nanmean(values, axis=1))
            if metric in ("all", "new"):
                before = np.array([[night[metric] for night in nights] for nights in found["train once"]])
                entry[f"{metric}_gain"] = gain(np.nanmean(values - before, axis=0))
        result[name] = entry
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=Path, help="MovieLens-small as this repository's tests take it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, four strategies, the click log alone")
    parser.add_argument("--log", choices=LOGS, help="one of the two; what was measured of others stays")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--out", type=Path, default=RESULTS / "daily.json")
    told = parser.parse_args()
    names = QUICK if told.quick else dict.fromkeys(["train once", *told.strategies])
    results: dict[str, Any] = {"data": {}, "seeds": 1 if told.quick else told.seeds}
    if told.log and told.out.exists():
        results |= {"data": json.loads(told.out.read_text())["data"]}
    for title in [told.log] if told.log else LOGS[: 1 + bool(told.ratings)]:
        log = clicks() if title == LOGS[0] else ratings(told.ratings)
        found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in names}
        for seed in range(results["seeds"]):
            begin = BENCHMARKS / f".{title.split()[0]}-{seed}.keras"
            trained(log, FIRST, seed).save(begin)
            for name in names:
                keras.utils.set_random_seed(seed)
                found[name].append(list(nights(log, STRATEGIES[name], begin, seed)))
                nightly = {
                    metric: np.nanmean([night[metric] for night in found[name][-1]]) for metric in ("all", "new")
                }
                print(title, seed, name, nightly, flush=True)
            begin.unlink()
        results["data"][title] = {**results["data"].get(title, {}), **summary(found)}
    results |= {"slices": SLICES, "first": FIRST, "rows": ROWS, "versions": versions(PACKAGES), "machine": machine()}
    told.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
