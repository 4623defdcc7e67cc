"""The command line: quickstart, train, tune, evaluate, predict, describe."""

# TensorFlow is imported inside the commands: --help should not wait ten seconds for it.
import ast
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from pyarrow import csv, parquet

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.cli.terminal import SearchProgress, console, one_line_errors, print_metrics, print_rates, show_warning
from nfm_tfrs.data.labels import Label
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.features.infer import MIN_COUNT
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.files import FILES, check_output, writing
from nfm_tfrs.runs.folder import open_run, write_run

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared

app = typer.Typer(
    help="Rankings from feature interactions: train, judge and use Neural Factorization Machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# Chosen on validation: benchmarks/movielens.py
BATCH_SIZE = 256
PATIENCE = 4

_JSON_WORDS = {"true": "True", "false": "False", "null": "None"}  # what --set takes beside Python's own

Data = Annotated[
    list[str], typer.Option("--data", help="Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.")
]
OutputFolder = Annotated[Path, typer.Option(help="New folder for the model, features, metrics and curves.")]
ModelFile = Annotated[Path, typer.Option(help="model.keras, or the folder that train wrote.")]
Format = Annotated[str | None, typer.Option(help="The files' format, where their suffix does not tell.")]
Columns = Annotated[str | None, typer.Option(help="Columns to use, separated by commas; all others if not given.")]
MinCount = Annotated[int | None, typer.Option(help=f"Values seen less often become unknown; {MIN_COUNT} if not given.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
LabelText = Annotated[str, typer.Option(help='A column, or a comparison such as "rating>=4".')]


def main() -> None:
    """Runs the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # three lines about missing GPU drivers otherwise
    warnings.showwarning = show_warning  # type: ignore[assignment]
    app()


@app.command()
@one_line_errors
def quickstart(
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 200_000,
    order: Annotated[int, typer.Option(help="Order of the planted interactions, 2 or 3.")] = 2,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="New folder for the model; nothing is kept without it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train NFM on a generated click log and show how near it comes to the best possible AUC."""
    if out is not None:
        check_output(out, overwrite, folder=True)
    from nfm_tfrs.data.synthetic import click_log

    started = time.perf_counter()
    log = click_log(rows, seed=seed, order=order)  # type: ignore[arg-type]
    console.print(f"Generated {rows:,} clicks and non-clicks with planted pairs of fields.")
    from nfm_tfrs import metrics
    from nfm_tfrs.data.prepare import prepare

    split = parse_split("time:timestamp", seed)
    data = prepare(log.table, "click", split)
    console.print(str(data.features))
    train_data = data.train.dataset(1024, shuffle=True, seed=seed)
    model, history = _fitted("nfm", {}, data, train_data, epochs=20, patience=2, seed=seed)
    from nfm_tfrs.training.evaluate import judge

    report = judge(model, data.test)
    best = metrics.auc(data.test.labels, log.true_logits[split.parts(log.table).test])
    print_metrics("Test rows", report)
    share = (report["auc"] - 0.5) / (best - 0.5)
    console.print(
        f"Best possible AUC on these rows, from the true probabilities: {best:.4f}. "
        f"NFM reached {report['auc']:.4f}: {share:.0%} of the way from chance, "
        f"in {time.perf_counter() - started:.0f} seconds."
    )
    if out is not None:
        with writing(out, overwrite=overwrite) as folder:
            write_run(folder, model, history, {"test": report}, {"label": "click", "seed": seed, "rows": rows})
        console.print(f"Wrote {', '.join(FILES)} to {out}.")


@app.command()
@one_line_errors
def train(
    data: Data,
    label: LabelText,
    out: OutputFolder,
    split: Annotated[
        str | None,
        typer.Option(help="random (if not given), time:COLUMN or user-time:USER,TIME; with :0.8,0.1,0.1 if you like."),
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option(help="Rows to choose on, where they are files of their own.")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="Rows to judge on, with --valid.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the training rows from Parquet batch by batch.")
    ] = False,
    columns: Columns = None,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    min_count: MinCount = None,
    weight: Annotated[str | None, typer.Option(help="Column of example weights.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column of users, for the grouped AUC.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A model of `tfrs-registry list --models`; nfm if not given.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A best.json of tune: features, model, arguments, optimizer; other options go before."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Model argument NAME=VALUE: --set embedding_dim=32.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="binary (if not given) or regression.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="lazyadagrad (if not given), lazyadam, or a Keras optimizer's name.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Its rate; its default if not given.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32 (if not given), mixed_bfloat16, mixed_float16, or auto: the device's fastest."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help=f"{BATCH_SIZE} if not given.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="50 if not given, or as many as the search's.")] = None,
    patience: Annotated[int, typer.Option(min=0, help="Epochs to wait for a better validation score.")] = PATIENCE,
    seed: int = 0,
    format: Format = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for encoded rows: the next run on the same files starts from them.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model on a file: infer its features, stop early on validation, judge once on the test rows."""
    check_output(out, overwrite, folder=True)
    best: dict[str, Any] = {"model": "nfm", "config": {}, "training": {}} if config is None else _best(config)
    training, known = best["training"], best["config"].pop("features", None)
    task = task or best["config"].get("task", "binary")
    if task not in ("binary", "regression"):
        raise ValueError(f"--task is binary or regression; received {task!r}.")
    _check_valid(valid, split, stream=stream, test=test)
    binary = task == "binary"
    batch_size = batch_size or training.get("batch_size", BATCH_SIZE)
    arguments = {**best["config"], "task": task, **_model_arguments(set_ or [])}
    if precision is not None and any(setting.startswith("dtype=") for setting in set_ or []):
        raise ValueError("--precision and --set dtype both say what to compute in. Pass one of them.")
    arguments |= {} if precision is None else {"dtype": precision}
    spec, rules = _features(features, columns, min_count)
    if known is not None and features is None and columns is None and min_count is None:
        spec, rules = FeatureSpec.from_dict(known), {}
    cut = parse_split(split or "random", seed)
    from nfm_tfrs.data.pipeline import streaming
    from nfm_tfrs.data.prepare import prepare_files
    from nfm_tfrs.training.evaluate import judge

    parts = prepare_files(
        data,
        label,
        cut,
        valid=valid,
        test=test,
        stream=stream,
        features=spec,
        weight=weight,
        binary=binary,
        format=format,
        cache=cache,
        keep=[groups] if groups else [],
        **rules,
    )
    console.print(str(parts.features))
    if stream:
        train_data = streaming.stream(
            data,
            parts.features,
            label,
            weight=weight,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            binary=binary,
            transform=parts.encoder.encode_arrays,
            encoded=parts.encoded.get("train"),
        )
    else:
        train_data = parts.train.dataset(batch_size, shuffle=True, seed=seed)
    users = {} if groups is None else {name: _column(part, groups, "--groups") for name, part in parts.tables.items()}
    settings = {"label": label, "split": split, "seed": seed, "weight": weight, "groups": groups}
    passes = training.get("passes", 50)
    if learning_rate is None and optimizer in (None, training.get("optimizer")):  # the rate of another says nothing
        learning_rate = training.get("learning_rate")
    cosine = training.get("schedule") == "cosine" and learning_rate is not None
    with writing(out, overwrite=overwrite) as folder:
        fitted, history = _fitted(
            model or best["model"],
            arguments,
            parts,
            train_data,
            epochs=epochs or math.ceil(passes),
            patience=patience,
            seed=seed,
            optimizer=_optimizer(
                optimizer or training.get("optimizer"),
                learning_rate,
                decay_steps=math.ceil(passes * len(train_data)) if cosine else None,
            ),
            jit_compile=training.get("jit_compile", "auto"),
            tensorboard=folder / "tensorboard" if tensorboard else None,
        )
        reports = {}
        for name in ("valid", "test"):
            if len(parts.encoded.get(name, ())):
                reports[name] = judge(fitted, parts.encoded[name], groups=users.get(name))
                print_metrics(f"{name} rows ({len(parts.encoded[name]):,})", reports[name])
        last = list(reports)[-1]
        print_rates(f"{last} rows", parts.encoded[last].rates)
        write_run(folder, fitted, history, reports, settings)
    console.print(f"Wrote {', '.join(FILES)} to {out}.")


@app.command()
@one_line_errors
def tune(
    data: Data,
    label: LabelText,
    out: Annotated[Path, typer.Option(help="Folder of the search; the same search in it goes on.")],
    split: Annotated[str | None, typer.Option(help="As in train; the test rows are judged once, at the end.")] = None,
    valid: Annotated[list[str] | None, typer.Option(help="Rows to choose on, in files of their own.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Rows to judge the winner on, with --valid.")] = None,
    columns: Columns = None,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    min_count: MinCount = None,
    weight: Annotated[str | None, typer.Option(help="Column of example weights.")] = None,
    task: Annotated[str, typer.Option(help="binary or regression.")] = "binary",
    objective: Annotated[
        str | None, typer.Option(help="val_auc (val_rmse for regression) if not given; val_log_loss, val_mae, …")
    ] = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Configurations to try.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Of search; the finalists come on top.")] = None,
    models: Annotated[str, typer.Option(help="Registered models, separated by commas.")] = "ranking",
    blocks: Annotated[str | None, typer.Option(help="Blocks, separated by commas; all that fit if not given.")] = None,
    structures: Annotated[str, typer.Option(help="Of stacked, parallel and concat.")] = "stacked,parallel,concat",
    precision: Annotated[str, typer.Option(help="Precisions, separated by commas.")] = "float32",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="What is not searched, NAME=VALUE: --set embedding_dim=16.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="halving or random.")] = "halving",
    passes: Annotated[float, typer.Option(help="Over the rows, in a whole training.")] = 12,
    finalists: Annotated[int, typer.Option(min=1, help="Configurations to train again.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="How often each.")] = 3,
    refit: Annotated[bool, typer.Option("--refit", help="Train the winner on training and validation rows.")] = False,
    max_parameters: Annotated[int | None, typer.Option(min=1, help="Ceiling of a model's parameters.")] = None,
    max_latency: Annotated[float | None, typer.Option(help="Ceiling of its seconds for 100 rows.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that run trials side by side.")] = 1,
    seed: int = 0,
    format: Format = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for encoded rows, as in train.")] = None,
) -> None:
    """Search models and blocks, choose on validation, and judge the winner once on the test rows."""
    if task not in ("binary", "regression"):
        raise ValueError(f"--task is binary or regression; received {task!r}.")
    _check_valid(valid, split, test=test)
    spec, rules = _features(features, columns, min_count)
    cut = parse_split(split or "random", seed)
    from nfm_tfrs.data.prepare import prepare_files
    from nfm_tfrs.tuning.outcome import FILES as SEARCH_FILES
    from nfm_tfrs.tuning.search import Budget, search
    from nfm_tfrs.tuning.workers import follow_chief, is_worker, starter

    budget = Budget(max_trials, minutes)
    follow_chief()
    parts = prepare_files(
        data,
        label,
        cut,
        valid=valid,
        test=test,
        features=spec,
        weight=weight,
        binary=task == "binary",
        format=format,
        cache=cache,
        **rules,
    )
    with SearchProgress(max_trials, minutes) as progress:
        found = search(
            parts.train,
            parts.valid,
            features=parts.features,
            budget=budget,
            out=out,
            objective=objective or ("val_auc" if task == "binary" else "val_rmse"),
            test=parts.encoded.get("test"),
            task=task,
            models=_names(models) or [],
            blocks=_names(blocks),
            structures=_names(structures) or [],
            precisions=_names(precision) or [],
            fixed=_model_arguments(set_ or []),
            strategy=strategy,  # type: ignore[arg-type]
            passes=passes,
            finalists=finalists,
            seeds=seeds,
            refit=refit,
            max_parameters=max_parameters,
            max_latency=max_latency,
            seed=seed,
            facts={"label": label, "split": split or "random" if valid is None else f"--valid {' '.join(valid)}"},
            workers=starter([sys.executable, "-m", "nfm_tfrs.cli", *sys.argv[1:]], out / "workers")
            if workers > 1 and not is_worker()
            else None,
            num_workers=workers,
            watch=progress.watch,
        )
    if is_worker():
        return
    console.print(found.evidence["verdict"])
    if found.evidence["test"] is not None:
        print_metrics(f"test rows ({len(parts.test):,})", found.evidence["test"]["metrics"])
    console.print(f"Wrote {', '.join(name for name in SEARCH_FILES if (out / name).exists())} to {out}.")


@app.command()
@one_line_errors
def evaluate(
    model: ModelFile,
    data: Data,
    label: Annotated[str | None, typer.Option(help="The label; the run's own if not given.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of example weights; the run's if not given.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column of users; the run's if not given.")] = None,
    format: Format = None,
) -> None:
    """Judge a saved model on every row of a file."""
    opened, run = open_run(model)
    label = label or run.get("label")
    weight = weight or run.get("weight")
    groups = groups or run.get("groups")
    if label is None:
        raise ValueError(f"There is no run.json beside {model} that names the label. Pass --label.")
    table = read_table(data, format=format, types=opened.features.dtypes)
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.training.evaluate import judge

    part = encode_part(table, opened.encoder, Label.parse(label), weight=weight, binary=opened.is_binary)
    report = judge(opened, part, groups=None if groups is None else _column(table, groups, "--groups"))
    print_metrics(f"{table.num_rows:,} rows", report)
    print_rates("Rows", part.rates)


@app.command()
@one_line_errors
def predict(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="New .parquet or .csv file: the rows with a column `prediction`.")],
    format: Format = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a file's rows with the model's prediction: a probability for a binary model."""
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"--out ends in .parquet or .csv; received {out}.")
    check_output(out, overwrite, folder=False)
    opened, _ = open_run(model)
    table = read_table(data, format=format, types=opened.features.dtypes)
    if "prediction" in table.schema.names:
        raise ValueError("The data has a column 'prediction' already. Rename it.")
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.keras_compat import tf
    from nfm_tfrs.training.evaluate import predict as predictions_of

    part = encode_part(table, opened.encoder)
    predictions = predictions_of(opened, part)
    if opened.is_binary:
        predictions = tf.sigmoid(predictions).numpy()
    table = _decoded(table).append_column("prediction", pa.array(predictions))
    left_out = [f.name for f in table.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)]
    with writing(out, overwrite=overwrite) as file:
        if out.suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            csv.write_csv(table.drop_columns(left_out), file)
    if out.suffix == ".csv" and left_out:
        console.print(f"CSV holds neither lists nor bytes: left out {', '.join(left_out)}.")
    print_rates("Rows", part.rates)
    console.print(f"Wrote {table.num_rows:,} predictions to {out}.")


@app.command()
@one_line_errors
def describe(
    data: Data,
    columns: Columns = None,
    exclude: Annotated[str | None, typer.Option(help="Columns to leave out, separated by commas.")] = None,
    min_count: MinCount = None,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    out: Annotated[Path | None, typer.Option(help="New features.json, to edit and to give to train.")] = None,
    format: Format = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the features inferred from a file, and how many of its values are missing or unknown."""
    if out is not None:
        check_output(out, overwrite, folder=False)
    table = read_table(data, format=format)
    spec, rules = _features(features, columns, min_count)
    excluded = _names(exclude) or []
    for name in excluded:
        _column(table, name, "--exclude")
    if spec is None:
        spec = FeatureSpec.from_table(table, exclude=excluded, **rules)
    console.print(str(spec))
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.features.encoder import FeatureEncoder

    print_rates(f"{table.num_rows:,} rows", encode_part(table, FeatureEncoder(spec)).rates)
    if out is not None:
        with writing(out, overwrite=overwrite) as file:
            file.write_text(spec.to_json() + "\n", encoding="utf-8")
        console.print(f"Wrote {out}.")


def _fitted(
    name: str,
    arguments: Mapping[str, Any],
    parts: "Prepared",
    train_data: Any,
    *,
    epochs: int,
    patience: int,
    seed: int,
    optimizer: Any = None,
    jit_compile: Any = "auto",
    tensorboard: Path | None = None,
) -> tuple[Any, dict[str, list[float]]]:
    from nfm_tfrs.keras_compat import keras
    from nfm_tfrs.training.fit import train as fit
    from tfrs_registry import get_model

    keras.utils.set_random_seed(seed)
    try:
        model = get_model(name, features=parts.features, **arguments)
    except TypeError as error:  # an argument the model does not have, or of another type
        settings = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items() if argument != "task")
        raise ValueError(f"{name} cannot be made with {settings}: {error}. Correct the --set.") from error
    model.compile(optimizer, jit_compile=jit_compile)
    console.print(f"{name}: {model.count_params():,} parameters, {len(train_data):,} training steps an epoch.")
    history = fit(
        model,
        train_data,
        parts.valid.dataset(4096),
        epochs=epochs,
        patience=patience,
        console=console,
        tensorboard=tensorboard,
    )
    return model, history


def _model_arguments(settings: list[str]) -> dict[str, Any]:
    arguments = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUE; received {setting!r}.")
        try:
            arguments[name] = ast.literal_eval(_JSON_WORDS.get(value, value))
        except (ValueError, SyntaxError):
            arguments[name] = value  # a bare word is a string
    return arguments


def _check_valid(valid: list[str] | None, split: str | None, **others: Any) -> None:
    """Refuses files to choose on beside a split, and what needs such files without them."""
    given = " and ".join(f"--{name}" for name, value in others.items() if value)
    if valid is None and given:
        raise ValueError(f"Beside {given} the rows to choose on come from files of their own. Pass --valid.")
    if valid is not None and split is not None:
        raise ValueError("--valid and --split both say which rows to choose on. Pass one of them.")


def _features(
    file: Path | None, columns: str | None, min_count: int | None
) -> tuple[FeatureSpec | None, dict[str, Any]]:
    """The features of a file, or the rules to infer them by."""
    if file is None:
        return None, {"columns": _names(columns), "min_count": MIN_COUNT if min_count is None else min_count}
    if columns is not None or min_count is not None:
        raise ValueError("--features says what --columns and --min-count would infer. Pass it alone, or edit the file.")
    try:
        return FeatureSpec.from_json(file.read_text(encoding="utf-8")), {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def _optimizer(name: str | None, learning_rate: Any, decay_steps: int | None = None) -> Any:
    if name is None and learning_rate is None:
        return None
    from nfm_tfrs.keras_compat import keras
    from nfm_tfrs.optimizers import named_optimizer

    if decay_steps is not None:
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps)
    return named_optimizer(name or "lazyadagrad", learning_rate)


def _best(path: Path) -> dict[str, Any]:
    """What a search wrote about the model it chose."""
    try:
        best = json.loads(path.read_text(encoding="utf-8"))
        return {name: best[name] for name in ("model", "config", "training")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no best.json of a search: {error!r}. Pass the one that tune wrote.") from error


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _column(table: pa.Table, name: str, option: str) -> Any:
    if name not in table.schema.names:
        raise missing_column(name, table.schema.names, reader=option)
    return table[name]


def _decoded(table: pa.Table) -> pa.Table:
    """The table with plain strings where the reader keeps them as a dictionary."""
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    return table.cast(pa.schema([f.with_type(kind) for f, kind in zip(table.schema, types, strict=True)]))


if __name__ == "__main__":
    main()
