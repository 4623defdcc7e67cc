"""Encoded rows on disk: written once, mapped into memory from then on."""

import hashlib
import json
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs import platform_calls
from nfm_tfrs.arguments import missing_column
from nfm_tfrs.data.entry_checks import check_array, check_file, check_files, check_part, checksum
from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.features.bag import Bag, Columns
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.rates import Rates, merged_rates
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.written import read_file, read_object, reason

_FORMAT = 3  # to be raised with each change of what is written here, or of what columns are encoded to
_PACKAGES = ("nfm-tfrs", "tensorflow", "numpy", "pyarrow")
_UNFINISHED = ".unfinished-"
_LEFT_SECONDS = 86_400  # an unfinished entry that nobody has written to for so long was left by a process that died
_CONTENTS = "entry.json"


def cached(
    folder: str | Path,
    files: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Any],
    prepare: Callable[[], Prepared],
    *,
    windows: Callable[[Prepared], Iterable[EncodedPart]] | None = None,
    keep: Sequence[str] = (),
) -> Prepared:
    """Returns what `prepare` returns, from the cache where the same was prepared before.

    What was prepared from files that have changed since, by other settings or by other versions of the packages that
    encode is not taken, but replaced. A file has changed if its path, size, inode or one of the times of its last
    changes differs. A program that writes to a file cannot set the time of the last change of its inode: on local POSIX
    file systems, to the resolution of their clock, this misses nothing that a hash of the content would find. It reads
    nothing; a copied or touched file is encoded anew.

    An entry is taken only where its files are its own and hold the bytes that were written, which reads them once, at
    about a gigabyte a second, and where each id has a row; else it is made anew, with a warning.

    Processes may use one cache at once: an entry is written under another name, and renamed when it is whole.

    Args:
        folder: The cache; made if it is not there.
        files: What `prepare` reads, by role.
        settings: All else that its result depends on, as plain JSON types.
        prepare: Reads and encodes.
        windows: Gives the rows of the part `train`, where they do not fit into memory at once and
            `prepare` leaves them out.
        keep: The columns of the raw tables that the result shall have.

    Returns:
        The parts, their arrays mapped from files; the raw tables with the columns of `keep` alone.

    Raises:
        ValueError: The folder is a file or cannot be written, a file changed while it was read, or `train` comes from
            both `prepare` and `windows`.

    Example:
        >>> from nfm_tfrs.features.feature import NumericFeature
        >>> encoder = FeatureEncoder(FeatureSpec([NumericFeature("price")]))
        >>> part = EncodedPart(encoder.encode_arrays({"price": pa.array([1.0, 2.0])}))
        >>> parts = cached("cache", {}, {"label": None}, lambda: Prepared(encoder, {}, {"train": part}))
        >>> type(parts.train.columns["encoded/numbers"]).__name__
        'memmap'
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The cache {folder} is a file. Choose a folder.")
    states = _states(files)
    where = {role: [str(path.resolve()) for path in paths] for role, paths in files.items()}
    versions = {name: metadata.version(name) for name in _PACKAGES} | {"format": str(_FORMAT)}
    question = _digest([where, dict(settings), list(keep)])
    entry = folder / f"{question}-{_digest([states, versions])}"
    damaged = False
    if entry.exists() or entry.is_symlink():
        try:
            return _open(entry, check=True)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            pa.ArrowException,
        ) as error:
            damaged = True
            why = reason(error).splitlines() or [type(error).__name__]
            warnings.warn(f"The cache's entry {entry} is damaged and made anew: {why[0]:.200}.", stacklevel=2)
    unfinished = folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
    try:
        with _writing(folder):
            unfinished.mkdir(parents=True)  # before the costly part, which would be lost where nothing can be written
        prepared = prepare()
        if windows is not None and "train" in prepared.encoded:
            raise ValueError("The part train was prepared, and comes in windows too. Leave one of the two out.")
        _write(unfinished, prepared, windows, keep)
        if _states(files) != states:
            raise ValueError("A file changed while it was read. Run again when it is written.")
        with _writing(folder):
            # Before the renaming, where that may be: from then on another process may replace it.
            opened = _open(unfinished) if platform_calls.renames_open_files() else None
            _put(unfinished, entry, replace=damaged)
            opened = opened or _open(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return opened


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Says in one line why the cache cannot be written; what is read from elsewhere fails with its own words."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"The cache {cache} cannot be written: {reason}. Choose another folder.") from error


def _states(files: Mapping[str, Sequence[Path]]) -> list[list[Any]]:
    every = (path for paths in files.values() for path in paths)
    return [platform_calls.file_state(path) if path.exists() else [] for path in every]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """A set, or a number of NumPy, as JSON has it."""
    return sorted(value) if isinstance(value, set | frozenset) else value.item()


def _put(unfinished: Path, entry: Path, *, replace: bool) -> None:
    """Puts an entry in the place of all others to the same question, and removes what dead processes left."""
    for path in entry.parent.iterdir():
        same_question = path.name.partition("-")[0] == entry.name.partition("-")[0]
        # Another process may do the same at this moment; what cannot be removed may lie.
        with suppress(OSError):
            if same_question and (replace or path != entry):
                _remove(path.rename(path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")))  # no entry from now on
            elif path.name.startswith(_UNFINISHED):
                inside = path.iterdir() if path.is_dir() else ()
                if time.time() - max(one.lstat().st_mtime for one in (path, *inside)) > _LEFT_SECONDS:
                    _remove(path)
    try:
        unfinished.rename(entry)
    except OSError:
        if not entry.exists():  # else another process was faster, and has written the same
            raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


@dataclass
class _Array:
    """One file of an entry: some rows' values of one array.

    Args:
        of: The part, what of it (`"columns"`, a bag's `"values"` or `"row_splits"`, `"labels"`, `"weights"`), its name.
        file: Name of the file in the entry's folder.
        dtype: NumPy's name of the type.
        shape: Rows and what is behind them.
    """

    of: tuple[str, str, str]
    file: str
    dtype: str
    shape: list[int]


@dataclass
class _Contents:
    """What `entry.json` holds.

    Args:
        features: The features, plain JSON types.
        rates: Missing and unknown values of each part.
        tables: The files of the raw tables, by part.
        arrays: The files of the encoded rows.
        bytes: Size of each file, by its name.
        checksums: CRC-32 of each file, by its name.
    """

    features: dict[str, Any]
    rates: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    arrays: list[dict[str, Any]] = field(default_factory=list)
    bytes: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)


def _write(
    folder: Path,
    prepared: Prepared,
    windows: Callable[[Prepared], Iterable[EncodedPart]] | None,
    keep: Sequence[str],
) -> None:
    contents = _Contents(prepared.features.to_dict())
    for number, (name, table) in enumerate(prepared.tables.items() if keep else ()):
        contents.tables[name] = f"{number}.arrow"
        for column in keep:
            if column not in table.column_names:
                raise missing_column(column, table.column_names)
        table = table.select(list(keep)).unify_dictionaries()  # a file takes one dictionary a column
        with _writing(folder.parent), pa.ipc.new_file(folder / f"{number}.arrow", table.schema) as file:
            file.write_table(table)
    arrays = _Arrays(folder)
    for name, part in prepared.encoded.items():
        contents.rates[name] = [asdict(rates) for rates in part.rates]
        arrays.append(name, part)
    streamed = []
    for part in windows(prepared) if windows else ():
        streamed.append((len(part), part.rates))
        arrays.append("train", part)
    if streamed:
        contents.rates.update(train=[asdict(rates) for rates in merged_rates(streamed)])
    contents.arrays = [asdict(array) for array in arrays.contents]
    with _writing(folder.parent):
        contents.bytes = {path.name: path.stat().st_size for path in folder.iterdir()}
        contents.checksums = {path.name: checksum(path) for path in folder.iterdir()}
        (folder / _CONTENTS).write_text(json.dumps(asdict(contents)))
        for path in folder.iterdir():
            with path.open("r+b") as file:
                # After a power cut there is the whole entry or none, not its name with files of zeros.
                platform_calls.write_through(file)


def _open(folder: Path, *, check: bool = False) -> Prepared:
    contents = _Contents(**read_object(read_file(check_file(folder, _CONTENTS))))
    if check:
        check_files(folder, contents.bytes, contents.checksums)
    features = FeatureSpec.from_dict(contents.features)
    columns: dict[str, Columns] = {part: {} for part in contents.rates}
    targets: dict[str, dict[str, np.ndarray]] = {part: {} for part in contents.rates}
    bags: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    arrays = [_Array(**written) for written in contents.arrays]
    for array in arrays:
        part, kind, name = array.of
        mapped = _mapped(check_file(folder, array.file), np.dtype(array.dtype), tuple(array.shape))
        if kind == "columns":
            columns[part][name] = mapped
        elif kind in ("values", "row_splits"):
            bag = bags.setdefault((part, name), {})
            bag[kind] = mapped
            if len(bag) == 2:
                columns[part][name] = Bag(**bag)
        else:
            targets[part][kind] = mapped
    encoded = {
        part: EncodedPart(columns[part], **targets[part], rates=[Rates(**one) for one in rates])
        for part, rates in contents.rates.items()
    }
    for rows in encoded.values() if check else ():
        check_part(rows, features)
    files = {array.file for array in arrays} | set(contents.tables.values())
    if check and not files <= contents.checksums.keys():
        raise ValueError("not every file has a checksum")
    tables = {part: _table(check_file(folder, file)) for part, file in contents.tables.items()}
    return Prepared(FeatureEncoder(features), tables, encoded)


def _table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    check_array(path, dtype, shape)
    # "c": TensorFlow takes no read-only memory; what would be written stays in this process.
    return np.memmap(path, dtype, "c", shape=shape) if np.prod(shape) else np.empty(shape, dtype)


class _Arrays:
    """The files of a new entry, one an array, written piece by piece."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[tuple[str, str, str], _Array] = {}
        self._totals: dict[tuple[str, str], int] = {}

    @property
    def contents(self) -> list[_Array]:
        """What each file holds."""
        return list(self._arrays.values())

    def append(self, part: str, piece: EncodedPart) -> None:
        """Adds rows to a part."""
        for name, column in piece.columns.items():
            if isinstance(column, Bag):
                self._append((part, "values", name), column.values)
                total = self._totals.get((part, name))
                splits = column.row_splits if total is None else column.row_splits[1:] + total
                self._append((part, "row_splits", name), splits)
                self._totals[part, name] = int(total or 0) + len(column.values)
            else:
                self._append((part, "columns", name), column)
        for kind, values in (("labels", piece.labels), ("weights", piece.weights)):
            if values is not None:
                self._append((part, kind, ""), values)

    def _append(self, of: tuple[str, str, str], values: np.ndarray) -> None:
        if of not in self._arrays:
            file = f"{len(self._arrays)}.array"
            self._arrays[of] = _Array(of, file, values.dtype.str, [0, *values.shape[1:]])
        array = self._arrays[of]
        # Opened for each piece: files left open would write their last bytes, and fail to, only when they are closed.
        with _writing(self._folder.parent), (self._folder / array.file).open("ab") as opened:
            opened.write(np.ascontiguousarray(values).data)
        array.shape[0] += len(values)
