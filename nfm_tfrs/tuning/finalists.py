"""The best few, trained again with several seeds, and how sure one may be that one of them is better."""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nfm_tfrs import full_disk
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.parts import EncodedPart, Prepared, fingerprint
from nfm_tfrs.evidence import Data, Evidence, Finalist, Judged, Objective, Run, TrialRecord, Winner
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import forgotten_gradients, keras
from nfm_tfrs.metrics.bootstrap import paired_bootstrap
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.training.evaluate import evaluate, evaluate_constant, predict
from nfm_tfrs.training.recipe import Best, Recipe, Trained
from nfm_tfrs.training.schedules import Plateau, plateau_of
from nfm_tfrs.training.statistics import count_rows
from nfm_tfrs.training.stopping import Looks, follow, restore
from nfm_tfrs.tuning.oracle import END, PARENT, START
from nfm_tfrs.tuning.settings import Finals
from nfm_tfrs.tuning.slices import Slices, joined
from nfm_tfrs.tuning.tuner import Diverged, Scores, SliceTuner, averaged_in_place, judge_slice, train_slice
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
        score, averaged = judge_slice(model, train, number, batch_size, valid, goal)
        scores.append(score)
        action = follow(model, looks, score[goal.metric], state)
        if action == "better":
            best, of_averages = number, averaged
            weights = _weights(model, train, number, batch_size, averaged=averaged)
        if action == "stop":
            break
    restore(model, weights)
    return Whole(best + 1, scores, of_averages)


def _weights(model: Any, train: Slices, number: int, batch_size: int, *, averaged: bool) -> Any:
    """The weights of a model behind a slice, or their averages."""
    with averaged_in_place(model, train, number, batch_size) if averaged else nullcontext():
        return model.get_weights()


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
    """Trains the best trials again, chooses on validation, and judges on test.

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
    goal, valid, seconds = tuner.goal, tuner.valid, tuner.oracle.time_spent
    trials = _chosen_trials(tuner, finals.finalists)
    seeds = range(tuner.seed + 1, tuner.seed + 1 + finals.seeds)
    trained = []
    for number, trial in enumerate(trials, start=1):
        tell(f"finalist {number} of {len(trials)}")
        trained.append(_finalist(tuner, trial, seeds, folder / "finalists"))
    lost = tuple(entry.trial for entry in trained if not entry.runs)
    kept = [entry for entry in trained if entry.runs]
    if not kept:
        raise ValueError("All finalists diverged when they were trained again. Search at lower rates.")
    kept.sort(key=lambda entry: (len(entry.diverged), -goal.sign * _mean(entry)))
    logits = [[np.load(run.file) for run in entry.runs] for entry in kept]
    labels = np.asarray(valid.labels)
    for place in range(1, len(kept)):
        gap = paired_bootstrap(goal.metric, labels, logits[place], logits[0], weights=valid.weights)
        kept[place] = replace(kept[place], difference=gap)
    model, winner = _made_again(tuner, kept[0])
    if finals.refit:
        tell("training on all rows")
        try:
            model, winner = _refitted(tuner, kept[0])
        except Diverged as error:
            warnings.warn(f"The model is not trained on all rows: {error}", stacklevel=3)
    test = data.encoded.get("test") or None  # none of no rows
    evidence = Evidence(
        objective=goal,
        seed=tuner.seed,
        passes=tuner.train.passes,
        slices=tuner.train.count,
        seconds=seconds,
        trials=tuple(_described(tuner, trial) for trial in tuner.oracle.trials.values()),
        finalists=tuple(kept),
        diverged=lost,
        verdict=verdict(kept, goal, len(lost)),
        winner=winner,
        test=None if test is None else _judged(model, test, goal.metric, data.train),
        data=Data(
            train=len(data.train),
            valid=len(valid),
            test=None if test is None else len(test),
            label=None if data.target is None else str(data.target),
            split=data.split,
            fingerprint=rows,
        ),
        versions=versions(),
    )
    config = {**kept[0].candidate.config, "features": tuner.space.features.to_dict()}  # last: it is long
    recipe = Recipe.of(replace(kept[0].candidate, config=config, passes=tuner.train.passes))
    best = Best(recipe=recipe, winner=winner, slices=tuner.train.count, fingerprint=rows, histories=data.histories)
    return Found(model, best, evidence)


def train_again(best: Best, data: Prepared, callbacks: Sequence[Any] = ()) -> Trained:
    """Trains the model of a search again as it was trained there: bit for bit on the same machine and threads.

    Args:
        best: What the search chose.
        data: The rows that the search had.
        callbacks: Further Keras callbacks; one that stops the training leaves the model as it is then.

    Raises:
        ValueError: It is of an earlier version, which did not write how the model was made, or these are other rows.
    """
    if best.winner is None or best.slices is None:
        raise ValueError(
            "This best.json does not say how the search made its model: nfm-tfrs 0.1.0 wrote it. Leave out --repeat."
        )
    found = fingerprint(data.train, data.valid)
    if found != best.fingerprint:
        raise ValueError(
            f"The search had other rows: their fingerprint was {str(best.fingerprint)[:8]}…; received {found[:8]}…. "
            "Give its data, label, split, seed and features, or leave out --repeat."
        )
    both = best.winner.rows != "train"
    rows, valid = (joined(data.train, data.valid), None) if both else (data.train, data.valid)
    return _trained_for(
        best.recipe, rows, valid, best.winner, count=best.slices, features=data.features, callbacks=callbacks
    )


def _trained_for(
    candidate: Configuration,
    rows: EncodedPart,
    valid: EncodedPart | None,
    winner: Winner,
    *,
    count: int,
    features: FeatureSpec,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """A new model of a candidate, trained for as many slices as the winner."""
    batch_size, passes = candidate.batch_size, candidate.passes
    assert passes is not None  # of a search's best
    cut = Slices(rows, passes=passes, count=count, seed=winner.seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(winner.seed)
    with forgotten_gradients():
        model = Recipe.of(candidate).build(features, steps=cut.steps(batch_size))
    count_rows(model, [rows], features)
    name, direction = model.objective
    goal = winner.objective or Objective(name=name, direction=direction)
    scores: Scores = []
    looks = Looks(winner.slices, goal.sign, plateau_of(candidate))
    state: list[np.ndarray] = []
    for number in range(winner.slices):
        train_slice(model, cut, number, batch_size, callbacks)
        # Without rows to judge on nothing says when a rate is to fall.
        scores.append({} if valid is None else judge_slice(model, cut, number, batch_size, valid, goal)[0])
        if model.stop_training:
            break
        if valid is not None:
            follow(model, looks, scores[-1][goal.metric], state)
    if winner.averaged and not model.stop_training:
        restore(model, _weights(model, cut, winner.slices - 1, batch_size, averaged=True))
    return Trained(model, {f"val_{name}": [score[name] for score in scores] for name in scores[0]})


def _chosen_trials(tuner: SliceTuner, count: int) -> list[Any]:
    done = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    if not done:
        failures = [failure for trial in tuner.oracle.trials.values() if (failure := _failure(tuner, trial))]
        why = failures[-1] if failures else tuner.oracle.last_problem
        remedy = "Give a larger budget." if tuner.oracle.trials else "None was begun."
        raise ValueError("No trial of the search was finished. " + (f"The last one: {why}" if why else remedy))
    return chosen(done, count, lambda trial: tuner.goal.sign * trial.score)


@forgotten_gradients()
def _finalist(tuner: SliceTuner, trial: Any, seeds: Sequence[int], folder: Path) -> Finalist:
    """A trial's configuration trained as a whole with each seed; what was trained before an interruption is read."""
    folder.mkdir(exist_ok=True)
    candidate = tuner.candidate(trial.hyperparameters)
    runs, diverged = [], []
    for seed in seeds:
        path = folder / f"{trial.trial_id}-{seed}"
        run = _known_run(path, candidate)
        if run is None:
            try:
                run = _run(tuner, candidate, seed, path)
            except Diverged:
                diverged.append(seed)
                continue
        runs.append(run)
    values = [run.metrics[tuner.goal.metric] for run in runs]
    return Finalist(
        trial=trial.trial_id,
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
    """Trains a candidate as a whole; writes its predictions, its best weights and, last, what it reached."""
    batch_size = candidate.batch_size
    cut = Slices(tuner.train.part, passes=tuner.train.passes, count=tuner.train.count, seed=seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = tuner.space.built(candidate, cut.steps(batch_size))
    best, scores, averaged = train_whole(
        model,
        cut,
        tuner.valid,
        batch_size=batch_size,
        goal=tuner.goal,
        patience=tuner.patience,
        plateau=plateau_of(candidate),
    )
    with full_disk.naming(path):
        np.save(path.with_suffix(".npy"), predict(model, tuner.valid))
        model.save_weights(path.with_suffix(".weights.h5"))
    run = Run(seed=seed, slice=best, metrics=scores[best - 1], file=f"{path}.npy", averaged=averaged)
    write_text(path.with_suffix(".json"), json.dumps({**run.to_json(), "candidate": candidate.to_json()}))
    return run


def _made_again(tuner: SliceTuner, finalist: Finalist) -> tuple[Any, Winner]:
    """The model of the finalist's best run, from its weights; how it was made."""
    run = max(finalist.runs, key=lambda run: tuner.goal.sign * run.metrics[tuner.goal.metric])
    model = tuner.space.built(finalist.candidate, tuner.train.steps(finalist.candidate.batch_size))
    model.optimizer.build(model.trainable_variables)  # its state is in the file too
    model.load_weights(Path(run.file).with_suffix(".weights.h5"))
    count_rows(model, [tuner.train.part], tuner.space.features)
    depends = finalist.candidate.averaging or plateau_of(finalist.candidate)
    objective = tuner.goal if depends else None
    return model, Winner(seed=run.seed, slices=run.slice, averaged=run.averaged, objective=objective)


def _refitted(tuner: SliceTuner, finalist: Finalist) -> tuple[Any, Winner]:
    """The winner trained on training and validation rows, for as many slices as were best on average; what made it."""
    stop = round(float(np.mean([run.slice for run in finalist.runs])))
    averaged = 2 * sum(run.averaged for run in finalist.runs) > len(finalist.runs)
    winner = Winner(seed=tuner.seed, slices=stop, rows="train and validation", averaged=averaged)
    candidate = replace(finalist.candidate, passes=tuner.train.passes)
    both = joined(tuner.train.part, tuner.valid)
    trained = _trained_for(candidate, both, None, winner, count=tuner.train.count, features=tuner.space.features)
    return trained.model, winner


def _described(tuner: SliceTuner, trial: Any) -> TrialRecord:
    values = trial.hyperparameters.values
    finished = trial.status == "COMPLETED"
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
        scores=tuple(tuner.scores(trial.trial_id)) if finished else (),
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


def verdict(finalists: Sequence[Finalist], goal: Objective, lost: int = 0) -> str:
    """Returns, in a sentence, how sure one may be of the first finalist.

    Args:
        finalists: The finalists, the best first.
        goal: The objective they were compared by.
        lost: How many diverged with all their seeds.
    """
    if len(finalists) == 1:
        return f"One finalist is left: {lost} diverged with all their seeds." if lost else "There was one finalist."
    second, gap = finalists[1], finalists[1].difference
    assert gap is not None
    several = any(len(finalist.runs) > 1 for finalist in finalists[:2])
    where = "over these validation rows and seeds" if several else "on these validation rows"
    if gap.low * goal.sign > 0 and gap.high * goal.sign > 0:  # it comes second for that alone
        return (
            f"The first finalist is the steadier one: the second, whose {goal.metric} differs by "
            f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] {where}, diverged "
            f"with {len(second.diverged)} of its seeds."
        )
    if gap.low <= 0 <= gap.high:
        return (
            f"There is no clear winner: {where} the second finalist's {goal.metric} differs from the first's by "
            f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]."
        )
    return (
        f"The first finalist is better than the second: {where} its {goal.metric} differs by "
        f"{-gap.mean:+.4f} [{-gap.high:+.4f}, {-gap.low:+.4f}]."
    )
