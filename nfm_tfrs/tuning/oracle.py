"""Asynchronous successive halving, or random search; kept whole through any interruption."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.keras_compat.search import OpenOracle, keras_tuner
from nfm_tfrs.runs.files import write_text

PARENT, START, END = "tuner/trial_id", "tuner/initial_epoch", "tuner/epochs"
_OWN = (PARENT, START, END)
_REFUSED = 200  # draws in a row that make no model, after which there is taken to be none
_REDRAWN = 0.2  # of a neighbour's values
_NEIGHBOURS = 3  # best configurations that have some
_ON = 0.25  # share of draws at random in which a rare hyperparameter may leave its default


class HalvingOracle(OpenOracle):
    """Proposes configurations for few slices, at random and beside the best, and the best of them for more.

    Of the trials that are finished at a rung, the best one in `factor` go on to the next: a new trial with the values
    of the old one, its id (`tuner/trial_id`), the slice it starts at (`tuner/initial_epoch`) and the slice it ends
    before (`tuner/epochs`), the names that KerasTuner's Hyperband uses. Nobody waits for a rung to fill.

    What is compared at a rung is what each configuration reaches in as many slices. One whose rate falls to its end
    (`ends`) has reached nothing yet where its fall was planned for longer: at a third of a cosine the rate still is at
    three quarters. Such a one falls within the rung, and a promotion of it starts anew, from slice 0, with a fall over
    the next rung. That costs a promoted one the slices of the rung before, and nothing else; ranks within each kind of
    schedule would instead promote a third of a kind that is worse throughout.

    The first configuration is the one of the space's defaults; it is trained whole at once, so that the best score is
    never below that of the defaults. Those of the prior come next, at the first rung like any other. Every other one
    after them is a neighbour: one of the best so far, with a fifth of
    its values drawn anew. A value of `balanced`, whenever it is drawn, neighbours' included, is one of those that were
    tried least: a short search draws about as many blocks as there are, and chance alone would leave out a third of
    them. A configuration counts as tried once, however often it is promoted. Promotions of what was tried go on when no
    new configuration may be tried, as time permits.

    Args:
        objective: A `keras_tuner.Objective`.
        rungs: Slices of each rung, rising; with a single one each configuration is trained whole.
        factor: One in this many is promoted.
        max_configurations: Configurations to try; None for no limit.
        seconds: Seconds to search for, those before an interruption included but for the trial that it cut; None for
            no limit.
        neighbours: Whether there are any; with none, one rung and nothing balanced, this is a random search.
        balanced: Name of a `Choice` whose least tried values are drawn. One that the space lacks changes nothing.
        rare: Names of hyperparameters that most draws at random leave at their default.
        prior: Values, by name, of configurations to try before any other. A name that the space lacks is left out, a
            hyperparameter without a value has its default, and a configuration with a value that the space lacks is
            not tried.
        problem: Says what is wrong with some values, or None; what has a problem is never proposed.
        ends: Says whether some values make a training whose rate falls to an end, so that it cannot go on.
        trained: Says how many slices a finished trial was trained for; as many as it was to be if not given.
        seed: Seed of the values that are drawn.
        max_failures: Configurations in a row that may fail before the search gives up.

    Reference:
        Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2. Real et al.,
        Regularized Evolution for Image Classifier Architecture Search, AAAI 2019, for neighbours of the best.
    """

    def __init__(
        self,
        objective: Any,
        *,
        rungs: Sequence[int],
        factor: int = 3,
        max_configurations: int | None = None,
        seconds: float | None = None,
        neighbours: bool = True,
        balanced: str = "",
        rare: Collection[str] = (),
        prior: Sequence[Mapping[str, Any]] = (),
        problem: Callable[[dict[str, Any]], str | None] = lambda values: None,
        ends: Callable[[dict[str, Any]], bool] = lambda values: False,
        trained: Callable[[Any], int] = lambda trial: _planned(trial),
        seed: int = 0,
        max_failures: int = 20,
    ) -> None:
        # Counted up by one each time: from the seed itself, seeds 0 and 1 would propose the same.
        first_state = int(np.random.SeedSequence(seed).generate_state(1)[0])
        super().__init__(objective, seed=seed, first_state=first_state, max_failures=max_failures)
        self.rungs = list(rungs)
        self.factor = factor
        self.max_configurations = max_configurations
        self.seconds = seconds
        self.neighbours = neighbours
        self.balanced = balanced
        self.rare = rare
        self.prior = prior
        self.problem = problem
        self.ends = ends
        self.trained = trained
        self.last_problem: str | None = None
        self.stage = ""  # what the search does when trials are over
        self.trials: dict[str, Any]
        self.ongoing_trials: dict[str, Any]
        self.verbose = 0
        self._before = 0.0
        self._ended_before = 0  # trials, when this process began
        self._started: float | None = None

    # --- what is next

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial, or that there is none (now, or any more)."""
        if self._is_late or self.gave_up:
            return {"status": "STOPPED", "values": None}
        values = self._promoted() or self._new()
        if values:
            return {"status": "RUNNING", "values": values}
        # A running trial may still be promoted.
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}

    @property
    def gave_up(self) -> bool:
        """Whether the last trials since the start of this process, as many as may, all failed."""
        ended = self.end_order[self._ended_before :][-self.max_consecutive_failed_trials :]
        states = {self.trials[trial_id].status for trial_id in ended}
        return len(ended) == self.max_consecutive_failed_trials and states == {"FAILED"}

    @property
    def _is_late(self) -> bool:
        return self.seconds is not None and self.time_spent >= self.seconds

    def ending(self) -> str:
        """Returns why there is no other trial, as a person reads on behind "until"."""
        tried = sum(not trial.hyperparameters.values.get(PARENT) for trial in self.trials.values())
        if self.gave_up:
            return f"the last {self.max_consecutive_failed_trials} trials had failed"
        if self._is_late:
            return f"the {self.seconds / 60:g} minutes were over"  # type: ignore[operator]
        if self.max_configurations is not None and tried >= self.max_configurations:
            return f"the {tried} configurations that were asked for had been tried"
        return "there was nothing else to try"

    def _promoted(self) -> dict[str, Any] | None:
        taken = {trial.hyperparameters.values.get(PARENT) for trial in self.trials.values()}
        for slices, more in reversed(list(itertools.pairwise(self.rungs))):
            done = [trial for trial in self._ranked() if trial.hyperparameters.values.get(END) == slices]
            for trial in done[: len(done) // self.factor]:
                if trial.trial_id not in taken:
                    values = trial.hyperparameters.values
                    start = 0 if self.ends(values) else slices
                    return {**values, PARENT: trial.trial_id, START: start, END: more}
        return None

    def _ranked(self) -> list[Any]:
        """The trials that are finished, the best first."""
        done = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        return sorted(done, key=lambda trial: trial.score, reverse=self.objective.direction == "max")

    def _new(self) -> dict[str, Any] | None:
        tried = [values for trial in self.trials.values() if not (values := trial.hyperparameters.values).get(PARENT)]
        if self.max_configurations is not None and len(tried) >= self.max_configurations:
            return None
        turns = Counter(values.get(self.balanced) for values in tried)
        for refused in range(_REFUSED):
            if not tried and not refused:
                values = self._filled({})
            elif (known := self._of_the_prior()) is not None:
                values = known
            else:
                kept = self._one_of_the_best() if self.neighbours and len(tried) % 2 else {}
                values = (kept and self._anew(kept, turns)) or self._anew({}, turns)
            if values is None:
                return None
            self.tried.add(self.values_hash(values))
            self.last_problem = self.problem(values)
            if self.last_problem is None:
                return {**values, START: 0, END: self.rungs[0 if tried else -1]}
            self._end_turn(turns, values)
        return None

    def _end_turn(self, turns: Counter[Any], values: dict[str, Any]) -> None:
        """Lets all others come first, in case that with this value of `balanced` there is nothing more to try."""
        turns[values.get(self.balanced)] = max(turns.values(), default=0) + 1

    def _one_of_the_best(self) -> dict[str, Any]:
        """Values of one of the best configurations; none where none is finished."""
        best: dict[str, dict[str, Any]] = {}
        for trial in self._ranked():
            values = trial.hyperparameters.values
            best.setdefault(self.values_hash(values), values)
        if not best:
            return {}
        random = np.random.default_rng(self.next_seed())
        return list(best.values())[random.integers(min(_NEIGHBOURS, len(best)))]

    def _anew(self, kept: dict[str, Any], turns: Counter[Any]) -> dict[str, Any] | None:
        """Values not tried yet: those of `kept`, a fifth of them drawn anew; None where no such values are found."""
        random = np.random.default_rng(self.next_seed())
        for _ in range(self.max_collisions):  # one neighbour in ten draws nothing anew
            hps = keras_tuner.HyperParameters()
            for hp in self.hyperparameters.space:
                hps.merge([hp])
                if not hps.is_active(hp):
                    continue
                if hp.name in kept and random.random() >= _REDRAWN:
                    hps.values[hp.name] = kept[hp.name]
                elif hp.name == self.balanced:
                    fewest = min(turns[value] for value in hp.values)
                    least = [value for value in hp.values if turns[value] == fewest]
                    hps.values[hp.name] = least[random.integers(len(least))]
                elif hp.name in self.rare and random.random() >= _ON:
                    hps.values[hp.name] = hp.default
                else:
                    hps.values[hp.name] = hp.random_sample(self.next_seed())
            if self.values_hash(hps.values) not in self.tried:
                return dict(hps.values)
            if not kept:
                self._end_turn(turns, hps.values)
        return None

    def _of_the_prior(self) -> dict[str, Any] | None:
        """The first values of the prior that were not tried; None where there are none."""
        found = (values for given in self.prior if (values := self._filled(given)) is not None)
        return next((values for values in found if self.values_hash(values) not in self.tried), None)

    def _filled(self, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Values of the space: the given ones, the defaults of all others; None where it lacks one of the given."""
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = value = given.get(hp.name, hp.default)
                if not _has(hp, value):
                    return None
        return dict(hps.values)

    def values_hash(self, values: dict[str, Any]) -> str:
        """Returns the same for a configuration however often it is promoted."""
        return super().values_hash({name: value for name, value in values.items() if name not in _OWN})

    @property
    def time_spent(self) -> float:
        """Seconds of search so far, those before an interruption included."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @keras_tuner.synchronized
    def progress(self) -> tuple[int, int, float | None]:
        """Returns how many trials were begun, how many configurations have ended, and the best score so far."""
        ended = sum(not self.trials[trial_id].hyperparameters.values.get(PARENT) for trial_id in self.end_order)
        scores = [trial.score for trial in self.trials.values() if trial.score is not None]
        best = max if self.objective.direction == "max" else min
        return len(self.trials), ended, best(scores) if scores else None

    @keras_tuner.synchronized
    def whole_seconds(self) -> float:
        """Returns the seconds that a whole training takes by the trials that are finished; 0 before there is one."""
        slices = sum(self.trained(trial) for trial in self.trials.values() if trial.status == "COMPLETED")
        side_by_side = max(1, len(self.ongoing_trials))
        return self.time_spent * side_by_side / slices * self.rungs[-1] if slices else 0.0

    def create_trial(self, tuner_id: str) -> Any:
        if self._started is None:
            self._started = time.monotonic()
        return super().create_trial(tuner_id)

    @keras_tuner.synchronized
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
        self._ended_before = len(self.end_order)

    def save(self) -> None:
        write_text(self.file, json.dumps(self.get_state()))

    def save_trial(self, trial: Any) -> None:
        """Keeps a trial in its folder, whole."""
        write_text(self.trial_folder(trial.trial_id) / "trial.json", json.dumps(trial.get_state()))


def _planned(trial: Any) -> int:
    values = trial.hyperparameters.values
    return int(values[END] - values[START])


def _has(hp: Any, value: Any) -> bool:
    """Whether a hyperparameter may have a value."""
    kinds = keras_tuner.engine.hyperparameters
    if isinstance(hp, kinds.Choice):
        return value in hp.values
    if isinstance(hp, kinds.Int | kinds.Float):
        return isinstance(value, int | float) and bool(hp.min_value <= value <= hp.max_value)
    return isinstance(value, bool)
