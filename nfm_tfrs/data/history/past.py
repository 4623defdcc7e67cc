"""What each user did before each row, found with a sort and running sums."""

from dataclasses import dataclass, field

import numpy as np

from nfm_tfrs.features.bag import Bag, splits_of

_ROUNDS = 64  # segments up to this length are summed side by side, longer ones each by itself


@dataclass(frozen=True, eq=False)
class Events:
    """What rows say of users.

    Args:
        users: The number of each row's user, int64 `[n]`, -1 where it has none.
        times: When it was, `[n]`.
        values: The number of each row's value, int64 `[n]`, -1 where it has none.
        ratings: How it was rated, float64 `[n]`, NaN where it was not; None without ratings.
    """

    users: np.ndarray
    times: np.ndarray
    values: np.ndarray
    ratings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "Events":
        """Returns the rows of these numbers, or those for which booleans hold."""
        ratings = None if self.ratings is None else self.ratings[rows]
        return Events(self.users[rows], self.times[rows], self.values[rows], ratings)

    def before(self, later: "Events") -> "Events":
        """Returns these rows with others behind them."""
        ratings = None
        if self.ratings is not None and later.ratings is not None:
            ratings = np.concatenate([self.ratings, later.ratings])
        users, times = np.concatenate([self.users, later.users]), np.concatenate([self.times, later.times])
        return Events(users, times, np.concatenate([self.values, later.values]), ratings)


@dataclass(frozen=True, eq=False)
class Found:
    """What was before each row.

    Args:
        lists: The numbers of the values, those of the newest rows first: of all rows, or of liked and of other ones.
        counts: How many rows the user had, float64 `[n]`.
        means: Their mean rating, float64 `[n]`, NaN where there is none; None without ratings.
    """

    lists: list[Bag]
    counts: np.ndarray
    means: np.ndarray | None


@dataclass(eq=False)
class Past:
    """What is kept of each user between two batches of rows: a row of each array.

    Args:
        last: Most values of a list.
        lists: Number of lists.
    """

    last: int
    lists: int
    tails: list[np.ndarray] = field(init=False)
    lengths: list[np.ndarray] = field(init=False)
    counts: np.ndarray = field(init=False)
    rated: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.tails = [np.zeros((0, self.last), np.int32) for _ in range(self.lists)]  # the newest values last
        self.lengths = [np.zeros(0, np.int64) for _ in range(self.lists)]
        self.counts, self.rated = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.sums = np.zeros(0)

    def hold(self, users: int) -> None:
        """Makes room for so many users; for twice as many as before at least, so that few batches copy it."""
        more = max(users, 2 * len(self.counts)) - len(self.counts) if users > len(self.counts) else 0
        if more:
            self.tails = [np.pad(tail, ((0, more), (0, 0))) for tail in self.tails]
            self.lengths = [np.pad(lengths, (0, more)) for lengths in self.lengths]
            self.counts, self.rated = np.pad(self.counts, (0, more)), np.pad(self.rated, (0, more))
            self.sums = np.pad(self.sums, (0, more))


def look_back(
    events: Events, *, last: int, apart: bool, skip: int = 0, past: Past | None = None, until: np.ndarray | None = None
) -> Found:
    """Returns what each row's user did before it, at earlier times: a row of the same time is not before.

    Args:
        events: The rows, those of one user and one time in their order.
        last: Most values of a list.
        apart: Whether values are listed by their rating, those of 1 and those of 0 apart.
        skip: Number of first rows that are looked back on, but get nothing themselves.
        past: What is kept of the users of rows before these; what these rows add to it is written into it.
        until: Whether a row is final, booleans `[n]`, and is written into the past; later rows may have the same time
            as the others.
    """
    known = np.flatnonzero(events.users >= 0)
    order = known[np.lexsort((events.times[known], events.users[known]))]  # stable
    sorted_events = events.take(order)
    segments = _Segments.of(sorted_events)
    if past is not None and until is not None:
        segments.end_at(until[order])
    ratings, there = sorted_events.ratings, sorted_events.values >= 0
    chosen = [there] if not apart or ratings is None else [there & (ratings == 1), there & (ratings == 0)]
    places = order - skip
    lists = []
    for number, mask in enumerate(chosen):
        merged = _Merged.of(segments, mask, sorted_events.values, past, number)
        lists.append(merged.lists(segments, places, len(events) - skip, last))
        if past is not None:
            merged.keep(segments, past, number)
    counts = _spread(places, segments.tie - segments.begin + segments.earlier(past), len(events) - skip, 0.0)
    means = None if ratings is None else _means(segments, ratings, past, places, len(events) - skip)
    if past is not None:
        past.counts[segments.users] += segments.final
    return Found(lists, counts, means)


@dataclass(eq=False)
class _Segments:
    """Rows sorted by user and time, a segment each user.

    Args:
        users: The user of each segment, `[s]`.
        splits: Where each segment begins, `[s + 1]`.
        number: The segment of each row, `[n]`.
        tie: Where the rows of each row's user and time begin, `[n]`.
        final: How many rows of each segment are final, its first ones, `[s]`.
    """

    users: np.ndarray
    splits: np.ndarray
    number: np.ndarray
    tie: np.ndarray
    final: np.ndarray

    @classmethod
    def of(cls, events: Events) -> "_Segments":
        users, times, rows = events.users, events.times, np.arange(len(events))
        begins: np.ndarray = np.ones(len(events), bool)
        begins[1:] = users[1:] != users[:-1]
        moves = begins.copy()
        moves[1:] |= times[1:] != times[:-1]
        splits: np.ndarray = np.append(np.flatnonzero(begins), len(events))
        tie = np.maximum.accumulate(np.where(moves, rows, 0)) if len(events) else rows
        return cls(users[begins], splits, np.cumsum(begins) - 1, tie, np.diff(splits))

    def end_at(self, final: np.ndarray) -> None:
        """Takes those rows alone as final for which booleans, `[n]`, hold: the first of each segment."""
        until = splits_of(final)
        self.final = until[self.splits[1:]] - until[self.splits[:-1]]

    @property
    def begin(self) -> np.ndarray:
        """Where each row's segment begins, `[n]`."""
        return self.splits[:-1][self.number]

    @property
    def until(self) -> np.ndarray:
        """Where the final rows of each segment end, `[s]`."""
        return self.splits[:-1] + self.final

    def earlier(self, past: Past | None) -> np.ndarray | int:
        """How many rows the user of each row had in the past."""
        return 0 if past is None else past.counts[self.users][self.number]


@dataclass(frozen=True, eq=False)
class _Merged:
    """Values in the order of users and times, those of the past before those of these rows.

    Args:
        values: The values' numbers, int64 `[m]`.
        kept: How many rows that have one are before each row, `[n + 1]`.
        tails: Splits of the values of the past by segment, `[s + 1]`.
    """

    values: np.ndarray
    kept: np.ndarray
    tails: np.ndarray

    @classmethod
    def of(cls, segments: _Segments, mask: np.ndarray, values: np.ndarray, past: Past | None, number: int) -> "_Merged":
        kept, found = splits_of(mask), values[mask]
        if past is None:
            return cls(found, kept, np.zeros(len(segments.splits), np.int64))
        lengths = past.lengths[number][segments.users]
        tails = splits_of(lengths)
        merged = np.empty(len(found) + tails[-1], np.int64)
        merged[np.arange(len(found)) + tails[1:][segments.number[mask]]] = found
        rows, columns = _positions(lengths)
        at = (kept[segments.splits[:-1]] + tails[:-1])[rows] + columns
        merged[at] = past.tails[number][segments.users[rows], columns]
        return cls(merged, kept, tails)

    def lists(self, segments: _Segments, places: np.ndarray, rows: int, last: int) -> Bag:
        """The newest values before each row, put at the row's place."""
        begin = self.kept[segments.begin] + self.tails[:-1][segments.number]
        end = self.kept[segments.tie] + self.tails[1:][segments.number]
        lengths = _spread(places, np.minimum(end - begin, last), rows, 0)
        newest = _spread(places, end - 1, rows, 0)
        splits = splits_of(lengths)
        return Bag(self.values[np.repeat(newest + splits[:-1], lengths) - np.arange(splits[-1])], splits)

    def keep(self, segments: _Segments, past: Past, number: int) -> None:
        """Writes the newest values of each segment's final rows into the past."""
        begin = self.kept[segments.splits[:-1]] + self.tails[:-1]
        end = self.kept[segments.until] + self.tails[1:]
        lengths = np.minimum(end - begin, past.last)
        rows, columns = _positions(lengths)
        past.tails[number][segments.users[rows], columns] = self.values[(end - lengths)[rows] + columns]
        past.lengths[number][segments.users] = lengths


def _means(segments: _Segments, ratings: np.ndarray, past: Past | None, places: np.ndarray, rows: int) -> np.ndarray:
    """The mean of the ratings before each row, NaN where there is none."""
    mask = ~np.isnan(ratings)
    rated, users = splits_of(mask), segments.users
    splits = rated[segments.splits]
    start = np.zeros(len(users)) if past is None else past.sums[users]
    counted = np.zeros(len(users), np.int64) if past is None else past.rated[users]
    sums = running_sums(ratings[mask], splits, start)
    here = rated[segments.tie] - splits[:-1][segments.number]
    # One more place: a row that no rating is before looks there, and does not take what it finds.
    total = np.where(here > 0, np.append(sums, 0.0)[rated[segments.tie] - 1], start[segments.number])
    number = here + counted[segments.number]
    means = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    if past is not None:
        final = rated[segments.until] - splits[:-1]
        past.sums[users] = np.where(final > 0, np.append(sums, 0.0)[rated[segments.until] - 1], start)
        past.rated[users] += final
    return _spread(places, means, rows, np.nan)


def running_sums(values: np.ndarray, splits: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Returns the sum of each segment's values up to each value, `[n]`, added one by one.

    A difference of sums over all rows would be other bits, and in batches others again.

    Args:
        values: float64 `[n]`.
        splits: Where each segment begins, `[s + 1]`.
        start: What each segment's sum begins with, `[s]`.
    """
    sums: np.ndarray = values.copy()
    lengths = np.diff(splits)
    begins = splits[:-1]
    filled = lengths > 0
    sums[begins[filled]] += start[filled]
    for begin, length in zip(begins[lengths > _ROUNDS], lengths[lengths > _ROUNDS], strict=True):
        np.cumsum(sums[begin : begin + length], out=sums[begin : begin + length])
    short = np.flatnonzero(filled & (lengths <= _ROUNDS))
    short = short[np.argsort(-lengths[short], kind="stable")]  # the longest first: those that go on are in front
    longer = len(short) - np.cumsum(np.bincount(lengths[short], minlength=_ROUNDS + 1))
    for position in range(1, _ROUNDS):
        at = begins[short[: longer[position]]] + position
        if not len(at):
            break
        sums[at] += sums[at - 1]
    return sums


def _spread(places: np.ndarray, values: np.ndarray, rows: int, otherwise: float) -> np.ndarray:
    """Puts values at the places of their rows; places before the first row are left out."""
    spread: np.ndarray = np.full(rows, otherwise, np.result_type(values.dtype, type(otherwise)))
    inside = places >= 0
    spread[places[inside]] = values[inside]
    return spread


def _positions(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row and the position in it of each value of rows of these lengths."""
    splits = splits_of(lengths)
    rows: np.ndarray = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(splits[-1]) - splits[rows]
