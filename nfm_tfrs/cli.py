"""The command line: quickstart, train, evaluate, predict, describe."""

# TensorFlow is imported inside the commands: --help should not wait ten seconds for it.
import functools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from nfm_tfrs.data.label import Label
from nfm_tfrs.data.read import read_table
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.features.infer import MIN_COUNT
from nfm_tfrs.features.spec import FeatureSpec

if TYPE_CHECKING:
    from nfm_tfrs.data.encoded import EncodedPart, Prepared

app = typer.Typer(
    help="Rankings from feature interactions: train, judge and use Neural Factorization Machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()

# Chosen on validation: benchmarks/movielens.py
BATCH_SIZE = 256
PATIENCE = 4

Data = Annotated[
    list[str], typer.Option("--data", help="Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.")
]
OutputFolder = Annotated[Path, typer.Option(help="New folder for the model, features, metrics and curves.")]
ModelFile = Annotated[Path, typer.Option(help="model.keras, or the folder that train wrote.")]
Format = Annotated[str | None, typer.Option(help="The files' format, where their suffix does not tell.")]
Columns = Annotated[str | None, typer.Option(help="Columns to use, separated by commas; all others if not given.")]
MinCount = Annotated[int, typer.Option(help="Values seen less often become unknown.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
LabelText = Annotated[str, typer.Option(help='A column, or a comparison such as "rating>=4".')]


def main() -> None:
    """Runs the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # three lines about missing GPU drivers otherwise
    warnings.showwarning = _show_warning
    app()


def _show_warning(message: Warning | str, *_: Any) -> None:
    """A warning is one line on standard error, without the line of code that gave it."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"nfm-tfrs: {message}", style="yellow", markup=False)


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What a user can mend is one line on standard error and exit status 1, not a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, LookupError, OSError, ImportError, TypeError) as error:
            if os.environ.get("NFM_TFRS_TRACEBACK"):
                raise
            Console(stderr=True, soft_wrap=True, highlight=False).print(f"nfm-tfrs: {error}", style="red", markup=False)
            raise typer.Exit(1) from error

    return wrapped


@app.command()
@_one_line_errors
def quickstart(
    rows: Annotated[int, typer.Option(help="Rows to generate.")] = 200_000,
    order: Annotated[int, typer.Option(help="Order of the planted interactions, 2 or 3.")] = 2,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="New folder for the model; nothing is kept without it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train NFM on a generated click log and show how near it comes to the best possible AUC."""
    if out is not None:
        _check_output(out, overwrite)
    from nfm_tfrs.data.synthetic import click_log

    started = time.perf_counter()
    log = click_log(rows, seed=seed, order=order)  # type: ignore[arg-type]
    console.print(f"Generated {rows:,} clicks and non-clicks with planted pairs of fields.")
    from nfm_tfrs import metrics
    from nfm_tfrs.data.encoded import prepare

    data = prepare(log.table, "click", parse_split("time:timestamp", seed))
    console.print(str(data.features), markup=False, highlight=False)
    model, history = _fitted(data, "nfm", {}, BATCH_SIZE, 20, 2, seed, None, None)
    from nfm_tfrs.training import judge

    report = judge(model, data.test)
    best = metrics.auc(data.test.labels, log.true_logits[data.rows["test"]])
    _print_metrics("Test rows", report)
    share = (report["auc"] - 0.5) / (best - 0.5)
    console.print(
        f"Best possible AUC on these rows, from the true probabilities: {best:.4f}. "
        f"NFM reached {report['auc']:.4f}: {share:.0%} of the way from chance, "
        f"in {time.perf_counter() - started:.0f} seconds."
    )
    if out is not None:
        _write_run(out, overwrite, model, history, {"test": report}, {"label": "click", "seed": seed, "rows": rows})


@app.command()
@_one_line_errors
def train(
    data: Data,
    label: LabelText,
    out: OutputFolder,
    split: Annotated[
        str, typer.Option(help="random, time:COLUMN or user-time:USER,TIME, with :0.8,0.1,0.1 behind it if you like.")
    ] = "random",
    columns: Columns = None,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    min_count: MinCount = MIN_COUNT,
    weight: Annotated[str | None, typer.Option(help="Column of example weights.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column of users, for the grouped AUC.")] = None,
    model: Annotated[str, typer.Option(help="A model of `tfrs-registry list --models`.")] = "nfm",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Model argument NAME=VALUE, JSON: --set embedding_dim=32.")
    ] = None,
    task: Annotated[str, typer.Option(help="binary or regression.")] = "binary",
    optimizer: Annotated[str | None, typer.Option(help="A Keras optimizer's name; the package's if not given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Its rate; its default if not given.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = BATCH_SIZE,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    patience: Annotated[int, typer.Option(min=0, help="Epochs to wait for a better validation score.")] = PATIENCE,
    seed: int = 0,
    format: Format = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model on a file: infer its features, stop early on validation, judge once on the test rows."""
    _check_output(out, overwrite)
    if task not in ("binary", "regression"):
        raise ValueError(f"--task is binary or regression; received {task!r}.")
    arguments = {"task": task, **_model_arguments(set_ or [])}
    spec = None if features is None else FeatureSpec.from_json(features.read_text())
    table = read_table(data, format=format)
    from nfm_tfrs.data.encoded import prepare

    rules = {"columns": _names(columns), "min_count": min_count}
    parts = prepare(
        table, label, parse_split(split, seed), features=spec, weight=weight, binary=task == "binary", **rules
    )
    console.print(str(parts.features), markup=False, highlight=False)
    logs = out / "tensorboard" if tensorboard else None
    made = _optimizer(optimizer, learning_rate)
    if out.exists():
        shutil.rmtree(out)  # asked for by --overwrite, and only once the data has been read
    fitted, history = _fitted(parts, model, arguments, batch_size, epochs, patience, seed, made, logs)
    from nfm_tfrs.training import judge

    reports = {}
    for name, part in (("valid", parts.valid), ("test", parts.test)):
        if len(part):
            users = None if groups is None else _column(table, groups, "--groups").take(pa.array(parts.rows[name]))
            reports[name] = judge(fitted, part, groups=users)
            _print_metrics(f"{name} rows ({len(part):,})", reports[name])
    _print_rates("Test rows" if len(parts.test) else "Valid rows", parts.test if len(parts.test) else parts.valid)
    run = {"label": label, "split": split, "seed": seed, "weight": weight, "groups": groups}
    _write_run(out, True, fitted, history, reports, run)


@app.command()
@_one_line_errors
def evaluate(
    model: ModelFile,
    data: Data,
    label: Annotated[str | None, typer.Option(help="The label; the run's own if not given.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of example weights.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column of users, for the grouped AUC.")] = None,
    format: Format = None,
) -> None:
    """Judge a saved model on every row of a file."""
    opened, run = _open(model)
    label = label or run.get("label")
    if label is None:
        raise ValueError(f"There is no run.json beside {model} that names the label. Pass --label.")
    table = read_table(data, format=format)
    from nfm_tfrs.data.encoded import encode_part
    from nfm_tfrs.training import judge

    binary = opened.task.name == "binary"
    part = encode_part(table, opened.encoder, Label.parse(label), weight=weight, binary=binary)
    report = judge(opened, part, groups=None if groups is None else _column(table, groups, "--groups"))
    _print_metrics(f"{table.num_rows:,} rows", report)
    _print_rates("Rows", part)


@app.command()
@_one_line_errors
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
    _check_output(out, overwrite)
    opened, _ = _open(model)
    table = read_table(data, format=format)
    if "prediction" in table.schema.names:
        raise ValueError("The data has a column 'prediction' already. Rename it.")
    from nfm_tfrs.data.encoded import encode_part
    from nfm_tfrs.keras_compat import tf
    from nfm_tfrs.training import predict as predictions_of

    part = encode_part(table, opened.encoder)
    predictions = predictions_of(opened, part)
    if opened.task.name == "binary":
        predictions = tf.sigmoid(predictions).numpy()
    table = _decoded(table).append_column("prediction", pa.array(predictions))
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")  # a killed run leaves no half file under the name asked for
    if out.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, unfinished)
    else:
        from pyarrow import csv

        nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
        csv.write_csv(table.drop_columns(nested), unfinished)
        if nested:
            console.print(f"CSV holds no lists: left out {', '.join(nested)}.")
    unfinished.replace(out)
    _print_rates("Rows", part)
    console.print(f"Wrote {table.num_rows:,} predictions to {out}.")


@app.command()
@_one_line_errors
def describe(
    data: Data,
    columns: Columns = None,
    exclude: Annotated[str | None, typer.Option(help="Columns to leave out, separated by commas.")] = None,
    min_count: MinCount = MIN_COUNT,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    out: Annotated[Path | None, typer.Option(help="New features.json, to edit and to give to train.")] = None,
    format: Format = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the features inferred from a file, and how many of its values are missing or unknown."""
    if out is not None:
        _check_output(out, overwrite)
    table = read_table(data, format=format)
    if features is not None:
        spec = FeatureSpec.from_json(features.read_text())
    else:
        spec = FeatureSpec.from_table(
            table, columns=_names(columns), exclude=_names(exclude) or (), min_count=min_count
        )
    console.print(str(spec), markup=False, highlight=False)
    from nfm_tfrs.data.encoded import encode_part
    from nfm_tfrs.features.encoder import FeatureEncoder

    _print_rates(f"{table.num_rows:,} rows", encode_part(table, FeatureEncoder(spec)))
    if out is not None:
        out.write_text(spec.to_json() + "\n")
        console.print(f"Wrote {out}.")


def _fitted(
    data: "Prepared",
    name: str,
    arguments: Mapping[str, Any],
    batch_size: int,
    epochs: int,
    patience: int,
    seed: int,
    optimizer: Any,
    tensorboard: Path | None,
) -> tuple[Any, dict[str, list[float]]]:
    from nfm_tfrs.keras_compat import keras
    from nfm_tfrs.training import train as fit
    from tfrs_registry import get_model

    keras.utils.set_random_seed(seed)
    model = get_model(name, features=data.features, **arguments)
    model.compile(optimizer)
    console.print(f"{name}: {model.count_params():,} parameters, {len(data.train):,} training rows.")
    history = fit(
        model,
        data.train.dataset(batch_size, shuffle=True, seed=seed),
        data.valid.dataset(max(batch_size, 4096)),
        epochs=epochs,
        patience=patience,
        console=console,
        tensorboard=tensorboard,
    )
    return model, history


def _write_run(
    out: Path,
    overwrite: bool,
    model: Any,
    history: dict[str, list[float]],
    reports: dict[str, dict[str, float]],
    run: dict[str, Any],
) -> None:
    from nfm_tfrs.training import draw_curves

    if overwrite and out.is_dir() and (out / "model.keras").exists():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.keras")
    (out / "features.json").write_text(model.features.to_json() + "\n")
    (out / "metrics.json").write_text(json.dumps({**reports, "history": history}, indent=2) + "\n")
    (out / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    names = ["loss", "auc", "log_loss"] if model.task.name == "binary" else ["loss", "rmse", "mae"]
    draw_curves(history, out / "curves.png", names)
    console.print(f"Wrote model.keras, features.json, metrics.json, run.json and curves.png to {out}.")


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    """A saved model and what its run.json says."""
    from nfm_tfrs.models.saving import load_model

    if path.is_dir() and (path / "model.keras").exists():
        path = path / "model.keras"
    beside = path.parent / "run.json"
    return load_model(path, compile=False), json.loads(beside.read_text()) if beside.exists() else {}


def _check_output(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")


def _model_arguments(settings: list[str]) -> dict[str, Any]:
    arguments = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUE; received {setting!r}.")
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value  # a bare word is a string
    return arguments


def _optimizer(name: str | None, learning_rate: float | None) -> Any:
    if name is None and learning_rate is None:
        return None
    from nfm_tfrs.keras_compat import keras

    config = {} if learning_rate is None else {"learning_rate": learning_rate}
    return keras.optimizers.get({"class_name": name or "adagrad", "config": config})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _column(table: pa.Table, name: str, option: str) -> Any:
    if name not in table.schema.names:
        raise ValueError(f"{option} names no column {name!r}; the columns are {', '.join(table.schema.names)}.")
    return table[name]


def _decoded(table: pa.Table) -> pa.Table:
    """The table with plain strings where the reader keeps them as a dictionary."""
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    return table.cast(pa.schema([f.with_type(kind) for f, kind in zip(table.schema, types, strict=True)]))


def _print_metrics(title: str, report: dict[str, float]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in report.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)


def _print_rates(title: str, part: "EncodedPart") -> None:
    table = Table(title=f"{title}: missing and unknown values", title_justify="left")
    table.add_column("feature")
    for heading in ("values", "missing", "unknown"):
        table.add_column(heading, justify="right")
    for rate in part.rates:
        table.add_row(rate.name, f"{rate.values:,}", f"{rate.missing:.2%}", f"{rate.unknown:.2%}")
    console.print(table)


if __name__ == "__main__":
    main()
