"""The model that a search ends with: from a run's weights, from several, from all rows, or made once more."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart, Prepared, fingerprint
from nfm_tfrs.evidence import DEFAULT, Finalist, Member, Objective, Run, Winner
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import forgotten_gradients, keras
from nfm_tfrs.training.recipe import Best, Recipe, Trained
from nfm_tfrs.training.schedules import OVER_STEPS, plateau_of
from nfm_tfrs.training.statistics import count_rows
from nfm_tfrs.training.stopping import Looks, follow, restore
from nfm_tfrs.tuning.default import steps_of
from nfm_tfrs.tuning.ensembling import together
from nfm_tfrs.tuning.settings import Finals
from nfm_tfrs.tuning.slices import Slices, joined
from nfm_tfrs.tuning.tuner import Diverged, Scores, SliceTuner, averaged_in_place, judge_slice, train_slice


def made(
    tuner: SliceTuner, kept: Sequence[Finalist], data: Prepared, finals: Finals, tell: Callable[[str], None]
) -> tuple[Any, Winner]:
    """Returns the model that a search ends with, and how it was made.

    Args:
        tuner: The tuner of the search.
        kept: The finalists, the best first.
        data: The prepared rows.
        finals: What becomes of the best trials.
        tell: Called with a line before a training on all rows.
    """
    members, models = _members(tuner, kept, finals.members), []
    for member, run in members:
        models.append(_from_weights(tuner, member, run))
    model = models[0]
    if len(models) > 1:
        mean = _joined(models, tuner)
        model, members = (model, members[:1]) if mean is None else (mean, members)
    winner = _winner(tuner, kept[0], [member for member, _ in members], "train")
    if finals.refit:
        tell("training on all rows")
        try:
            return _refitted(tuner, kept[0], members, data)
        except (Diverged, Unjudged) as error:
            warnings.warn(f"The model is not trained on all rows: {error}", stacklevel=4)
    return model, winner


class Unjudged(ValueError):
    """A training on all rows needs others to judge by."""


def _members(tuner: SliceTuner, kept: Sequence[Finalist], most: int) -> list[tuple[Member, Run]]:
    """The trainings that the model is the mean of, the best run of the first finalist before all others."""
    runs = [(finalist, run) for finalist in kept for run in finalist.runs]
    of_first = range(len(kept[0].runs))
    first = max(of_first, key=lambda number: tuner.goal.sign * runs[number][1].metrics[tuner.goal.metric])
    logits = [np.load(run.file) for _, run in runs] if most > 1 else []
    numbers = together(tuner.goal, tuner.valid, logits, first=first, most=most) if most > 1 else [first]
    return [(_member(tuner, *runs[number]), runs[number][1]) for number in numbers]


def _member(tuner: SliceTuner, finalist: Finalist, run: Run) -> Member:
    own = finalist.trial == DEFAULT
    candidate = finalist.candidate if own else replace(finalist.candidate, passes=tuner.train.passes)
    return Member(
        trial=finalist.trial,
        candidate=candidate,
        seed=run.seed,
        slices=None if own else run.slice,
        averaged=run.averaged,
    )


def _joined(models: Sequence[Any], tuner: SliceTuner) -> Any:
    """The models as one; None, with a warning, where there cannot be one, or it is over a ceiling."""
    from nfm_tfrs.models.ensemble import ensemble_of

    try:
        model = ensemble_of(models)
        problem = tuner.over_ceiling(model)
    except ValueError as error:  # of another package's
        model, problem = None, str(error)
    if problem is not None:
        warnings.warn(f"The model is not the mean of several: {problem}", stacklevel=5)
    return model if problem is None else None


def _winner(tuner: SliceTuner, first: Finalist, members: Sequence[Member], rows: Any) -> Winner:
    differs = members[0].slices is not None and passes_of(tuner, first) != members[0].candidate.passes
    return Winner(
        seed=members[0].seed,
        slices=members[0].slices,
        rows=rows,
        averaged=members[0].averaged,
        objective=tuner.goal if any(one.candidate.averaging or plateau_of(one.candidate) for one in members) else None,
        passes=members[0].candidate.passes if differs and len(members) == 1 else None,
        members=tuple(members) if len(members) > 1 else (),
    )


def passes_of(tuner: SliceTuner, first: Finalist) -> float | None:
    """Returns the passes of a training by the winner's recipe: as many as any of its runs took.

    Args:
        tuner: The tuner of the search.
        first: The first finalist.
    """
    if first.trial == DEFAULT:
        return first.candidate.passes
    trained = max(run.trained or 0 for run in first.runs)
    count, passes = tuner.train.count, tuner.train.passes
    return passes if trained <= count else float(math.ceil(trained * passes / count))


def _from_weights(tuner: SliceTuner, member: Member, run: Run) -> Any:
    """The model of a run, from its weights."""
    part, candidate = tuner.train.part, member.candidate
    steps = steps_of(candidate, len(part)) if member.slices is None else tuner.train.steps(candidate.batch_size)
    model = tuner.space.built(candidate, steps)
    model.optimizer.build(model.trainable_variables)  # its state is in the file too
    model.load_weights(Path(run.file).with_suffix(".weights.h5"))
    count_rows(model, [part], tuner.space.features)
    return model


def _refitted(
    tuner: SliceTuner, first: Finalist, members: Sequence[tuple[Member, Run]], data: Prepared
) -> tuple[Any, Winner]:
    """The members trained on training and validation rows, for as long as was best; what made it.

    One alone is trained for as many slices as were best on average over its seeds. Of a training without a search,
    which needs rows to stop by, as many slices are taken as its epochs come to; a rate of its own that falls to an end
    falls over as many passes as there.

    Raises:
        Unjudged: The rate of one is divided where validation stalls.
        Diverged: The loss became infinite or NaN.
    """
    count, anew = tuner.train.count, []
    for member, run in members:
        if plateau_of(member.candidate) is not None:
            raise Unjudged(
                f"{member.trial} divides its rate where validation stalls, which no row is left to say. Leave out "
                "refit, or search without plateaus."
            )
        falls = member.slices is None and member.candidate.schedule in OVER_STEPS
        passes = Recipe.of(member.candidate).lasting()[0] if falls else tuner.train.passes
        alone = len(members) == 1
        stop = float(np.mean([run.slice for run in first.runs])) if alone else run.slice
        averaged = 2 * sum(run.averaged for run in first.runs) > len(first.runs) if alone else run.averaged
        slices = round(stop if member.slices is not None else stop * count / passes)
        candidate, seed = replace(member.candidate, passes=passes), tuner.seed if alone else member.seed
        anew.append(replace(member, candidate=candidate, seed=seed, slices=max(1, slices), averaged=averaged))
    trained = _trained(anew, data, joined(tuner.train.part, tuner.valid), None, count=count, goal=tuner.goal)
    return trained.model, _winner(tuner, first, anew, "train and validation")


def train_again(best: Best, data: Prepared, callbacks: Sequence[Any] = ()) -> Trained:
    """Trains the model of a search again as it was trained there: bit for bit on the same machine and threads.

    Args:
        best: What the search chose.
        data: The rows that the search had.
        callbacks: Further Keras callbacks; one that stops the training leaves the model as it is then, and the mean of
            several without those that were not begun.

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
    winner, recipe = best.winner, best.recipe.without_features()
    alone = replace(recipe, passes=recipe.passes if winner.passes is None else winner.passes)
    members = winner.members or (
        Member(trial="", candidate=alone, seed=winner.seed, slices=winner.slices, averaged=winner.averaged),
    )
    rows, valid = (data.train, data.valid) if winner.rows == "train" else (joined(data.train, data.valid), None)
    return _trained(members, data, rows, valid, count=best.slices, goal=winner.objective, callbacks=callbacks)


def _trained(
    members: Sequence[Member],
    data: Prepared,
    rows: EncodedPart,
    valid: EncodedPart | None,
    *,
    count: int,
    goal: Objective | None,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """Each member's training once more; of several the mean."""
    from nfm_tfrs.models.ensemble import weights_alone
    from nfm_tfrs.training.members import as_one

    trained: list[Trained] = []
    for number, member in enumerate(members):
        if member.slices is None:
            one = Recipe.of(member.candidate).fit(data, seed=member.seed, callbacks=callbacks)
        else:
            features = data.features
            one = _sliced(member, rows, valid, count=count, features=features, goal=goal, callbacks=callbacks)
        interrupted = any(getattr(callback, "interrupted", False) for callback in callbacks)
        if not trained and (interrupted or len(members) == 1):
            return one
        # What the optimizer keeps is let go of, before the next one begins.
        trained.append(replace(one, model=weights_alone(one.model, f"model_{number}")))
        if interrupted:
            break
    return as_one(trained)


def _sliced(
    member: Member,
    rows: EncodedPart,
    valid: EncodedPart | None,
    *,
    count: int,
    features: FeatureSpec,
    goal: Objective | None = None,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """A new model of a candidate, trained for as many slices as the member."""
    candidate, size = member.candidate, member.candidate.batch_size
    assert candidate.passes is not None  # of a search's best
    cut = Slices(rows, passes=candidate.passes, count=count, seed=member.seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(member.seed)
    with forgotten_gradients():
        model = Recipe.of(candidate).build(features, steps=cut.steps(size))
    count_rows(model, [rows], features)
    name, direction = model.objective
    goal, slices = goal or Objective(name=name, direction=direction), member.slices or 0
    scores: Scores = []
    looks = Looks(slices, goal.sign, plateau_of(candidate))
    state: list[np.ndarray] = []
    for number in range(slices):
        train_slice(model, cut, number, size, callbacks)
        # Without rows to judge on nothing says when a rate is to fall.
        scores.append({} if valid is None else judge_slice(model, cut, number, size, valid, goal).metrics)
        if model.stop_training:
            break
        if valid is not None:
            follow(model, looks, scores[-1][goal.metric], state)
    if member.averaged and not model.stop_training:
        with averaged_in_place(model, cut, slices - 1, size):
            averages = model.get_weights()
        restore(model, averages)
    return Trained(model, {f"val_{name}": [score[name] for score in scores] for name in scores[0]})
