"""The command line: one command a file, put together here."""

import os
import warnings
from typing import Annotated

import typer

from nfm_tfrs.cli.describe import describe
from nfm_tfrs.cli.evaluate import evaluate
from nfm_tfrs.cli.predict import predict
from nfm_tfrs.cli.quickstart import quickstart
from nfm_tfrs.cli.terminal import console, one_line_errors, show_warning
from nfm_tfrs.cli.train import train
from nfm_tfrs.cli.tune import tune
from nfm_tfrs.versions import __version__

app = typer.Typer(
    help="Rankings from feature interactions: train, judge and use Neural Factorization Machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (quickstart, train, tune, evaluate, predict, describe):
    app.command()(one_line_errors(command))


def main() -> None:
    """Runs the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # three lines about missing GPU drivers otherwise
    warnings.showwarning = show_warning  # type: ignore[assignment]
    app()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", metavar="", is_eager=True)
    ] = False,
) -> None:
    if version:
        console.print(f"nfm-tfrs {__version__}")
        raise typer.Exit
