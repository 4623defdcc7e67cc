"""Rows that a model is used on, with the histories that its run remembers where they do not hold them."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.cli.options import check_columns, check_earlier
from nfm_tfrs.cli.terminal import show_warning
from nfm_tfrs.data.history.events import READER
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.history.table import with_histories
from nfm_tfrs.data.readers.table import column_names, find_files, read_table
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.record import RunRecord


def check_rows(
    data: Sequence[str],
    named: Sequence[tuple[str | None, str]],
    run: RunRecord | None,
    features: FeatureSpec | None,
    *,
    earlier: Sequence[str] | None = None,
    format: str | None = None,
) -> None:
    """Checks that files have the columns that a model reads, or those that its histories are made of.

    Args:
        data: The files.
        named: Other columns that are read, each behind the option that names it.
        run: The run of the model; None without.
        features: What the model reads; None where it is not known yet.
        earlier: Files of rows of before; none if not given.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column is not there, rows of before have nothing to do, or a file is in both.
        FileNotFoundError: There are no such files.
    """
    names = _names(data, format)
    lacking = _lacking(run, features, names)
    made = {name for rule in lacking for name in rule.names}
    read = [(None, column) for column in (features.columns if features else ()) if column not in made]
    check_columns(data, [*named, *read], format=format)
    if earlier:
        if not lacking:
            raise ValueError(
                "--earlier is for histories, and the model reads none, or the data holds them. Leave it out."
            )
        check_earlier(earlier, data, lacking, option="--earlier", format=format)
    for rule in lacking:
        _check_makes(rule, names or (), rated=not earlier)


def read_rows(
    data: Sequence[str],
    run: RunRecord | None,
    features: FeatureSpec,
    *,
    earlier: Sequence[str] | None = None,
    format: str | None = None,
) -> pa.Table:
    """Returns the rows of files, with the histories that the model reads; warns where they are of these rows alone.

    Args:
        data: The files.
        run: The run of the model; None without.
        features: What the model reads.
        earlier: Files of rows of before; none if not given.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column does not fit.
        FileNotFoundError: There are no such files.
    """
    types: Mapping[str, str] = features.column_types
    table = read_table(data, format=format, types=types)
    lacking = _lacking(run, features, table.column_names)
    if not lacking:
        return table
    if not earlier:
        warn_of_lone_rows(lacking)
        return with_histories(table, lacking)
    columns = [column for rule in lacking for column in rule.columns]
    return with_histories(table, lacking, earlier=[read_table(earlier, columns, format=format, types=types)])


def warn_of_lone_rows(histories: Iterable[History | str]) -> None:
    """Warns that the histories of rows are made of these rows alone.

    Args:
        histories: The histories, or the texts of them.
    """
    show_warning(
        f"The histories of the rows are made of these rows alone ({'; '.join(map(str, histories))}). Pass --earlier "
        "with those of before, where there are some."
    )


def files_or_rows(
    data: Sequence[str],
    run: RunRecord | None,
    features: FeatureSpec | None,
    *,
    earlier: Sequence[str] | None = None,
    format: str | None = None,
) -> Sequence[str] | pa.Table:
    """Returns files as they are, which may be too large for memory; their rows where they lack histories.

    Args:
        data: The files.
        run: The run of the model; None without.
        features: What the model reads; None where it is not known yet.
        earlier: Files of rows of before; none if not given.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column does not fit.
        FileNotFoundError: There are no such files.
    """
    if features is None or not _lacking(run, features, _names(data, format)):
        return data
    return read_rows(data, run, features, earlier=earlier, format=format)


def _names(data: Sequence[str], format: str | None) -> list[str] | None:
    return column_names(find_files(data, format=format), format=format)


def _check_makes(rule: History, names: Sequence[str], *, rated: bool) -> None:
    """Refuses rows of which a history cannot be made; those without ratings where they are to be rated."""
    there = [name for name in rule.names if name in names]
    if there:
        lacks = next(name for name in rule.names if name not in names)
        raise ValueError(
            f"The data has {there[0]!r} and lacks {lacks!r}, which one history makes. Give all of "
            f"{', '.join(map(repr, rule.names))}, or none of them."
        )
    for column in rule.columns:
        if column in names:
            continue
        error = missing_column(column, names, reader=READER)
        if column in (rule.user, rule.time, rule.of):
            raise error
        if rated:
            raise ValueError(f"{error} Rows without it may see those of before, which have it: pass --earlier.")


def _lacking(run: RunRecord | None, features: FeatureSpec | None, names: Sequence[str] | None) -> list[History]:
    """The histories of which rows lack a column that the model reads; none where their columns are not known."""
    if run is None or features is None or names is None:
        return []
    there, read = set(names), set(features.columns)
    rules = [History.parse(text) for text in run.histories]
    return [rule for rule in rules if any(name in read and name not in there for name in rule.names)]
