"""`nfm-tfrs train`: from a file to a run's folder."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfm_tfrs import arguments
from nfm_tfrs.cli.interruption import Interruption, interrupted_run
from nfm_tfrs.cli.options import Overwrite, Rows, Seed, Trust, check_arguments, column_of
from nfm_tfrs.cli.resuming import ResumeOptions
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
from nfm_tfrs.data.readers.parquet import footers
from nfm_tfrs.data.readers.table import find_files
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.checkpoint import Checkpoints
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.files import FILES, LOGS, kept_aside, remove
from nfm_tfrs.runs.folder import write_run
from nfm_tfrs.runs.record import RunRecord, Source, as_command
from nfm_tfrs.training.recipe import PATIENCE, Best, Recipe, Trained
from nfm_tfrs.trust import trusting
from nfm_tfrs.versions import versions

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """The model and how it is trained.

    Args:
        model: A model of `tfrs-registry list --models`; nfm if not given.
        config: A best.json of tune, or a run.json of train: features, model, arguments, training; other options go
            before.
        set: Model argument NAME=VALUE, such as embedding_dim=32; repeatable.
        optimizer: lazyadagrad (if not given), lazyadam, or a Keras optimizer's name.
        learning_rate: The optimizer's rate; its default if not given.
        precision: float32 (if not given), mixed_bfloat16, mixed_float16, or auto: the device's fastest.
        batch_size: Rows of a training step; 256 if not given.
        epochs: Passes over the training rows at most; 50 if not given, or as many as the search's.
        patience: Epochs to wait for a better validation score.
        repeat: Train as the search trained its own model, bit for bit on the same machine: with --config alone.
    """

    model: str | None = None
    config: Path | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    learning_rate: float | None = None
    precision: str | None = None
    batch_size: int | None = None
    epochs: int | None = None
    patience: int = PATIENCE
    repeat: bool = False

    def __post_init__(self) -> None:
        for option, value in (("--batch-size", self.batch_size), ("--epochs", self.epochs)):
            if value is not None:
                arguments.count(option, value)
        arguments.not_negative("--patience", self.patience)
        if self.precision is not None and "dtype" in self.set:
            raise ValueError("--precision and --set dtype both say what to compute in. Pass one of them.")
        others = (self.model, self.optimizer, self.learning_rate, self.precision, self.batch_size, self.epochs)
        told = self.set or self.patience != PATIENCE or any(value is not None for value in others)
        if self.repeat and (self.config is None or told):
            raise ValueError("--repeat trains as a search did: give it with --config, and nothing else of the model.")

    def best(self) -> Best:
        """Returns what --config names; the default recipe without it."""
        found = Best(recipe=Recipe(model="nfm")) if self.config is None else Best.from_file(self.config)
        if self.repeat and found.winner is None:
            raise ValueError(
                f"{self.config} does not say how a search made its model: a run, or nfm-tfrs 0.1.0, wrote it. "
                "Leave out --repeat."
            )
        return found

    def check_arguments(self, told: Recipe, best: Recipe) -> None:
        """Checks the model's arguments; where those of --config are wrong by themselves, the line names the file."""
        try:
            told.check_arguments()
        except (ValueError, TypeError) as error:
            if self.config is None:
                raise
            try:
                best.check_arguments()
            except (ValueError, TypeError):
                raise ValueError(f"{self.config}: {error}") from error
            raise

    def recipe(self, best: Recipe, task: str | None) -> Recipe:
        """Returns the recipe, options before what a best.json says; its task is that one's where no option says it."""
        known = best.config.get("task", "binary")
        if self.repeat and task not in (None, known):
            raise ValueError(f"--repeat trains the search's {known} model; received --task {task}. Leave out --task.")
        config = {name: value for name, value in self.set.items() if name != "dtype"}
        optimizer, rate = self.optimizer or best.optimizer, self.learning_rate
        if rate is None and self.optimizer in (None, best.optimizer):  # the rate of another says nothing
            rate = best.learning_rate
        return replace(
            best,
            model=self.model or best.model,
            config={**best.without_features().config, "task": task or known, **config},
            optimizer=optimizer,
            learning_rate=rate,
            schedule=best.schedule if rate is not None else "constant",
            precision=self.precision or self.set.get("dtype") or best.precision,
            batch_size=best.batch_size if self.batch_size is None else self.batch_size,
        )


@with_options
def train(
    rows: Rows,
    recipe: RecipeOptions,
    resuming: ResumeOptions,
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
        best = recipe.best()
        told = recipe.recipe(best.recipe, rows.task)
        record = _record(rows, recipe, best, told, groups=groups, stream=stream, seed=seed)
        if not overwrite and resuming.finished(out, record):
            print_lines([f"{out} is finished: there is nothing left to train."])
            return
        replaces = overwrite or interrupted_run(out, record.command)
        with claimed(out, overwrite=replaces, folder=True) as folder:
            split = rows.cut(seed)
            check_arguments([told.model], recipe.set)
            features = _known_features(rows, best)
            rows.check_columns(record.target, split, features, groups=groups, stream=stream)
            recipe.check_arguments(told, best.recipe)  # imports TensorFlow
            files = {"files": footers(find_files(rows.data, format="parquet"))} if stream else {}
            checkpoints = resuming.begin(out, {**record.settings, **files})
            data = rows.prepare(record.target, split, features, keep=[groups] if groups else [], stream=stream)
            print_features(data.features)
            users = _users(data, groups)
            interruption = Interruption()
            with interruption:
                training = _Training(told, recipe, best, data, seed, interruption, checkpoints)
                trained = training.run(rows.data if stream else None, folder / LOGS if tensorboard else None)
                record = replace(
                    record,
                    source=_source(record, data),
                    interrupted=interruption.ended,
                    resumed=trained.resumed,
                )
                judged = _judged(trained.model, data, users, record)
                write_run(folder, trained.model, trained.history, judged, record, data.tables.get("valid"))
            if interruption.ended and out.exists():  # a run, whole or interrupted later than this one
                raise _ended(interruption, trained, f"{kept_aside(folder, out)}; {out} is as it was.")
    if interruption.ended:
        how = "goes on with" if resuming.resume else "replaces"
        raise _ended(interruption, trained, f"{out}, which the same command {how}.")
    if checkpoints is not None:
        remove(checkpoints.folder)
    console.print(f"Wrote {', '.join(FILES)} to {out}.")
    interruption.leave()  # heard when the training had ended: the run is whole


def _known_features(rows: Rows, best: Best) -> FeatureSpec | None:
    """The features that options or --config name; None where they are to be inferred."""
    features = rows.given_features()
    return best.recipe.features if features is None and not rows.rules() else features


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


def _say_what_differs(best: Best, recipe: RecipeOptions, seed: int) -> None:
    if best.winner is None:
        return
    console.print(
        f"This training has seed {seed} and stops after {recipe.patience} epochs without a better score; the search's "
        f"own model had seed {best.winner.seed} and {best.winner.slices} of {best.slices} slices of the "
        f"{best.winner.rows} rows. Pass --repeat for exactly that one."
    )


def _repeated(best: Best, data: "Prepared", interruption: Interruption) -> Trained:
    from nfm_tfrs.tuning.finalists import train_again

    trained = train_again(best, data, [interruption.callback()])
    console.print(f"{best.recipe.model}: {trained.model.count_params():,} parameters, trained as the search did.")
    return trained


@dataclass(frozen=True)
class _Training:
    """A training as options told it."""

    told: Recipe
    options: RecipeOptions
    best: Best
    data: "Prepared"
    seed: int
    interruption: Interruption
    checkpoints: Checkpoints | None

    def run(self, streamed: Sequence[str] | None, logs: Path | None) -> Trained:
        """Trains.

        Args:
            streamed: The files to read batch by batch; None where the rows are in memory.
            logs: The folder for TensorBoard logs in the run; None without.
        """
        if self.options.repeat:
            return _repeated(self.best, self.data, self.interruption)
        _say_what_differs(self.best, self.options, self.seed)
        # Beside the run, where they outlive a kill.
        aside = None if logs is None or self.checkpoints is None else self.checkpoints.folder / LOGS
        with TrainingProgress(self.told.model) as progress:
            trained = self.told.fit(
                self.data,
                rows=None if streamed is None else self._batches(streamed),
                seed=self.seed,
                epochs=self.options.epochs,
                patience=self.options.patience,
                callbacks=[progress.callback(), self.interruption.callback()],
                tensorboard=aside or logs,
                checkpoints=self.checkpoints,
            )
        if aside is not None and logs is not None:
            shutil.copytree(aside, logs)
        return trained

    def _batches(self, files: Sequence[str]) -> Any:
        def batches(start: Any = None) -> Any:
            return self.told.stream(files, self.data, seed=self.seed, start=start)

        return batches if self.checkpoints is not None else batches()


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


def _record(
    rows: Rows,
    recipe: RecipeOptions,
    best: Best,
    told: Recipe,
    *,
    groups: str | None,
    stream: bool,
    seed: int,
) -> RunRecord:
    """What the run is told, before any of its rows is read."""
    return RunRecord(
        target=rows.target(told.config["task"]),
        seed=seed,
        split=rows.split,
        groups=groups,
        recipe=told,
        epochs=recipe.epochs,
        patience=None if recipe.repeat else recipe.patience,
        winner=best.winner if recipe.repeat else None,
        slices=best.slices if recipe.repeat else None,
        source=Source(
            data=tuple(rows.data),
            valid=tuple(rows.valid),
            test=tuple(rows.test),
            format=rows.format,
            stream=stream,
        ),
        versions=versions(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=as_command(["nfm-tfrs", *sys.argv[1:]]),
    )


def _source(record: RunRecord, data: "Prepared") -> Source:
    """The files, and the hash of their rows where these were in memory."""
    from nfm_tfrs.data.parts import fingerprint

    assert record.source is not None
    known = "train" in data.encoded
    return replace(record.source, fingerprint=fingerprint(data.train, data.valid) if known else None)
