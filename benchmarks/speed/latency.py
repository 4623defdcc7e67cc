"""Time of one call of inference on a few rows: W1 and W2 against the TensorFlow peers.

usage: python benchmarks latency [--quick] [--rounds 9] [--peers NAME ...]

The rows lie ready in memory as ids and numbers, in the library's own tensors; the model is called through a
tf.function without training, and its result is read back. Each round gives the median call (p50).
"""

from collections.abc import Sequence

from lib.reports import TENSORFLOW_PEERS, Options, Report, comparison, pairs, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call

PEERS = TENSORFLOW_PEERS
OWN = Side("own", "adam")
ROWS = (1, 10, 100, 300, 1000)
QUICK_ROWS, QUICK_VOCABULARY = (1, 100), 1000


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures both workloads (a quick run has the second) one after the other, all sides at once, size by size."""
    chosen = pairs(OWN, options.peers, "adam")
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
