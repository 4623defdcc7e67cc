"""The histories of rows that come in parts: what each part sees, and what becomes of the columns that are read."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.history.table import with_histories
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.spec import FeatureSpec

EARLIER = "earlier"  # the part that gets no histories


def checked_histories(
    histories: Sequence[History | str],
    *,
    stream: bool = False,
    earlier: Any = None,
    split: Split | None = None,
    features: FeatureSpec | None = None,
) -> list[History]:
    """Returns histories that can be made of rows.

    Args:
        histories: The histories, or the texts of them.
        stream: Whether the rows to train on are too many for memory.
        earlier: Files of rows of before; None without.
        split: How the rows are divided; None where they come divided.
        features: The features, where they are known.

    Raises:
        ValueError: A text that is no history, two that make one column, one of which features read nothing, histories
            of streamed rows, or rows of before without a history.
    """
    found = [rule if isinstance(rule, History) else History.parse(rule) for rule in histories]
    if not found and earlier is not None:
        raise ValueError("Rows of before are for histories alone, and there is none. Give histories= too.")
    if found and stream:
        raise ValueError(
            "Histories are made of rows in memory. Write files that hold them with nfm_tfrs.data.stream_histories, and "
            "stream those without histories=."
        )
    names = [name for rule in found for name in rule.names]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two histories make a column {name!r}. Give one of them another name.")
    for rule in found:
        if features is not None and not is_read(rule, features):
            raise ValueError(
                f"The features read none of {', '.join(map(repr, rule.names))}, which the history {rule} makes. Leave "
                "the history out, or give features that read them."
            )
    if split is not None and split.kind == "random" and any(rule.rating is not None for rule in found):
        warnings.warn(
            "The split is random, and histories go by time: rows to train on see the ratings of rows to choose and "
            "judge on. Split by time, as user-time:user_id,timestamp does.",
            stacklevel=3,
        )
    return found


def is_read(rule: History, features: FeatureSpec) -> bool:
    """Returns whether features read a column that a history makes.

    Args:
        rule: The history.
        features: The features.
    """
    return not {*rule.names}.isdisjoint(features.columns)


def check_apart(rows: Iterable[Path], earlier: Iterable[Path]) -> None:
    """Checks that no file of rows is one of rows of before too, whose rows would count twice.

    Args:
        rows: The files of rows.
        earlier: The files of rows of before.

    Raises:
        ValueError: A file is in both.
    """
    before = {path.resolve() for path in earlier}
    for path in rows:
        if path.resolve() in before:
            raise ValueError(
                f"{path} is in earlier= too, and its rows would count twice. Give each row once, in one of them."
            )


def made_in_turn(tables: Mapping[str, pa.Table], rules: Sequence[History]) -> dict[str, pa.Table]:
    """Returns parts with their histories, each made of its own rows and those of the parts in front of it.

    Args:
        tables: The parts, in their order; one of the name `EARLIER` is left out of the result.
        rules: The histories.

    Raises:
        ValueError: A column does not fit; see `nfm_tfrs.data.histories`.
    """
    found: dict[str, pa.Table] = {}
    before: list[pa.Table] = []
    for role, table in tables.items():
        if role != EARLIER:
            found[role] = with_histories(table, rules, earlier=before)
        before.append(table)
    return found


def rules_with_histories(rules: Mapping[str, Any], histories: Sequence[History]) -> dict[str, Any]:
    """Returns the rules of an inference that uses what histories make, and not what they read of times and ratings.

    Where `columns` names some of what a history makes, the inference uses these alone.

    Args:
        rules: The rules without them; see `nfm_tfrs.features.infer.Inference`.
        histories: The histories.
    """
    if not histories:
        return dict(rules)
    columns = rules.get("columns")
    read = {column for rule in histories for column in (rule.time, rule.rating_column) if column is not None}
    exclude = [*(rules.get("exclude") or ()), *sorted(read - {*(columns or ())})]
    found: dict[str, Any] = {**rules, "exclude": exclude}
    if columns is not None:
        unnamed = [rule.names for rule in histories if not {*rule.names} & {*columns}]
        found["columns"] = [*columns, *(name for names in unnamed for name in names)]
    return found
