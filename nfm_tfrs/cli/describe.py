"""`nfm-tfrs describe`: the features inferred from a file."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from nfm_tfrs.cli.options import (
    Data,
    Earlier,
    Format,
    Histories,
    NumberEncoder,
    Overwrite,
    check_columns,
    check_earlier,
    check_histories,
    features_given,
    inference_rules,
    names_given,
)
from nfm_tfrs.cli.terminal import console, print_features, print_lines, print_rates
from nfm_tfrs.data.history.parts import checked_histories, rules_with_histories
from nfm_tfrs.data.history.table import with_histories
from nfm_tfrs.data.labels import label_summary
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.features.infer import Inference, infer_with_rates
from nfm_tfrs.features.rates import Rates
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.target import Target


def describe(
    data: Data,
    columns: Annotated[
        str | None, typer.Option(help="Columns to use, separated by commas; all others if not given.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Columns that are categories whatever their values, separated by commas.")
    ] = None,
    number: Annotated[
        str | None, typer.Option(help="Columns that are numbers whatever their values, separated by commas.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help='A column, or a comparison such as "rating>=4": its rate is shown, no feature.')
    ] = None,
    exclude: Annotated[str | None, typer.Option(help="Columns to leave out, separated by commas.")] = None,
    min_count: Annotated[
        int | None, typer.Option(help="Values seen less often become unknown; 5 if not given.")
    ] = None,
    number_encoder: NumberEncoder = None,
    features: Annotated[Path | None, typer.Option(help="A features.json to use instead of inferring.")] = None,
    histories: Histories = None,
    earlier: Earlier = None,
    out: Annotated[Path | None, typer.Option(help="New features.json, to edit and to give to train.")] = None,
    format: Format = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the features inferred from a file, and how many of its values are missing or unknown."""
    claim = nullcontext() if out is None else claimed(out, overwrite=overwrite, folder=False)
    with claim as file:
        used, excluded = names_given(columns), names_given(exclude) or ()
        target = None if label is None else Target.parse(label)
        categories, numbers = names_given(category), names_given(number)
        rules = inference_rules(used, categories, numbers, min_count, number_encoder)
        spec = None if features is None else features_given(features, beside=rules)
        made = checked_histories(histories or (), earlier=earlier or None, features=spec)
        names = {name for rule in made for name in rule.names}
        named: list[tuple[str | None, str]] = [("--exclude", column) for column in excluded]
        named += [] if target is None else [("--label", target.label.column)]
        named += [(None, column) for column in (used or () if spec is None else spec.columns) if column not in names]
        named += [("--category", column) for column in categories or ()]
        named += [("--number", column) for column in numbers or ()]
        check_columns(data, named, format=format)
        check_histories(data, made, format=format)
        if earlier:
            check_earlier(earlier, data, made, option="--history", format=format)
        read = [column for rule in made for column in rule.columns]
        before = [read_table(earlier, read, format=format)] if earlier else []
        table = with_histories(read_table(data, format=format), made, earlier=before)
        if spec is None:
            told = {**rules, "exclude": [*excluded, *(target.columns if target else ())]}
            spec, rates = infer_with_rates(table, Inference(**rules_with_histories(told, made)))
        else:
            rates = _rates_of(table, spec)
        if target is not None:
            print_lines([label_summary(table, target)])
        print_features(spec)
        print_rates(f"{table.num_rows:,} rows", rates)
        if file is not None:
            file.write_text(spec.to_json() + "\n", encoding="utf-8")
    if out is not None:
        console.print(f"Wrote {out}.")


def _rates_of(table: pa.Table, spec: FeatureSpec) -> list[Rates]:
    """The rates of features that were inferred from other rows; imports TensorFlow."""
    from nfm_tfrs.data.parts import encode_part
    from nfm_tfrs.features.encoder import FeatureEncoder

    return encode_part(table, FeatureEncoder(spec)).rates
