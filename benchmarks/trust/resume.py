"""Trainings killed at random and resumed: whether they end as the one that was not, to the bit, and what it costs.

usage: python benchmarks resume [--kills 20] [--seed 0] [--rows 200000] [--cost-rows 1000000]

Each training of `nfm-tfrs train --resume` is killed once with SIGKILL, at a random moment or in the middle of a write
of a checkpoint, and started again; its weights, optimizer, metrics and history are held against those of the training
that nobody killed: in memory, from a cache, and streamed. Then the time that writing takes of a training with a large
table is measured at the default interval.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
from lib.places import RESULTS
from lib.timing import machine, versions

from nfm_tfrs.data.synthetic import click_log

EPOCHS, BATCH = 3, 128
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
PIPES = ("memory", "cached", "streamed")
TRAIN = "from nfm_tfrs.cli.app import main; main()"


def command(pipe: str, out: str) -> list[str]:
    told = ["train", "--data", "train.parquet", "--valid", "valid.parquet", "--label", "click", "--out", out]
    told += ["--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--set", "dropout=0.2", "--min-count", "1"]
    told += {"memory": [], "cached": ["--cache", "cache"], "streamed": ["--stream"]}[pipe]
    return [sys.executable, "-c", TRAIN, *told]


def started(folder: Path, told: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(told, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(folder: Path, told: list[str]) -> list[str]:
    process = started(folder, told)
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    return output.splitlines()


def kill(folder: Path, told: list[str], out: str, drawn: random.Random, seconds: float) -> str:
    """Starts a training and kills it at a moment drawn; returns when that was."""
    checkpoints = folder / f".{out}.checkpoints"
    inside = drawn.random() < 0.4  # of a write
    process = started(folder, [*told, "--checkpoint-steps", "8"] if inside else told)
    while process.poll() is None and not any(checkpoints.glob("step-*")):
        time.sleep(0.001)
    wait = time.monotonic() + drawn.uniform(0, 0.9 * seconds)
    while process.poll() is None:
        if time.monotonic() >= wait and (not inside or any(checkpoints.glob(".step-*"))):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return "in a write" if any(checkpoints.glob(".step-*")) else "between writes"
        if not inside:
            time.sleep(0.001)
    process.communicate()
    return "behind the training" if process.returncode == 0 else "failed"


def whole(folder: Path, pipe: str) -> float:
    """Trains what nobody kills; returns the seconds from the first checkpoint of another such training to its end."""
    finished(folder, command(pipe, pipe))
    process = started(folder, [*command(pipe, f"{pipe}-timed"), "--resume"])
    while process.poll() is None and not any((folder / f".{pipe}-timed.checkpoints").glob("step-*")):
        time.sleep(0.001)
    begun = time.monotonic()
    process.communicate()
    return time.monotonic() - begun


def contents(run: Path) -> tuple[dict[str, bytes], Any]:
    """All arrays of a run's model, the optimizer's among them, and its metrics."""
    arrays: dict[str, bytes] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tobytes()

    with zipfile.ZipFile(run / "model.keras") as file, file.open("model.weights.h5") as raw, h5py.File(raw) as weights:
        weights.visititems(add)
    return arrays, json.loads((run / "metrics.json").read_text())


def killed_once(folder: Path, pipe: str, number: int, drawn: random.Random, seconds: float) -> dict[str, Any]:
    out = f"{pipe}-{number}"
    told = [*command(pipe, out), "--resume"]
    when = "behind the training"
    while when == "behind the training":  # else nothing was killed: another moment
        shutil.rmtree(folder / out, ignore_errors=True)
        when = kill(folder, told, out, drawn, seconds)
    first = finished(folder, told)[0]
    record = json.loads((folder / out / "run.json").read_text())
    equal = contents(folder / out) == contents(folder / pipe)
    found = {"pipe": pipe, "killed": when, "first_line": first, "resumed": record["resumed"], "equal": equal}
    print(json.dumps(found), flush=True)
    return found


def cost(rows: int) -> dict[str, float]:
    """Seconds of one write, and the share of a training that all writes take, with tables of a million rows."""
    from nfm_tfrs.data.prepare import prepare
    from nfm_tfrs.features.feature import CategoricalFeature
    from nfm_tfrs.features.spec import FeatureSpec
    from nfm_tfrs.runs.checkpoint import Checkpoints
    from nfm_tfrs.training import Recipe, resume

    spent: list[float] = []
    write = resume._Write._write

    def timed(self: Any, epoch: int, step: int) -> None:
        begun = time.perf_counter()
        write(self, epoch, step)
        spent.append(time.perf_counter() - begun)

    resume._Write._write = timed  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    table = {f"c{n}": rng.integers(0, 100_000, rows) for n in range(10)}
    features = FeatureSpec(tuple(CategoricalFeature(name, vocabulary_size=100_000) for name in table))
    table["y"] = (sum(table.values()) % 3 == 0).astype(np.float32)
    data = prepare(table, "y", "random", features=features)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        recipe = Recipe(model="nfm", batch_size=1024)
        recipe.fit(data, epochs=10, patience=10, checkpoints=Checkpoints(folder=Path(folder)))
        seconds = time.perf_counter() - begun
    found = {"table_rows": features.num_rows, "writes": len(spent), "seconds_a_write": float(np.median(spent))}
    return {**found, "training_seconds": seconds, "share": sum(spent) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--cost-rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "resume.json")
    told = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    drawn = random.Random(told.seed)
    kills = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        log = click_log(told.rows, seed=told.seed).table
        pq.write_table(log.slice(0, told.rows * 4 // 5), folder / "train.parquet", row_group_size=2_000)
        pq.write_table(log.slice(told.rows * 4 // 5), folder / "valid.parquet")
        seconds = {pipe: whole(folder, pipe) for pipe in PIPES}
        for number in range(told.kills):
            pipe = PIPES[number % len(PIPES)]
            kills.append(killed_once(folder, pipe, number, drawn, seconds[pipe]))
    steps = -(-told.rows * 4 // 5 // BATCH)
    result = {
        "kills": kills,
        "equal": sum(one["equal"] for one in kills),
        "inside_a_pass": sum(bool(one["resumed"]) and one["resumed"][-1] % steps != 0 for one in kills),
        "in_a_write": sum(one["killed"] == "in a write" for one in kills),
        "steps_of_a_pass": steps,
        "rows": told.rows,
        "seed": told.seed,
        "cost": cost(told.cost_rows) if told.cost_rows else None,
        "versions": versions(PACKAGES),
        "machine": machine(),
    }
    told.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "kills"}, indent=2))


if __name__ == "__main__":
    main()
