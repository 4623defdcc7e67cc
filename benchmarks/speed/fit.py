"""Time of an epoch of `fit` from memory, shuffled: W1 and W2 against the peers, each through its own usual fit.

usage: python benchmarks fit [--quick] [--rounds 9] [--peers NAME ...]

The rows lie in memory in the form that the library's documentation gives to fit; making them is not timed. The TFRS
tutorial's pipeline is timed as such and with the batches of its first epoch cached, as the tutorial on ranking does:
every later epoch then has the same batches in the same order.
"""

from collections.abc import Sequence

from lib.reports import TORCH_PEERS, Options, Pair, Report, comparison, pairs, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, epoch, fleet

PEERS = ("deepctr", "tutorial", "keras_rs", *TORCH_PEERS)
OWN = Side("own", "adam")
CACHED = Side("tutorial", "adam", {"cache": True})
ROWS = {"W1": 50 * 4096, "W2": 100 * 1024}
QUICK_ROWS, QUICK_VOCABULARY = 3000, 1000


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures both workloads, one after the other (a quick run has the first); all sides of one at once."""
    chosen = pairs(OWN, options.peers, "adam")
    chosen += [Pair(OWN, CACHED)] if "tutorial" in options.peers else []
    report.measured["workloads"] = {}
    for name, rows in list(ROWS.items())[: 1 if options.quick else None]:
        num_rows = QUICK_ROWS if options.quick else rows
        print(f"{name}: milliseconds of an epoch of {num_rows:,} rows", flush=True)
        with fleet(sides_of([OWN], chosen), name, QUICK_VOCABULARY if options.quick else None, start=start) as running:
            report.ran(running)
            times = ask_in_turn(running, epoch(num_rows), options.rounds, warm_up=1)
        report.measured["workloads"][name] = {"rows": num_rows, **comparison(times, chosen)}
        report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    measure(Report("fit", options), options, start)


if __name__ == "__main__":
    main()
