"""CSV and TSV files as Arrow tables, read whole."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from nfm_tfrs.arguments import check_names, missing_column
from nfm_tfrs.data.readers.leading_zeros import may_hold, padded
from nfm_tfrs.data.readers.refusals import damaged_gzip

_TYPES = {"string": pa.string(), "int64": pa.int64()}
_BEYOND_INT64 = re.compile(r"CSV column #(\d+): .*error to int64: invalid value '\d{19,20}'")


def read_csv(path: Path, delimiter: str, columns: Sequence[str] | None, types: Mapping[str, str]) -> pa.Table:
    """Returns the rows of a file with a header line, compressed or not.

    Whole numbers from 2⁶³ to 2⁶⁴ - 1 are uint64. A column of whole numbers some of which begin with zeros is text.

    Args:
        path: The file.
        delimiter: The character between two values of a line.
        columns: The columns to read; all if None.
        types: `"string"`, `"int64"`, or `"number"` of either kind, by column; the others are guessed.

    Raises:
        ValueError: It is empty, lacks a column, has two of a name that is read, is no table, or is compressed and
            damaged.
    """
    names = csv_names(path, delimiter)
    if columns is not None:
        present, read = set(names), set(columns)
        for name in columns:
            if name not in present:
                raise ValueError(f"{path}: {missing_column(name, names)}")
        check_names(path, (name for name in names if name in read))
    arrow_types = {name: _TYPES[kind] for name, kind in types.items() if kind in _TYPES}
    with _plain_errors(path):
        table = _read(path, delimiter, columns, arrow_types)
        for position, field in enumerate(table.schema):
            if pa.types.is_float64(field.type) and _beyond_int64(table.column(position)):
                with suppress(pa.ArrowInvalid):  # other numbers stay what they are
                    ids = _read(path, delimiter, [field.name], {field.name: pa.uint64()})
                    table = table.set_column(position, field.name, ids.column(0))
        return _codes_as_text(path, delimiter, table, types)


def _codes_as_text(path: Path, delimiter: str, table: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """The table with text in the columns of whole numbers some of which begin with zeros, whose types are guessed."""
    guessed = [field.name for field in table.schema if pa.types.is_integer(field.type) and field.name not in types]
    if not guessed or not may_hold(path, delimiter):
        return table
    texts = _read(path, delimiter, guessed, dict.fromkeys(guessed, pa.string()))
    for name in padded(texts):
        table = table.set_column(table.column_names.index(name), name, texts[name])
    return table


def _read(path: Path, delimiter: str, columns: Sequence[str] | None, types: Mapping[str, pa.DataType]) -> pa.Table:
    convert = csv.ConvertOptions(include_columns=columns, column_types=dict(types))
    try:
        return csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=convert)
    except pa.ArrowInvalid as error:
        found = _BEYOND_INT64.search(str(error))
        name = csv_names(path, delimiter)[int(found[1])] if found else ""
        if types.get(name) != pa.int64():
            raise
        # Only after an error: what is int64 in all other files stays int64.
        return _read(path, delimiter, columns, {**types, name: pa.uint64()})


def _beyond_int64(column: pa.ChunkedArray) -> bool:
    """Whether numbers that Arrow guessed to be float64 may be whole ones that int64 does not hold."""
    low, high = pc.min_max(column).values()
    return low.is_valid and low.as_py() >= 0 and 2.0**63 <= high.as_py() <= 2.0**64


def csv_names(path: Path, delimiter: str) -> list[str]:
    """Returns the names of the header line; see `read_csv` for the arguments and errors."""
    with _plain_errors(path), csv.open_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter)) as reader:
        names: list[str] = reader.schema.names
    return names


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # of its header
        raise ValueError(
            f"{path} is no text in UTF-8: byte {error.object[error.start]:#x} in the names of its columns. Write it in "
            "UTF-8."
        ) from error
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise ValueError(f"{path} has no rows. Give a file with at least one.") from error
        raise ValueError(f"{path} is not a table: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno is not None:  # the system's, which names the file; Arrow's has no number
            raise
        raise damaged_gzip(path, error) from error
