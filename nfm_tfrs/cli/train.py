"""`nfm-tfrs train`: from a file to a run's folder."""

import functools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfm_tfrs.cli.growing import GrowthOptions
from nfm_tfrs.cli.interruption import Interruption, interrupted_run
from nfm_tfrs.cli.options import Overwrite, Rows, Seed, Trust, column_of
from nfm_tfrs.cli.plan import Plan, planned
from nfm_tfrs.cli.pretrained import PretrainedOptions
from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.cli.resuming import ResumeOptions, first_day
from nfm_tfrs.cli.settings import with_options
from nfm_tfrs.cli.terminal import (
    TrainingProgress,
    console,
    print_constant,
    print_features,
    print_lines,
    print_metrics,
    print_rates,
    show_warning,
)
from nfm_tfrs.runs.checkpoint import Checkpoints
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.files import FILES, LOGS, kept_aside
from nfm_tfrs.runs.folder import write_run
from nfm_tfrs.runs.record import RunRecord, Source
from nfm_tfrs.training.recipe import Best, Trained
from nfm_tfrs.trust import trusting

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared


@with_options
def train(
    rows: Rows,
    recipe: RecipeOptions,
    resuming: ResumeOptions,
    growing: GrowthOptions,
    pretrained: PretrainedOptions,
    out: Annotated[Path, typer.Option(help="New folder for the model, features, metrics and curves.")],
    groups: Annotated[str | None, typer.Option(help="Column of users, for the grouped AUC.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the training rows from Parquet batch by batch.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs.")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Train a model on a file: infer its features, stop early on validation, judge once on the test rows."""
    with trusting(trust):
        if stream:
            rows.need_valid("--stream")
        if recipe.repeat and (stream or tensorboard or resuming.resume):
            raise ValueError(
                "--repeat trains as a search did, in one go, in memory and without logs. Leave out the other option."
            )
        plan = planned(rows, recipe, growing, pretrained, groups=groups, stream=stream, seed=seed)
        if resuming.finished(out, plan.record, overwrite=overwrite):
            print_lines([f"{out} is finished: there is nothing left to train."])
            return
        settings = {**plan.record.settings, "tensorboard": tensorboard}
        going_on = functools.partial(
            interrupted_run, out, plan.record.command, plan.record.settings if resuming.resume else None
        )
        spent: list[Path] = []
        with claimed(out, overwrite=lambda: overwrite or going_on(), folder=True, spent=spent) as folder:
            plan.check()
            checkpoints = resuming.begin(out, settings, overwrite=overwrite, members=plan.record.members)
            model, data = plan.prepared(trust, first_day(checkpoints))
            print_features(data.features)
            users = _users(data, plan.record.groups)
            interruption = Interruption()
            with interruption:
                before = _before(model, data, users)
                training = _Training(plan, model, data, interruption, checkpoints)
                trained = training.run(folder / LOGS if tensorboard else None)
                source, ended = _source(plan.record, data), interruption.ended
                record = replace(plan.record, source=source, interrupted=ended, resumed=trained.resumed)
                judged = {**before, **_judged(trained.model, data, users, record)}
                kept = data.tables.get("valid")
                write_run(folder, trained.model, trained.history, judged, record, kept, trained.members)
            if checkpoints is not None and not interruption.ended:
                spent.append(checkpoints.folder)
            # A run that is whole, or was interrupted later than this one, unless this one went on from there.
            elif interruption.ended and out.exists() and not (resuming.resume and going_on()):
                raise _ended(interruption, trained, f"{kept_aside(folder, out)}; {out} is as it was.")
    if interruption.ended:
        how = "goes on with" if resuming.resume else "replaces"
        raise _ended(interruption, trained, f"{out}, which the same command {how}.")
    console.print(f"Wrote {', '.join(FILES)} to {out}.")
    interruption.leave()  # heard when the training had ended: the run is whole


def _users(data: "Prepared", groups: str | None) -> dict[str, Any]:
    """The users of each part; none without --groups."""
    if groups is None:
        return {}
    return {name: column_of(part, groups, "--groups") for name, part in data.tables.items()}


def _ended(interruption: Interruption, trained: Trained, where: str) -> typer.Exit:
    losses = trained.history.get("loss")  # none where a search is repeated, whose slices are no epochs
    got = "the weights of then" if losses is None else "the best weights until then"
    when = "" if losses is None else f" in epoch {len(losses)}"
    show_warning(f"Interrupted{when}: {got} are in {where}")
    return typer.Exit(interruption.status)


def _say_what_differs(best: Best, patience: int | None, seed: int) -> None:
    if best.winner is None:
        return
    alone = ", of the winner's configuration alone," if best.winner.members else ""
    console.print(
        f"This training{alone} has seed {seed} and stops after {patience} epochs without a better score; the "
        f"search's own model is {best.winner.made}. Pass --repeat for exactly that one."
    )


def _repeated(best: Best, data: "Prepared", interruption: Interruption) -> Trained:
    from nfm_tfrs.tuning.winner import train_again

    winner = best.winner
    slices = None if winner is None or winner.members else winner.slices  # each of them is a fit of its own
    trained = train_again(best, data, [interruption.callback(slices)])
    console.print(f"{best.recipe.model}: {trained.model.count_params():,} parameters, trained as the search did.")
    return trained


@dataclass(frozen=True)
class _Training:
    """A training as options told it.

    Args:
        plan: What was told.
        model: The model that goes on; None for a new one.
        data: The rows.
        interruption: What ends it early.
        checkpoints: Where it writes down where it is; None without.
    """

    plan: Plan
    model: Any
    data: "Prepared"
    interruption: Interruption
    checkpoints: Checkpoints | None

    def run(self, logs: Path | None) -> Trained:
        """Trains.

        Args:
            logs: The folder for TensorBoard logs in the run; None without.
        """
        plan, seed = self.plan, self.plan.record.seed
        if plan.options.repeat:
            return _repeated(plan.best, self.data, self.interruption)
        if plan.base is None:
            _say_what_differs(plan.best, plan.record.patience, seed)
        # Beside the run, where they outlive a kill.
        aside = None if logs is None or self.checkpoints is None else self.checkpoints.folder / LOGS
        with TrainingProgress(plan.told.model) as progress:
            trained = plan.told.fit(
                self.data,
                rows=self._batches() if plan.stream else None,
                model=self.model,
                seed=seed,
                epochs=plan.record.epochs,
                patience=plan.record.patience,
                callbacks=[progress.callback(), self.interruption.callback()],
                tensorboard=aside or logs,
                checkpoints=self.checkpoints,
                pretrained=plan.pretrained.vectors,
                members=plan.record.members,
            )
        print_lines([str(coverage) for coverage in trained.pretrained])
        if aside is not None and logs is not None:
            shutil.copytree(aside, logs)
        return trained

    def _batches(self) -> Any:
        """The batches of the rows, of several members a list with those of each."""
        record = self.plan.record
        found = [self._batches_of(seed) for seed in range(record.seed, record.seed + record.members)]
        return found if len(found) > 1 else found[0]

    def _batches_of(self, seed: int) -> Any:
        def batches(start: Any = None) -> Any:
            return self.plan.told.stream(self.plan.rows.data, self.data, seed=seed, start=start)

        return batches if self.checkpoints is not None else batches()


def _before(model: Any, data: "Prepared", users: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the rows chosen on of a model that goes on, before it does."""
    if model is None:
        return {}
    from nfm_tfrs.training.evaluate import evaluate

    report = evaluate(model, data.valid, groups=users.get("valid"))
    print_metrics("valid rows, before", report)
    return {"before": report}


def _judged(model: Any, data: "Prepared", users: dict[str, Any], record: RunRecord) -> dict[str, Any]:
    """The metrics of the rows chosen and, of a whole training, judged on, printed as they come; and their intervals."""
    from nfm_tfrs.training.evaluate import evaluate_constant, evaluate_with_intervals

    parts = ("valid",) if record.interrupted else ("valid", "test")
    streamed = record.source is not None and record.source.stream  # its training rows may lie in a cache, or may not
    reports: dict[str, dict[str, float]] = {}
    constants: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    for name in parts:
        if len(data.encoded.get(name, ())):
            users_here = users.get(name)
            reports[name], intervals[name] = evaluate_with_intervals(model, data.encoded[name], groups=users_here)
            print_metrics(f"{name} rows ({len(data.encoded[name]):,})", reports[name])
            if "test" in parts:  # else nothing follows from it: the training was interrupted
                train = None if streamed else data.encoded.get("train")
                constant = evaluate_constant(model, data.encoded[name], train)
                print_constant(f"{name} rows", reports[name], constant)
                constants |= {f"{name}_{metric}": value for metric, value in constant.items()}
    last = list(reports)[-1]
    print_rates(f"{last} rows", data.encoded[last].rates)
    return reports | ({"constant": constants} if constants else {}) | {"intervals": intervals}


def _source(record: RunRecord, data: "Prepared") -> Source:
    """The files, and the hash of their rows where these were in memory."""
    from nfm_tfrs.data.parts import fingerprint

    assert record.source is not None
    known = "train" in data.encoded
    return replace(record.source, fingerprint=fingerprint(data.train, data.valid) if known else None)
