"""What a person sees on the terminal: tables, and one line for each warning and error."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from tfrs_registry import RegistryError

if TYPE_CHECKING:
    from nfm_tfrs.data.encoded import Rates

console = Console()


def show_warning(message: Warning | str, *_: Any) -> None:
    """A warning is one line on standard error, without the line of code that gave it."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"nfm-tfrs: {message}", style="yellow", markup=False)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What a user can mend is one line on standard error and exit status 1, not a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, RegistryError, OSError, ImportError) as error:
            if os.environ.get("NFM_TFRS_TRACEBACK"):
                raise
            Console(stderr=True, soft_wrap=True, highlight=False).print(f"nfm-tfrs: {error}", style="red", markup=False)
            raise typer.Exit(1) from error

    return wrapped


def print_metrics(title: str, report: dict[str, float]) -> None:
    """Prints a table of metrics."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in report.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)


def print_rates(title: str, rates: "Sequence[Rates]") -> None:
    """Prints a table of missing and unknown values, feature by feature."""
    table = Table(title=f"{title}: missing and unknown values", title_justify="left")
    table.add_column("feature")
    for heading in ("values", "missing", "unknown"):
        table.add_column(heading, justify="right")
    for rate in rates:
        table.add_row(rate.name, f"{rate.values:,}", f"{rate.missing:.2%}", f"{rate.unknown:.2%}")
    console.print(table)
