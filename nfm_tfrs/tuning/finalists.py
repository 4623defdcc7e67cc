"""The best few, trained again with several seeds, and how sure one may be that one of them is better."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs import full_disk
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.evidence import (
    DEFAULT,
    Data,
    Evidence,
    Finalist,
    Judged,
    Objective,
    Run,
    TrialRecord,
)
from nfm_tfrs.keras_compat import forgotten_gradients, keras
from nfm_tfrs.metrics.bootstrap import paired_bootstrap
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.training.evaluate import evaluate, evaluate_constant, predict
from nfm_tfrs.training.recipe import EPOCHS, Best, Recipe
from nfm_tfrs.training.schedules import OVER_STEPS, Plateau, plateau_of
from nfm_tfrs.training.stopping import Looks, follow, restore
from nfm_tfrs.tuning.default import default_of, steps_of, trained_default
from nfm_tfrs.tuning.oracle import END, PARENT, START
from nfm_tfrs.tuning.settings import Finals
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import (
    Diverged,
    FailedTrialError,
    Scores,
    SliceTuner,
    failing,
    judge_slice,
    train_slice,
)
from nfm_tfrs.tuning.verdict import remarks, verdict
from nfm_tfrs.tuning.winner import made, passes_of
from nfm_tfrs.versions import versions


def chosen(trials: Sequence[Any], count: int, key: Callable[[Any], float]) -> list[Any]:
    """Returns the trials of the best configurations, each with its last trial alone, the best first.

    Args:
        trials: Finished trials of KerasTuner.
        count: How many at most.
        key: The higher, the better.
    """
    best: dict[str, Any] = {}
    for trial in trials:
        values = {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}
        name = json.dumps(values, sort_keys=True)
        if name not in best or key(trial) >= key(best[name]):
            best[name] = trial
    return sorted(best.values(), key=key, reverse=True)[:count]


class Whole(NamedTuple):
    """A whole training.

    Attributes:
        slices: Number of slices of the weights that the model is left with.
        scores: The metrics after each slice: of the weights or of their averages, whichever are better.
        averaged: Whether it is left with the averages.
    """

    slices: int
    scores: Scores
    averaged: bool = False


def train_whole(
    model: Any,
    train: Slices,
    valid: EncodedPart,
    *,
    batch_size: int,
    goal: Objective,
    patience: int,
    plateau: Plateau | None = None,
) -> Whole:
    """Trains a model for a whole training, and leaves it with the weights of its best slice, or their averages.

    Args:
        model: A compiled model.
        train: The training rows in slices.
        valid: Rows to judge on after each slice.
        batch_size: Rows of a training step.
        goal: The objective to judge by.
        patience: Slices without a better score after which training ends.
        plateau: When the rate is divided, each slice being a look; None leaves it as it is.

    Raises:
        Diverged: The loss, or the metric, became infinite or NaN.
    """
    scores: Scores = []
    best, of_averages, weights = 0, False, model.get_weights()
    looks = Looks(patience, goal.sign, plateau)
    state: list[np.ndarray] = []
    for number in range(train.count):
        train_slice(model, train, number, batch_size)
        metrics, averages = judge_slice(model, train, number, batch_size, valid, goal)
        scores.append(metrics)
        action = follow(model, looks, metrics[goal.metric], state)
        if action == "better":
            best, of_averages = number, averages is not None
            weights = model.get_weights() if averages is None else averages
        if action == "stop":
            break
    restore(model, weights)
    return Whole(best + 1, scores, of_averages)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        model: The best model, trained.
        best: The recipe of the model, the features in its config, and how the model was made.
        evidence: Every trial, the finalists, their differences, the verdict and the test metrics.
    """

    model: Any
    best: Best
    evidence: Evidence


def conclude(
    tuner: SliceTuner,
    folder: Path,
    data: Prepared,
    finals: Finals,
    *,
    rows: str,
    tell: Callable[[str], None],
) -> Found:
    """Trains the best trials again, and what is trained without a search, chooses on validation, and judges on test.

    Args:
        tuner: The tuner of the search, its trials over.
        folder: The search's folder, for what is to survive an interruption.
        data: The prepared rows.
        finals: What becomes of the best trials.
        rows: The fingerprint of the rows.
        tell: Called with a line before each finalist.

    Raises:
        ValueError: No trial was finished, or all finalists diverged.
    """
    goal, seconds = tuner.goal, tuner.oracle.time_spent
    trials = tuple(_described(tuner, trial) for trial in tuner.oracle.trials.values())
    kept, lost, said = _finalists(tuner, folder / "finalists", data, finals, tell)
    model, winner = made(tuner, kept, data, finals, tell)
    test = data.encoded.get("test") or None  # none of no rows
    said = [verdict(kept, goal, len(lost)), *remarks(kept, trials, winner, tuner.oracle.ending()), *said]
    evidence = Evidence(
        objective=goal,
        seed=tuner.seed,
        passes=tuner.train.passes,
        slices=tuner.train.count,
        seconds=seconds,
        trials=trials,
        finalists=kept,
        diverged=lost,
        verdict=" ".join(said),
        winner=winner,
        test=None if test is None else _judged(model, test, goal.metric, data.train),
        data=Data(
            train=len(data.train),
            valid=len(tuner.valid),
            test=None if test is None else len(test),
            label=None if data.target is None else str(data.target),
            split=data.split,
            fingerprint=rows,
        ),
        versions=versions(),
    )
    config = {**kept[0].candidate.config, "features": tuner.space.features.to_dict()}  # last: it is long
    recipe = Recipe.of(replace(kept[0].candidate, config=config, passes=passes_of(tuner, kept[0])))
    best = Best(recipe=recipe, winner=winner, slices=tuner.train.count, fingerprint=rows, histories=data.histories)
    return Found(model, best, evidence)


def _finalists(
    tuner: SliceTuner, folder: Path, data: Prepared, finals: Finals, tell: Callable[[str], None]
) -> tuple[tuple[Finalist, ...], tuple[str, ...], list[str]]:
    """The finalists, the best first; which diverged with every seed; and what else there is to say."""
    goal, valid = tuner.goal, tuner.valid
    seeds = range(tuner.seed + 1, tuner.seed + 1 + finals.seeds)
    finalist = partial(_finalist, seeds=seeds, folder=folder, metric=goal.metric)
    trials = _chosen_trials(tuner, finals.finalists)
    trained, said = [], []
    tell(f"finalist 1 of {len(trials) + 1}, as without a search")
    try:
        with failing():
            recipe = default_of(tuner)
            _check_ceilings(tuner, recipe)
            own = Configuration(**vars(recipe))
            trained.append(finalist(DEFAULT, own, partial(_default_run, tuner, recipe, data)))
    except FailedTrialError as error:
        said.append(f"The model without a search is no finalist: {error}")
    count = len(trials) + len(trained)
    for trial in trials:
        tell(f"finalist {len(trained) + 1} of {count}")
        candidate, problem = _with_members(tuner, tuner.candidate(trial.hyperparameters))
        said += [] if problem is None else [f"{trial.trial_id} has one member: {problem}"]
        trained.append(finalist(trial.trial_id, candidate, partial(_run, tuner, candidate)))
    kept = [entry for entry in trained if entry.runs]
    if not kept:
        raise ValueError("All finalists diverged when they were trained again. Search at lower rates.")
    kept.sort(key=lambda entry: (len(entry.diverged), -goal.sign * _mean(entry)))
    logits, labels = [_logits(entry) for entry in kept], np.asarray(valid.labels)
    for place in range(1, len(kept)):
        gap = paired_bootstrap(goal.metric, labels, logits[place], logits[0], weights=valid.weights)
        kept[place] = replace(kept[place], difference=gap)
    return tuple(kept), tuple(entry.trial for entry in trained if not entry.runs), said


def _logits(finalist: Finalist) -> list[np.ndarray]:
    return [np.load(run.file) for run in finalist.runs]


def _check_ceilings(tuner: SliceTuner, recipe: Recipe) -> None:
    """Refuses a model without a search that is not one that was asked for."""
    if tuner.ceilings == (None, None):
        return
    problem = tuner.over_ceiling(tuner.space.built(recipe, steps_of(recipe, len(tuner.train.part))))
    if problem is not None:
        raise FailedTrialError(problem)


def _with_members(tuner: SliceTuner, candidate: Configuration) -> tuple[Configuration, str | None]:
    """A candidate of several members, or as it was tried, of one, and why it stays so."""
    several = tuner.space.with_members(candidate)
    if several == candidate:
        return candidate, None
    try:
        with failing():
            model = tuner.space.built(several, tuner.train.steps(several.batch_size))
            problem = tuner.over_ceiling(model)
    except FailedTrialError as error:
        problem = str(error)
    return (several, None) if problem is None else (candidate, problem)


def _chosen_trials(tuner: SliceTuner, count: int) -> list[Any]:
    done = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    if not done:
        failures = [failure for trial in tuner.oracle.trials.values() if (failure := _failure(tuner, trial))]
        why = failures[-1] if failures else tuner.oracle.last_problem
        remedy = "Give a larger budget." if tuner.oracle.trials else "None was begun."
        raise ValueError("No trial of the search was finished. " + (f"The last one: {why}" if why else remedy))
    return chosen(done, count, lambda trial: tuner.goal.sign * trial.score)


@forgotten_gradients()
def _finalist(
    trial: str,
    candidate: Configuration,
    train: Callable[[int, Path], Run],
    *,
    seeds: Sequence[int],
    folder: Path,
    metric: str,
) -> Finalist:
    """A configuration trained as a whole with each seed; what was trained before an interruption is read."""
    folder.mkdir(exist_ok=True)
    runs, diverged = [], []
    for seed in seeds:
        path = folder / f"{trial}-{seed}"
        run = _known_run(path, candidate)
        if run is None:
            try:
                run = train(seed, path)
            except Diverged:
                diverged.append(seed)
                continue
            write_text(path.with_suffix(".json"), json.dumps({**run.to_json(), "candidate": candidate.to_json()}))
        runs.append(run)
    values = [run.metrics[metric] for run in runs]
    return Finalist(
        trial=trial,
        candidate=candidate,
        runs=tuple(runs),
        diverged=tuple(diverged),
        mean=float(np.mean(values)) if values else None,
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def _known_run(path: Path, candidate: Configuration) -> Run | None:
    """The run that was written there before, if it is of this candidate."""
    file = path.with_suffix(".json")
    written = json.loads(file.read_text()) if file.exists() else {}
    return (
        Run.from_json({**written, "file": f"{path}.npy"}) if written.get("candidate") == candidate.to_json() else None
    )


def _run(tuner: SliceTuner, candidate: Configuration, seed: int, path: Path) -> Run:
    """Trains a candidate as a whole, without an end of its rate until it has stopped improving."""
    batch_size = candidate.batch_size
    cut = Slices(tuner.train.part, passes=tuner.train.passes, count=tuner.train.count, seed=seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = tuner.space.built(candidate, cut.steps(batch_size))
    if candidate.schedule not in OVER_STEPS:
        cut = cut.longer(EPOCHS)
    best, scores, averaged = train_whole(
        model,
        cut,
        tuner.valid,
        batch_size=batch_size,
        goal=tuner.goal,
        patience=tuner.patience,
        plateau=plateau_of(candidate),
    )
    file = _keep(model, tuner.valid, path)
    return Run(seed=seed, slice=best, metrics=scores[best - 1], file=file, trained=len(scores), averaged=averaged)


def _default_run(tuner: SliceTuner, recipe: Recipe, data: Prepared, seed: int, path: Path) -> Run:
    """Trains as it is done without a search."""
    keras.backend.clear_session()
    trained, run = trained_default(recipe, data, tuner.goal.metric, seed)
    return replace(run, file=_keep(trained.model, tuner.valid, path))


def _keep(model: Any, valid: EncodedPart, path: Path) -> str:
    """Writes a model's predictions and its weights; returns the file of the predictions."""
    with full_disk.naming(path):
        np.save(path.with_suffix(".npy"), predict(model, valid))
        model.save_weights(path.with_suffix(".weights.h5"))
    return f"{path}.npy"


def _described(tuner: SliceTuner, trial: Any) -> TrialRecord:
    values = trial.hyperparameters.values
    scores = tuner.scores(trial.trial_id) if trial.status == "COMPLETED" else []
    return TrialRecord(
        id=trial.trial_id,
        parent=values.get(PARENT),
        status=trial.status,
        message=_failure(tuner, trial),
        values={name: value for name, value in values.items() if not name.startswith("tuner/")},
        candidate=tuner.candidate(trial.hyperparameters),
        start=values.get(START),
        end=values.get(END),
        score=trial.score,
        scores=tuple(scores),
    )


def _failure(tuner: SliceTuner, trial: Any) -> str | None:
    """Why a trial failed, in a line."""
    if trial.status != "FAILED":
        return None
    return tuner.failure(trial.trial_id) or trial.message


def _judged(model: Any, test: EncodedPart, metric: str, train: EncodedPart) -> Judged:
    over_rows = paired_bootstrap(metric, np.asarray(test.labels), [predict(model, test)], weights=test.weights)
    constant = evaluate_constant(model, test, train)
    return Judged(metrics=evaluate(model, test), low=over_rows.low, high=over_rows.high, constant=constant)


def _mean(finalist: Finalist) -> float:
    assert finalist.mean is not None  # it has a run
    return finalist.mean
