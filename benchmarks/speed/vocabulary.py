"""Time of a training step as the vocabulary grows, W3, and the memory that ten million rows take.

usage: python benchmarks vocabulary [--quick] [--rounds 9] [--peers NAME ...]

First our own sizes against each other, all at once; then at the largest one peer after the other against ours, since
ten million rows under dense Adam take several gigabytes. Memory is what a process holds after training steps.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lib.reports import ALL_PEERS, TENSORFLOW_PEERS, Options, Pair, Report, comparison, parse
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call
from lib.timing import median, summary

PEERS = ALL_PEERS
ROWS, QUICK_ROWS = (10_000, 1_000_000, 10_000_000), (1000, 2000)
OPTIMIZERS = {"adam": ALL_PEERS, "adagrad": TENSORFLOW_PEERS}  # and the peers that are compared with it
WITHOUT_L2 = Side("deepctr", "adam", {"l2": 0})
STEPS = 3  # before memory is read


def growth(report: Report, rows: Sequence[int], options: Options, start: Start) -> dict[str, Any]:
    """Times of our step at every size, and the ratio of the largest size to the smallest, by optimizer."""
    found: dict[str, Any] = {}
    for optimizer in list(OPTIMIZERS)[:1] if options.quick else OPTIMIZERS:
        print(f"W3 own {optimizer}: milliseconds of a training step", flush=True)
        with contextlib.ExitStack() as stack:
            side = [Side("own", optimizer)]
            sizes = {
                process: size for size in rows for process in stack.enter_context(fleet(side, "W3", size, start=start))
            }
            report.ran(sizes)
            times = ask_in_turn(list(sizes), median_call("step"), options.rounds)
        by_size = {sizes[process]: values for process, values in times.items()}
        found[optimizer] = {str(size): summary(values) for size, values in by_size.items()}
        if rows[0] in by_size and rows[-1] in by_size:
            found[optimizer]["growth"] = median(by_size[rows[-1]] / by_size[rows[0]])
        for size, values in found[optimizer].items():
            print(f"  {size:>12} {values.get('milliseconds', values.get('median')):10.2f}", flush=True)
    return found


def against_peers(report: Report, rows: int, options: Options, start: Start) -> dict[str, Any]:
    """Times of our step against each peer's at one size, by optimizer and peer."""
    found: dict[str, Any] = {}
    for optimizer, knowing in OPTIMIZERS.items():
        ours = Side("own", optimizer)
        peers = [peer for peer in options.peers if peer in knowing]
        with fleet([ours] if peers else [], "W3", rows, start=start) as own:
            for peer in peers:
                print(f"W3 with {rows:,} rows: milliseconds of a training step", flush=True)
                theirs = Side(peer, optimizer)
                with fleet([theirs], "W3", rows, start=start) as other:
                    report.ran(other)
                    times = ask_in_turn([*own, *other], median_call("step"), options.rounds)
                found.setdefault(optimizer, {})[peer] = comparison(times, [Pair(ours, theirs)])
    return found


def memory(rows: int, options: Options, start: Start) -> dict[str, Any]:
    """Megabytes of a process of each side, and ours / theirs."""
    sides = [Side("own", "adam"), *([WITHOUT_L2] if "deepctr" in options.peers else [])]
    found: dict[str, Any] = {}
    held: dict[str, np.ndarray] = {}
    for side in sides:
        with fleet([side], "W3", rows, start=start) as running:
            for process, values in ask_in_turn(running, _held, options.rounds).items():
                held[side.name] = values
                found[side.name] = process.ask("memory")
    found |= {"rows": rows, "rounds": {name: list(values) for name, values in held.items()}}
    if len(held) == 2:
        ours, theirs = held.values()
        found["ratio"] = median(ours / theirs)
    print(f"W3 with {rows:,} rows: megabytes held", {name: float(np.median(v)) for name, v in held.items()}, flush=True)
    return found


def _held(process: Process) -> float:
    process.ask("step", calls=STEPS)
    return process.ask("memory")["megabytes"]


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures everything, and writes after each part."""
    rows = QUICK_ROWS if options.quick else ROWS
    parts: dict[str, Callable[[], Any]] = {
        "own": lambda: growth(report, rows, options, start),
        "memory": lambda: memory(rows[-1], options, start),
        "peers": lambda: {str(rows[-1]): against_peers(report, rows[-1], options, start)},
    }
    for name, part in parts.items():
        report.measured[name] = part()
        report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    measure(Report("vocabulary", options), options, start)


if __name__ == "__main__":
    main()
