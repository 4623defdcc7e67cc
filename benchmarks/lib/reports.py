"""What the scripts of the speed benchmarks share: options, comparisons of sides, and the files of results."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peers import environments

from lib.places import RESULTS
from lib.runners import Process, Side
from lib.timing import LEAST_ROUNDS, machine, summary, times_as_fast

SEED = 0
QUICK_ROUNDS = 1
BEFORE = "version_0_1_0"  # this package's own
TENSORFLOW_PEERS = ("deepctr", "tutorial", "tfrs_cross", "keras_rs")
TORCH_PEERS = ("deepctr_torch", "fuxictr", "torchfm")
ALL_PEERS = TENSORFLOW_PEERS + TORCH_PEERS


class Pair(NamedTuple):
    """Two sides whose times are compared."""

    ours: Side
    theirs: Side


class Options(NamedTuple):
    """How a script was started."""

    quick: bool
    rounds: int
    peers: tuple[str, ...]


def parse(description: str | None, peers: Sequence[str], arguments: Sequence[str] | None = None) -> Options:
    """The options of a script that knows these peers; of those asked for, the installed ones."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no peers; writes nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="*", choices=peers, help="all of them if not given, with --quick none")
    given = parser.parse_args(arguments)
    if given.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS} for a 95 % interval; received {given.rounds}.")
    wanted = given.peers if given.peers is not None else () if given.quick else peers
    installed = environments.installed()
    for peer in wanted:
        if peer not in installed:
            print(f"{peer}: not installed, left out; benchmarks/setup_peers.sh {peer} installs it.", flush=True)
    chosen = tuple(peer for peer in wanted if peer in installed)
    return Options(given.quick, QUICK_ROUNDS if given.quick else given.rounds, chosen)


def pairs(ours: Side, peers: Iterable[str], optimizer: str) -> list[Pair]:
    """Pairs of one of our sides with each of these peers."""
    return [Pair(ours, Side(peer, optimizer)) for peer in peers]


def sides_of(own: Iterable[Side], compared: Iterable[Pair]) -> list[Side]:
    """Our sides and all that stand in the pairs, each once."""
    named = {side.name: side for side in own}
    for pair in compared:
        named |= {side.name: side for side in pair}
    return list(named.values())


def comparison(times: Mapping[Process, np.ndarray], compared: Iterable[Pair]) -> dict[str, Any]:
    """Milliseconds of each side, and of each pair how many times as fast ours is; printed as well.

    Args:
        times: Milliseconds, `[rounds]`, of the processes that ran.
        compared: The pairs; one that did not run is left out.
    """
    by_name = {process.side.name: values for process, values in times.items()}
    sides = {
        process.side.name: {**summary(values), "parameters": process.ready["parameters"]}
        for process, values in times.items()
    }
    ratios = [
        {"ours": ours.name, "theirs": theirs.name, **times_as_fast(by_name[ours.name], by_name[theirs.name])}
        for ours, theirs in compared
        if ours.name in by_name and theirs.name in by_name
    ]
    for name, side in sides.items():
        low, high = side["interval"]
        print(f"  {name:32} {side['milliseconds']:10.2f} ms [{low:.2f}, {high:.2f}]", flush=True)
    for ratio in ratios:
        low, high = ratio["interval"]
        print(
            f"  {ratio['ours']} : {ratio['theirs']}  {ratio['median']:.2f}x as fast [{low:.2f}, {high:.2f}]", flush=True
        )
    return {"sides": sides, "ratios": ratios}


class Report:
    """The results of one script: what was measured, and what it depends on.

    Args:
        name: Name of the file in benchmarks/results, without its suffix.
        options: Options that the script was started with; a quick run writes nothing.
        folder: Folder that the file is written to.
    """

    def __init__(self, name: str, options: Options, *, folder: Path = RESULTS) -> None:
        self._path = None if options.quick else folder / f"{name}.json"
        self._versions: dict[str, Any] = {}
        self._settings = {"rounds": options.rounds, "seed": SEED, "machine": machine()}
        self.measured: dict[str, Any] = {}

    def ran(self, processes: Iterable[Process]) -> None:
        """Notes the versions of what ran."""
        self._versions |= {process.side.peer: process.ready["versions"] for process in processes}

    def write(self) -> None:
        """Writes the file, unless the run was a quick one."""
        if self._path is None:
            return
        self._path.parent.mkdir(exist_ok=True)
        results = {**self._settings, "versions": self._versions, **self.measured}
        self._path.write_text(json.dumps(results, indent=1) + "\n")
