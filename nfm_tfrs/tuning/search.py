"""A search from its budget to its evidence: trials, finalists with several seeds, one look at the test rows."""

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs import full_disk
from nfm_tfrs.data.parts import EncodedPart, Prepared, fingerprint
from nfm_tfrs.evidence import Objective
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import load_keras_tuner
from nfm_tfrs.runs.claim import locked
from nfm_tfrs.runs.files import UNFINISHED, leftovers, remove, write_text
from nfm_tfrs.tuning.finalists import Found, conclude
from nfm_tfrs.tuning.hypermodel import RARE, RankingHyperModel
from nfm_tfrs.tuning.oracle import HalvingOracle
from nfm_tfrs.tuning.outcome import FILES, write_found
from nfm_tfrs.tuning.prior import known_sets, proposals
from nfm_tfrs.tuning.settings import Budget, Finals, Schedule, Space, check_features, resume_key
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import SliceTuner
from nfm_tfrs.tuning.workers import Workers, is_worker, serve
from nfm_tfrs.written import read_object, reason
from tfrs_registry import PluginWarning

keras_tuner = load_keras_tuner()

DIRECTIONS = {
    "binary": {"val_auc": "max", "val_log_loss": "min"},
    "regression": {"val_rmse": "min", "val_mae": "min"},
}
SHARE = 0.2  # of the minutes, for a whole training
MAX_FAILURES = 20  # in a row: then there is something wrong with all of them
SEEDS = 2**32  # that NumPy takes, from 0; each run of a finalist takes one of the next

Watch = Callable[[Any, Any, list[dict[str, float]]], None]
SPACE, SCHEDULE, FINALS = Space(), Schedule(), Finals()


def search(
    data: Prepared,
    *,
    out: str | Path,
    budget: Budget,
    space: Space = SPACE,
    schedule: Schedule = SCHEDULE,
    finals: Finals = FINALS,
    objective: Any = None,
    seed: int = 0,
    workers: Workers | None = None,
    watch: Watch = lambda oracle, trial, scores: None,
) -> Found:
    """Searches a model on training and validation rows, judges it once on test rows, and writes all that into `out`.

    Trials are chosen by the exact validation metric. The best of them are trained again as a whole, each with several
    seeds; the one with the best mean wins, and a paired bootstrap over rows and seeds says how clear that is.
    What is in `out` of the same search goes on: no finished trial is run again. In a worker process, which only runs
    trials, it ends the process when there are none left.

    Args:
        data: The prepared rows: those to train on, to choose on and, where there are any, to judge on; see
            `nfm_tfrs.data.prepare`. Their target says the task.
        out: Folder for all that is kept.
        budget: How long to search.
        space: What there is to search.
        schedule: How trials are trained, and which of them go on.
        finals: What becomes of the best trials.
        objective: `"val_auc"`, `"val_log_loss"`, `"val_rmse"`, `"val_mae"`, or a `keras_tuner.Objective` of one; AUC
            or, of a regression, RMSE if not given.
        seed: Seed of the trials, of the finalists and of the order of rows.
        workers: The processes that run the trials; they run in this one if not given.
        watch: Called after each slice with the oracle, the trial and its scores; with the oracle, None and no scores
            several times a second where workers run the trials, and before each finalist (`oracle.stage` names it).

    Returns:
        The model with its evidence. `out` holds the model, `best.json`, a model card, every figure (`search.json`),
        TensorBoard logs and, where the extra `report` is installed, a page.

    Raises:
        ValueError: An argument out of range, an objective that there is not, a frozen feature, validation rows that it
            has no value on, a folder of another search, or one that another process searches in.
        LookupError: A model or block that is not installed.

    Example:
        A whole search takes minutes; README has one.
    """
    task = "binary" if data.target is None else data.target.task
    known = proposals(known_sets(), space.prior_without or ()) if space.prior else []
    goal = checked_objective(objective, task)
    if not isinstance(seed, int) or not 0 <= seed < SEEDS - finals.seeds:
        raise ValueError(f"seed must be a whole number from 0, below {SEEDS - finals.seeds}; received {seed!r}.")
    check_features(data.features)
    check_rows(data.valid, goal.name)
    cut = Slices(data.train, passes=schedule.passes, count=schedule.slices, seed=seed)
    hypermodel = _hypermodel(data, space, task, cut)
    hypermodel.check_arguments()
    rows, folder = fingerprint(data.train, data.valid), Path(out)
    settings = _key(data, space, schedule, hypermodel, rows=rows, objective=goal.name, seed=seed)
    claim(folder, settings)
    with full_disk.naming(folder), nullcontext() if is_worker() else held(folder):
        oracle = _oracle(goal, budget, schedule, seed, known)
        tuner = SliceTuner(
            oracle,
            hypermodel,
            train=cut,
            valid=data.valid,
            space=space,
            patience=schedule.patience,
            seed=seed,
            max_seconds=None if budget.seconds is None else SHARE * budget.seconds,
            watch=lambda trial, scores: watch(oracle, trial, scores),
            directory=str(folder),
            project_name="trials",
        )
        oracle.problem, oracle.ends, oracle.trained = tuner.problem, tuner.ends, tuner.trained
        try:
            _try(tuner, workers, watch)
            if is_worker():
                sys.exit(0)
            if oracle.gave_up:
                warnings.warn(f"The search ends early: its last {MAX_FAILURES} trials failed.", stacklevel=2)

            def tell(stage: str) -> None:
                oracle.stage = stage
                watch(oracle, None, [])

            found = conclude(tuner, folder, data, finals, rows=rows, tell=tell)
            write_found(found.model, found.best, data.features, found.evidence, settings, folder)
        finally:
            oracle.forget()
    return found


def _hypermodel(data: Prepared, space: Space, task: str, cut: Slices) -> RankingHyperModel:
    return RankingHyperModel(
        data.features,
        models=space.models,
        blocks=space.blocks,
        structures=space.structures,
        precisions=space.precisions,
        fixed=space.fixed,
        task=task,
        decay_steps=cut.steps(min(space.batch_sizes)),
    )


def _oracle(
    goal: Objective, budget: Budget, schedule: Schedule, seed: int, prior: Sequence[Mapping[str, Any]]
) -> HalvingOracle:
    """What proposes the trials: by halving, or at random."""
    halving = schedule.search == "halving"
    return HalvingOracle(
        keras_tuner.Objective(goal.name, goal.direction),
        rungs=schedule.rungs,
        neighbours=halving,
        balanced="interaction" if halving else "",
        rare=RARE if halving else (),
        prior=prior if halving else (),
        max_configurations=budget.trials,
        seconds=budget.seconds,
        seed=seed,
        max_failures=MAX_FAILURES,
    )


def _try(tuner: SliceTuner, workers: Workers | None, watch: Watch) -> None:
    """Runs the trials, here or in processes of their own."""
    oracle = tuner.oracle
    if workers is None:
        tuner.search()
        return
    oracle.save()
    if not serve(oracle, workers, warn=warnings.warn, tick=lambda: watch(oracle, None, [])):
        warnings.warn("No worker ended by itself; what they said is kept beside the search.", stacklevel=3)


def _key(data: Prepared, space: Space, schedule: Schedule, hypermodel: RankingHyperModel, **others: Any) -> Any:
    """What must be the same for a search to go on: what is searched, names as the registry spells them."""
    searched = replace(space, models=hypermodel.models, structures=hypermodel.structures)
    features = hashlib.sha256(data.features.to_json().encode()).hexdigest()
    key = resume_key(searched, schedule, features=features, **others)
    return json.loads(json.dumps(key | {"space.blocks": sorted(hypermodel.blocks)}))


def checked_objective(objective: Any, task: str) -> Objective:
    """Returns an objective that the reports of this task have.

    Args:
        objective: Name of a validation metric, or a `keras_tuner.Objective`; the task's first if None.
        task: `"binary"` or `"regression"`.

    Raises:
        ValueError: There is no such metric, or no such direction.
    """
    known = DIRECTIONS[task]
    if objective is None:
        objective = next(iter(known))
    name = objective if isinstance(objective, str) else getattr(objective, "name", objective)
    if name not in known:
        raise ValueError(f"objective must be one of {', '.join(known)}; received {name!r}.")
    direction: Any = known[name] if isinstance(objective, str) else objective.direction
    if direction != known[name]:
        raise ValueError(f"The direction of {name} is {known[name]}; received {direction!r}. Give the name alone.")
    return Objective(name=name, direction=direction)


def check_rows(valid: EncodedPart, objective: str) -> None:
    """Checks that there is something to choose on.

    Raises:
        ValueError: No labels, no rows that count, or one class where the AUC is the objective.
    """
    if valid.labels is None:
        raise ValueError("Validation rows need labels; received none. Prepare them with a label.")
    labels = valid.labels if valid.weights is None else valid.labels[valid.weights > 0]
    if not len(labels):
        raise ValueError(f"No validation row counts; received {len(valid)} rows. Give some of a weight above 0.")
    if objective == "val_auc" and np.all(labels == labels[0]):
        raise ValueError(
            f"The AUC needs validation rows of both classes; received {len(labels)} labels of {labels[0]:g}. "
            "Split otherwise, or take val_log_loss."
        )


def check_space(space: Space, task: str) -> None:
    """Checks, before any row is read, that models of this package can be made and trained with what is fixed.

    Args:
        space: What there is to search.
        task: What the models predict.

    Raises:
        ValueError: An argument out of its range, or one that does not go with the others.
        LookupError: A model or block that is not installed.
    """
    some = [CategoricalFeature(name, vocabulary_size=1) for name in ("one", "other")]
    with warnings.catch_warnings():  # of blocks that take no part: the search says it
        warnings.simplefilter("ignore", PluginWarning)
        RankingHyperModel(
            some,
            models=space.models,
            structures=space.structures,
            precisions=space.precisions,
            fixed=space.fixed,
            task=task,
            decay_steps=1,
        ).check_arguments()


def check_folder(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Checks that a folder is free for a search, or holds it already; returns which of them.

    Args:
        folder: The folder.
        settings: What is known of the search; its rows are not before they are read.

    Raises:
        ValueError: It is another search's, or holds anything else.
    """
    path = folder / "settings.json"
    if path.exists():
        try:
            held = read_object(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} holds no settings of a search: {reason(error)}. Choose another folder."
            ) from error
        if isinstance(held.get("space"), list):
            raise ValueError(f"{folder} holds a search of nfm-tfrs 0.1.0, which cannot go on. Choose another folder.")
        if "schedule.strategy" in held:  # its space had other values
            raise ValueError(
                f"{folder} holds a search that an earlier version began, which cannot go on. Choose another folder."
            )
        differing = [name for name in settings if held.get(name) != settings[name]]
        if differing:
            raise ValueError(f"{folder} holds a search with other {', '.join(differing)}. Choose another folder.")
        return True
    begun = ("settings.json", ".settings.json")  # by another process of the same search
    if folder.exists() and any(not path.name.startswith(begun) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds something that is no search. Choose another folder.")
    return False


def known_settings(space: Space, schedule: Schedule, *, objective: str, seed: int) -> dict[str, Any]:
    """Returns what must be the same for a search to go on, as far as it does not follow from the rows."""
    key = json.loads(json.dumps(resume_key(space, schedule, objective=objective, seed=seed)))
    of_the_rows = ("space.blocks", "space.models", "space.structures")  # those that fit, as the registry spells them
    return {name: value for name, value in key.items() if name not in of_the_rows}


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder the search's with these settings; nothing happens where it is already; see `check_folder`."""
    if not check_folder(folder, settings):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "settings.json", json.dumps(settings, indent=1))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, and removes what a killed one had not finished of its files.

    Raises:
        ValueError: Another process holds it.
    """
    busy = f"Another process searches in {folder}. Wait for it, or choose another folder."
    with locked(folder / ".lock", busy=busy, keep=True) as alone:
        if alone:
            for name in FILES:
                for path in leftovers(folder / name, UNFINISHED):
                    remove(path)
        else:
            warnings.warn(f"{folder} cannot be locked: start one search in it at a time.", stacklevel=4)
        yield
