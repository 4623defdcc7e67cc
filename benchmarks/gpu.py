"""Training steps on one GPU by precision, against the least that the card allows, and the quality that comes out.

usage: python benchmarks/gpu.py [--quick] [--out DIR] [--only NAME ...] [--all] [--grid] [--rounds 9] [--minutes 8]

Needs NumPy, TensorFlow, tf-keras and TFRS; a checkout that is not installed runs with PYTHONPATH=.:registry.
A base configuration, each of its axes varied by itself, a wide MLP and an embedding-bound one. The batches are encoded
and lie on the card: input is not measured. The precisions of a configuration, without and with XLA (of the dense part),
take turns in one process; a turn is a step on each batch of the pool, the last loss read back. Peak memory is what a
model, its optimizer and a step add to what was there. "look-ups" are the ways to read a batch's rows, alone.

The roofline is the least a step can take: its bytes at the speed of an addition that reads and writes once, and its
FLOPs at the rate of large square products in the same precision. Bytes as floor.py counts them: a row read and written
a look-up; each distinct row of the table and of the optimizer's slots read and written once. FLOPs: of all dense layers
and of the block, three times the forward pass. Activations, merging of gradients and metrics count as free.

Every part is written at once; started again, the script goes on where it stopped.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from lib.gpu import parts as gpu_parts
from lib.gpu import quality as gpu_quality
from lib.gpu.plan import ALL, EMBEDDING_BOUND, GRID, PLAN, QUICK, WIDE_MLP, Plan
from lib.places import RESULTS
from lib.timing import LEAST_ROUNDS, machine, times_as_fast

from nfm_tfrs.keras_compat import tf

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
FASTER = {"tf32": 1.6, "float32": 2.5}  # how many times as fast bfloat16 shall be in the wide MLP
BANDWIDTH_SHARE = 0.6  # of the roofline by bytes alone, which an embedding-bound step shall reach
JUDGED = 3  # configurations that come before all else: the base, and what the verdicts are of


def verdicts(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each aim what was found, its interval, and whether it is reached."""
    bfloat16, found = fastest(parts.get(WIDE_MLP.name), "bfloat16"), []
    for precision, wanted in FASTER.items():
        other, ratio = fastest(parts.get(WIDE_MLP.name), precision), None
        if bfloat16 and other:
            ratio = times_as_fast(np.array(bfloat16["milliseconds"]), np.array(other["milliseconds"]))
        rounds = len(bfloat16["milliseconds"]) if bfloat16 else 0
        found.append(_verdict(f"{WIDE_MLP.name}: bfloat16 to {precision}, times as fast", wanted, ratio, rounds))
    bound = fastest(parts.get(EMBEDDING_BOUND.name))
    share, rounds = (bound["bandwidth_share"], len(bound["milliseconds"])) if bound else (None, 0)
    return [*found, _verdict(f"{EMBEDDING_BOUND.name}: share of the roofline by bytes", BANDWIDTH_SHARE, share, rounds)]


def _verdict(aim: str, wanted: float, found: Mapping[str, Any] | None, rounds: int) -> dict[str, Any]:
    verdict = {"aim": aim, "wanted": wanted, "found": None, "interval": None, "verdict": "not measured"}
    if found is None:
        return verdict
    low, high = found["interval"]
    word = "reached" if low >= wanted else "missed" if high < wanted else "undecided"
    word = word if rounds >= LEAST_ROUNDS else "too few rounds"
    return verdict | {"found": found["median"], "interval": [low, high], "verdict": word}


def fastest(part: Mapping[str, Any] | None, precision: str | None = None) -> Any:
    """The fastest variant of a configuration, in this precision or any, without or with XLA; None if there is none."""
    variants = [found for found in part["variants"].values() if "error" not in found] if part else []
    variants = [found for found in variants if precision in (None, found["precision"])]
    return min(variants, key=lambda found: np.median(found["milliseconds"]), default=None)


def study(
    parts: dict[str, Any],
    measures: Mapping[str, Callable[[], Any]],
    write: Callable[[], None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Adds to `parts` what it lacks, one after the other, and writes each; returns what time did not allow."""
    end, left_out = clock() + seconds, []
    for name, measure in measures.items():
        if name in parts:
            continue
        if clock() >= end:
            left_out.append(name)
            continue
        print(name, flush=True)
        parts[name] = measure()
        write()
    return left_out


def measures_of(plan: Plan, parts: Mapping[str, Any], rounds: int) -> dict[str, Callable[[], Any]]:
    """All that can be measured, by name, in order; `parts` is where the rates of the card will be."""
    data = gpu_parts.Data(plan, max(one.batch_size for one in plan.configurations))
    bound = next((one for one in plan.configurations if one.name == EMBEDDING_BOUND.name), plan.configurations[0])
    speeds = {
        one.name: partial(lambda one: gpu_parts.speed(one, data, parts["rates"], rounds), one)
        for one in plan.configurations
    }
    first = [one.name for one in plan.configurations[:JUDGED]]
    return {
        "rates": lambda: gpu_parts.rates(plan),
        **{name: speeds[name] for name in first},
        "quality": lambda: gpu_quality.quality(plan),
        "look-ups": lambda: gpu_parts.look_ups(bound, data, rounds),
        **speeds,
    }


def prepare() -> str | None:
    """Makes the first GPU the only one, and one whose memory others may use; returns its name, None without one."""
    devices = tf.config.list_physical_devices("GPU")[:1]
    tf.config.set_visible_devices(devices, "GPU")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)  # before anything starts it
    return tf.config.experimental.get_device_details(devices[0]).get("device_name", "GPU") if devices else None


def settings(device: str | None, rounds: int, plan: Plan) -> dict[str, Any]:
    """All but the parts that a result depends on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    build = tf.sysconfig.get_build_info()
    found = {
        "device": device,
        "machine": machine(),
        "versions": versions | {name: build.get(f"{name}_version") for name in ("cuda", "cudnn")},
        "rounds": rounds,
        "seed": gpu_parts.SEED,
        "plan": dataclasses.asdict(plan),
    }
    return dict(json.loads(json.dumps(found)))  # tuples as the lists they come back as


def run(path: Path | None, plan: Plan, rounds: int, device: str | None, options: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    results = {**settings(device, rounds, plan), "verdicts": [], "parts": {}}
    if path is not None and path.exists():
        known = json.loads(path.read_text())
        if any(known.get(name) != results[name] for name in results if name not in ("verdicts", "parts")):
            raise SystemExit(f"{path} was measured with other settings. Remove it, or give another --out.")
        results = known
    parts = results["parts"]

    def write() -> None:
        results["verdicts"] = verdicts(parts)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".part")
            whole.write_text(json.dumps(results, indent=1) + "\n")
            whole.replace(path)

    measures = measures_of(plan, parts, rounds)
    unknown = sorted(set(options.only or ()) - set(measures))
    if unknown:
        raise SystemExit(f"There is no part {', '.join(unknown)}; there are {', '.join(measures)}.")
    if options.only:
        measures = {name: measure for name, measure in measures.items() if name in ("rates", *options.only)}
        for name in options.only:
            parts.pop(name, None)
    left_out = study(parts, measures, write, options.minutes * 60)
    if left_out:
        print(f"Left out for lack of time, and measured when started again: {', '.join(left_out)}.")
    for found in verdicts(parts):
        value = "" if found["found"] is None else "{:.2f} [{:.2f}, {:.2f}], ".format(found["found"], *found["interval"])
        print(f"{found['aim']}: {value}aim {found['wanted']}, {found['verdict']}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny, one round, also on a CPU; writes with --out only")
    parser.add_argument("--out", type=Path, help="folder of gpu.json; benchmarks/results if not given")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these parts, measured anew; the others stay")
    parser.add_argument("--all", action="store_true", help="all four precisions, without and with XLA, everywhere")
    parser.add_argument("--grid", action="store_true", help="every batch, dim, MLP and block: hours")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=8.0, help="then no other part is begun")
    options = parser.parse_args(arguments)
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS} for a 95 % interval; received {options.rounds}.")
    tf.get_logger().setLevel("ERROR")  # Keras warns of a CPU, the count of FLOPs of what it calls
    device = prepare()
    if device is None and not options.quick:
        raise SystemExit("benchmarks/gpu.py needs a GPU, and TensorFlow finds none; --quick runs on a CPU.")
    plan, rounds = (QUICK, 1) if options.quick else (GRID if options.grid else PLAN, options.rounds)
    folder = options.out or (None if options.quick else RESULTS)
    run(folder and folder / "gpu.json", plan.everywhere(ALL) if options.all else plan, rounds, device, options)


if __name__ == "__main__":
    main()
