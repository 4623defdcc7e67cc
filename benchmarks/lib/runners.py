"""Starts the runners of benchmarks/peers, each a process of its own, and asks them in turn: A B A B.

All that take part run at once, idle while another is asked, so that none is warmer than the others.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from peers import environments

from lib.places import BENCHMARKS

PEERS = BENCHMARKS / "peers"
OWN = "own"
LEAST_SECONDS = 0.5  # of a turn of one side
LEAST_CALLS, MOST_CALLS = 3, 500
WARM_UP = 2  # calls of a turn that do not count: the others have taken the caches meanwhile
SECONDS_TO_STOP = 30


class RunnerError(RuntimeError):
    """A runner could not do what it was asked."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a runner and what it runs.

    Args:
        peer: "own", or a name of `environments.VENVS`.
        optimizer: Name of the optimizer, as the runner knows it.
        options: Settings that only this runner knows.
        file: The runner's file in benchmarks/peers, where it is not named as the peer.
    """

    peer: str
    optimizer: str = "adam"
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    file: str = ""

    @property
    def name(self) -> str:
        """The name of this side in the results and on the screen."""
        return " ".join([self.peer, self.optimizer, *(f"{key}={value}" for key, value in self.options.items())])


def command(side: Side) -> list[str]:
    """The command that starts a side's runner, without its settings."""
    python = sys.executable if side.peer == OWN else str(environments.python(side.peer))
    return [python, str(PEERS / f"{side.file or side.peer}.py")]


class Process:
    """A running runner.

    Attributes:
        side: The side that the runner runs.
        ready: The runner's first answer.

    Raises:
        RunnerError: It could not start.
    """

    def __init__(
        self,
        side: Side,
        workload: str,
        rows: int | None = None,
        *,
        command: Callable[[Side], list[str]] = command,
    ) -> None:
        self.side = side
        settings = {"workload": workload, "rows": rows, "optimizer": side.optimizer, "threads": None}
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            [*command(side), json.dumps({**settings, "options": side.options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.ready = self._answer()
        except RunnerError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The runner's answer to a request.

        Raises:
            RunnerError: It cannot do it, or has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `_answer` reports
            self._send({"do": do, **arguments})
        return self._answer()

    def close(self) -> None:
        """Stops the process."""
        with contextlib.suppress(BrokenPipeError):
            self._send({"do": "stop"})
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._log.close()

    def _send(self, request: dict[str, Any]) -> None:
        self._process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            said = [row for row in self._log.read().splitlines() if row.strip()]
            raise RunnerError(f"{self.side.name}: ended with status {status}: {said[-1] if said else 'no word'}")
        answer = json.loads(line)
        if "error" in answer:
            raise RunnerError(f"{self.side.name}: {answer['error']}")
        return answer


Start = Callable[..., Process]


@contextlib.contextmanager
def fleet(
    sides: Iterable[Side], workload: str, rows: int | None = None, *, start: Start = Process
) -> Iterator[list[Process]]:
    """The processes of the sides that could start, stopped at the end; a line is printed for the others."""
    processes: list[Process] = []
    try:
        for side in sides:
            try:
                processes.append(start(side, workload, rows))
            except RunnerError as error:
                print(error, flush=True)
        yield processes
    finally:
        for process in processes:
            process.close()


def ask_in_turn(
    processes: Sequence[Process], ask: Callable[[Process], float], rounds: int, *, warm_up: int = 0
) -> dict[Process, np.ndarray]:
    """What `ask` measures, `[rounds]` a process: one turn of the first, one of the second, and over again.

    A process that fails is left out from then on, with a line printed.
    """
    taken: dict[Process, list[float]] = {process: [] for process in processes}
    for _ in range(warm_up + rounds):
        for process in list(taken):
            try:
                taken[process].append(ask(process))
            except RunnerError as error:
                print(error, flush=True)
                del taken[process]
    return {process: np.array(values[warm_up:]) for process, values in taken.items()}


def median_call(do: str, **arguments: Any) -> Callable[[Process], float]:
    """Makes a turn that takes calls until it lasted long enough, and gives the milliseconds of the median one."""
    calls: dict[Process, int] = {}

    def ask(process: Process) -> float:
        if process not in calls:
            probed = process.ask(do, calls=WARM_UP + LEAST_CALLS, **arguments)["seconds"]
            wanted = LEAST_SECONDS / np.median(probed[WARM_UP:])
            calls[process] = int(np.clip(wanted, LEAST_CALLS, MOST_CALLS))
        taken = process.ask(do, calls=WARM_UP + calls[process], **arguments)["seconds"]
        return float(np.median(taken[WARM_UP:])) * 1e3

    return ask


def epoch(num_rows: int) -> Callable[[Process], float]:
    """Makes a turn that fits one epoch, and gives its milliseconds."""
    return lambda process: process.ask("fit", rows=num_rows)["seconds"] * 1e3
