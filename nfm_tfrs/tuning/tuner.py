"""Runs trials: a model on its slices of the training rows, judged exactly after each."""

import gc
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.evidence import Objective
from nfm_tfrs.keras_compat import forgotten_gradients, keras, tf
from nfm_tfrs.keras_compat.search import OpenTuner, keras_tuner
from nfm_tfrs.models.averaging import averages_of
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.training.evaluate import evaluate
from nfm_tfrs.training.fit import adapt_labels
from nfm_tfrs.training.recipe import EPOCHS
from nfm_tfrs.training.schedules import OVER_STEPS, plateau_of
from nfm_tfrs.training.statistics import count_where_needed
from nfm_tfrs.training.stopping import PASSES, Action, Looks, follow
from nfm_tfrs.tuning.hypermodel import RankingHyperModel
from nfm_tfrs.tuning.oracle import END, PARENT, START
from nfm_tfrs.tuning.settings import Space
from nfm_tfrs.tuning.slices import Slices

FailedTrialError = keras_tuner.errors.FailedTrialError

BEST = "weights-best.npz"  # of a trial's best slice, where its rate is divided on a plateau
STARTS = 3  # of a trial, each of which ended with its process: then it has failed

Scores = list[dict[str, float]]  # the exact validation metrics after each slice, from the first


class SliceTuner(OpenTuner):
    """KerasTuner's loop over trials, with slices of rows for epochs.

    A promoted trial goes on where its parent ended: at its slice, from its last weights, optimizer included. One whose
    rate falls to an end begins anew, and falls over the slices that it is given. A trial at the last rung whose rate
    has no end goes on behind it, slice by slice, until it has stopped improving, up to as many passes as a training
    without a search makes. The score of a trial is the best validation score after any of its slices, those that it
    went on from included. A trial that diverges, runs out of memory, or is over a ceiling, fails by itself.

    Args:
        oracle: A `HalvingOracle`, or any oracle that names slices as it does.
        hypermodel: What there is to search.
        train: The training rows in slices.
        valid: The rows to judge on.
        space: The batch sizes to choose from, and the ceilings of a model's parameters and of the seconds that it takes
            for 100 rows, the median of twenty times.
        patience: Slices without a better score after which a trial ends early.
        seed: Seed of initial weights and dropout; each configuration makes its own of it.
        max_seconds: Ceiling of the seconds of a whole training, by a trial's second slice; none for the first trial,
            so that there is a model, nor with XLA, which compiles for each size of batch. Behind the last rung any
            trial ends at it.
        watch: Called after each slice with the trial and its scores.
        **kwargs: `directory` and `project_name`, see `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: RankingHyperModel,
        *,
        train: Slices,
        valid: EncodedPart,
        space: Space,
        patience: int,
        seed: int,
        max_seconds: float | None = None,
        watch: Callable[[Any, Scores], None] = lambda trial, scores: None,
        **kwargs: Any,
    ) -> None:
        self.train = train
        self.valid = valid
        self.batch_sizes, self.ceilings = space.batch_sizes, (space.max_parameters, space.max_latency)
        self.patience = patience
        self.seed = seed
        self.max_seconds = max_seconds
        self.watch = watch
        self.space = hypermodel
        self.goal = Objective(name=oracle.objective.name, direction=oracle.objective.direction)
        # KerasTuner explores the space by building: candidates tell as much of it as models, and cost nothing.
        super().__init__(oracle, self.candidate, **kwargs)

    def candidate(self, hp: Any) -> Configuration:
        """Returns what `hp` says, as `RankingHyperModel.candidate` does, and the batch size."""
        sizes = self.batch_sizes
        found = self.space.candidate(hp)
        return replace(found, batch_size=sizes[0] if len(sizes) == 1 else hp.Choice("batch_size", list(sizes)))

    def problem(self, values: dict[str, Any]) -> str | None:
        """Returns why values of the space make no model; None where they do."""
        hp = self.oracle.get_space()
        hp.values = dict(values)
        try:
            return self.space.problem(self.candidate(hp))
        except ValueError as error:  # of a block's search space
            return str(error)

    def ends(self, values: dict[str, Any]) -> bool:
        """Returns whether values of the space make a training whose rate falls to an end."""
        hp = self.oracle.get_space()
        hp.values = dict(values)
        return self.candidate(hp).schedule in OVER_STEPS

    def trained(self, trial: Any) -> int:
        """Returns how many slices a finished trial was trained for."""
        return len(self.scores(trial.trial_id)) - int(trial.hyperparameters.values[START])

    # --- a trial

    def pre_create_trial(self) -> None:
        """Waits a little: KerasTuner asks at once again where there is nothing to do until another trial ends."""
        time.sleep(0.05)

    def try_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """As KerasTuner's, which prints the traceback of each trial that fails."""
        folder = self._folder(trial.trial_id)
        try:
            with _counted(folder / "starts"):
                self.run_and_report(trial, *args, **kwargs)
            trial.status = "COMPLETED"
        except FailedTrialError as error:
            trial.status, trial.message = "FAILED", str(error)
            write_text(folder / "failure.txt", trial.message)  # KerasTuner's workers keep it to themselves

    @forgotten_gradients()
    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains the trial's model on its slices; returns its best metrics."""
        del args, kwargs
        values = trial.hyperparameters.values
        candidate, parent = self.candidate(trial.hyperparameters), values.get(PARENT) if values[START] else None
        ends = candidate.schedule in OVER_STEPS
        scores = self.scores(parent) if parent else []
        folder = self._folder(trial.trial_id)
        # Once a configuration, at the second slice of a process: the first is traced too.
        timed = len(self.scores(values[PARENT])) < 2 if values.get(PARENT) else int(trial.trial_id) > 0
        timed = timed and not candidate.jit_compile
        looks, action = self._looks(candidate, scores)
        if action != "stop":
            batch_size = candidate.batch_size
            seconds: list[float] = []
            with failing():
                model = self._model(candidate, parent, values[END])
            state = _arrays(self._folder(parent) / BEST) if parent and looks.plateau is not None else []
            for number in range(values[START], self._last(values[END], ends)):
                if number >= values[END] and self._is_long(number * float(np.mean(seconds))):
                    break
                with failing():
                    start = time.monotonic()
                    train_slice(model, self.train, number, batch_size)
                    scores.append(judge_slice(model, self.train, number, batch_size, self.valid, self.goal).metrics)
                    seconds.append(time.monotonic() - start)
                    if timed and number == values[START] + 1:
                        self._check_seconds(seconds[-1])
                self.watch(trial, scores)
                if follow(model, looks, scores[-1][self.goal.metric], state) == "stop":
                    break
            if values[END] < self.train.count and not ends:  # else nothing goes on from there
                model.save_weights(folder / "weights")
                if state:
                    np.savez(folder / BEST, *state)
        write_text(folder / "scores.json", json.dumps(scores))
        return self._best(scores)

    def on_trial_end(self, trial: Any) -> None:
        """As KerasTuner's; the weights that the trial went on from are not needed any more."""
        super().on_trial_end(trial)
        parent = trial.hyperparameters.values.get(PARENT)
        for path in self._folder(parent).glob("weights*") if parent else ():
            path.unlink(missing_ok=True)

    def failure(self, trial_id: str) -> str | None:
        """Returns why a trial failed, as far as its own process knew."""
        path = self._folder(trial_id) / "failure.txt"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def scores(self, trial_id: str) -> Scores:
        """Returns the validation metrics of a finished trial after each slice, from the first."""
        return json.loads((self._folder(trial_id) / "scores.json").read_text())

    # --- its parts

    def _last(self, end: int, ends: bool) -> int:
        """The number of the slice that a trial ends before, if it does not stop improving."""
        return self.train.longer(EPOCHS).count if end == self.train.count and not ends else end

    def _model(self, candidate: Configuration, parent: str | None, end: int) -> Any:
        keras.backend.clear_session()  # of the trial before: its graphs would stay
        gc.collect()
        text = json.dumps(candidate.to_json(), sort_keys=True)
        keras.utils.set_random_seed((self.seed * 1_000_003 + zlib.crc32(f"{text}{parent}".encode())) % 2**31)
        model = self.space.built(candidate, self.train.steps(candidate.batch_size, end))
        if (problem := self.over_ceiling(model, timed=not parent)) is not None:  # a parent was not too slow
            raise FailedTrialError(problem)
        if parent:
            model.optimizer.build(model.trainable_variables)
            if (averages := averages_of(model)) is not None:
                averages.build()
            model.load_weights(self._folder(parent) / "weights").expect_partial()
        return model

    def over_ceiling(self, model: Any, *, timed: bool = True) -> str | None:
        """Returns in what a model is over a ceiling of the space; None where it is not.

        Args:
            model: A model, its variables made.
            timed: Whether to measure its latency too.
        """
        max_parameters, max_latency = self.ceilings
        if max_parameters is not None and model.count_params() > max_parameters:
            return f"{model.count_params():,} parameters are more than {max_parameters:,}."
        if timed and max_latency is not None and (seconds := latency(model, self.valid)) > max_latency:
            return f"{seconds:.4f} s for 100 rows are more than {max_latency:g} s."
        return None

    def _check_seconds(self, of_a_slice: float) -> None:
        seconds = self.train.count * of_a_slice
        if self._is_long(seconds):
            raise FailedTrialError(
                f"{seconds:.3g} s of a whole training are more than {self.max_seconds:.3g} s, a share of the minutes. "
                "Give more of them, or fewer passes."
            )

    def _is_long(self, seconds: float) -> bool:
        return self.max_seconds is not None and seconds > self.max_seconds

    def _looks(self, candidate: Configuration, scores: Scores) -> tuple[Looks, Action]:
        """The looks behind slices that have been judged, and what follows from the last one."""
        action: Action = "go on"
        looks = Looks(self.patience, self.goal.sign, plateau_of(candidate))
        for score in scores:
            action = looks.look(score[self.goal.metric])
        return looks, action

    def _best(self, scores: Scores) -> dict[str, float]:
        best = max(scores, key=lambda score: self.goal.sign * score[self.goal.metric])
        return {f"val_{name}": value for name, value in best.items() if np.isfinite(value)}

    def _folder(self, trial_id: str) -> Path:
        return Path(self.get_trial_dir(trial_id))

    # --- what is kept: the oracle's alone, whichever process goes on with it

    def state_file(self) -> Path:
        """Returns the oracle's file."""
        return Path(self.project_dir) / "oracle.json"

    def save(self) -> None:
        """Does nothing: the oracle saves itself."""

    def reload(self) -> None:
        """Goes on where the oracle was; a worker asks the chief's, which may be writing."""
        if not self.is_worker:
            self.oracle.reload()


@contextmanager
def _counted(starts: Path) -> Iterator[None]:
    """Fails a trial that its process never survives: for want of memory most systems end the process at once."""
    if starts.exists() and len(starts.read_text()) >= STARTS:
        raise FailedTrialError(f"Its process ended {STARTS} times before it was through.")
    with starts.open("a") as file:
        file.write(".")
    try:
        yield
    finally:
        starts.unlink(missing_ok=True)


@contextmanager
def failing() -> Iterator[None]:
    """Makes of any error one of what is tried alone: a FailedTrialError with its text."""
    try:
        yield
    except Exception as error:
        reason = str(error)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            reason = f"The memory does not suffice: {reason.splitlines()[0]}"
        raise FailedTrialError(reason) from error


def _arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as found:
        return [found[name] for name in found.files]


class Diverged(ValueError):
    """The loss of a training, or its validation metric, became infinite or NaN."""


def train_slice(model: Any, train: Slices, number: int, batch_size: int, callbacks: Sequence[Any] = ()) -> None:
    """Trains a model on a slice.

    Args:
        model: A compiled model.
        train: The training rows in slices.
        number: Number of the slice, from 0.
        batch_size: Rows of a training step.
        callbacks: Further Keras callbacks.

    Raises:
        Diverged: The loss became infinite or NaN.
    """
    adapt_labels(model, train.part)
    count_where_needed(model, train.part)
    try:
        history = model.fit(
            train.dataset(number, batch_size),
            epochs=number + 1,
            initial_epoch=number,
            callbacks=[keras.callbacks.TerminateOnNaN(), *callbacks],
            verbose=0,
        ).history
    except LossNotFinite as error:
        raise Diverged(f"It diverged in slice {number + 1}. {error}") from error
    _check_finite("loss", history["loss"][-1], number)


class SliceScore(NamedTuple):
    """What a model was behind a slice.

    Attributes:
        metrics: The exact validation metrics of its weights or of their averages, whichever are better.
        averages: The averages where they are; None where the weights are.
    """

    metrics: dict[str, float]
    averages: list[np.ndarray] | None = None


def judge_slice(
    model: Any, train: Slices, number: int, batch_size: int, valid: EncodedPart, goal: Objective
) -> SliceScore:
    """Judges a model behind a slice: with its weights, and with their averages where it keeps some.

    Args:
        model: A compiled model, which was trained on the slice.
        train: The training rows in slices.
        number: Number of the slice, from 0.
        batch_size: Rows of a training step.
        valid: Rows to judge on.
        goal: The objective, which has to be finite, and by which the better of the two counts.

    Raises:
        Diverged: The objective became infinite or NaN.
    """
    score = evaluate(model, valid)
    _check_finite(goal.name, score[goal.metric], number)
    if averages_of(model) is None:
        return SliceScore(score)
    with averaged_in_place(model, train, number, batch_size):
        other = evaluate(model, valid)
        if goal.sign * other[goal.metric] > goal.sign * score[goal.metric]:
            return SliceScore(other, model.get_weights())
    return SliceScore(score)


def averaged_in_place(model: Any, train: Slices, number: int, batch_size: int) -> Any:
    """Returns the context inside of which a model has the averages of its weights.

    As long as fewer than three passes have been made, the statistics of BatchNorm are taken anew over rows of the last
    slice.

    Args:
        model: A model that averages its weights, trained on the slice.
        train: The training rows in slices.
        number: Number of the slice, from 0.
        batch_size: Rows of a training step.
    """
    few = (number + 1) * train.passes / train.count < PASSES
    return model.averaging.in_place(train.dataset(number, batch_size) if few else ())


def _check_finite(name: str, value: float, number: int) -> None:
    if not np.isfinite(value):
        raise Diverged(f"It diverged: its {name} was {value} after slice {number + 1}. Lower its rate.")


def latency(model: Any, part: EncodedPart) -> float:
    """Returns the seconds that a model takes for 100 rows, the median of twenty times after a first."""
    columns = next(iter(EncodedPart(part.columns).dataset(min(100, len(part)))))
    score = tf.function(lambda columns: model(columns, training=False), autograph=False)
    times = []
    for _ in range(21):
        start = time.perf_counter()
        score(columns).numpy()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
