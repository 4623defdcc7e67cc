"""Any source as Arrow: files of every format, and whatever `nfm_tfrs.features.frames` takes."""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.data.readers.csv import csv_names, read_csv
from nfm_tfrs.data.readers.libsvm import read_libffm, read_libsvm
from nfm_tfrs.data.readers.parquet import ParquetFiles, one_table
from nfm_tfrs.data.readers.tfrecord import read_tfrecord
from nfm_tfrs.features.frames import as_table

BATCH_ROWS = 1 << 16
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
    ".libffm": "libffm",
    ".ffm": "libffm",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}
FORMATS = tuple(dict.fromkeys(_SUFFIXES.values()))


def read_table(
    source: Any,
    columns: Iterable[str] | None = None,
    *,
    format: str | None = None,
    types: Mapping[str, str] | None = None,
) -> pa.Table:
    """Returns all rows of `source`.

    Args:
        source: A path, a list of paths, a glob pattern, a folder (its own files, not those of folders in it), a
            DataFrame (pandas, or with Arrow's C stream as polars has), a dict of columns, a list of dicts, or an Arrow
            table. In a dict, lists of lists, arrays `[n, k]` and ragged tensors are list columns.
        columns: The columns to return, in this order; all if None.
        format: One of parquet, csv, tsv, libsvm, libffm and tfrecord, where the suffix does not say it. All but
            Parquet may end in .gz.
        types: `"string"`, `"int64"` or `"number"` for columns of CSV files, whose types are guessed otherwise.

    Returns:
        The table. Repeating strings of Parquet come as dictionary. The values of libsvm and libffm carry in their
        field's metadata, under `weights_of`, the column they weigh.

    Raises:
        FileNotFoundError: No such file, or none that matches.
        ValueError: No rows, a missing column, an unknown suffix, or a file that is not of its format.
    """
    wanted = None if columns is None else list(dict.fromkeys(columns))
    if is_files(source):
        paths = find_files(source, format=format)
        kind = format or file_format(paths)
        table = _read_files(paths, kind, wanted, types or {})
        where = ", ".join(map(str, paths[:3])) + (", …" if len(paths) > 3 else "")
    else:
        table = as_table(source)
        where = f"The {type(source).__name__}"
    if not table.num_rows:
        raise ValueError(f"{where} has no rows. Give data with at least one.")
    present = set(table.column_names)
    for name in wanted or ():
        if name not in present:
            raise missing_column(name, table.column_names)
    return table if wanted is None else table.select(wanted)


def iterate_batches(
    source: Any,
    columns: Iterable[str] | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    format: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of `source` in order, as record batches of at most `batch_rows` rows.

    Parquet is streamed: memory is bounded by the batch, even where one row group is the whole file. All other
    sources are read whole first. Arguments and errors are those of `read_table`.
    """
    if is_files(source):
        paths = find_files(source, format=format)
        if (format or file_format(paths)) == "parquet":
            files = ParquetFiles(paths, columns)
            for _, _, batch in files.batches(files.row_groups, batch_rows):
                yield batch if files.columns is None else batch.select(files.columns)
            return
    yield from read_table(source, columns, format=format).to_batches(max_chunksize=batch_rows)


def column_names(paths: Sequence[Path], *, format: str | None = None) -> list[str] | None:
    """Returns the names of the columns that the first file has, without reading its rows.

    Args:
        paths: The files.
        format: The files' format, where their suffix does not tell.

    Returns:
        The names; None where the format does not say them before all rows are read (libsvm, libffm and TFRecord).

    Raises:
        ValueError: A suffix that says no format, or a file that is not of its format.
    """
    kind = format or file_format(paths)
    if kind == "parquet":
        return ParquetFiles(paths[:1]).names
    if kind in ("csv", "tsv"):
        return csv_names(paths[0], "\t" if kind == "tsv" else ",")
    return None


def find_files(source: str | Path | Sequence[str | Path], *, format: str | None = None) -> list[Path]:
    """Returns the files of a path, a list of paths, a glob pattern or a folder, those of a pattern or folder sorted.

    Raises:
        FileNotFoundError: There are none.
        ValueError: `format` is none of `FORMATS`.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; received {format!r}.")
    if not isinstance(source, str | Path):
        if not source:
            raise FileNotFoundError("The list of files is empty. Give at least one path.")
        return [path for one in source for path in find_files(one, format=format)]
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and file.name[0] not in "._"]
        files = files if format else [file for file in files if _suffix(file) in _SUFFIXES]
        if not files:
            raise FileNotFoundError(f"Folder {path} holds no file that ends in {', '.join(_SUFFIXES)}.")
        return files
    if not glob.has_magic(str(source)):
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
    if not files:
        raise FileNotFoundError(f"No file matches {str(source)!r}. Check the pattern.")
    return files


def file_format(paths: Sequence[Path]) -> str:
    """Returns the one format that the suffixes of all paths say.

    Raises:
        ValueError: A suffix is unknown, or they differ.
    """
    for path in paths:
        if _suffix(path) not in _SUFFIXES:
            raise ValueError(
                f"The suffix of {path} says no format; known are {', '.join(_SUFFIXES)}, also with .gz. "
                f"Give format=, one of {', '.join(FORMATS)}."
            )
    kinds = {_SUFFIXES[_suffix(path)] for path in paths}
    if len(kinds) > 1:
        raise ValueError(
            f"The files are of several formats: {', '.join(sorted(kinds))}. Read them one format at a time."
        )
    return kinds.pop()


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_files(source: Any) -> bool:
    """Whether a source names files: a path, a glob pattern, a folder, or a list of paths."""
    if isinstance(source, list | tuple):
        return all(isinstance(one, str | Path) for one in source)
    return isinstance(source, str | Path)


def _read_files(paths: list[Path], kind: str, columns: list[str] | None, types: Mapping[str, str]) -> pa.Table:
    if kind == "parquet":
        return ParquetFiles(paths, columns).table()
    if kind == "libsvm":
        return read_libsvm(paths)
    if kind == "libffm":
        return read_libffm(paths)
    if kind == "tfrecord":
        return read_tfrecord(paths, columns)
    return _read_csvs(paths, "\t" if kind == "tsv" else ",", columns, types)


def _read_csvs(paths: list[Path], delimiter: str, columns: list[str] | None, types: Mapping[str, str]) -> pa.Table:
    """The rows of all files; a column that is text in one of them is read as text from the others too."""
    tables = [read_csv(path, delimiter, columns, types) for path in paths]
    texts = {field.name for table in tables for field in table.schema if pa.types.is_string(field.type)}
    for number, (path, table) in enumerate(zip(paths, tables, strict=True)):
        numbers = [
            f.name for f in table.schema if f.name in texts and pa.types.is_integer(f.type) and f.name not in types
        ]
        if numbers:
            tables[number] = read_csv(path, delimiter, columns, {**types, **dict.fromkeys(numbers, "string")})
    return one_table(tables, paths)
