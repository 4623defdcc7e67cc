"""`nfm-tfrs quickstart`: NFM on a generated click log, and how near it comes to the best possible."""

import sys
import time
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from nfm_tfrs.cli.options import Overwrite
from nfm_tfrs.cli.terminal import TrainingProgress, console, print_features, print_metrics
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.files import FILES
from nfm_tfrs.runs.folder import write_run
from nfm_tfrs.runs.record import RunRecord, as_command
from nfm_tfrs.target import Target
from nfm_tfrs.training.recipe import Recipe
from nfm_tfrs.versions import versions


def quickstart(
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 200_000,
    order: Annotated[int, typer.Option(help="Order of the planted interactions, 2 or 3.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the log, the weights, dropout and the order of rows.")] = 0,
    out: Annotated[Path | None, typer.Option(help="New folder for the model; nothing is kept without it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train NFM on a generated click log and show how near it comes to the best possible AUC."""
    claim = nullcontext() if out is None else claimed(out, overwrite=overwrite, folder=True)
    with claim as folder:
        from nfm_tfrs.data.synthetic import click_log

        started = time.perf_counter()
        log = click_log(rows, seed=seed, order=order)  # type: ignore[arg-type]
        console.print(f"Generated {rows:,} clicks and non-clicks with planted pairs of fields.")
        from nfm_tfrs import metrics
        from nfm_tfrs.data.prepare import prepare
        from nfm_tfrs.training.evaluate import evaluate

        split, target = parse_split("time:timestamp", seed), Target.parse("click")
        data = prepare(log.table, target, split)
        print_features(data.features)
        recipe = Recipe(model="nfm", batch_size=1024, passes=20)
        with TrainingProgress(recipe.model) as progress:
            trained = recipe.fit(data, seed=seed, patience=2, callbacks=[progress.callback()])
        report = evaluate(trained.model, data.test)
        best = metrics.auc(data.test.labels, log.true_logits[split.parts(log.table).test])
        print_metrics("Test rows", report)
        share = (report["auc"] - 0.5) / (best - 0.5)
        console.print(
            f"Best possible AUC on these rows, from the true probabilities: {best:.4f}. "
            f"NFM reached {report['auc']:.4f}: {share:.0%} of the way from chance, "
            f"in {time.perf_counter() - started:.0f} seconds."
        )
        if folder is not None:
            record = RunRecord(
                target=target,
                seed=seed,
                split=str(split),
                recipe=recipe,
                patience=2,
                versions=versions(),
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                command=as_command(["nfm-tfrs", *sys.argv[1:]]),
            )
            write_run(folder, trained.model, trained.history, {"test": report}, record)
    if out is not None:
        console.print(f"Wrote {', '.join(FILES)} to {out}.")
