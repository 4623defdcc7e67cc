"""`nfm-tfrs drift`: how far a file's rows are from those that a model was trained on."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfm_tfrs.arguments import share
from nfm_tfrs.cli.history_rows import check_rows, files_or_rows
from nfm_tfrs.cli.options import Data, Earlier, Format, ModelFile, Overwrite, Trust
from nfm_tfrs.cli.terminal import console, print_lines, print_table
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.folder import open_run, read_run, with_nulls

if TYPE_CHECKING:
    from nfm_tfrs.data.drift import Drift

_DRIFTED = 3  # exit status
_SHOWN = 20  # features


def drift(
    model: ModelFile,
    data: Data,
    threshold: Annotated[
        float, typer.Option(help="Distance, from 0 to 1, above which a feature may have drifted.")
    ] = 0.1,
    out: Annotated[Path | None, typer.Option(help="New .json file: every feature's distance and shares.")] = None,
    earlier: Earlier = None,
    format: Format = None,
    trust: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Hold a file's rows against those that a model was trained on.

    The exit status is 0 where no feature has drifted, 3 where one has, and 1 where something is wrong.
    """
    share("--threshold", threshold)
    if out is not None and out.suffix != ".json":
        raise ValueError(f"--out ends in .json; received {out}.")
    with nullcontext() if out is None else claimed(out, overwrite=overwrite, folder=False) as file:
        run, features = read_run(model)
        check_rows(data, [], run, features, earlier=earlier, format=format)
        opened, _ = open_run(model, trust=trust)
        from nfm_tfrs.data.drift import check_drift

        rows = files_or_rows(data, run, features, earlier=earlier, format=format)
        found = check_drift(opened, rows, threshold=threshold, format=format)
        if file is not None:
            file.write_text(json.dumps(with_nulls(found.to_json()), indent=2) + "\n", encoding="utf-8")
    _print(found)
    if out is not None:
        console.print(f"Wrote {out}.")
    if found.drifted:
        raise typer.Exit(_DRIFTED)


def _print(found: "Drift") -> None:
    shown = found.features[:_SHOWN]
    print_table(
        f"{found.rows:,} rows against the {found.rows_before:,} of training; of shares, before > now",
        ("feature", "distance", "95 % interval", "noise", "missing", "unknown", "new values", "drift"),
        [
            (
                one.feature,
                f"{one.distance:.4f}",
                f"{one.low:.4f} {one.high:.4f}",
                f"{one.noise:.4f}",
                f"{one.missing_before:.1%} > {one.missing:.1%}",
                f"{one.unknown_before:.1%} > {one.unknown:.1%}",
                f"{one.new_values:.1%}",
                "yes" if one.drifted else "",
            )
            for one in shown
        ],
    )
    worst, moved = found.worst, sum(one.drifted for one in found.features)
    lines = []
    if len(found.features) > len(shown):
        lines.append(f"and {len(found.features) - len(shown)} features more, none of them worse.")
    if moved:
        lines.append(
            f"{moved} of {len(found.features)} features drifted, {worst.feature} most: distance {worst.distance:.3f}, "
            f"above {found.threshold:g} and above what chance shows, {worst.noise:.3f}."
        )
    else:
        lines.append(f"No feature drifted; {worst.feature} came nearest: distance {worst.distance:.3f}.")
    print_lines(lines)
