"""Time of a training step: W1 and W2 against every peer, and against the least that this machine allows.

usage: python benchmarks train_step [--quick] [--rounds 9] [--peers NAME ...]

A step reads a batch that lies ready in memory and is timed alone, its loss read back. Adagrad is the same algorithm
everywhere; with Adam every peer walks its whole tables, ours the rows of the batch; "dense_adam" is ours
over the whole table. The paper's form, with BatchNorm and dropout, is compared with version 0.1.0's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lib.floor import floor
from lib.reports import ALL_PEERS, BEFORE, Options, Pair, Report, comparison, pairs, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call
from lib.timing import median
from lib.workloads import workload

PEERS = (*ALL_PEERS, "fbgemm", BEFORE)
ADAM, ADAGRAD, DENSE_ADAM = (Side("own", optimizer) for optimizer in ("adam", "adagrad", "dense_adam"))
PAPER, PAPER_BEFORE = (Side(peer, "adam", {"definition": "paper"}) for peer in ("own", BEFORE))
WITH_ADAGRAD = ("deepctr", "tutorial", "keras_rs", "fbgemm")
QUICK_ROWS = 1000


def compared(peers: Sequence[str]) -> list[Pair]:
    """Pairs of our sides with these peers, optimizer by optimizer."""
    found = pairs(ADAM, [peer for peer in peers if peer != "fbgemm"], "adam")  # which has no Adam
    found += [Pair(PAPER, PAPER_BEFORE)] if BEFORE in peers else []
    found += pairs(ADAGRAD, [peer for peer in peers if peer in WITH_ADAGRAD], "adagrad")
    return found + pairs(DENSE_ADAM, [peer for peer in peers if peer == "deepctr"], "adam")


def measure(report: Report, options: Options, start: Start, least_time: Callable[..., Any] = floor) -> None:
    """Measures both workloads, one after the other; all sides of one at once."""
    chosen = compared(options.peers)
    sides = sides_of([ADAM] if options.quick else [ADAM, ADAGRAD, DENSE_ADAM, PAPER], chosen)
    report.measured["workloads"] = {}
    for name in ("W1", "W2"):
        print(f"{name}: milliseconds of a training step", flush=True)
        rows = QUICK_ROWS if options.quick else None
        least = least_time(workload(name, rows), quick=options.quick)
        with fleet(sides, name, rows, start=start) as processes:
            report.ran(processes)
            times = ask_in_turn(processes, median_call("step"), options.rounds)
        found = report.measured["workloads"][name] = comparison(times, chosen)
        ours = [values for process, values in times.items() if process.side == ADAM]
        share = [median(least["milliseconds"] / values) for values in ours]
        found["floor"] = {**least, "share": share[0] if share else None}
        print(f"  floor {least['milliseconds']:.2f} ms", *(f"of which we reach {s['median']:.0%}" for s in share))
        report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    measure(Report("train_step", options), options, start)


if __name__ == "__main__":
    main()
