"""Asynchronous successive halving, and, with one rung, random search; kept whole through any interruption."""

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.keras_compat import load_keras_tuner

keras_tuner = load_keras_tuner()

PARENT, START, END = "tuner/trial_id", "tuner/initial_epoch", "tuner/epochs"
_OWN = (PARENT, START, END)


class HalvingOracle(keras_tuner.Oracle):  # type: ignore[name-defined]
    """Proposes configurations at the fewest slices, and of those that are known the best for more.

    Of the trials that are finished at a rung, the best one in `factor` go on to the next: a new trial with the values
    of the old one, its id (`tuner/trial_id`), the slice it starts at (`tuner/initial_epoch`) and the slice it ends
    before (`tuner/epochs`), the names that KerasTuner's Hyperband uses. Nobody waits for a rung to fill.

    The first configuration is the one of the space's defaults; it is trained whole at once, so that the best score is
    never below that of the defaults. A configuration counts as tried once, however often it is promoted. Promotions of
    what was tried go on when no new configuration may be tried, as time permits.

    Args:
        objective: A `keras_tuner.Objective`.
        rungs: Slices of each rung, rising; a single one makes this a random search.
        factor: One in this many is promoted.
        max_configurations: Configurations to try; None for no limit.
        seconds: Of search, those before an interruption included; None for no limit.
        problem: Says what is wrong with some values, or None; what has a problem is never proposed.
        seed: Of the values.
        max_failures: Configurations in a row that may fail before the search gives up.

    Reference:
        Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    def __init__(
        self,
        objective: Any,
        *,
        rungs: Sequence[int],
        factor: int = 3,
        max_configurations: int | None = None,
        seconds: float | None = None,
        problem: Callable[[dict[str, Any]], str | None] = lambda values: None,
        seed: int = 0,
        max_failures: int = 20,
    ) -> None:
        super().__init__(objective, seed=seed, max_consecutive_failed_trials=max_failures)
        self.seed = seed  # KerasTuner takes 0 for none
        # It counts the state up by one each time: from the seed itself, seeds 0 and 1 would propose the same.
        self._seed_state = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self.rungs = list(rungs)
        self.factor = factor
        self.max_configurations = max_configurations
        self.seconds = seconds
        self.problem = problem
        self.trials: dict[str, Any]
        self.ongoing_trials: dict[str, Any]
        self.verbose = 0
        self._before = 0.0
        self._started: float | None = None

    # --- what is next

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial, or that there is none (now, or any more)."""
        if self.seconds is not None and self.time_spent >= self.seconds:
            return self._none()
        values = self._promoted() or self._new()
        return {"status": "RUNNING", "values": values} if values else self._none()

    def _none(self) -> dict[str, Any]:
        # A running trial may still be promoted, or stop others from it.
        late = self.seconds is not None and self.time_spent >= self.seconds
        return {"status": "IDLE" if self.ongoing_trials and not late else "STOPPED", "values": None}

    def _promoted(self) -> dict[str, Any] | None:
        taken = {trial.hyperparameters.values.get(PARENT) for trial in self.trials.values()}
        for slices, more in reversed(list(itertools.pairwise(self.rungs))):
            at = [trial for trial in self.trials.values() if trial.hyperparameters.values.get(END) == slices]
            done = [trial for trial in at if trial.status == "COMPLETED"]
            best = sorted(done, key=lambda trial: trial.score, reverse=self.objective.direction == "max")
            for trial in best[: len(done) // self.factor]:
                if trial.trial_id not in taken:
                    return {**trial.hyperparameters.values, PARENT: trial.trial_id, START: slices, END: more}
        return None

    def _new(self) -> dict[str, Any] | None:
        tried = [trial for trial in self.trials.values() if not trial.hyperparameters.values.get(PARENT)]
        if self.max_configurations is not None and len(tried) >= self.max_configurations:
            return None
        values = self._defaults() if not tried else self._random_values()
        while values is not None and self.problem(values) is not None:
            self._tried_so_far.add(self._compute_values_hash(values))
            values = self._random_values()
        return None if values is None else {**values, START: 0, END: self.rungs[0 if tried else -1]}

    def _defaults(self) -> dict[str, Any]:
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = hp.default
        return dict(hps.values)

    def _compute_values_hash(self, values: dict[str, Any]) -> str:
        return super()._compute_values_hash({name: value for name, value in values.items() if name not in _OWN})

    @property
    def time_spent(self) -> float:
        """Seconds of search so far, those before an interruption included."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    def create_trial(self, tuner_id: str) -> Any:
        if self._started is None:
            self._started = time.monotonic()
        return super().create_trial(tuner_id)

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        self.save()  # KerasTuner wrote it with the trial still among those that run

    # --- what is kept

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "seconds": self.time_spent}

    def set_state(self, state: dict[str, Any]) -> None:
        # In their order, which no folder keeps. A trial's own file is written before the oracle's: what the oracle does
        # not know never began.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in state["start_order"]}
        super().set_state(state)
        self.ongoing_trials = {
            tuner_id: trial for tuner_id, trial in self.ongoing_trials.items() if trial.status == "RUNNING"
        }
        self._before = state["seconds"]

    def save(self) -> None:
        write_whole(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_whole(path, json.dumps(trial.get_state()))


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it, after whatever happened, finds the old text or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
