"""Time of one call of inference on a few rows: W1 and W2 against the TensorFlow peers.

usage: python benchmarks latency [--quick] [--rounds 9] [--peers NAME ...]

The rows lie ready in memory as ids and numbers, in the library's own tensors. A peer is called through a tf.function
without training, its fastest way; ours as `model(x)` and through `predict_on_batch`, beside version 0.1.0's. The result
is read back. Each round gives the median call (p50).
"""

from collections.abc import Sequence

from lib.reports import BEFORE, TENSORFLOW_PEERS, Options, Pair, Report, comparison, pairs, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call

PEERS = (*TENSORFLOW_PEERS, BEFORE)
OWN = Side("own", "adam")
ROWS = (1, 10, 100, 300, 1000)
WAYS = ("model(x)", "predict_on_batch")
QUICK_ROWS, QUICK_VOCABULARY = (1, 100), 1000


def compared(peers: Sequence[str]) -> list[Pair]:
    """Pairs of ours with these peers, and of each way with that of version 0.1.0."""
    found = pairs(OWN, [peer for peer in peers if peer != BEFORE], "adam")
    for way in WAYS if BEFORE in peers else ():
        found.append(Pair(*(Side(side, "adam", {"way": way}) for side in ("own", BEFORE))))
    return found


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures both workloads (a quick run has the second) one after the other, all sides at once, size by size."""
    chosen = compared(options.peers)
    report.measured["workloads"] = {}
    for name in ("W2",) if options.quick else ("W1", "W2"):
        found = report.measured["workloads"][name] = {}
        with fleet(sides_of([OWN], chosen), name, QUICK_VOCABULARY if options.quick else None, start=start) as running:
            report.ran(running)
            for rows in QUICK_ROWS if options.quick else ROWS:
                print(f"{name}: milliseconds of inference on {rows} rows", flush=True)
                times = ask_in_turn(running, median_call("predict", rows=rows), options.rounds)
                found[str(rows)] = comparison(times, chosen)
        report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    measure(Report("latency", options), options, start)


if __name__ == "__main__":
    main()
