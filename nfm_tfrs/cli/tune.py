"""`nfm-tfrs tune`: from a file to a search's folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nfm_tfrs.cli.options import Rows, Seed, check_arguments
from nfm_tfrs.cli.settings import with_options
from nfm_tfrs.cli.terminal import SearchProgress, console, print_constant, print_lines, print_metrics
from nfm_tfrs.report.summary import summary
from nfm_tfrs.runs.claim import made
from nfm_tfrs.tuning.settings import TRAINING, Budget, Finals, Schedule, Space, check_features
from tfrs_registry import blocks


@with_options
def tune(
    rows: Rows,
    space: Space,
    budget: Budget,
    schedule: Schedule,
    finals: Finals,
    out: Annotated[Path, typer.Option(help="Folder of the search; the same search in it goes on.")],
    objective: Annotated[
        str | None, typer.Option(help="val_auc (val_rmse for regression) if not given; val_log_loss, val_mae, …")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that run trials side by side.")] = 1,
    seed: Seed = 0,
) -> None:
    """Search models and blocks, choose on validation, and judge the winner once on the test rows."""
    if out.is_file():
        raise FileExistsError(f"{out} is a file. Choose another --out.")
    with made(out, out=out):
        target, split = rows.target(), rows.cut(seed)
        check_arguments(space.models, space.fixed, also=TRAINING)
        for block in space.blocks or ():
            blocks.spec(block)  # an unknown name, before TensorFlow is imported
        features = rows.given_features()
        if features is not None:
            check_features(features)
        rows.check_columns(target, split, features)
        from nfm_tfrs.tuning.outcome import FILES
        from nfm_tfrs.tuning.search import check_folder, check_space, checked_objective, known_settings, search
        from nfm_tfrs.tuning.workers import Workers, follow_chief, is_worker, starter

        follow_chief()
        goal = checked_objective(objective, target.task)
        check_folder(out, known_settings(space, schedule, objective=goal.name, seed=seed))
        check_space(space, target.task)
        data = rows.prepare(target, split, features)
        processes = None
        if workers > 1 and not is_worker():
            processes = Workers(starter([sys.executable, "-m", "nfm_tfrs", *sys.argv[1:]], out / "workers"), workers)
        trainings = (finals.finalists + 1) * finals.seeds + finals.refit * finals.members
        trainings *= 1 if "members" in space.fixed else 2  # several members take about twice a trial's time
        with SearchProgress(budget.trials, budget.minutes, trainings) as progress:
            found = search(
                data,
                out=out,
                budget=budget,
                space=space,
                schedule=schedule,
                finals=finals,
                objective=objective,
                seed=seed,
                workers=processes,
                watch=progress.watch,
            )
    print_lines(summary(found.best.recipe.without_features(), found.evidence))
    console.print(found.evidence.verdict)
    if found.evidence.test is not None:
        print_metrics(f"test rows ({len(data.test):,})", found.evidence.test.metrics)
        print_constant("test rows", found.evidence.test.metrics, found.evidence.test.constant)
    console.print(f"Wrote {', '.join(name for name in FILES if (out / name).exists())} to {out}.")
