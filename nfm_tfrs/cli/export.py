"""`nfm-tfrs export`: a saved model for TensorFlow Serving, plain TensorFlow or ONNX."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nfm_tfrs.cli.history_rows import check_rows, files_or_rows
from nfm_tfrs.cli.options import Earlier, ModelFile, Overwrite, Trust, named_columns, names_given
from nfm_tfrs.cli.terminal import console, print_metrics
from nfm_tfrs.runs.folder import read_run
from nfm_tfrs.target import Target


def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="New folder for the export, its signature and its card.")],
    format: Annotated[str, typer.Option(help="savedmodel or onnx.")] = "savedmodel",
    user: Annotated[
        str | None, typer.Option(help="Columns that come once for all candidates, separated by commas.")
    ] = None,
    optional: Annotated[str | None, typer.Option(help="Columns that rows may lack, separated by commas.")] = None,
    padded: Annotated[
        str | None, typer.Option(help="Bags that come filled up to one length, separated by commas.")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="Round the embedding table to int8 or float16.")] = None,
    calibrate: Annotated[str | None, typer.Option(help="Fit probabilities: platt or isotonic.")] = None,
    negatives_kept: Annotated[float, typer.Option(help="Share of the rows labelled 0 that were kept.")] = 1.0,
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="Validation rows; those of the run if not given.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label of --valid; the run's own if not given.")] = None,
    earlier: Earlier = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Write a model for where nothing of this package is, held against the model."""
    run, features = read_run(model)
    target = _target(label, None if run is None else run.target)
    if (valid or label is not None) and quantize is None and calibrate is None:
        raise ValueError(
            "--valid and --label are for --calibrate and --quantize. Pass one of these, or leave them out."
        )
    if valid:
        if target is None:
            raise ValueError(f"There is no run.json beside {model} that names the label. Pass --label.")
        check_rows(valid, named_columns(target), run, features, earlier=earlier)
    elif earlier:
        raise ValueError("--earlier is for the histories of --valid. Pass it too, or leave --earlier out.")
    from nfm_tfrs.serving.export import export as write_export

    found = write_export(
        model,
        out,
        format=format,  # type: ignore[arg-type]
        user=names_given(user) or (),
        optional=names_given(optional) or (),
        padded=names_given(padded) or (),
        quantize=quantize,  # type: ignore[arg-type]
        calibrate=calibrate,  # type: ignore[arg-type]
        negatives_kept=negatives_kept,
        valid=files_or_rows(valid, run, features, earlier=earlier) if valid else None,
        target=target,
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
    if found.milliseconds is not None:
        console.print(f"One row takes {found.milliseconds:.2f} ms here.")
    console.print(f"Wrote {out}, {found.bytes / 1e6:.1f} MB; {found.parity}.")


def _target(label: str | None, of_run: Target | None) -> Target | None:
    """What --valid predicts: what the run does, by the label that is given."""
    if label is None:
        return of_run
    named = Target.parse(label)
    return named if of_run is None else replace(of_run, label=named.label)
