"""The command line: one command a file, put together here."""

import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from nfm_tfrs.cli import quiet
from nfm_tfrs.cli.describe import describe
from nfm_tfrs.cli.drift import drift
from nfm_tfrs.cli.evaluate import evaluate
from nfm_tfrs.cli.export import export
from nfm_tfrs.cli.predict import predict
from nfm_tfrs.cli.quickstart import quickstart
from nfm_tfrs.cli.terminal import console, one_line_errors, show_warning
from nfm_tfrs.cli.train import train
from nfm_tfrs.cli.tune import tune
from nfm_tfrs.versions import __version__


class _BareFlags:
    """A command or an app whose help shows flags without the `<bool>` that Typer writes behind them."""

    def get_params(self, ctx: Any) -> Any:
        found = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return found


class Command(_BareFlags, TyperCommand):
    """A command of the app."""


class App(_BareFlags, TyperGroup):
    """The app itself."""


app = typer.Typer(
    cls=App,
    help="Rankings from feature interactions: train, judge and use Neural Factorization Machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (quickstart, train, tune, evaluate, predict, drift, export, describe):
    app.command(cls=Command)(one_line_errors(command))


def main() -> None:
    """Runs the command line."""
    warnings.showwarning = show_warning  # type: ignore[assignment]
    with quiet.aside():
        app()


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"nfm-tfrs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        # A callback: without a command the function below is never called.
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options that stand before a command."""
