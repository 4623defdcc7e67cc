"""Vectors of values that were learnt elsewhere: read from Parquet, npz or arrays, and checked."""

import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.written import first_line

_SUFFIXES = (".parquet", ".npz")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Values and a vector for each.

    Args:
        values: The values, strings or integers, each once.
        rows: Their vectors, float32 `[values, dim]`, finite.
        where: Where they came from, for messages.
    """

    values: list[Any]
    rows: np.ndarray
    where: str

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.rows.shape[1])

    def ids(self, feature: Categories) -> tuple[np.ndarray, np.ndarray]:
        """Returns which vectors are of values that a feature knows, and the ids of these values, int64 `[found]` both.

        Args:
            feature: A feature with a vocabulary or of ids.

        Raises:
            ValueError: It knows none of the values.
        """
        if feature.vocabulary is None:
            known: Any = range(feature.num_ids)
            pairs = [(at, value) for at, value in enumerate(self.values) if isinstance(value, int) and value in known]
        else:
            place = dict(zip(feature.known_values, feature.known_ids, strict=True))
            pairs = [(at, place[value]) for at, value in enumerate(self.values) if value in place]
        if not pairs:
            raise ValueError(
                f"{self.where} has no value that feature {feature.name!r} knows: its values are such as "
                f"{self.values[0]!r:.60}, and the feature's are {_example(feature)}. Give vectors of its values."
            )
        found = np.array(pairs, np.int64)
        return found[:, 0], found[:, 1]


def read_vectors(source: Any, name: str) -> Vectors:
    """Returns the vectors of a file, or of arrays.

    Args:
        source: A Parquet file with a column of values, called as the feature or the only one beside it, and one of
            lists of numbers; an npz file with arrays `values` `[n]` and `rows` `[n, dim]`; or a pair of such arrays.
        name: The feature's name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of these or damaged, or its vectors are of several lengths, not finite, or two of one
            value.
    """
    if isinstance(source, Vectors):
        return source
    if isinstance(source, str | Path):
        path, where = Path(source).expanduser(), str(source)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path} of vectors. Check the path.")
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"Vectors are read from {' and '.join(_SUFFIXES)} files; received {where!r}.")
        values, rows = _of_parquet(path, name) if path.suffix == ".parquet" else _of_npz(path)
    elif isinstance(source, tuple) and len(source) == 2:
        (values, rows), where = source, f"The vectors of {name!r}"
    else:
        raise ValueError(
            f"Vectors of {name!r} are a .parquet or .npz file, or a pair of arrays; received "
            f"{type(source).__name__}. Give (values, rows), for instance."
        )
    return _checked(values, rows, where)


def with_vectors(features: FeatureSpec, vectors: Mapping[str, Vectors], *, frozen: bool) -> FeatureSpec:
    """Returns the features with rows as long as the vectors that are to be theirs.

    Args:
        features: The features.
        vectors: By feature its vectors; features that share its rows follow it.
        frozen: Whether training is to leave these rows as they are; those of a frozen feature stay as they are anyway.

    Raises:
        ValueError: There is no such feature, its rows are not of one value each, it says another length of them, or two
            features share rows that vectors are given of twice.
    """
    check_tables(features, vectors)
    for name, given in vectors.items():
        feature = taking_vectors(features, name)
        if feature.embedding_dim not in (None, given.dim):
            raise ValueError(
                f"{given.where} has vectors of {given.dim} numbers, and feature {name!r} has embedding_dim="
                f"{feature.embedding_dim}. Give it {given.dim}, or none."
            )
        table, still = feature.table, frozen or feature.frozen
        # All features of a table at once: a spec whose features differ in their rows is none.
        features = FeatureSpec(
            tuple(
                replace(feature, embedding_dim=given.dim, frozen=still)
                if isinstance(feature, Categories) and feature.table == table
                else feature
                for feature in features
            )
        )
    return features


def taking_vectors(features: FeatureSpec, name: str) -> Categories:
    """Returns a feature whose rows are of one value each.

    Args:
        features: The features.
        name: Its name.

    Raises:
        ValueError: There is none of that name, or several values share its rows, or it has none.
    """
    if name not in features:
        raise ValueError(f"There is no feature {name!r} for vectors to be of; there are {', '.join(features.names)}.")
    feature = features[name]
    if not isinstance(feature, Categories):
        raise ValueError(f"Feature {name!r} is a number, and has no rows by value. Leave its vectors out.")
    if feature.num_hash_buckets is not None or feature.compression is not None:
        raise ValueError(
            f"Several values of feature {name!r} share a row, which cannot be one's vector. Give it a vocabulary, and "
            "no compression."
        )
    return feature


def check_tables(features: FeatureSpec, names: Collection[str]) -> None:
    """Refuses vectors for two features that share their rows.

    Args:
        features: The features.
        names: Names of the features that vectors are given of.

    Raises:
        ValueError: A feature is not there or takes none, or there are two of one table.
    """
    owners: dict[str, str] = {}
    for name in names:
        owner = owners.setdefault(taking_vectors(features, name).table, name)
        if owner != name:
            raise ValueError(f"Features {owner!r} and {name!r} share their rows. Give vectors for one of them.")


def check_frozen(features: FeatureSpec, given: Collection[str], remedy: str) -> None:
    """Refuses frozen features that no vectors are for.

    Args:
        features: The features.
        given: Names of the features that vectors are given of; those that share their rows follow them.
        remedy: What to do, with `{}` where the feature's name is to stand.

    Raises:
        ValueError: There is such a feature.
    """
    tables = {feature.table for feature in features if isinstance(feature, Categories) and feature.name in given}
    for feature in features:
        if isinstance(feature, Categories) and feature.frozen and feature.table not in tables:
            raise ValueError(
                f"Feature {feature.name!r} is frozen, and its rows would stay zero. {remedy.format(feature.name)}"
            )


def _of_parquet(path: Path, name: str) -> tuple[Any, Any]:
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is no Parquet file: {str(error).splitlines()[0]:.100}. Give another.") from error
    lists = [field.name for field in table.schema if _is_list(field.type)]
    others = [field.name for field in table.schema if not _is_list(field.type)]
    keys = [name] if name in others else others
    if len(lists) != 1 or len(keys) != 1:
        raise ValueError(
            f"{path} needs one column of vectors and one of values, called {name!r} or alone; it has "
            f"{', '.join(lists) or 'none'} and {', '.join(others) or 'none'}. Leave out the others."
        )
    vectors, values = table.column(lists[0]).combine_chunks(), table.column(keys[0])
    if vectors.null_count:
        raise ValueError(f"{path} has {vectors.null_count} values without a vector. Leave these rows out.")
    flat = vectors.flatten()
    lengths = pc.unique(pc.list_value_length(vectors)).to_pylist()
    if len(lengths) > 1 or not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise ValueError(f"{path} needs vectors of numbers, all of one length; it has {flat.type} of {lengths!r:.60}.")
    return values.to_pylist(), flat.to_numpy(zero_copy_only=False).reshape(len(vectors), -1 if len(vectors) else 0)


def _of_npz(path: Path) -> tuple[Any, Any]:
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ValueError("it holds one array alone, as .npy files do")
        with arrays:
            held = {name: arrays[name] for name in ("values", "rows") if name in arrays.files}
            names = arrays.files
    # RuntimeError: encrypted, or compressed as zipfile does not know: one wrong bit says so. MemoryError: an array that
    # says it is larger than any.
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no npz file of arrays: {first_line(error):.100}. Give another.") from error
    if len(held) < 2:
        raise ValueError(f"{path} needs arrays called values and rows; it has {', '.join(names) or 'none'}.")
    return held.get("values"), held.get("rows")


def _checked(values: Any, rows: Any, where: str) -> Vectors:
    listed = _listed(values, where)
    try:
        table = np.asarray(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where} needs vectors of numbers, all of one length. Give an array [values, dim]."
        ) from error
    if table.ndim != 2 or len(table) != len(listed) or not table.size:
        raise ValueError(
            f"{where} needs a vector for each value, [values, dim]; received {len(listed)} values and vectors of shape "
            f"{table.shape}."
        )
    wrong = [value for value in listed if isinstance(value, bool) or not isinstance(value, str | int)]
    if wrong:
        raise ValueError(
            f"{where} needs values that are strings or integers; received {wrong[0]!r:.60}. {_remedy(wrong)}"
        )
    if not np.isfinite(table).all():
        at = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise ValueError(f"{where} has a vector that is not finite, of {listed[at]!r:.60}. Leave it out.")
    seen: set[Any] = set()
    for value in listed:
        if value in seen:
            raise ValueError(f"{where} has two vectors of {value!r:.60}. Give each value one.")
        seen.add(value)
    return Vectors(listed, table, where)


def _listed(values: Any, where: str) -> list[Any]:
    """Values as Python has them."""
    try:
        held = np.asarray(values if hasattr(values, "ndim") else list(values), object)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} needs a list of values; received {type(values).__name__}. Give [values].") from error
    if held.ndim != 1:
        raise ValueError(f"{where} needs a list of values; received them in shape {held.shape}. Give [values].")
    return [value.item() if isinstance(value, np.generic) else value for value in held]


def _remedy(wrong: list[Any]) -> str:
    if all(value is None or value != value for value in wrong):
        return "Leave out the rows without a value."
    if any(isinstance(value, float) for value in wrong):  # what pandas makes of integers among which one is missing
        return "Leave out the rows without a value, and make integers of the others."
    return "Give the feature's own values."


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _example(feature: Categories) -> str:
    if feature.vocabulary is None:
        return f"0 to {feature.num_ids - 1}"
    return f"such as {feature.vocabulary[0]!r:.60}"
