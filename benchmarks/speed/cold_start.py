"""Time to the first training step of a fresh process: W1 against the TFRS tutorial's model.

usage: python benchmarks cold_start [--quick] [--rounds 9] [--peers NAME ...]

From the import of the library, which does not count, to the end of the first step: the model is built, its graphs are
traced, and one batch is trained on. Each round starts one process of each side, one after the other.
"""

from collections.abc import Sequence

import numpy as np
from lib.reports import Options, Report, comparison, pairs, parse, sides_of
from lib.runners import Process, RunnerError, Side, Start

PEERS = ("tutorial",)
OWN = Side("own", "adam")
QUICK_VOCABULARY = 1000


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures one round after the other; a side that fails ends the run, since it would fail again."""
    chosen = pairs(OWN, options.peers, "adam")
    taken: dict[str, list[float]] = {}
    last: dict[str, Process] = {}
    print("W1: milliseconds to the end of the first step", flush=True)
    for _ in range(options.rounds):
        for side in sides_of([OWN], chosen):
            process = start(side, "W1", QUICK_VOCABULARY if options.quick else None)
            process.close()
            taken.setdefault(side.name, []).append(process.ready["first_step_seconds"] * 1e3)
            last[side.name] = process
    report.ran(last.values())
    report.measured |= comparison({last[name]: np.array(values) for name, values in taken.items()}, chosen)
    report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    try:
        measure(Report("cold_start", options), options, start)
    except RunnerError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
