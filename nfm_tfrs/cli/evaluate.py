"""`nfm-tfrs evaluate`: the exact metrics of a saved model on every row of a file."""

from typing import Annotated

import typer

from nfm_tfrs.cli.history_rows import check_rows, read_rows
from nfm_tfrs.cli.known_rows import warn_of_known_rows
from nfm_tfrs.cli.options import Data, Earlier, Format, ModelFile, Trust, column_of, named_columns
from nfm_tfrs.cli.terminal import print_metrics, print_rates
from nfm_tfrs.runs.folder import open_run, read_run
from nfm_tfrs.target import Target


def evaluate(
    model: ModelFile,
    data: Data,
    label: Annotated[str | None, typer.Option(help="The label; the run's own if not given.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of example weights; the run's if not given.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column of users; the run's if not given.")] = None,
    earlier: Earlier = None,
    format: Format = None,
    trust: Trust = False,
) -> None:
    """Judge a saved model on every row of a file."""
    given = None if label is None else Target.parse(label)
    run, features = read_run(model)
    if run is not None:
        given, weight, groups = given or run.target, weight or run.target.weight, groups or run.groups
    if given is None:
        raise ValueError(f"There is no run.json beside {model} that names the label. Pass --label.")
    named = named_columns(Target(given.label, weight), groups)
    check_rows(data, named, run, features, earlier=earlier, format=format)
    opened, _ = open_run(model, trust=trust)
    target = Target(given.label, weight, "binary" if opened.is_binary else "regression")
    table = read_rows(data, run, opened.features, earlier=earlier, format=format)
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.training import evaluate

    part = encode_part(table, opened.encoder, target)
    report = evaluate(opened, part, groups=None if groups is None else column_of(table, groups, "--groups"))
    warn_of_known_rows(run, data, format=format)
    print_metrics(f"{table.num_rows:,} rows", report)
    print_rates("Rows", part.rates)
