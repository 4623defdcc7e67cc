"""`nfm-tfrs predict`: a file's rows with the model's prediction."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from pyarrow import csv, parquet

from nfm_tfrs.cli.history_rows import check_rows, read_rows
from nfm_tfrs.cli.known_rows import warn_of_known_rows
from nfm_tfrs.cli.options import Data, Earlier, Format, ModelFile, Overwrite, Trust
from nfm_tfrs.cli.terminal import console, print_rates
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.folder import open_run, read_run


def predict(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="New .parquet or .csv file: the rows with a column `prediction`.")],
    earlier: Earlier = None,
    format: Format = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a file's rows with the model's prediction: a probability for a binary model."""
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"--out ends in .parquet or .csv; received {out}.")
    with claimed(out, overwrite=overwrite, folder=False) as file:
        run, features = read_run(model)
        check_rows(data, [], run, features, earlier=earlier, format=format)
        opened, _ = open_run(model, trust=trust)
        table = read_rows(data, run, opened.features, earlier=earlier, format=format)
        if "prediction" in table.schema.names:
            raise ValueError("The data has a column 'prediction' already. Rename it.")
        from nfm_tfrs.data.parts import encode_part
        from nfm_tfrs.keras_compat import tf
        from nfm_tfrs.training import predict

        part = encode_part(table, opened.encoder)
        predictions = predict(opened, part)
        if opened.is_binary:
            predictions = tf.sigmoid(predictions).numpy()
        table = _decoded(table).append_column("prediction", pa.array(predictions))
        left_out = [f.name for f in table.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)]
        if out.suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            csv.write_csv(table.drop_columns(left_out), file)
    if out.suffix == ".csv" and left_out:
        console.print(f"CSV holds neither lists nor bytes: left out {', '.join(left_out)}.")
    warn_of_known_rows(run, data, format=format)
    print_rates("Rows", part.rates)
    console.print(f"Wrote {table.num_rows:,} predictions to {out}.")


def _decoded(table: pa.Table) -> pa.Table:
    """The table with plain strings where the reader keeps them as a dictionary."""
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    return table.cast(pa.schema([f.with_type(kind) for f, kind in zip(table.schema, types, strict=True)]))
