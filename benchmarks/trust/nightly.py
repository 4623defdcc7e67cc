"""The nightly job of examples/nightly.sh on generated days, killed at random in each of its stages.

usage: python benchmarks nightly [--days 3] [--rows 20000] [--seed 0] [--kills 4]

The job runs once undisturbed, and once more in another folder where it is killed, with all that it started, at a random
moment of each stage (training, drift, training on, export), and started again. Each version's scores are held against
those of the undisturbed job, bit for bit, as a process loads them that knows TensorFlow alone.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lib.places import BENCHMARKS, RESULTS
from lib.timing import machine, versions

from nfm_tfrs.data.synthetic import click_log

JOB = BENCHMARKS.parent / "examples" / "nightly.sh"
STAGES = {
    "the first training": "nfm-tfrs train --data",
    "drift": "nfm-tfrs drift",
    "training on": "nfm-tfrs train --from",
    "export": "nfm-tfrs export",
}
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
SCORES = """
import sys
import numpy as np, pyarrow.parquet as pq, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
table = pq.read_table(sys.argv[2]).slice(0, 1000)
inputs = {}
for name, spec in serve.structured_input_signature[1].items():
    source = name.removesuffix("_lengths")
    column = table[source].combine_chunks()
    if name != source:
        values = np.array([len(row) for row in column.to_pylist()], np.int64)
    elif hasattr(column, "flatten") and str(column.type).startswith("list"):
        values = np.array(column.flatten().to_pylist())
    else:
        values = column.to_numpy(zero_copy_only=False)
        values = np.array(["" if one is None else one for one in values]) if spec.dtype == tf.string else values
    inputs[name] = tf.cast(values, spec.dtype) if spec.dtype != tf.string else tf.constant(values)
np.save(sys.argv[3], serve(**inputs)["probability"].numpy())
"""


def make_days(folder: Path, days: int, rows: int, seed: int) -> None:
    """A file a day; a tenth of the users comes with each day."""
    folder.mkdir()
    table = click_log(days * rows, seed=seed).table
    for day in range(days):
        part = table.slice(day * rows, rows)
        users = [f"{user}-{day}" if row % 10 == 0 else user for row, user in enumerate(part["user_id"].to_pylist())]
        part = part.set_column(part.column_names.index("user_id"), "user_id", pa.array(users))
        pq.write_table(part.drop_columns(["timestamp"]), folder / f"{day + 1}.parquet")


def started(folder: Path) -> "subprocess.Popen[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", JOB, "incoming", "runs", "versions"],
        cwd=folder,
        env={**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def in_stage(group: int, words: str) -> bool:
    """Whether a process of this group runs such a command."""
    found = subprocess.run(["pgrep", "-g", str(group), "-f", words], capture_output=True, check=False)
    return found.returncode == 0


def kill_in(folder: Path, words: str, seconds: float) -> bool:
    """Starts the job and kills it so long after a stage has begun; returns whether it was in that stage."""
    job = started(folder)
    while job.poll() is None and not in_stage(job.pid, words):
        time.sleep(0.02)
    time.sleep(seconds)
    inside = in_stage(job.pid, words)
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    return inside


def scores(folder: Path, day: int, out: Path) -> np.ndarray:
    told = [str(folder / "versions" / str(day)), str(folder / "incoming" / f"{day}.parquet"), str(out)]
    subprocess.run([sys.executable, "-c", SCORES, *told], check=True, capture_output=True)
    found: np.ndarray = np.load(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=4, help="of each stage one after the other")
    parser.add_argument("--out", type=Path, default=RESULTS / "nightly.json")
    told = parser.parse_args()
    drawn = random.Random(told.seed)
    with tempfile.TemporaryDirectory() as made:
        whole, killed = Path(made) / "whole", Path(made) / "killed"
        for folder in (whole, killed):
            folder.mkdir()
            make_days(folder / "incoming", told.days, told.rows, told.seed)
        begun = time.monotonic()
        output, _ = (job := started(whole)).communicate()
        if job.returncode:
            raise SystemExit(output)
        seconds = (time.monotonic() - begun) / told.days
        kills: list[dict[str, Any]] = []
        for number in range(told.kills):
            stage, words = list(STAGES.items())[number % len(STAGES)]
            inside = kill_in(killed, words, drawn.uniform(0.5, 8.0))
            kills.append({"stage": stage, "inside": inside})
            print(json.dumps(kills[-1]), flush=True)
        output, _ = (job := started(killed)).communicate()
        if job.returncode:
            raise SystemExit(output)
        equal = [
            bool(np.array_equal(*(scores(folder, day, Path(made) / "scores.npy") for folder in (whole, killed))))
            for day in range(1, told.days + 1)
        ]
    result = {"kills": kills, "equal": equal, "seconds_a_day": seconds, "rows": told.rows, "seed": told.seed}
    result |= {"versions": versions(PACKAGES), "machine": machine()}
    told.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
