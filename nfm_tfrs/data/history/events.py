"""What the columns of a table say of users, as numbers; and what was found for them, as columns again."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.data.history.past import Found
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.labels import label_values
from nfm_tfrs.data.order import times
from nfm_tfrs.features.bag import HISTORY_OF
from nfm_tfrs.features.check import decoded, is_list, is_real, is_text, one_a_row, utf8
from nfm_tfrs.features.host import means_missing
from nfm_tfrs.target import Label

READER = "a history"


def check_columns(names: Iterable[str], rule: History) -> None:
    """Checks that a table has the columns which a history reads, and none that it makes.

    Args:
        names: The table's columns.
        rule: The history.

    Raises:
        ValueError: One is missing, or there already.
    """
    names = list(names)
    for name in rule.columns:
        if name not in names:
            raise missing_column(name, names, reader=READER)
    for name in rule.names:
        if name in names:
            raise ValueError(
                f"The data has a column {name!r} already, which the history of {rule.of!r} makes. Leave the history "
                "out, or give it another name."
            )


def numbered(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, pa.Array]:
    """Returns the number of each row's value, int64 `[n]`, -1 where it means missing, and the distinct values.

    Args:
        column: Strings, or numbers, one a row.
        name: The column's name, for the messages.

    Raises:
        ValueError: The column is of another type.
    """
    column = one_a_row(column)
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_null(kind):
        return np.full(len(column), -1, np.int64), pa.nulls(0)
    if is_list(kind) or not (is_text(kind) or is_real(kind)):
        raise ValueError(
            f"Column {name!r}, which {READER} reads, is {column.type}. Give one string or one number a row."
        )
    encoded = decoded(column.combine_chunks()).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    values = utf8(name, encoded.dictionary) if is_text(kind) else encoded.dictionary
    places: np.ndarray = np.append(np.arange(len(values)), -1)  # the last one is that of null
    if is_text(kind) or types.is_integer(kind):
        missing = means_missing(values)
    elif types.is_floating(kind):
        missing = pc.or_(pc.is_nan(values), pc.less(values, pa.scalar(0, kind)))
    else:
        missing = pa.array(np.zeros(len(values), bool))
    places[:-1][np.asarray(missing.fill_null(True))] = -1
    return places[encoded.indices.fill_null(len(values)).to_numpy()], values


def ratings_of(table: pa.Table, label: Label, *, first_row: int = 0) -> np.ndarray:
    """Returns how each row is rated, float64 `[n]`, NaN where it is not; a comparison gives 0 and 1.

    Args:
        table: The rows.
        label: The column, and what it is compared with.
        first_row: Number of the first row, for the messages; rows count from 0.

    Raises:
        ValueError: The column is missing, infinite, or of a type that the label cannot take.
    """
    ratings: np.ndarray = np.full(table.num_rows, np.nan)
    if label.column not in table.column_names:
        raise missing_column(label.column, table.column_names, reader=READER)
    column = one_a_row(table.column(label.column))
    there = np.asarray(pc.is_valid(column))
    if types.is_floating(column.type):
        numbers = column.cast(pa.float64()).to_numpy()
        there &= ~np.isnan(numbers)
        beyond = np.abs(numbers) > np.finfo(np.float32).max if label.operator is None else np.zeros(len(numbers), bool)
        if beyond.any():
            raise ValueError(
                f"Column {label.column!r}, which {READER} reads, is infinite, or beyond float32, in row "
                f"{first_row + int(np.argmax(beyond))}. Drop or clip it."
            )
    if there.any():
        ratings[there] = label_values(pa.table({label.column: column.filter(pa.array(there))}), label, first_row)
    return ratings


def times_of(table: pa.Table, rule: History, *, first_row: int = 0) -> np.ndarray:
    """Returns the time of each row, `[n]`; see `nfm_tfrs.data.order.times`."""
    return times(table, rule.time, READER, first_row=first_row)


def columns_of(found: Found, values: pa.Array, rule: History) -> list[tuple[pa.Field, pa.Array]]:
    """Returns the columns that a history makes.

    Args:
        found: What was before each row.
        values: The values, by their numbers.
        rule: The history.
    """
    columns = []
    for name, bag in zip(rule.lists, found.lists, strict=True):
        wide = bag.row_splits[-1] > np.iinfo(np.int32).max
        lists = pa.LargeListArray if wide else pa.ListArray
        offsets = pa.array(bag.row_splits, pa.int64() if wide else pa.int32())
        array = lists.from_arrays(offsets, values.take(pa.array(bag.values)))
        columns.append((pa.field(name, array.type, metadata={HISTORY_OF: rule.of.encode()}), array))
    for name, numbers in zip(rule.numbers, (found.counts, found.means), strict=False):
        columns.append((pa.field(name, pa.float64()), pa.array(numbers, from_pandas=True)))
    return columns
