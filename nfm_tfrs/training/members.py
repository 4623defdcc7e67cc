"""Trainings of one recipe, each with a seed of its own, whose models become one; those that are whole are kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nfm_tfrs.models.ensemble import assembled, weights_alone
from nfm_tfrs.models.feature_model import FeatureModel
from nfm_tfrs.models.pretrained import Coverage
from nfm_tfrs.runs.checkpoint import Checkpoints, plain
from nfm_tfrs.runs.finished import Finished
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training.recipe import Trained
from tfrs_registry import models


@dataclass(frozen=True, kw_only=True)
class Training:
    """One of several trainings of a recipe.

    Args:
        number: Its place among them, counted from 0.
        seed: Its seed.
        rows: The batches of its training rows, where they do not fit into memory.
        logs: Its folder for TensorBoard's logs; None without.
        checkpoints: Where it writes down where it is; None without.
    """

    number: int
    seed: int
    rows: Any = None
    logs: Path | None = None
    checkpoints: Checkpoints | None = None

    @classmethod
    def all(
        cls, count: int, *, rows: Any, seed: int, logs: Path | None, checkpoints: Checkpoints | None
    ) -> "list[Training]":
        """Returns all of them.

        Args:
            count: How many.
            rows: The batches of the training rows, which each opens anew, or a list of those of each.
            seed: The seed of the first; those of the others follow it.
            logs: The folder of all logs; None without.
            checkpoints: Those of all; None without.

        Raises:
            ValueError: The batches can be read once alone, or a list has another length.
        """
        each = rows if isinstance(rows, list | tuple) else [rows] * count
        if len(each) != count:
            raise ValueError(f"A list of rows has those of each member; received {len(each)} for {count} members.")
        if any(hasattr(one, "__next__") for one in each):
            raise ValueError(
                f"Each member reads the rows anew; received an iterator ({type(each[0]).__name__}), which is read "
                "once. Give the dataset, or a function that returns it."
            )
        return [
            cls(
                number=number,
                seed=seed + number,
                rows=one,
                logs=None if logs is None else logs / f"member-{number + 1}",
                checkpoints=None if checkpoints is None else checkpoints.of_member(number),
            )
            for number, one in enumerate(each)
        ]


def fit_members(
    name: str,
    members: Sequence[Training],
    fit: Callable[[Training], Trained],
    settings: Callable[[Training], Mapping[str, Any]],
    callbacks: Sequence[Any],
) -> Trained:
    """Trains each member that is not whole yet, and returns the ensemble of all.

    Where a callback interrupts one, it is left out, and the others are not trained; the first one stays as it is then.

    Args:
        name: The model's registered name.
        members: The trainings.
        fit: Trains one.
        settings: What a training depends on, plain JSON types by name.
        callbacks: The callbacks of each.

    Raises:
        ValueError: The model is none of this package, or what `fit` raises.
    """
    if not issubclass(models.load(name), FeatureModel):
        raise ValueError(
            f"Models of this package are averaged; received {name} with members={len(members)}. Train one."
        )
    found: list[Trained] = []
    for member in members:
        known = None if member.checkpoints is None else {**settings(member), **member.checkpoints.settings}
        trained = None if known is None else _whole(member, known)
        if trained is None:
            trained = fit(member)
            interrupted = any(getattr(callback, "interrupted", False) for callback in callbacks)
            if interrupted and found:
                break
            # What the optimizer keeps is let go of, before the next one begins.
            trained = replace(trained, model=weights_alone(trained.model, f"model_{member.number}"))
            found.append(trained)
            if interrupted:
                break
            if known is not None:
                _keep(member, trained, known)
        else:
            found.append(trained)
    return as_one(found)


def as_one(found: Sequence[Trained]) -> Trained:
    """Returns trainings as one, whose model is the mean of theirs.

    Args:
        found: The trainings, their models as `weights_alone` returns them.
    """
    resumed = [step for trained in found for step in trained.resumed]
    histories = [trained.history for trained in found]
    model = assembled([trained.model for trained in found])
    return Trained(model, histories[0], tuple(resumed), found[0].pretrained, histories)


def _whole(member: Training, known: Mapping[str, Any]) -> Trained | None:
    """What a member ended with, if it was trained whole before."""
    assert member.checkpoints is not None
    found = Finished.of(member.checkpoints)
    if found is None:
        return None
    found.check(known)
    model = load_model(found.model, compile=False)
    coverage = [Coverage(**told) for told in found.pretrained]
    return Trained(model, {name: list(values) for name, values in found.history.items()}, found.resumed, coverage)


def _keep(member: Training, trained: Trained, known: Mapping[str, Any]) -> None:
    """Writes down what a member ended with, and removes what it was to go on from."""
    assert member.checkpoints is not None
    found = Finished(
        folder=member.checkpoints.folder,
        settings=json.loads(json.dumps(known, default=plain)),
        history=trained.history,
        resumed=tuple(trained.resumed),
        pretrained=[vars(one) for one in trained.pretrained],
    )
    trained.model.save(found.model)
    found.write()
