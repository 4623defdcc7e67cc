"""What an entry of the cache may hold: whole files of its own folder, and rows that the features' tables have."""

import stat
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.features.bag import Bag
from nfm_tfrs.features.feature import MultiCategoricalFeature
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key, weights_key
from nfm_tfrs.features.spec import FeatureSpec

_BLOCK_BYTES = 1 << 20


def checksum(path: Path) -> int:
    """Returns the CRC-32 of a file's bytes, read block by block: about a second a gigabyte."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found


def check_file(folder: Path, name: Any) -> Path:
    """Returns the path of a file that an entry names.

    Args:
        folder: The entry.
        name: The file's name.

    Raises:
        OSError: There is no such file.
        ValueError: The name leads out of the folder, or the file is a link or none.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "\0" in name:
        raise ValueError(f"{name!r:.60} is no name of a file")
    if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise ValueError(f"{name!r:.60} leads out of the entry")
    if not stat.S_ISREG((folder / name).lstat().st_mode):
        raise ValueError(f"{name} is a link, or no file")
    return folder / name


def check_files(folder: Path, sizes: Mapping[str, int], checksums: Mapping[str, int]) -> None:
    """Checks that files have the bytes that were written.

    Args:
        folder: The entry.
        sizes: The number of bytes of each file.
        checksums: The CRC-32 of each file.

    Raises:
        OSError: One is not there.
        ValueError: One has other bytes, or leads out of the folder.
    """
    if sizes.keys() != checksums.keys():
        raise ValueError("not every file has a size and a checksum")
    for name, size in sizes.items():
        path = check_file(folder, name)
        if (found := path.stat().st_size) != size:
            raise ValueError(f"{name} has {found:,} bytes instead of {size!r:.60}")
    for name, expected in checksums.items():
        if checksum(check_file(folder, name)) != expected:
            raise ValueError(f"{name} holds other bytes than were written")


def check_array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Checks that a file is as large as an array of plain numbers.

    Raises:
        ValueError: It is not, or the type is none of plain numbers.
    """
    if dtype.kind not in "iuf":
        raise ValueError(f"{file.name} is of type {dtype!s:.60}, none of plain numbers")
    if any(not isinstance(length, int) or length < 0 for length in shape):
        raise ValueError(f"{file.name} has the shape {shape!r:.60}")
    needed, size = dtype.itemsize, file.stat().st_size
    for length in shape:
        needed *= length
    if needed != size:
        raise ValueError(f"{file.name} has {size:,} bytes, and its shape {shape!r:.60} another number")


def check_part(part: EncodedPart, spec: FeatureSpec) -> None:
    """Checks that encoded rows are those of features: reads each id once.

    Args:
        part: The rows.
        spec: The features.

    Raises:
        KeyError: A column is not there.
        ValueError: Columns are not of one length, a bag's rows do not fit its values, or an id has no row in the
            table of its feature.
    """
    ids, numbers = part.columns[IDS], part.columns[NUMBERS]
    plain = (ids, (len(spec.single),)), (numbers, (len(spec.numbers),)), (part.labels, ()), (part.weights, ())
    for array, behind in plain:
        if array is not None and (isinstance(array, Bag) or array.shape != (len(ids), *behind)):
            raise ValueError("its columns are not of one length, or not those of its features")
    assert isinstance(ids, np.ndarray)
    if len(ids):
        for feature, low, high in zip(spec.single, ids.min(axis=0), ids.max(axis=0), strict=True):
            _check_ids(spec, feature.name, low, high)
    for of_bag in spec.bags:
        _check_bag(part, spec, of_bag)


def _check_bag(part: EncodedPart, spec: FeatureSpec, feature: MultiCategoricalFeature) -> None:
    keys = [bag_key(feature.name), *([weights_key(feature.name)] if feature.weights else [])]
    for bag in (part.columns[key] for key in keys):
        if not isinstance(bag, Bag) or len(bag) != len(part) or not _fits(bag):
            raise ValueError(f"the bags of {feature.name!r:.60} do not fit their values")
        if bag is part.columns[keys[0]] and len(bag.values):
            _check_ids(spec, feature.name, bag.values.min(), bag.values.max())


def _check_ids(spec: FeatureSpec, name: str, low: int, high: int) -> None:
    first, num_rows = spec.tables[spec[name].table]
    if low < first or high >= first + num_rows:
        raise ValueError(f"an id of {name!r:.60} has no row in its table")


def _fits(bag: Bag) -> bool:
    splits = bag.row_splits
    whole = splits.ndim == 1 and splits.dtype.kind == "i" and bag.values.ndim == 1
    return whole and splits[0] == 0 and splits[-1] == len(bag.values) and bool((splits[1:] >= splits[:-1]).all())
