"""CSV and TSV files as Arrow tables, read whole."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from nfm_tfrs.arguments import missing_column


def read_csv(path: Path, delimiter: str, columns: Sequence[str] | None, types: Mapping[str, str]) -> pa.Table:
    """Returns the rows of a file with a header line, compressed or not.

    Args:
        path: The file.
        delimiter: The character between two values of a line.
        columns: The columns to read; all if None.
        types: `"string"` or `"int64"` by column; the others are guessed.

    Raises:
        ValueError: It is empty, lacks a column, or is no table.
    """
    parse = csv.ParseOptions(delimiter=delimiter)
    column_types = {name: pa.string() if kind == "string" else pa.int64() for name, kind in types.items()}
    convert = csv.ConvertOptions(include_columns=columns, column_types=column_types)
    if columns is not None:
        names = csv_names(path, delimiter)
        for name in columns:
            if name not in names:
                raise ValueError(f"{path}: {missing_column(name, names)}")
    with _plain_errors(path):
        return csv.read_csv(path, parse_options=parse, convert_options=convert)


def csv_names(path: Path, delimiter: str) -> list[str]:
    """Returns the names of the header line; see `read_csv` for the arguments and errors."""
    with _plain_errors(path), csv.open_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter)) as reader:
        names: list[str] = reader.schema.names
    return names


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise ValueError(f"{path} has no rows. Give a file with at least one.") from error
        raise ValueError(f"{path} is not a table: {str(error).splitlines()[0]}") from error
