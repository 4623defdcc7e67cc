"""The histories of users batch by batch, for rows that are too many for memory and sorted by time."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.history.events import check_columns, columns_of, numbered, ratings_of, times_of
from nfm_tfrs.data.history.past import Events, Past, look_back
from nfm_tfrs.data.history.rule import LAST, History
from nfm_tfrs.target import Label


def stream_histories(
    batches: Iterable[pa.RecordBatch],
    *,
    user: str,
    time: str,
    of: str,
    last: int = LAST,
    rating: Label | str | None = None,
    name: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yields batches of rows with what each row's user did before it: bit for bit what `histories` gives.

    The rows are sorted by time, those of all users together, as a log is written. In memory are a batch, the rows of
    the newest time, and of each user that has come `last` numbers of four bytes for each list, and sums: 350 MB for a
    million users with the last 20 values in one list.

    Args:
        batches: Arrow record batches of one schema, or a table of them, such as `nfm_tfrs.data.iterate_batches` gives;
            those without a row are left out.
        user: The column of users.
        time: The column of times: numbers, dates or times, which never fall.
        of: The column whose values are collected, one a row.
        last: Most values of a list.
        rating: A column of numbers, or a comparison such as `"rating>=4"`, whose mean so far is taken.
        name: What the names of the new columns begin with; `{of}_history` if not given.

    Raises:
        ValueError: What came are no record batches, a row is earlier than the one before it, or a batch has other
            columns than the first; see also `histories`.

    Example:
        >>> rows = pa.table({"user": [1, 1, 2, 1], "day": [1, 2, 2, 3], "film": ["Up", "Ran", "Up", "Ida"]})
        >>> batches = stream_histories(rows.to_batches(max_chunksize=1), user="user", time="day", of="film")
        >>> pa.Table.from_batches(batches)["film_history"].to_pylist()
        [[], ['Up'], [], ['Ran', 'Up']]
    """
    return _stream(batches, History(user=user, time=time, of=of, last=last, rating=rating, name=name))


def _stream(batches: Iterable[pa.RecordBatch], rule: History) -> Iterator[pa.RecordBatch]:
    users, values, past = _Numbers(), _Numbers(), Past(rule.last, len(rule.lists))
    waiting: Events | None = None  # the rows of the newest time: more of them may come
    schema, row = None, 0
    for batch in batches.to_batches() if isinstance(batches, pa.Table) else batches:
        if not isinstance(batch, pa.RecordBatch):
            raise ValueError(
                f"stream_histories takes Arrow record batches; received {type(batch).__name__}. Give what "
                "nfm_tfrs.data.iterate_batches returns, for instance."
            )
        if schema is None:
            schema = batch.schema
            check_columns(schema.names, rule)
        if batch.schema != schema:
            raise ValueError(
                f"The batch that begins with row {row} has other columns, or types, than the first one. Give batches "
                "of one schema."
            )
        if not batch.num_rows:
            continue
        events = _events(pa.Table.from_batches([batch]), rule, users, values, row)
        _check_order(events.times, waiting, rule, row)
        if waiting is not None:
            events = waiting.before(events)
        final = events.times < events.times[-1]
        past.hold(len(users))
        skip = len(events) - batch.num_rows
        found = look_back(events, last=rule.last, apart=rule.apart, skip=skip, past=past, until=final)
        waiting = events.take(~final)
        row += batch.num_rows
        fields, arrays = zip(*columns_of(found, values.array, rule), strict=True)
        new = pa.schema([*schema, *fields], metadata=schema.metadata)
        yield pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=new)


def _events(table: pa.Table, rule: History, users: "_Numbers", values: "_Numbers", row: int) -> Events:
    return Events(
        users.of(*numbered(table.column(rule.user), rule.user)),
        times_of(table, rule, first_row=row),
        values.of(*numbered(table.column(rule.of), rule.of)),
        ratings_of(table, rule.rating, first_row=row) if isinstance(rule.rating, Label) else None,
    )


def _check_order(times: np.ndarray, waiting: Events | None, rule: History, row: int) -> None:
    before = times[:1] if waiting is None else waiting.times[-1:]
    all_times = np.concatenate([before, times])
    falls = all_times[1:] < all_times[:-1]
    if falls.any():
        at = int(np.argmax(falls))
        raise ValueError(
            f"Row {row + at} is earlier than the one before it: column {rule.time!r} is {all_times[at + 1]} after "
            f"{all_times[at]}. Sort the rows by it, or use nfm_tfrs.data.histories, which takes them in any order."
        )


class _Numbers:
    """Numbers of values that stay theirs from batch to batch."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}
        self._values: list[pa.Array] = []

    def __len__(self) -> int:
        return len(self._known)

    def of(self, places: np.ndarray, distinct: pa.Array) -> np.ndarray:
        """Returns the number of each row's value, int64 `[n]`, -1 where it has none.

        Args:
            places: The place of each row's value among the distinct ones, `[n]`, -1 where it has none.
            distinct: The distinct values of the batch.
        """
        before = len(self._known)
        numbers = [self._known.setdefault(value, len(self._known)) for value in distinct.to_pylist()]
        of_place: np.ndarray = np.array([*numbers, -1], np.int64)
        self._values.append(distinct.filter(pa.array(of_place[:-1] >= before)))
        return of_place[places]

    @property
    def array(self) -> pa.Array:
        """All values, by their numbers."""
        self._values = [pa.concat_arrays(self._values)]
        return self._values[0]
