"""libsvm and libffm text as Arrow tables, parsed by columns; a wrong line is named by file and number."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.data.readers.refusals import damaged_gzip
from nfm_tfrs.features.bag import WEIGHTS_OF

_BLOCK_BYTES = 1 << 25
_FORMS = {2: ("libsvm", "label index:value …"), 3: ("libffm", "label field:index:value …")}


class _Parsed(NamedTuple):
    """labels `[rows]` and lengths `[rows]`; of all their entries, fields, indices and values `[entries]`."""

    labels: np.ndarray
    lengths: np.ndarray
    fields: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def read_libsvm(paths: Sequence[Path]) -> pa.Table:
    """Returns `label` float32, `indices` list<int64> and `values` list<float32>, the weights of `indices`.

    Indices stay as they are written, from 0 or from 1. Comments behind `#` and blank lines are skipped.

    Raises:
        ValueError: A line is not libsvm, names file and line; or a compressed file is damaged.
    """
    parsed = _read(paths, 2)
    return _table([("label", pa.array(parsed.labels), None), *_bag("indices", "values", parsed)])


def read_libffm(paths: Sequence[Path]) -> pa.Table:
    """Returns `label` float32 and of each field k `field_k` list<int64> and `field_k_value` list<float32>, its weights.

    A row without entries of a field has an empty list there. The fields stand in the order of their numbers.

    Raises:
        ValueError: A line is not libffm, names file and line; or a compressed file is damaged.
    """
    parsed = _read(paths, 3)
    columns: list[tuple[str, pa.Array, str | None]] = [("label", pa.array(parsed.labels), None)]
    rows: np.ndarray = np.repeat(np.arange(len(parsed.labels)), parsed.lengths)
    order = np.argsort(parsed.fields, kind="stable")
    numbers, starts = np.unique(parsed.fields[order], return_index=True)
    for number, entries in zip(numbers, np.split(order, starts[1:]), strict=False):
        lengths = np.bincount(rows[entries], minlength=len(parsed.labels))
        field = _Parsed(parsed.labels, lengths, entries, parsed.indices[entries], parsed.values[entries])
        columns += _bag(f"field_{number}", f"field_{number}_value", field)
    return _table(columns)


def _bag(name: str, weights: str, parsed: _Parsed) -> list[tuple[str, pa.Array, str | None]]:
    offsets = pa.array(np.concatenate([[0], np.cumsum(parsed.lengths, dtype=np.int64)])).cast(pa.int32())
    return [
        (name, pa.ListArray.from_arrays(offsets, pa.array(parsed.indices)), None),
        (weights, pa.ListArray.from_arrays(offsets, pa.array(parsed.values)), name),
    ]


def _table(columns: list[tuple[str, pa.Array, str | None]]) -> pa.Table:
    fields = [
        pa.field(name, array.type, metadata={WEIGHTS_OF: weights_of} if weights_of else None)
        for name, array, weights_of in columns
    ]
    return pa.table([array for _, array, _ in columns], schema=pa.schema(fields))


def _read(paths: Sequence[Path], num_parts: int) -> _Parsed:
    blocks = [_parse_block(path, line, block, num_parts) for path in paths for line, block in _blocks(path)]
    if not blocks:
        empty: np.ndarray = np.zeros(0, np.int64)
        return _Parsed(empty.astype(np.float32), empty, empty, empty, empty.astype(np.float32))
    return _Parsed(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (number of the first line, block of whole lines)."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        line = 1
        while block := _block(path, file):
            yield line, block
            line += block.count(b"\n")


def _block(path: Path, file: gzip.GzipFile | BufferedReader) -> bytes:
    try:
        return file.read(_BLOCK_BYTES) + file.readline()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged_gzip(path, error) from error


def _parse_block(path: Path, first_line: int, block: bytes, num_parts: int) -> _Parsed:
    lines = block.split(b"\n")
    try:
        return _parse(lines, num_parts)
    except (pa.ArrowInvalid, ValueError):
        low, high = 0, len(lines)  # the first wrong line is in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                _parse(lines[low:middle], num_parts)
                low = middle
            except (pa.ArrowInvalid, ValueError):
                high = middle
        name, form = _FORMS[num_parts]
        text = lines[low].decode(errors="replace").strip()
        shown = text if len(text) <= 60 else text[:60] + "…"
        raise ValueError(
            f"{path}, line {first_line + low} is not a {name} line, {form!r}: {shown!r}. Correct it or take it out."
        ) from None


def _parse(lines: list[bytes], num_parts: int) -> _Parsed:
    text = pa.array(lines, pa.binary()).cast(pa.string())
    if pc.any(pc.match_substring(text, "#")).as_py():
        text = pc.replace_substring_regex(text, "#.*$", "")
    text = pc.ascii_trim_whitespace(text)
    text = text.filter(pc.not_equal(text, ""))
    tokens = pc.ascii_split_whitespace(text)
    lengths = np.diff(tokens.offsets.to_numpy()).astype(np.int64)
    tokens = tokens.flatten()
    is_label: np.ndarray = np.zeros(len(tokens), bool)
    is_label[np.cumsum(lengths) - lengths] = True
    labels = _floats(tokens.filter(pa.array(is_label)))
    pieces = pc.split_pattern(tokens.filter(pa.array(~is_label)), ":")
    if not (np.diff(pieces.offsets.to_numpy()) == num_parts).all():
        raise ValueError("another number of parts")
    flat = pieces.flatten()
    parts = [flat.take(pa.array(np.arange(part, len(flat), num_parts))) for part in range(num_parts)]
    whole = [part.cast(pa.int64()).to_numpy() for part in parts[:-1]]
    if any((numbers < 0).any() for numbers in whole):
        raise ValueError("a negative number")
    return _Parsed(labels, lengths - 1, whole[0], whole[-1], _floats(parts[-1]))


def _floats(text: pa.Array) -> np.ndarray:
    return text.cast(pa.float32()).to_numpy()
