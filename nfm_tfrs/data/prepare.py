"""From tables and files to the encoded parts a model trains, is chosen and is judged on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nfm_tfrs.data.cache import cached
from nfm_tfrs.data.history.parts import EARLIER, check_apart, checked_histories, made_in_turn, rules_with_histories
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.parts import EncodedPart, Prepared, encode_tables
from nfm_tfrs.data.pipeline.windows import Paths, encode_windows
from nfm_tfrs.data.readers.table import find_files, iterate_batches, read_table
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.check import check_text_of_number, is_text
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.target import Target


def prepare(
    table: Any,
    target: Target | str,
    split: Split | str,
    *,
    features: FeatureSpec | None = None,
    binary: bool | None = None,
    seed: int = 0,
    **rules: Any,
) -> Prepared:
    """Splits a table, infers the features from its training rows alone, and encodes the parts train, valid and test.

    Args:
        table: The data: an Arrow table, a DataFrame (pandas, or with Arrow's C stream as polars has), a dict of columns
            or a list of dicts.
        target: What is predicted; of a text such as `rating>=4` the target without weights.
        split: Which rows train, validate and test, or the text of it, such as `random`; see `parse_split`.
        features: The features; inferred if not given, without the target's columns and the split's time.
        binary: Whether the labels of a text are 0 and 1; they are if not given.
        seed: Seed of a random split that is written as text.
        **rules: Rules of the inference; see `nfm_tfrs.features.infer.Inference`.

    Raises:
        ValueError: The split leaves no row to train or validate on, or a column does not fit; see `encode_part`.
    """
    table, target, split = as_table(table), Target.of(target, binary=binary), Split.of(split, seed)
    for number in features.numbers if features else ():  # here, where the rows still have the numbers of the file's
        if number.name in table.column_names and is_text(table.schema.field(number.name).type):
            check_text_of_number(number.name, table.column(number.name))
    parts = split.parts(table)._asdict()
    for name in ("train", "valid"):
        if not len(parts[name]):
            raise ValueError(
                f"The split leaves no row for {name} out of {table.num_rows}. Give more rows or other fractions."
            )
    tables = {name: table.take(pa.array(rows)) for name, rows in parts.items()}
    if features is None:
        features = FeatureSpec.from_table(tables["train"], **_rules_beside(target, split.columns, **rules))
    return replace(encode_tables(tables, FeatureEncoder(features), target), split=str(split))


def prepare_files(
    data: Paths,
    target: Target | str,
    split: Split | str | None = None,
    *,
    valid: Paths | None = None,
    test: Paths | None = None,
    stream: bool = False,
    features: FeatureSpec | None = None,
    histories: Sequence[History | str] = (),
    earlier: Paths | None = None,
    format: str | None = None,
    cache: str | Path | None = None,
    keep: Sequence[str] = (),
    seed: int = 0,
    **rules: Any,
) -> Prepared:
    """Reads files and encodes their parts train, valid and test.

    Args:
        data: The files to train on, and where there is no `valid`, to choose and judge on.
        target: What is predicted; of a text such as `rating>=4` the binary target without weights.
        split: How `data` is split where there is no `valid`, or the text of it; at random if not given.
        valid: Files of the rows to choose on.
        test: Files of the rows to judge on, with `valid`.
        stream: With `valid`: whether the training rows, Parquet, are too many for memory. They are then among the
            parts only where there is a cache, in the order of the files, for `nfm_tfrs.data.stream` to take.
        features: The features; inferred from the training rows if not given.
        histories: What rows are to hold of what their user did before, or the texts of it; see
            `nfm_tfrs.data.History`. They are made before the split, of all rows of `data`. Rows of `valid` see those of
            `data` too, and rows of `test` both, where these are earlier. Times and ratings that histories read are no
            features unless the rules name them.
        earlier: Files of rows of before, which histories see and nothing else does; no row may be in both these and
            other files.
        format: The files' format, where their suffix does not tell.
        cache: A folder that keeps the encoded parts; see `nfm_tfrs.data.cache.cached`.
        keep: The columns of the raw tables that a cache keeps.
        seed: Seed of a random split that is written as text, or not given.
        **rules: Rules of the inference; see `nfm_tfrs.features.infer.Inference`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: `stream` or `test` without `valid`, histories of streamed rows or of which `features` read nothing,
            `earlier` without histories, or a file that is in `earlier` too; see also `nfm_tfrs.data.prepare`,
            `read_table` and `cached`.

    Example:
        >>> from pyarrow import csv
        >>> csv.write_csv(pa.table({"user": list(range(10)) * 10, "click": [0, 1] * 50}), "clicks.csv")
        >>> parts = prepare_files("clicks.csv", "click", "random")
        >>> {name: len(part) for name, part in parts.encoded.items()}
        {'train': 80, 'valid': 10, 'test': 10}
    """
    if valid is None and (stream or test is not None):
        raise ValueError("stream and test need the rows to choose on in files of their own. Give valid=.")
    target, split = Target.of(target), Split.of(split or "random", seed)
    parted = split if valid is None else None
    made = checked_histories(histories, stream=stream, earlier=earlier, split=parted, features=features)
    files = _found({EARLIER: earlier, "data": data, "valid": valid, "test": test}, format, stream)

    def read(role: str) -> pa.Table:
        kinds = rules.get("kinds") or {}
        numbers = {name: kind for name, kind in kinds.items() if kind == "number"}
        columns = [column for rule in made for column in rule.columns] if role == EARLIER else None
        return read_table(files[role], columns, format=format, types=features.column_types if features else numbers)

    def prepared() -> Prepared:
        tables = {role: read(role) for role in files if not (stream and role == "data")}
        tables, told = made_in_turn(tables, made), rules_with_histories(rules, made)
        if valid is None:
            return prepare(tables["data"], target, split, features=features, **told)
        train = None if stream else tables.pop("data")
        spec = features
        if spec is None:
            batches = iterate_batches(files["data"], format="parquet") if train is None else train.to_batches()
            spec = FeatureSpec.from_batches(batches, **_rules_beside(target, **told))
        return encode_tables(tables | ({} if train is None else {"train": train}), FeatureEncoder(spec), target)

    def windows(parts: Prepared) -> Iterator[EncodedPart]:
        return encode_windows(files["data"], parts.features, target, parts.encoder.encode_arrays)

    if cache is None:
        found = prepared()
    else:
        settings = {
            **target.to_json(),
            "format": format,
            "stream": stream,
            "features": features.to_dict() if features else rules,
            "split": asdict(split) if valid is None else None,
            **({"histories": list(map(str, made))} if made else {}),
        }
        found = cached(cache, files, settings, prepared, windows=windows if stream else None, keep=keep)
    streamed = tuple(files.get("data", ())) if stream else ()
    split_by = str(split) if valid is None else "files of their own"
    return replace(found, target=target, split=split_by, streamed=streamed, histories=tuple(map(str, made)))


def _found(given: Mapping[str, Paths | None], format: str | None, stream: bool) -> dict[str, list[Path]]:
    """The files of each role; found once, so that those whose state a cache keeps are those that are read."""
    files = {
        role: find_files(paths, format="parquet" if stream and role == "data" else format)
        for role, paths in given.items()
        if paths is not None
    }
    for role, paths in files.items():
        if role != EARLIER:
            check_apart(paths, files.get(EARLIER, ()))
    return files


def _rules_beside(target: Target, split_columns: Sequence[str] = (), **rules: Any) -> dict[str, Any]:
    """The arguments of `Inference` that keep the target, and the split's time unless named, out."""
    exclude = [*rules.pop("exclude", ()), *target.columns]
    exclude += [column for column in split_columns[-1:] if column not in (rules.get("columns") or ())]
    return {"exclude": exclude, **rules}
