"""`nfm-tfrs export`: a saved model for TensorFlow Serving, plain TensorFlow or ONNX."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nfm_tfrs.cli.options import Format, ModelFile, Overwrite, Trust, names_given
from nfm_tfrs.cli.terminal import console, print_metrics
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.runs.folder import open_run, read_run
from nfm_tfrs.target import Target


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="New folder for the export, its signature and its card.")],
    format: Annotated[str, typer.Option(help="savedmodel or onnx.")] = "savedmodel",
    user: Annotated[str | None, typer.Option(help="Columns that come once for all candidates, with commas.")] = None,
    optional: Annotated[str | None, typer.Option(help="Columns that rows may lack, separated by commas.")] = None,
    padded: Annotated[str | None, typer.Option(help="Bags that come filled up to one length, with commas.")] = None,
    quantize: Annotated[str | None, typer.Option(help="Round the embedding table to int8 or float16.")] = None,
    calibrate: Annotated[str | None, typer.Option(help="Fit probabilities: platt or isotonic.")] = None,
    negatives_kept: Annotated[float, typer.Option(help="Share of the rows labelled 0 that were kept.")] = 1.0,
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="Validation rows; those of the run if not given.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label of --valid; the run's own if not given.")] = None,
    valid_format: Format = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Write a model for where nothing of this package is, held against the model."""
    run, _ = read_run(model)
    target = Target.parse(label) if label is not None else None if run is None else run.target
    if valid and target is None:
        raise ValueError(f"There is no run.json beside {model} that names the label. Pass --label.")
    from nfm_tfrs.serving.export import export as written

    source: Any = model
    part = None
    if valid and target is not None:
        from nfm_tfrs.data.parts import encode_part

        opened, _ = open_run(model, trust=trust)
        table = read_table(valid, format=valid_format, types=opened.features.column_types)
        part = encode_part(table, opened.encoder, target)
    found = written(
        source,
        out,
        format=format,  # type: ignore[arg-type]
        user=names_given(user) or (),
        optional=names_given(optional) or (),
        padded=names_given(padded) or (),
        quantize=quantize,  # type: ignore[arg-type]
        calibrate=calibrate,  # type: ignore[arg-type]
        negatives_kept=negatives_kept,
        valid=part,
        overwrite=overwrite,
        trust=trust,
    )
    for which, report in found.quality.items():
        print_metrics(f"validation rows, the {which}", dict(report))
    if found.signature.adjustment.changes:
        console.print(f"Calibration: {found.signature.adjustment}.")
    hashed = [one.name for one in found.signature.inputs if one.num_hash_buckets is not None]
    if hashed:
        console.print(f"ONNX has no hash: {', '.join(hashed)} come as numbers that nfm_tfrs.serving.encode makes.")
    console.print(f"Wrote {out}, {found.bytes / 1e6:.1f} MB; {found.parity}.")
