"""What a runner of the speed benchmarks is, and the server that answers a driver's requests with it.

A runner is a process of its own, in its library's environment: `python benchmarks/peers/NAME.py '<json>'` with

    {"workload": "W1", "rows": 1000000 or null, "optimizer": "adam", "threads": null or int, "options": {...}}

It builds the model, prints {"ready": true, "versions", "parameters", "import_seconds", "first_step_seconds",
"megabytes"}, then answers each JSON line of stdin with one:

    {"do": "step", "calls": k}                 {"seconds": [...]}      training steps, each timed alone
    {"do": "fit", "rows": n}                   {"seconds": s}          one epoch from memory
    {"do": "predict", "rows": r, "calls": k}   {"seconds": [...]}      inference calls, each timed alone
    {"do": "memory"}                           {"megabytes", "peak_megabytes"}
    {"do": "stop"}

and {"error": "one line"} where it cannot. This file imports NumPy and the standard library only. A runner's file
imports its library within `load` alone, so that the server can time that import:

    from interface import Runner, serve
    from lib.workloads import Rows, Workload

    def load() -> type[Runner]:
        import library
        class Library(Runner): ...
        return Library

    if __name__ == "__main__":
        serve(load)
"""

import functools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A script's folder comes first on the path, and there a runner's file would hide the library that it is named after.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from lib.timing import resident_megabytes, versions
from lib.workloads import Rows, Workload, generate, workload

POOL = 16
SEED = 0
WARM_UP = 2


class Runner:
    """A library's model of a workload; the constructor builds it. Each library has its subclass.

    Args:
        optimizer: "adam", "adagrad" or "default"; a runner may know more.
        options: Settings that only this runner knows.
    """

    versions: tuple[str, ...] | list[str] = ()
    """The packages whose versions are reported."""
    batches: list[Any]
    """The pool, as `convert` returned each batch: there before the first `step`."""

    def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
        self.workload, self.optimizer, self.options = workload, optimizer, options

    def convert(self, rows: Rows) -> Any:
        """One batch in the library's own form, made outside every clock."""
        return rows

    def step(self, number: int) -> None:
        """One finished training step, on `self.batches[number % len(self.batches)]`."""
        raise NotImplementedError("this runner does not time training steps")

    def fit(self, num_rows: int) -> float:
        """Seconds of one epoch over `rows_of(self.workload, num_rows)` through the library's own fit, shuffled."""
        raise NotImplementedError("this runner does not time fit")

    def predict(self, num_rows: int) -> Callable[[], Any]:
        """A call of inference on `num_rows` encoded rows in memory, which reads its result back."""
        raise NotImplementedError("this runner does not time inference")

    def parameters(self) -> int:
        """Trainable numbers of the model; asked after the first step."""
        raise NotImplementedError("this runner does not count its parameters")


@functools.cache
def pool(workload: Workload) -> tuple[Rows, ...]:
    """The batches that every runner's steps cycle over."""
    rows = generate(workload, POOL * workload.batch_size, SEED)
    return tuple(Rows(*parts) for parts in zip(*(np.split(part, POOL) for part in rows), strict=True))


@functools.cache
def rows_of(workload: Workload, num_rows: int) -> Rows:
    """The rows that every runner's fit and inference read."""
    return generate(workload, num_rows, SEED + 1)


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def serve(load: Callable[[], type[Runner]]) -> None:
    """Answers requests until told to stop.

    Args:
        load: Imports the library and returns its runner.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(made: Callable[[], dict[str, Any]]) -> bool:
        try:
            said = made()
        except Exception as error:  # noqa: BLE001 (whatever fails in any library is an answer)
            said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
        print(json.dumps(said), file=answers, flush=True)
        return "error" not in said

    server = _Server(json.loads(sys.argv[1]))
    if not answer(lambda: server.start(load)):
        sys.exit(1)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        answer(functools.partial(server.do, request))


class _Server:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._steps = 0
        self._calls: dict[int, Callable[[], Any]] = {}

    def start(self, load: Callable[[], type[Runner]]) -> dict[str, Any]:
        """Imports the library, builds the model and takes its first step."""
        _environment(self.settings.get("threads"))
        shape = workload(self.settings["workload"], self.settings.get("rows"))
        batches = pool(shape)
        before = time.perf_counter()
        loaded = load()
        imported = time.perf_counter()
        self._runner = loaded(shape, self.settings.get("optimizer", "default"), self.settings.get("options", {}))
        built = time.perf_counter() - imported
        self._runner.batches = [self._runner.convert(rows) for rows in batches]
        first = timed(self._step)
        return {
            "ready": True,
            "versions": {"python": platform.python_version(), **versions(self._runner.versions)},
            "parameters": self._runner.parameters(),
            "import_seconds": imported - before,
            "first_step_seconds": built + first,
            "megabytes": resident_megabytes("VmRSS"),
        }

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if request["do"] == "step":
            return {"seconds": [timed(self._step) for _ in range(request["calls"])]}
        if request["do"] == "fit":
            return {"seconds": self._runner.fit(request["rows"])}
        if request["do"] == "predict":
            call = self._call(request["rows"])
            return {"seconds": [timed(call) for _ in range(request["calls"])]}
        if request["do"] == "memory":
            return {"megabytes": resident_megabytes("VmRSS"), "peak_megabytes": resident_megabytes("VmHWM")}
        raise ValueError(f"A runner steps, fits, predicts, tells its memory or stops; received {request['do']!r}.")

    def _step(self) -> None:
        self._runner.step(self._steps)
        self._steps += 1

    def _call(self, num_rows: int) -> Callable[[], Any]:
        """The call of inference, prepared and warm: rounds are not to trace it anew."""
        if num_rows not in self._calls:
            call = self._calls[num_rows] = self._runner.predict(num_rows)
            for _ in range(WARM_UP):
                call()
        return self._calls[num_rows]


def _environment(threads: int | None) -> None:
    """What libraries read at their import: no GPU, no chatter, so many threads."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(threads)
