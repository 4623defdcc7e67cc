"""A search by several processes: KerasTuner's chief, and workers that are started again when they die."""

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfm_tfrs import platform_calls

LIVES = 2  # deaths in one trial after which the trial is failed, and its worker's id closed
_ID, _ADDRESS, _PORT, _PARENT = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
    "NFM_TFRS_CHIEF",
)


def is_worker() -> bool:
    """Returns whether this process runs trials for a chief."""
    return _ADDRESS in os.environ and "chief" not in os.environ.get(_ID, "")


def follow_chief() -> None:
    """Ends this process when the one that started it is gone: KerasTuner's client would wait an hour for the chief."""
    parent = os.environ.get(_PARENT)
    wait = None if parent is None else platform_calls.parent_watch(int(parent))
    if wait is not None:
        threading.Thread(target=_end_after, args=(wait,), daemon=True).start()


def _end_after(wait: Callable[[], None]) -> None:
    wait()
    os._exit(1)


def starter(command: Sequence[str], folder: Path) -> Callable[[str, int], Any]:
    """Returns what starts a worker by its id and the chief's port; what it says goes to a file in the folder."""

    def start(worker: str, port: int) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        chief = {_ADDRESS: "127.0.0.1", _PORT: str(port), _PARENT: str(os.getpid())}
        environment = {**os.environ, **chief, _ID: worker}
        with (folder / f"{worker}.log").open("ab") as log:
            return subprocess.Popen(list(command), env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    return start


@dataclass(frozen=True)
class Workers:
    """Processes that run the trials of a search.

    Args:
        start: Starts a worker by its id and the port it asks for trials at; returns its `subprocess.Popen`. `starter`
            makes one.
        count: Number of workers.
    """

    start: Callable[[str, int], Any]
    count: int


def serve(
    oracle: Any,
    workers: Workers,
    *,
    warn: Callable[[str], None],
    tick: Callable[[], None] = lambda: None,
) -> bool:
    """Serves trials to workers until all of them are through; returns whether one of them ended well.

    A worker that dies is started again under its own id, and KerasTuner's protocol hands it its trial again. Where it
    dies in the same trial again, the trial is failed and the id closed: the chief would wait for it for ever.

    Args:
        oracle: The oracle of the search.
        workers: The processes.
        warn: Called with a line about each death.
        tick: Called several times a second.
    """
    # Here: no other search needs gRPC, and the rest of this module needs no TensorFlow.
    import grpc

    from nfm_tfrs.keras_compat.tuner import add_chief

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    add_chief(oracle, server)
    port = server.add_insecure_port("127.0.0.1:0")  # any that is free
    server.start()
    running: dict[str, Any] = {}
    well = False
    try:
        running |= {name: workers.start(name, port) for name in (f"worker{n}" for n in range(workers.count))}
        deaths: Counter[tuple[str, str]] = Counter()
        while running:
            time.sleep(0.2)
            tick()
            for name, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                well = well or process.returncode == 0
                failed = process.returncode or name in oracle.ongoing_trials  # a block may call sys.exit(0)
                if failed and _may_live(oracle, name, deaths, process.returncode, warn):
                    running[name] = workers.start(name, port)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        server.stop(1).wait()
    return well


def _may_live(
    oracle: Any, name: str, deaths: Counter[tuple[str, str]], status: int, warn: Callable[[str], None]
) -> bool:
    """Whether a worker that died is to be started again; if not, its trial is failed and its id closed."""
    trial = oracle.ongoing_trials.get(name)
    which = "" if trial is None else trial.trial_id
    deaths[name, which] += 1
    ended = f"{name} ended with status {status}" + (f" in trial {which}" if which else "")
    if deaths[name, which] < LIVES:
        warn(f"{ended}; it is started again.")
        return True
    warn(f"{ended} for the second time; " + ("the trial is failed and " if which else "") + f"{name} is closed.")
    if trial is not None:
        trial.status, trial.message = "FAILED", f"Its worker ended with status {status}, {LIVES} times."
        oracle.end_trial(trial)
    oracle.tuner_ids.discard(name)
    return False
