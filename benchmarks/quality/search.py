"""Search by halving and at random, or with and without what won elsewhere, in the same time; what the better one finds.

usage: python benchmarks search ratings.parquet [--minutes 30] [--seeds 5] [--against no-prior] [--finals 3 3]
                                                [--keep-test] [--quick]
       python benchmarks search lastfm-tags/ --set lastfm-tags [--against no-prior] ...   (train and valid.parquet)
       (pip install lightgbm)

For each seed the two sides search at the same time, each on a processor of its own: by halving, with the prior but for
what it holds of this set; and at random, or by halving without the prior. The better one is that with
the higher validation AUC of its winners (each the mean of three trainings, or of as many as --finals says behind the
number of finalists; the minutes are those of the search before them), averaged over seeds. Only then are test
rows read: the models of the better strategy, of the first three seeds, against as many of what `nfm-tfrs train` trains
and as many LightGBMs, by a paired bootstrap over rows and seeds. With --keep-test they are not read: the figures of an
earlier run stay, as test rows are not read again for each change of the search; lastfm-tags has none. Against random,
each configuration's score at the first rung is ranked beside that of its whole training: of a rate that falls to an
end the rung is trained apart, as halving does. Against no prior, the seconds until the lower of the two best scores
was reached are compared. The searches are kept in benchmarks/.searches, and go on where they were stopped; remove
those that older code began. Linux only.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.places import RESULTS, SEARCHES, command_of
from lib.sets import tags_of
from lib.timing import machine, side_by_side, versions

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.metrics.bootstrap import paired_bootstrap
from nfm_tfrs.training import predict
from nfm_tfrs.training.recipe import Recipe
from nfm_tfrs.training.schedules import OVER_STEPS
from nfm_tfrs.tuning import Budget, Finals, Schedule, Space, search
from nfm_tfrs.tuning.prior import known_sets
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import Diverged, judge_slice, train_slice
from quality.movielens import TRAIN, lightgbm, prepared, spread

SETS = {"movielens-small": "", "lastfm-tags": "lastfm-tags "}  # what the folders of their searches begin with
AGAINST = ("random", "no-prior")
COMPARED = ("valid_auc", "model_auc", "best_trial", "configurations")
JUDGED = 3  # seeds that are judged on the test rows
QUICK = {"passes": 0.5, "slices": 3}
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-tuner", "numpy")


def read(data: Path, name: str) -> Prepared:
    """The rows of a set, encoded."""
    if name == "movielens-small":
        return prepared(read_table(data), None)
    return tags_of(data)


def searched(
    data: Prepared, strategy: str, seed: int, minutes: float, folder: Path, *, name: str, finals: Finals, quick: bool
) -> Any:
    """Runs a search, or goes on with it; returns what it found. Every score goes to a file, with its second."""

    def watch(oracle: Any, trial: Any, scores: list[dict[str, float]]) -> None:
        del trial
        if not scores:
            return
        with (folder / f"{strategy}-{seed}-trace.jsonl").open("a") as file:
            file.write(json.dumps([round(oracle.time_spent, 2), scores[-1]["auc"]]) + "\n")

    return search(
        data,
        out=folder / f"{strategy}-{seed}",
        budget=Budget(minutes=minutes),
        space=Space(prior=strategy == "halving", prior_without=(name,) if name in known_sets() else ()),
        schedule=Schedule(search="random" if strategy == "random" else "halving", **(QUICK if quick else {})),
        finals=finals,
        seed=seed,
        watch=watch,
    )


def first_rung(data: Prepared, evidence: Any, slices: int) -> list[list[float]]:
    """Each configuration's best AUC in the first slices, as halving judges it, and in its whole training."""
    pairs = []
    for trial in evidence.trials:
        curve = [score["auc"] for score in trial.scores]
        if trial.parent is not None or len(curve) < slices:
            continue
        early = curve[:slices]
        if trial.candidate.schedule in OVER_STEPS:
            size, cut = (
                trial.candidate.batch_size,
                Slices(data.train, passes=evidence.passes, count=evidence.slices, seed=0),
            )
            keras.backend.clear_session()
            keras.utils.set_random_seed(int(trial.id))
            model = Recipe.of(trial.candidate).build(data.features, steps=cut.steps(size, slices))
            early = []
            try:
                for number in range(slices):
                    train_slice(model, cut, number, size)
                    early.append(judge_slice(model, cut, number, size, data.valid, evidence.objective).metrics["auc"])
            except Diverged:
                continue
        pairs.append([max(early), max(curve)])
    return pairs


def run(
    source: Path, strategy: str, seed: int, minutes: float, folder: Path, *, name: str, finals: Finals, quick: bool
) -> None:
    """Searches, and writes what a comparison of strategies needs."""
    data = read(source, name).without("test")
    found = searched(data, strategy, seed, minutes, folder, name=name, finals=finals, quick=quick)
    trials = found.evidence.trials
    trace = (folder / f"{strategy}-{seed}-trace.jsonl").read_text().splitlines()
    result = {
        "winner": found.evidence.finalists[0].candidate.to_json(),
        "valid_auc": found.evidence.finalists[0].mean,
        "best_trial": max(trial.score for trial in trials if trial.score is not None),
        "configurations": sum(trial.parent is None for trial in trials),
        "verdict": found.evidence.verdict,
        "members": len(found.evidence.winner.members) or 1,
        "model_auc": float(metrics.auc(data.valid.labels, predict(found.model, data.valid), data.valid.weights)),
        "first rung": first_rung(data, found.evidence, found.evidence.slices // 3) if strategy == "random" else [],
        "scores": [[score["auc"] for score in trial.scores] for trial in trials if trial.scores],
        "trace": [json.loads(line) for line in trace],
    }
    (folder / f"{strategy}-{seed}.json").write_text(json.dumps(result))


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean and spread of each strategy over seeds, the mean difference, and the name of the better one."""
    summary = {strategy: spread([{key: run[key] for key in COMPARED} for run in of]) for strategy, of in runs.items()}
    gaps = [ours["valid_auc"] - theirs["valid_auc"] for ours, theirs in zip(*runs.values(), strict=True)]
    return {
        "summary": summary,
        "difference": {"mean": float(np.mean(gaps)), "each": gaps},
        "better": max(runs, key=lambda strategy: summary[strategy]["valid_auc"]["mean"]),
    }


def reached(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """The seconds until each of two searches had the lower of their two best scores."""
    goal = min(max(score for _, score in run["trace"]) for run in (ours, theirs))
    first = [min(second for second, score in run["trace"] if score >= goal) for run in (ours, theirs)]
    return {"auc": goal, "ours": first[0], "theirs": first[1], "share": first[0] / max(first[1], 1e-9)}


def rank_correlation(runs: Sequence[dict[str, Any]]) -> float:
    """Spearman's correlation of the first rung's scores with those of whole trainings."""
    from scipy.stats import spearmanr

    early, whole = zip(*(pair for run in runs for pair in run.get("first rung", [])), strict=True)
    return float(spearmanr(early, whole).statistic)


def agreement(runs: Sequence[dict[str, Any]], slices: int) -> dict[str, float]:
    """Spearman's correlation of the best score after a part of the slices with that of the whole training."""
    from scipy.stats import spearmanr

    curves = [curve for run in runs for curve in run["scores"]]
    return {
        f"after {part} of {slices} slices": float(
            spearmanr([max(curve[:part]) for curve in curves], [max(curve) for curve in curves]).statistic
        )
        for part in (max(1, slices // 9), slices // 3)
    }


def judged(data: Prepared, models: Sequence[Any]) -> dict[str, Any]:
    """The models that were found on the test rows, against what is trained without a search and LightGBM."""
    count = len(models)
    logits = {
        "searched": [predict(model, data.test) for model in models],
        TRAIN: [predict(Recipe.default("nfm").fit(data, seed=seed).model, data.test) for seed in range(count)],
        "LightGBM": [lightgbm(data, seed) for seed in range(count)],
    }

    def compared(ours: Sequence[Any], theirs: Sequence[Any] | None = None) -> dict[str, Any]:
        gap = paired_bootstrap("auc", data.test.labels, ours, theirs, weights=data.test.weights)
        return {"mean": gap.mean, "interval": [gap.low, gap.high]}

    return {
        "auc": {name: {"each": [compared([one])["mean"] for one in of]} | compared(of) for name, of in logits.items()},
        "searched less": {name: compared(logits["searched"], of) for name, of in logits.items() if name != "searched"},
    }


def draw(runs: dict[str, list[dict[str, Any]]], minutes: float, path: Path) -> None:
    """Draws the median over seeds of the best validation AUC so far against seconds, and each seed's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    seconds = np.linspace(0, 60 * minutes, 400)
    for color, (strategy, of) in zip(("tab:blue", "tab:orange"), runs.items(), strict=True):
        curves = []
        for found in of:
            # Sorted: a trial that was cut runs again, from an earlier second.
            times, scores = np.array(sorted(found["trace"])).T
            best = np.maximum.accumulate(scores)
            behind = np.searchsorted(times, seconds, side="right")
            curves.append(np.where(behind > 0, best[np.maximum(behind - 1, 0)], np.nan))
            axes.plot(seconds, curves[-1], color=color, alpha=0.25, linewidth=1)
        axes.plot(seconds, np.median(curves, axis=0), color=color, label=strategy)
    least = min(max(score for _, score in run["trace"]) for of in runs.values() for run in of)
    axes.set(xlabel="seconds", ylabel="best validation AUC so far", ylim=(least - 0.025, None))
    axes.grid(alpha=0.3)
    axes.legend(title=f"median of {len(of)} seeds")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=SETS, default="movielens-small", dest="name")
    parser.add_argument("--against", choices=AGAINST, default="random")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=SEARCHES)
    parser.add_argument("--finals", type=int, nargs=2, default=(3, 3), metavar=("FINALISTS", "SEEDS"))
    parser.add_argument("--keep-test", action="store_true", help="no test row; keeps what an earlier run found")
    parser.add_argument("--quick", action="store_true", help="one seed, seconds; no test row; writes no results")
    parser.add_argument("--one", nargs=2, metavar=("STRATEGY", "SEED"), help="this search alone")
    options = parser.parse_args(arguments)
    seeds, minutes = (1, 0.2) if options.quick else (options.seeds, options.minutes)
    count, each = (1, 1) if options.quick else options.finals
    finals = Finals(finalists=count, seeds=each)
    sides = ("halving", options.against)
    called = SETS[options.name] + ("quick" if options.quick else f"{minutes:g} minutes")
    folder = options.folder if options.one else options.folder / called
    folder.mkdir(parents=True, exist_ok=True)
    if options.one:
        strategy, seed = options.one
        run(options.data, strategy, int(seed), minutes, folder, name=options.name, finals=finals, quick=options.quick)
        return
    file = f"search{SETS[options.name].strip() and '_lastfm'}{'_prior' if options.against == 'no-prior' else ''}.json"
    judging = file == "search.json" and not options.keep_test
    kept = json.loads((RESULTS / file).read_text())["test"] if file == "search.json" and options.keep_test else None
    for seed in range(seeds):
        start = time.monotonic()
        command = [*command_of("search"), str(options.data), "--minutes", str(minutes), "--folder", str(folder)]
        command += ["--set", options.name, "--finals", str(count), str(each)]
        side_by_side(
            [
                [*command, "--one", strategy, str(seed), *["--quick"] * options.quick]
                for strategy in sides
                if not (folder / f"{strategy}-{seed}.json").exists()
            ]
        )
        print(f"seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
    runs = {name: [json.loads((folder / f"{name}-{seed}.json").read_text()) for seed in range(seeds)] for name in sides}
    comparison = compared(runs)
    if options.against == "random":
        comparison["agreement"] = agreement(runs["random"], 3 if options.quick else 27)
        if sum(len(run.get("first rung", [])) for run in runs["random"]) > 2:
            comparison["rank correlation"] = rank_correlation(runs["random"])
    else:
        comparison["reached"] = [reached(*pair) for pair in zip(*runs.values(), strict=True)]
    print(json.dumps(comparison, indent=1), flush=True)
    if options.quick:
        return
    test = kept
    if judging and not test:
        data = read(options.data, options.name)
        models = [
            searched(
                data, comparison["better"], seed, minutes, folder, name=options.name, finals=finals, quick=False
            ).model
            for seed in range(min(JUDGED, seeds))
        ]
        test = {"strategy": comparison["better"], "minutes": minutes, **judged(data, models)}
        test["versions"] = versions((*PACKAGES, "lightgbm"))
        print(json.dumps(test, indent=1), flush=True)
    results = {
        "minutes": minutes,
        "seeds": seeds,
        "finals": [count, each],
        "machine": machine(),
        "versions": versions(PACKAGES),
        **comparison,
        "test": test,
        "winners": {name: [run["winner"] for run in of] for name, of in runs.items()},
    }
    (RESULTS / file).write_text(json.dumps(results, indent=1) + "\n")
    draw(runs, minutes, (RESULTS / file).with_suffix(".png"))


if __name__ == "__main__":
    main()
