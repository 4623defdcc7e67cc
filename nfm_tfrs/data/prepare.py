"""From tables and files to the encoded parts a model trains, is chosen and is judged on."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from nfm_tfrs.data.cache import cached
from nfm_tfrs.data.labels import Label
from nfm_tfrs.data.parts import EncodedPart, Prepared, encode_tables
from nfm_tfrs.data.pipeline.windows import Paths, encode_windows
from nfm_tfrs.data.readers.table import find_files, iterate_batches, read_table
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.spec import FeatureSpec


def prepare(
    table: pa.Table,
    label: str,
    split: Split,
    *,
    features: FeatureSpec | None = None,
    weight: str | None = None,
    binary: bool = True,
    **rules: Any,
) -> Prepared:
    """Splits a table, infers the features from its training rows alone, and encodes the parts train, valid and test.

    Args:
        table: The data.
        label: An expression such as `rating>=4`.
        split: Which rows train, validate and test.
        features: The features; inferred if not given, without the label, the weight and the split's time.
        weight: The column of example weights.
        binary: Whether the label must be 0 or 1.
        **rules: See `nfm_tfrs.features.infer.Inference`.

    Raises:
        ValueError: The split leaves no row to train or validate on, or a column does not fit; see `encode_part`.
    """
    parts = split.parts(table)._asdict()
    for name in ("train", "valid"):
        if not len(parts[name]):
            raise ValueError(
                f"The split leaves no row for {name} out of {table.num_rows}. Give more rows or other fractions."
            )
    tables = {name: table.take(pa.array(rows)) for name, rows in parts.items()}
    if features is None:
        rules = inference_rules(label, weight, split.columns, **rules)
        features = FeatureSpec.from_table(tables["train"], **rules)
    return encode_tables(tables, FeatureEncoder(features), label, weight=weight, binary=binary)


def prepare_files(
    data: Paths,
    label: str,
    split: Split,
    *,
    valid: Paths | None = None,
    test: Paths | None = None,
    stream: bool = False,
    features: FeatureSpec | None = None,
    weight: str | None = None,
    binary: bool = True,
    format: str | None = None,
    cache: str | Path | None = None,
    keep: Sequence[str] = (),
    **rules: Any,
) -> Prepared:
    """Reads files and encodes their parts train, valid and test.

    Args:
        data: The files to train on, and where there is no `valid`, to choose and judge on.
        label: An expression such as `rating>=4`.
        split: How `data` is split where there is no `valid`.
        valid: Files of the rows to choose on.
        test: Files of the rows to judge on, with `valid`.
        stream: With `valid`: whether the training rows, Parquet, are too many for memory. They are then among the
            parts only where there is a cache, in the order of the files, for `nfm_tfrs.data.stream` to take.
        features: The features; inferred from the training rows if not given.
        weight: The column of example weights.
        binary: Whether the label must be 0 or 1.
        format: The files' format, where their suffix does not tell.
        cache: A folder that keeps the encoded parts; see `nfm_tfrs.data.cache.cached`.
        keep: The columns of the raw tables that a cache keeps.
        **rules: See `nfm_tfrs.features.infer.Inference`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: `stream` or `test` without `valid`; see also `nfm_tfrs.data.prepare`, `read_table` and `cached`.

    Example:
        >>> from pyarrow import csv
        >>> csv.write_csv(pa.table({"user": list(range(10)) * 10, "click": [0, 1] * 50}), "clicks.csv")
        >>> parts = prepare_files("clicks.csv", "click", Split("random"))
        >>> {name: len(part) for name, part in parts.encoded.items()}
        {'train': 80, 'valid': 10, 'test': 10}
    """
    if valid is None and (stream or test is not None):
        raise ValueError("stream and test need the rows to choose on in files of their own. Give valid=.")
    given = {"data": data, "valid": valid, "test": test}
    # Found once, so that the files whose state a cache keeps are those that are read.
    files = {
        role: find_files(paths, format="parquet" if stream and role == "data" else format)
        for role, paths in given.items()
        if paths is not None
    }

    def read(role: str) -> pa.Table:
        return read_table(files[role], format=format, types=features.dtypes if features else {})

    def prepared() -> Prepared:
        if valid is None:
            return prepare(read("data"), label, split, features=features, weight=weight, binary=binary, **rules)
        tables = {role: read(role) for role in files if role != "data"}
        if not stream:
            tables["train"] = read("data")
        spec = features
        if spec is None:
            batches = iterate_batches(files["data"], format="parquet") if stream else tables["train"].to_batches()
            spec = FeatureSpec.from_batches(batches, **inference_rules(label, weight, **rules))
        return encode_tables(tables, FeatureEncoder(spec), label, weight=weight, binary=binary)

    def windows(parts: Prepared) -> Iterator[EncodedPart]:
        encode = parts.encoder.encode_arrays
        return encode_windows(files["data"], parts.features, label, encode, weight=weight, binary=binary)

    if cache is None:
        return prepared()
    settings: dict[str, Any] = {"label": label, "weight": weight, "binary": binary, "format": format, "stream": stream}
    settings["features"] = features.to_dict() if features else rules
    settings["split"] = asdict(split) if valid is None else None
    return cached(cache, files, settings, prepared, windows=windows if stream else None, keep=keep)


def inference_rules(label: str, weight: str | None, split_columns: Sequence[str] = (), **rules: Any) -> dict[str, Any]:
    """Returns the arguments of `Inference` that keep label and weight, and the split's time unless named, out."""
    exclude = [*rules.pop("exclude", ()), Label.parse(label).column, *([weight] if weight else [])]
    exclude += [column for column in split_columns[-1:] if column not in (rules.get("columns") or ())]
    return {"exclude": exclude, **rules}
