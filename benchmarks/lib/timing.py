"""What every benchmark of time shares: taking turns, intervals, ratios, and what a result depends on.

NumPy and the standard library only. Linux only: reads /proc.
"""

import math
import os
import platform
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

LEAST_SECONDS = 0.05  # of a round of one side
LEAST_ROUNDS = 6  # with fewer, not even all of them make a 95 % interval

Step = Callable[[], Any]


def take_turns(steps: Sequence[Step], rounds: int) -> np.ndarray:
    """Milliseconds a call, `[rounds, steps]`: one round of the first, one of the second, and over again."""
    for step in steps:
        for _ in range(2):
            step()
    calls = [max(1, math.ceil(LEAST_SECONDS * 1e3 / milliseconds(step, 1))) for step in steps]
    return np.array([[milliseconds(step, n) for step, n in zip(steps, calls, strict=True)] for _ in range(rounds)])


def milliseconds(step: Step, calls: int) -> float:
    """Milliseconds of one call, on average."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) * 1e3 / calls


def interval(values: Iterable[float]) -> list[float]:
    """The 95 % interval of the median, between two order statistics; least and greatest of less than six values."""
    ordered = sorted(values)
    count = len(ordered)
    # Both sides of the median together: the chance that as few as `cut` values lie beyond it.
    cuts = [cut for cut in range(count // 2) if 2 * sum(math.comb(count, k) for k in range(cut + 1)) <= 0.05 * 2**count]
    cut = max(cuts, default=0)
    return [float(ordered[cut]), float(ordered[count - 1 - cut])]


def median(values: Iterable[float]) -> dict[str, Any]:
    """The median and its 95 % interval."""
    values = list(values)
    return {"median": float(np.median(values)), "interval": interval(values)}


def summary(values: Iterable[float]) -> dict[str, Any]:
    """The median of milliseconds and its 95 % interval, under the names that the results give them."""
    found = median(values)
    return {"milliseconds": found["median"], "interval": found["interval"]}


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """The ratio ours / theirs of times taken in the same rounds, and what its interval says of ours."""
    ratio = median(ours / theirs)
    low, high = ratio["interval"]
    verdict = "slower" if low > 1 else "faster" if high < 1 else "undecided"
    if len(ours) < LEAST_ROUNDS:
        verdict = "too few rounds"
    return {**ratio, "verdict": verdict}


def times_as_fast(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """The ratio theirs / ours of times taken in the same rounds."""
    return median(theirs / ours)


def machine() -> dict[str, Any]:
    """The processor and its cores."""
    cpu = [row for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
    return {"cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(), "cores": os.cpu_count()}


def machine_words(machine: Mapping[str, Any]) -> str:
    """What `machine` returned, as captions say it."""
    return f"{machine['cpu']}, {machine['cores']} cores"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages, by the name of the package."""
    return {package: metadata.version(package) for package in packages}


def resident_megabytes(name: str) -> float:
    """Megabytes in a row of /proc/self/status: VmRSS, what this process holds, or VmHWM, its peak."""
    status = Path("/proc/self/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith(name)) * 1024 / 1e6


def side_by_side(commands: Sequence[Sequence[str]]) -> None:
    """Runs commands, as many at a time as there are processors, each on one of its own; ends if one of them fails."""
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for processor in sorted(os.sched_getaffinity(0)):
        free.put(processor)

    def run(command: Sequence[str]) -> int:
        processor = free.get()
        try:
            return subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, {processor})).returncode
        finally:
            free.put(processor)

    with ThreadPoolExecutor(free.qsize()) as pool:
        failed = [command for command, status in zip(commands, pool.map(run, commands), strict=True) if status]
    if failed:
        sys.exit(f"{len(failed)} of {len(commands)} failed, the first of them: {' '.join(failed[0])}")
