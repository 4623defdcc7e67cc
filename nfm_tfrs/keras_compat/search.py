"""KerasTuner's oracle and tuner with public names for the hooks that they keep to themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfm_tfrs.keras_compat.tuner import forget_oracle, load_keras_tuner, quiet_conditions

keras_tuner = load_keras_tuner()


class OpenOracle(keras_tuner.Oracle):  # type: ignore[name-defined]
    """A `keras_tuner.Oracle` whose subclass may write `values_hash` and `save_trial` too.

    It never raises for trials that failed in a row: KerasTuner's raises in the thread that serves a worker, and never
    gives its lock back.

    Args:
        objective: A `keras_tuner.Objective`.
        seed: Seed of the values; 0 is one too, while KerasTuner takes it for none.
        first_state: The number before the first that `next_seed` returns.
        max_failures: Trials in a row that may fail, which KerasTuner calls `max_consecutive_failed_trials`.
    """

    def __init__(self, objective: Any, *, seed: int, first_state: int, max_failures: int) -> None:
        super().__init__(objective, seed=seed, max_consecutive_failed_trials=max_failures)
        self.seed = seed
        self._seed_state = first_state

    def next_seed(self) -> int:
        """Returns the next number of the state that is kept with the oracle, one more each time."""
        self._seed_state += 1  # as KerasTuner does with each value it draws
        return self._seed_state

    @property
    def tried(self) -> set[str]:
        """The hashes of values that were proposed, kept with the oracle."""
        hashes: set[str] = self._tried_so_far
        return hashes

    @property
    def max_collisions(self) -> int:
        """Draws in a row of values already tried, after which KerasTuner takes a space to be exhausted."""
        return int(self._max_collisions)

    @property
    def file(self) -> Path:
        """Where the oracle is kept; KerasTuner reads it there."""
        return Path(self._get_oracle_fname())

    def trial_folder(self, trial_id: str) -> Path:
        """Returns the folder of a trial; made if it is not there. KerasTuner reads `trial.json` there."""
        return Path(self._get_trial_dir(trial_id))

    def values_hash(self, values: dict[str, Any]) -> str:
        """Returns what tells the values of one configuration from those of another."""
        return str(super()._compute_values_hash(values))

    def save_trial(self, trial: Any) -> None:
        """Keeps a trial in its folder."""
        super()._save_trial(trial)

    def forget(self) -> None:
        """Makes KerasTuner let go of this oracle, which it would keep for ever, with all the rows of a search."""
        forget_oracle(self)

    def _compute_values_hash(self, values: dict[str, Any]) -> str:
        return self.values_hash(values)

    def _save_trial(self, trial: Any) -> None:
        self.save_trial(trial)

    def _check_consecutive_failures(self) -> None:
        """Does nothing."""


class OpenTuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[name-defined]
    """A `keras_tuner.engine.base_tuner.BaseTuner` whose subclass may write `try_trial` and `state_file` too.

    Args:
        *args: Positional arguments of `BaseTuner`, such as the oracle.
        **kwargs: Keyword arguments of `BaseTuner`, such as `directory` and `project_name`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        quiet_conditions()
        super().__init__(*args, **kwargs)

    @property
    def is_worker(self) -> bool:
        """Whether this process runs trials for a chief."""
        return bool(self._is_worker())

    def state_file(self) -> Path:
        """Returns the file by which KerasTuner knows that there is something to reload."""
        return Path(super()._get_tuner_fname())

    def try_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """Runs a trial and sets its status, whatever the trial raises."""
        super()._try_run_and_update_trial(trial, *args, **kwargs)

    def run_and_report(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """Runs a trial and tells the oracle its metrics."""
        self._run_and_update_trial(trial, *args, **kwargs)

    def _get_tuner_fname(self) -> str:
        return str(self.state_file())

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        self.try_trial(trial, *args, **kwargs)


# What is used, and what for: a test finds each name, or says with the docstring what is lost.
PRIVATE_NAMES: Mapping[str, Any] = {
    "keras_tuner.Oracle._seed_state": OpenOracle.next_seed,
    "keras_tuner.Oracle._tried_so_far": OpenOracle.tried,
    "keras_tuner.Oracle._max_collisions": OpenOracle.max_collisions,
    "keras_tuner.Oracle._get_oracle_fname": OpenOracle.file,
    "keras_tuner.Oracle._get_trial_dir": OpenOracle.trial_folder,
    "keras_tuner.Oracle._compute_values_hash": OpenOracle.values_hash,
    "keras_tuner.Oracle._save_trial": OpenOracle.save_trial,
    "keras_tuner.Oracle._check_consecutive_failures": OpenOracle,
    "keras_tuner.engine.base_tuner.BaseTuner._is_worker": OpenTuner.is_worker,
    "keras_tuner.engine.base_tuner.BaseTuner._get_tuner_fname": OpenTuner.state_file,
    "keras_tuner.engine.base_tuner.BaseTuner._try_run_and_update_trial": OpenTuner.try_trial,
    "keras_tuner.engine.base_tuner.BaseTuner._run_and_update_trial": OpenTuner.run_and_report,
}
