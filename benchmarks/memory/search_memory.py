"""Claim: 200 trials in one process grow resident memory by less than 300 MB; not where XLA compiles their models.

usage: python benchmarks search_memory [--trials 200]

Searches over every registered block and the four optimizers, row-wise and Keras' own, each in a fresh process:
KerasTuner's random search on raw columns, strings and ragged ones among them; the package's own search on encoded rows;
and a fifth as many trials of that with `jit_compile=True`. TensorFlow never evicts what XLA has compiled
(tensorflow#64170). Resident memory is read in every trial, promotions included. The growth is counted from the tenth,
once TensorFlow's threads and caches are there, to the last of as many as were asked for; what the package's search runs
behind them is kept beside it. Linux only: reads /proc/self.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.places import BENCHMARKS
from lib.timing import machine, resident_megabytes, versions

RESULT = BENCHMARKS / "results" / "search_memory.json"
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-tuner")
FIRST = 10  # the trial the growth is counted from
ROWS = 4000
COLUMNS = ["user_id", "site", "device", "ad_id", "interests", "price"]


def prepared() -> tuple[Any, Any]:
    """A click log's table and its encoded parts."""
    from nfm_tfrs.data import parse_split, prepare
    from nfm_tfrs.data.synthetic import click_log

    table = click_log(ROWS, seed=0).table
    return table, prepare(table, "click", parse_split("time:timestamp"), columns=COLUMNS)


def stock(trials: int, fixed: dict[str, Any], read: Callable[[], None]) -> None:
    """KerasTuner's random search on raw columns."""
    from nfm_tfrs.keras_compat import keras, tf
    from nfm_tfrs.tuning import RankingHyperModel, keras_tuner

    table, data = prepared()
    columns = {name: table[name].to_pylist() for name in COLUMNS}
    columns = {
        name: tf.ragged.constant(values, dtype=tf.string) if name == "interests" else _dense(values)
        for name, values in columns.items()
    }
    labels = tf.constant(table["click"].to_numpy(), tf.float32)[:, None]
    rows = tf.data.Dataset.from_tensor_slices((columns, labels))
    valid = rows.take(ROWS // 5).batch(512)
    train = rows.skip(ROWS // 5).batch(256)

    class Read(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            del logs
            read()

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            RankingHyperModel(data.features, fixed=fixed),
            keras_tuner.Objective("val_auc", "max"),
            max_trials=trials,
            seed=1,
            directory=folder,
            max_consecutive_failed_trials=trials,
        )
        tuner.search(train, validation_data=valid, epochs=1, verbose=0, callbacks=[Read()])


def _dense(values: list[Any]) -> Any:
    from nfm_tfrs.keras_compat import tf

    if isinstance(values[0], float):
        return tf.constant([float("nan") if value is None else value for value in values], tf.float32)
    return tf.constant(values)


def own(trials: int, fixed: dict[str, Any], read: Callable[[], None]) -> None:
    """The package's own search on encoded rows."""
    from nfm_tfrs.tuning import Budget, Finals, Schedule, Space, search

    _, data = prepared()
    last: list[str] = []

    def watch(oracle: Any, trial: Any, scores: Any) -> None:
        del oracle, scores
        if trial is not None and last != [trial.trial_id]:
            last[:] = [trial.trial_id]
            read()

    with tempfile.TemporaryDirectory() as folder:
        search(
            data.without("test"),
            out=Path(folder) / "search",
            budget=Budget(trials=trials),
            space=Space(fixed=fixed),
            schedule=Schedule(passes=1, slices=3),
            finals=Finals(finalists=1, seeds=1),
            watch=watch,
        )


XLA = "nfm_tfrs.tuning.search, encoded rows, compiled by XLA"
SEARCHES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "KerasTuner's random search, raw columns": (stock, {}),
    "nfm_tfrs.tuning.search, encoded rows": (own, {}),
    XLA: (own, {"jit_compile": True}),
}


def run(name: str, trials: int, results: multiprocessing.Queue) -> None:
    """Searches in this process; reports the megabytes in each trial."""
    megabytes: list[float] = []
    search, fixed = SEARCHES[name]
    search(trials, fixed, lambda: megabytes.append(round(resident_megabytes("VmRSS"), 1)))
    results.put(megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    if options.trials // 5 <= FIRST:
        parser.error(f"--trials must be more than {5 * FIRST + 4}: the growth is counted from trial {FIRST}.")
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in SEARCHES:
        results = context.Queue()
        trials = options.trials // (5 if name == XLA else 1)
        process = context.Process(target=run, args=(name, trials, results))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{name} ended with status {process.exitcode}.")
        megabytes = results.get()
        growth = megabytes[trials - 1] - megabytes[FIRST - 1]
        found[name] = {"trials": trials, "growth": round(growth, 1), "megabytes": megabytes}
        print(f"{name}: {growth:+.0f} MB from trial {FIRST} to {trials}", flush=True)
    result = {"machine": machine(), "versions": versions(PACKAGES), "searches": found}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
