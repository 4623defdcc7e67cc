"""The best few, trained again with several seeds, and how sure one may be that one of them is better."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.keras_compat import forgotten_gradients, keras
from nfm_tfrs.metrics.bootstrap import paired_bootstrap
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.training.evaluate import judge, predict
from nfm_tfrs.tuning.oracle import END, PARENT, START
from nfm_tfrs.tuning.slices import Slices, joined
from nfm_tfrs.tuning.tuner import Diverged, SliceTuner, sign, train_slice


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


def train_whole(
    model: Any,
    train: Slices,
    valid: EncodedPart | None,
    *,
    batch_size: int,
    metric: str,
    better: int,
    patience: int,
    stop: int | None = None,
) -> tuple[int, list[dict[str, float]]]:
    """Trains a model for a whole training, and leaves it with the weights of its best slice.

    Args:
        model: Compiled.
        train: The training rows in slices.
        valid: Rows to judge on after each slice; None to train without.
        batch_size: Rows a step.
        metric: The one to judge by.
        better: 1 where more of it is better, else -1.
        patience: Slices without a better score after which training ends.
        stop: Slices to train for; all if not given.

    Returns:
        The number of slices of the weights it is left with, and the metrics after each slice.

    Raises:
        Diverged: The loss, or the metric, became infinite or NaN.
    """
    scores: list[dict[str, float]] = []
    best, weights = 0, model.get_weights()
    for number in range(train.count if stop is None else stop):
        score = train_slice(model, train, number, batch_size, valid, metric)
        if valid is None:
            continue
        scores.append(score)
        if better * scores[-1][metric] > better * scores[best][metric] or not number:
            best, weights = number, model.get_weights()
        if number - best >= patience:
            break
    if valid is not None:
        model.set_weights(weights)
        return best + 1, scores
    return train.count if stop is None else stop, scores


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        model: The best model, trained; None in a worker process, which only runs trials.
        best: `{"model": name, "training": {…}, "config": {…}}`, plain JSON, the features in the config:
            `get_model(best["model"], **best["config"])` makes it again, untrained.
        evidence: Every trial, the finalists, their differences, those that diverged, the verdict, the rows and seed of
            the model, and the test metrics, as plain JSON.
    """

    model: Any
    best: dict[str, Any]
    evidence: dict[str, Any]


def conclude(
    tuner: SliceTuner,
    folder: Path,
    test: EncodedPart | None,
    *,
    finalists: int,
    seeds: int,
    refit: bool,
    settings: dict[str, Any],
    tell: Callable[[str], None],
) -> Found:
    """Trains the best trials again, chooses on validation, and judges on test; tells before each finalist."""
    goal, valid, seconds = tuner.oracle.objective, tuner.valid, tuner.oracle.time_spent
    better, metric = sign(goal), goal.name.removeprefix("val_")
    done = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    if not done:
        failures = [failure for trial in tuner.oracle.trials.values() if (failure := _failure(tuner, trial))]
        why = failures[-1] if failures else tuner.oracle.last_problem
        remedy = "Give a larger budget." if tuner.oracle.trials else "None was begun."
        raise ValueError("No trial of the search was finished. " + (f"The last one: {why}" if why else remedy))
    trials = chosen(done, finalists, lambda trial: better * trial.score)
    again = range(tuner.seed + 1, tuner.seed + 1 + seeds)
    kept = []
    for number, trial in enumerate(trials, start=1):
        tell(f"finalist {number} of {len(trials)}")
        kept.append(_finalist(tuner, trial, again, folder / "finalists"))
    lost = [entry["trial"] for entry in kept if not entry["runs"]]
    kept = [entry for entry in kept if entry["runs"]]
    if not kept:
        raise ValueError("All finalists diverged when they were trained again. Search at lower rates.")
    kept.sort(key=lambda entry: (len(entry["diverged"]), -better * entry["mean"]))
    logits = [[np.load(run["file"]) for run in entry["runs"]] for entry in kept]
    for entry, theirs in zip(kept[1:], logits[1:], strict=True):
        gap = paired_bootstrap(metric, np.asarray(valid.labels), theirs, logits[0], weights=valid.weights)
        entry["difference"] = {"mean": gap.mean, "interval": [gap.low, gap.high]}
    winner, candidate = kept[0], kept[0]["candidate"]
    run = max(winner["runs"], key=lambda run: better * run["metrics"][metric])
    model = tuner.space.built(candidate, tuner.train.steps(candidate["training"]["batch_size"]))
    model.optimizer.build(model.trainable_variables)  # its state is in the file too
    model.load_weights(Path(run["file"]).with_suffix(".weights.h5"))
    made = {"seed": run["seed"], "slices": run["slice"], "rows": "train"}
    if refit:
        tell("training on all rows")
        try:
            model, made = _refitted(tuner, winner)
        except Diverged as error:
            warnings.warn(f"The model is not trained on all rows: {error}", stacklevel=3)
    evidence = {
        "objective": {"name": goal.name, "direction": goal.direction},
        "settings": settings,
        "seconds": seconds,
        "trials": [_described(tuner, trial) for trial in tuner.oracle.trials.values()],
        "finalists": kept,
        "diverged": lost,
        "verdict": _verdict(kept, metric, better, len(lost)),
        "model": made,
        "test": None if test is None else _judged(model, test, metric),
    }
    best = {
        "model": candidate["model"],
        "training": {**candidate["training"], "passes": tuner.train.passes},
        "config": {**candidate["config"], "features": tuner.space.features.to_dict()},  # last: it is long
    }
    return Found(model, best, evidence)


@forgotten_gradients()
def _finalist(tuner: SliceTuner, trial: Any, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """A trial's configuration trained as a whole with each seed; what was trained before an interruption is read."""
    folder.mkdir(exist_ok=True)
    candidate = tuner.candidate(trial.hyperparameters)
    goal, runs, diverged = tuner.oracle.objective, [], []
    metric = goal.name.removeprefix("val_")
    for seed in seeds:
        path = folder / f"{trial.trial_id}-{seed}"
        known = json.loads(path.with_suffix(".json").read_text()) if path.with_suffix(".json").exists() else {}
        if known.get("candidate") != candidate:
            batch_size = candidate["training"]["batch_size"]
            cut = Slices(tuner.train.part, passes=tuner.train.passes, count=tuner.train.count, seed=seed)
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            model = tuner.space.built(candidate, cut.steps(batch_size))
            try:
                best, scores = train_whole(
                    model,
                    cut,
                    tuner.valid,
                    batch_size=batch_size,
                    metric=metric,
                    better=sign(goal),
                    patience=tuner.patience,
                )
            except Diverged:
                diverged.append(seed)
                continue
            np.save(path.with_suffix(".npy"), predict(model, tuner.valid))
            model.save_weights(path.with_suffix(".weights.h5"))
            known = {"seed": seed, "slice": best, "metrics": scores[best - 1], "candidate": candidate}
            write_text(path.with_suffix(".json"), json.dumps(known))
        runs.append({name: known[name] for name in ("seed", "slice", "metrics")} | {"file": str(path) + ".npy"})
    values = [run["metrics"][metric] for run in runs]
    return {
        "trial": trial.trial_id,
        "candidate": candidate,
        "runs": runs,
        "diverged": diverged,
        "mean": float(np.mean(values)) if values else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "difference": None,
    }


def _refitted(tuner: SliceTuner, winner: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The winner trained on training and validation rows, for as many slices as were best on average; what made it."""
    both = joined(tuner.train.part, tuner.valid)
    cut = Slices(both, passes=tuner.train.passes, count=tuner.train.count, seed=tuner.seed)
    batch_size = winner["candidate"]["training"]["batch_size"]
    keras.utils.set_random_seed(tuner.seed)
    model = tuner.space.built(winner["candidate"], cut.steps(batch_size))
    stop = round(float(np.mean([run["slice"] for run in winner["runs"]])))
    train_whole(model, cut, None, batch_size=batch_size, metric="", better=1, patience=0, stop=stop)
    return model, {"seed": tuner.seed, "slices": stop, "rows": "train and validation"}


def _described(tuner: SliceTuner, trial: Any) -> dict[str, Any]:
    values = trial.hyperparameters.values
    finished = trial.status == "COMPLETED"
    return {
        "id": trial.trial_id,
        "parent": values.get(PARENT),
        "status": trial.status,
        "message": _failure(tuner, trial),
        "values": {name: value for name, value in values.items() if not name.startswith("tuner/")},
        "candidate": tuner.candidate(trial.hyperparameters),
        "start": values.get(START),
        "end": values.get(END),
        "score": trial.score,
        "scores": tuner.scores(trial.trial_id) if finished else [],
    }


def _failure(tuner: SliceTuner, trial: Any) -> str | None:
    """Why a trial failed, in a line."""
    if trial.status != "FAILED":
        return None
    return tuner.failure(trial.trial_id) or trial.message


def _judged(model: Any, test: EncodedPart, metric: str) -> dict[str, Any]:
    sure = paired_bootstrap(metric, np.asarray(test.labels), [predict(model, test)], weights=test.weights)
    return {"metrics": judge(model, test), "interval": [sure.low, sure.high]}


def _verdict(finalists: Sequence[dict[str, Any]], metric: str, better: int, lost: int = 0) -> str:
    if len(finalists) == 1:
        return f"One finalist is left: {lost} diverged with all their seeds." if lost else "There was one finalist."
    low, high = finalists[1]["difference"]["interval"]
    if low * better > 0 and high * better > 0:  # it comes second for that alone
        return (
            f"The first finalist is the steadier one: the second, whose {metric} differs by "
            f"{finalists[1]['difference']['mean']:+.4f} [{low:+.4f}, {high:+.4f}] on these validation rows, diverged "
            f"with {len(finalists[1]['diverged'])} of its seeds."
        )
    if low <= 0 <= high:
        return (
            f"There is no clear winner: on these validation rows the second finalist's {metric} differs from the "
            f"first's by {finalists[1]['difference']['mean']:+.4f} [{low:+.4f}, {high:+.4f}]."
        )
    return (
        f"The first finalist is better than the second: on these validation rows its {metric} differs by "
        f"{-finalists[1]['difference']['mean']:+.4f} [{-high:+.4f}, {-low:+.4f}]."
    )
