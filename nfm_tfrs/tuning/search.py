"""A search from its budget to its evidence: trials, finalists with several seeds, one look at the test rows."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from filelock import FileLock, Timeout

from nfm_tfrs import arguments
from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.evidence import Configuration, Evidence
from nfm_tfrs.features.check import Bag
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import load_keras_tuner
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.runs.folder import plain
from nfm_tfrs.tuning.finalists import Found, conclude
from nfm_tfrs.tuning.hypermodel import RankingHyperModel
from nfm_tfrs.tuning.oracle import HalvingOracle
from nfm_tfrs.tuning.outcome import write_found
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import SliceTuner
from nfm_tfrs.tuning.workers import is_worker, serve
from nfm_tfrs.versions import versions

keras_tuner = load_keras_tuner()

DIRECTIONS = {
    "binary": {"val_auc": "max", "val_log_loss": "min"},
    "regression": {"val_rmse": "min", "val_mae": "min"},
}
SHARE = 0.2  # of the minutes, for a whole training
MAX_FAILURES = 20  # in a row: then there is something wrong with all of them
SEEDS = 2**32  # that NumPy takes, from 0; each run of a finalist takes one of the next
Strategy = Literal["halving", "random"]


@dataclass(frozen=True)
class Budget:
    """How long to search: until either is used up.

    Args:
        trials: Configurations to try.
        minutes: Of search, without the finalists; a trial that runs when they are over is finished first. What would
            take more than a fifth of them to be trained whole fails after its second slice, but for the first.

    Raises:
        ValueError: Neither is given, or one is not above 0.
    """

    trials: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.trials, self.minutes) if value is not None]
        if not given or not all(value > 0 for value in given):
            raise ValueError(
                f"A budget needs trials or minutes above 0; received {self.trials} and {self.minutes}. "
                "Give one or both."
            )


def search(
    train: EncodedPart,
    valid: EncodedPart,
    *,
    features: FeatureSpec,
    budget: Budget,
    out: str | Path,
    objective: Any = "val_auc",
    test: EncodedPart | None = None,
    task: str = "binary",
    models: Sequence[str] = ("ranking",),
    blocks: Sequence[str] | None = None,
    structures: Sequence[str] = ("stacked", "parallel", "concat"),
    precisions: Sequence[str] = ("float32",),
    fixed: Mapping[str, Any] | None = None,
    batch_sizes: Sequence[int] = (256, 512, 1024),
    strategy: Strategy = "halving",
    passes: float = 12,
    slices: int = 27,
    patience: int = 8,
    finalists: int = 3,
    seeds: int = 3,
    refit: bool = False,
    max_parameters: int | None = None,
    max_latency: float | None = None,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    workers: Callable[[str, int], Any] | None = None,
    num_workers: int = 1,
    watch: Callable[[Any, Any, list[dict[str, float]]], None] = lambda oracle, trial, scores: None,
) -> Found:
    """Searches a model on training and validation rows, judges it once on test rows, and writes all that into `out`.

    Trials are chosen by the exact validation metric. The best of them are trained again as a whole, each with several
    seeds; the one with the best mean wins, and a paired bootstrap over the validation rows says how clear that is.
    What is in `out` of the same search goes on: no finished trial is run again.

    Args:
        train: Rows to train on; see `nfm_tfrs.data.prepare`.
        valid: Rows to choose on.
        features: What both were encoded by.
        budget: Of the trials.
        out: Folder for all that is kept.
        objective: `"val_auc"`, `"val_log_loss"`, `"val_rmse"`, `"val_mae"`, or a `keras_tuner.Objective` of one.
        test: Rows to judge the winner on; none of them is as good as None.
        task: `"binary"` or `"regression"`.
        models: See `RankingHyperModel`, as for the next four.
        blocks: See there.
        structures: See there.
        precisions: See there.
        fixed: See there; `batch_size` too.
        batch_sizes: To choose from.
        strategy: `"halving"`: configurations at random, each block in its turn, and beside the best, on a third of the
            slices, the best third of them on all; `"random"`: at random, each on all.
        passes: Over the training rows in a whole training.
        slices: Of a whole training; the model is judged after each.
        patience: Slices without a better score after which a training ends.
        finalists: How many are trained again.
        seeds: How often each.
        refit: Whether the winner is trained once more, on training and validation rows.
        max_parameters: Ceiling of a model's parameters.
        max_latency: Ceiling of the seconds that a model takes for 100 rows.
        seed: Of everything.
        facts: Of the data, for the model card: label, split, …
        workers: Starts a worker process by its id and the port it asks for trials at; trials then run in `num_workers`
            of these instead of here. `nfm_tfrs.tuning.workers.starter` makes one.
        num_workers: See `workers`.
        watch: Called after each slice with the oracle, the trial and its scores; with the oracle, None and no scores
            several times a second where workers run the trials, and before each finalist (`oracle.stage` names it).

    Returns:
        The model with its evidence. `out` holds the model, `best.json`, a model card, every figure (`search.json`),
        TensorBoard logs and, where the extra `report` is installed, a page.

    Raises:
        ValueError: An argument out of range, an objective that there is not, validation rows that it has no value on, a
            folder of another search, or one that another process searches in.
        LookupError: A model or block that is not installed.

    Example:
        A whole search takes minutes; README has one.
    """
    arguments.choice("task", task, tuple(DIRECTIONS))
    goal = checked_objective(objective, task)
    arguments.choice("strategy", strategy, get_args(Strategy))
    for name, value in (("patience", patience), ("finalists", finalists), ("seeds", seeds)):
        arguments.count(name, value)
    if not isinstance(seed, int) or not 0 <= seed < SEEDS - seeds:
        raise ValueError(f"seed must be a whole number from 0, below {SEEDS - seeds}; received {seed!r}.")
    check_rows(valid, goal.name)
    fixed = dict(fixed or {})
    sizes = arguments.widths("batch_sizes", (fixed.pop("batch_size"),) if "batch_size" in fixed else batch_sizes)
    if not sizes:
        raise ValueError("batch_sizes must hold one or more; received (). Leave it out for the default.")
    test = test if test is not None and len(test) else None
    cut = Slices(train, passes=passes, count=slices, seed=seed)
    space = RankingHyperModel(
        features,
        models=models,
        blocks=blocks,
        structures=structures,
        precisions=precisions,
        fixed=fixed,
        task=task,
        decay_steps=cut.steps(min(sizes)),
    )
    settings = {
        "data": fingerprint(train, valid),
        "features": hashlib.sha256(features.to_json().encode()).hexdigest(),
        "objective": goal.name,
        "space": [
            list(space.models),
            sorted(space.blocks),
            list(space.structures),
            list(precisions),
            fixed,
            list(sizes),
        ],
        "strategy": strategy,
        "passes": passes,
        "slices": slices,
        "patience": patience,
        "ceilings": [max_parameters, max_latency],
        "seed": seed,
    }
    folder = Path(out)
    claim(folder, json.loads(json.dumps(settings)))
    with nullcontext() if is_worker() else held(folder):
        seconds = None if budget.minutes is None else 60 * budget.minutes
        oracle = HalvingOracle(
            goal,
            rungs=rungs(slices) if strategy == "halving" else [slices],
            neighbours=strategy == "halving",
            balanced="interaction" if strategy == "halving" else "",
            max_configurations=budget.trials,
            seconds=seconds,
            seed=seed,
            max_failures=MAX_FAILURES,
        )
        tuner = SliceTuner(
            oracle,
            space,
            train=cut,
            valid=valid,
            batch_sizes=sizes,
            patience=patience,
            seed=seed,
            max_parameters=max_parameters,
            max_latency=max_latency,
            max_seconds=None if seconds is None else SHARE * seconds,
            watch=lambda trial, scores: watch(oracle, trial, scores),
            directory=str(folder),
            project_name="trials",
        )
        oracle.problem = tuner.problem

        def tell(stage: str) -> None:
            oracle.stage = stage
            watch(oracle, None, [])

        try:
            if workers is None:
                tuner.search()
            else:
                oracle.save()
                if not serve(oracle, workers, num_workers, warn=warnings.warn, tick=lambda: watch(oracle, None, [])):
                    warnings.warn("No worker ended by itself; what they said is kept beside the search.", stacklevel=2)
            if is_worker():
                return Found(None, {}, {})
            if oracle.gave_up:
                warnings.warn(f"The search ends early: its last {MAX_FAILURES} trials failed.", stacklevel=2)
            found = conclude(
                tuner, folder, test, finalists=finalists, seeds=seeds, refit=refit, settings=settings, tell=tell
            )
            rows = {"train": len(train), "valid": len(valid)} | ({} if test is None else {"test": len(test)})
            measured = {**found.evidence, "seed": seed, "passes": passes, "slices": slices, "versions": versions()}
            measured["data"] = {**(facts or {}), "rows": rows, "fingerprint": settings["data"]}
            best = Configuration.from_json(found.best)
            best = replace(best, config={name: one for name, one in best.config.items() if name != "features"})
            evidence = Evidence.from_json(plain(measured))
            write_found(found.model, best, features, evidence, found.evidence["settings"], folder)
        finally:
            oracle.forget()
    return found


def checked_objective(objective: Any, task: str) -> Any:
    """Returns a `keras_tuner.Objective` that the reports of this task have.

    Raises:
        ValueError: There is no such metric, or no such direction.
    """
    known = DIRECTIONS[task]
    name = objective if isinstance(objective, str) else getattr(objective, "name", objective)
    if name not in known:
        raise ValueError(f"objective must be one of {', '.join(known)}; received {name!r}.")
    direction = known[name] if isinstance(objective, str) else objective.direction
    if direction != known[name]:
        raise ValueError(f"The direction of {name} is {known[name]}; received {direction!r}. Give the name alone.")
    return keras_tuner.Objective(name, direction)


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


def rungs(slices: int, factor: int = 3) -> list[int]:
    """Returns the slices of each rung of a halving, rising to all of them.

    The first has a third of them. After a ninth, making a model takes as long as training it, and models of Adagrad,
    which start slowly, all look bad: `benchmarks/search.py` reports how well scores after either part rank the models.

    Example:
        >>> rungs(27)
        [9, 27]
    """
    return [slices // factor, slices] if slices >= factor else [slices]


def fingerprint(*parts: EncodedPart) -> str:
    """Returns a hash of all rows, labels and weights."""
    state = hashlib.sha256()
    for part in parts:
        for name, column in sorted(part.columns.items()):
            state.update(name.encode())
            for array in (column.values, column.row_splits) if isinstance(column, Bag) else (column,):
                state.update(f"{array.dtype}{array.shape}".encode())
                state.update(np.ascontiguousarray(array).data)
        for target in (part.labels, part.weights):
            state.update(b"none" if target is None else np.ascontiguousarray(target).data)
    return state.hexdigest()


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder the search's with these settings; nothing happens where it is already.

    Raises:
        ValueError: It is another search's, or holds anything else.
    """
    path = folder / "settings.json"
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in settings if held.get(name) != settings[name]]
        if differing:
            raise ValueError(f"{folder} holds a search with other {', '.join(differing)}. Choose another folder.")
        return
    begun = ("settings.json", ".settings.json")  # by another process of the same search
    if folder.exists() and any(not path.name.startswith(begun) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds something that is no search. Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=1))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; whatever ends the process lets go of it.

    Raises:
        ValueError: Another process holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"Another process searches in {folder}. Wait for it, or choose another folder.") from error
    except NotImplementedError:  # by some file systems of clusters
        warnings.warn(f"{folder} cannot be locked: start one search in it at a time.", stacklevel=4)
    try:
        yield
    finally:
        lock.release()
