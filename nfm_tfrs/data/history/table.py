"""The histories of users as columns of a table, each row's made of earlier rows alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.history.events import check_columns, columns_of, numbered, ratings_of, times_of
from nfm_tfrs.data.history.past import Events, look_back
from nfm_tfrs.data.history.rule import LAST, History
from nfm_tfrs.features.check import decoded, one_a_row
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.target import Label


def histories(
    table: Any,
    *,
    user: str,
    time: str,
    of: str,
    last: int = LAST,
    rating: Label | str | None = None,
    name: str | None = None,
    earlier: Any = None,
) -> pa.Table:
    """Returns a table with what each row's user did before it.

    Earlier are the rows of the same user with a smaller time; those of the same time are not, the row itself included.
    No value of the row, nor of any other that is not earlier, changes what it gets. The new columns are

        {name}                  the values of `of` of the `last` earlier rows that have one, a list
        {name}_liked, _other    instead of it, where `rating` compares: the values for which it holds, and the others
        {name}_count            how many earlier rows the user has, a float64 of 0 or more
        {name}_mean             the mean of the rating in them, or the share for which it holds; null without any

    Lists begin with the newest value: `max_length` of a bag keeps its first values, and a position means the same
    however long the list is. Rows of one user and one time are in the order of the table. `infer_features` makes of a
    list a bag that shares the rows of `of`, whose `target` it is; of the others it makes numbers.

    A row without a user (null, NaN, `""`, a negative number) has no history, and is in nobody's. A row whose `of` is
    missing in this way is counted, and rated, but in no list; one without a rating is counted, and in no list where
    `rating` compares. A row without a time is refused.

    Args:
        table: The rows, in any order, as `nfm_tfrs.data.read_table` takes them: an Arrow table, a DataFrame, a dict of
            columns or a list of dicts.
        user: The column of users.
        time: The column of times: numbers, dates or times.
        of: The column whose values are collected, one a row.
        last: Most values of a list.
        rating: A column of numbers, or a comparison such as `"rating>=4"`, whose mean so far is taken. It is known of
            an earlier row once a later one comes: do not give what is known days later.
        name: What the names of the new columns begin with; `{of}_history` if not given.
        earlier: Rows of before that get nothing themselves, in the same columns: a table, or a list of tables. No row
            may be in both these and `table`: it would count twice.

    Returns:
        The table, its rows in their order, with the new columns behind the others.

    Raises:
        ValueError: A column is missing, there already, or of a type that it cannot be; a time is missing; or an
            argument out of its range.

    Example:
        >>> rows = pa.table({"user": [1, 1, 2, 1], "day": [1, 2, 2, 3], "film": ["Up", "Ran", "Up", "Ida"]})
        >>> table = histories(rows, user="user", time="day", of="film", last=2, name="seen")
        >>> table["seen"].to_pylist()
        [[], ['Up'], [], ['Ran', 'Up']]
        >>> table["seen_count"].to_pylist()
        [0.0, 1.0, 0.0, 2.0]
    """
    rule = History(user=user, time=time, of=of, last=last, rating=rating, name=name)
    before = [] if earlier is None else earlier if isinstance(earlier, list | tuple) else [earlier]
    if before and isinstance(before[0], dict):  # rows, not tables
        before = [before]
    return with_histories(as_table(table), [rule], earlier=[as_table(one) for one in before])


def with_histories(table: pa.Table, rules: Sequence[History], *, earlier: Sequence[pa.Table] = ()) -> pa.Table:
    """Returns a table with the columns of histories behind its own.

    Args:
        table: The rows.
        rules: The histories; see `histories` for what each makes.
        earlier: Tables of rows of before, which get nothing themselves; no row may be in both these and `table`. Where
            there are some, `table` may lack the column of ratings: its own rows are unrated then.

    Raises:
        ValueError: See `histories`.
    """
    for rule in rules:
        table = _with_history(table, rule, earlier)
    return table


def _with_history(table: pa.Table, rule: History, earlier: Sequence[pa.Table]) -> pa.Table:
    rating = rule.rating_column
    own = table
    if earlier and rating is not None and rating not in table.column_names:
        own = table.append_column(rating, pa.nulls(table.num_rows))
    parts = [*earlier, own]
    for part in parts:
        check_columns(part.column_names if part is own else part.select(_there(part, rule)).column_names, rule)
    users, _ = numbered(_below(parts, rule.user), rule.user)
    numbers, values = numbered(_below(parts, rule.of), rule.of)
    ratings = None
    if isinstance(rule.rating, Label):
        ratings = np.concatenate([ratings_of(part, rule.rating) for part in parts])
    events = Events(users, _times(parts, rule), numbers, ratings)
    skip = len(events) - table.num_rows
    found = look_back(events, last=rule.last, apart=rule.apart, skip=skip)
    for field, array in columns_of(found, values, rule):
        table = table.append_column(field, array)
    return table


def _there(part: pa.Table, rule: History) -> list[str]:
    """The columns of rows of before that are read; others, a history of their own among them, do not matter."""
    return [name for name in rule.columns if name in part.column_names]


def _below(parts: Sequence[pa.Table], name: str) -> pa.ChunkedArray:
    """One column of all tables, of the type that holds them all."""
    tables = [pa.table({name: decoded(one_a_row(part.column(name)))}) for part in parts]
    try:
        return pa.concat_tables(tables, promote_options="permissive").column(name)
    except pa.ArrowException as error:
        kinds = ", ".join(dict.fromkeys(str(table.schema.field(name).type) for table in tables))
        raise ValueError(
            f"Column {name!r} is {kinds} in rows that a history reads together. Write it with one type."
        ) from error


def _times(parts: Sequence[pa.Table], rule: History) -> np.ndarray:
    """The times of all tables, which have one order."""
    found = [times_of(part, rule) for part in parts]
    together = np.concatenate(found) if len({_kind(times) for times in found}) == 1 else None
    zones = {bool(getattr(part.schema.field(rule.time).type, "tz", None)) for part in parts}
    # Integers beside floats: beyond 2^53 two of them may become one.
    if together is None or len(zones) > 1 or not all(_fits(times, together.dtype) for times in found):
        kinds = ", ".join(dict.fromkeys(str(part.schema.field(rule.time).type) for part in parts))
        raise ValueError(
            f"Column {rule.time!r} is {kinds} in rows that a history reads together. Write it with one type."
        )
    return together


def _kind(times: np.ndarray) -> str:
    return times.dtype.kind if times.dtype.kind in "Mm" else "number"


def _fits(times: np.ndarray, dtype: np.dtype) -> bool:
    return times.dtype.kind not in "iu" or bool((times.astype(dtype).astype(times.dtype) == times).all())
