"""What a model remembers of its training rows: how often each id was read, what was missing, where numbers lie."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfm_tfrs.features.bag import Bag, Columns
from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key
from nfm_tfrs.features.percentiles import LEVELS, merged_percentiles, percentiles, raw_numbers
from nfm_tfrs.features.rates import Rates
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.written import read, reason

MOST_WAITING = 1_000_000  # values without a row, a table
_MOST_COUNTED = 50_000_000  # ids, where tables are compressed: each takes ten bytes beside a table that has fewer rows
TOO_MANY_IDS = f"features of more than {_MOST_COUNTED:,} ids with a compression nothing is counted"
_LAST_DAY = 2**16 - 1  # a day of 2149
_ID_ROWS, _NUMBER_ROWS = 1 << 16, 1 << 20  # taken at once: 13 MB of 26 ids; a sort of more is no better

Waiting = Mapping[str, Mapping[str | int, int]]


def are_counted(features: FeatureSpec) -> bool:
    """Returns whether training rows of these features are counted: not where compressed tables have too many ids.

    Args:
        features: The features.
    """
    compressed = any(isinstance(feature, Categories) and feature.compression is not None for feature in features)
    return not compressed or features.num_rows <= _MOST_COUNTED


def today() -> int:
    """Returns the day in UTC, in days since 1970-01-01."""
    return int(time.time() // 86_400)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What is counted of training rows, feature by feature.

    Args:
        rows: Number of rows.
        counts: How often each id was read, by feature that has ids: int64 `[num_ids + 1]`, in the order of the
            feature's rows; the first is that of unknown values, missing ones left out.
        missing: Number of missing values, by feature; of a bag, of rows without a value.
        quantiles: Percentiles of the present values, by number: float64 `[101]`, the smallest first, raw as in the
            column; NaN where no value was there. Each is a value that came.
        seen: The day on which each id was last read, by the name of the embedding table: uint16 `[num_ids + 1]`, in
            days since 1970-01-01; 0 for never.
        waiting: Values that have no row yet and how often each came, by the name of the embedding table.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> spec = FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo"])])
        >>> encoded = {IDS: np.array([[1], [2], [1], [0]]), NUMBERS: np.zeros([4, 0], np.float32)}
        >>> statistics = Statistics.of(encoded, spec, [Rates("city", 4, missing=0.25, unknown=0.0)])
        >>> statistics.counts["city"].tolist(), statistics.missing["city"]
        ([0, 2, 1], 1)
    """

    rows: int
    counts: Mapping[str, np.ndarray]
    missing: Mapping[str, int]
    quantiles: Mapping[str, np.ndarray]
    seen: Mapping[str, np.ndarray]
    waiting: Waiting = field(default_factory=dict)

    @classmethod
    def of(
        cls, columns: Columns, features: FeatureSpec, rates: Sequence[Rates], *, day: int | None = None
    ) -> "Statistics":
        """Returns the statistics of encoded rows; of many windows `Counting` returns them.

        Args:
            columns: What `FeatureEncoder.encode_arrays` returns.
            features: The features of that encoder.
            rates: Missing and unknown values of the same rows, of each feature.
            day: The day on which the rows are read, in days since 1970-01-01; today's if not given.

        Raises:
            ValueError: The rates of a feature are not there, or a day that is none.
        """
        counting = Counting(features)
        counting.add(columns, rates)
        return counting.statistics(day=day)

    def merged(self, other: "Statistics") -> "Statistics":
        """Returns the statistics of both's rows.

        Counts add up, and of the days the later is taken. Percentiles are those of both distributions weighed by their
        present values, each known at its own percentiles alone: to a percentile of rank or so.

        Args:
            other: Statistics of the same features.

        Raises:
            ValueError: A feature is of other ids, or one of the two does not have it.
        """
        _check_same(self, other)
        curves = {
            name: merged_percentiles([(of.rows - of.missing[name], of.quantiles[name]) for of in (self, other)])
            for name in self.quantiles
        }
        return Statistics(
            rows=self.rows + other.rows,
            counts={name: counts + other.counts[name] for name, counts in self.counts.items()},
            missing={name: count + other.missing[name] for name, count in self.missing.items()},
            quantiles=curves,
            seen={name: np.maximum(days, other.seen[name]) for name, days in self.seen.items()},
            waiting=_merged_waiting(self.waiting, other.waiting),
        )

    def check(self, features: FeatureSpec) -> None:
        """Checks that these are statistics of the features.

        Args:
            features: What a model reads.

        Raises:
            ValueError: A feature or a table is missing, or of another number of ids; or one there is not.
        """
        with_ids = {feature.name: feature.num_ids + 1 for feature in features if feature.num_ids}
        numbers = {feature.name: LEVELS for feature in features.numbers}
        tables = {name: rows for name, (_, rows) in features.tables.items()}
        for what, held, lengths in (
            ("counts", self.counts, with_ids),
            ("percentiles", self.quantiles, numbers),
            ("days", self.seen, tables),
        ):
            for name in {**lengths, **held}:
                needed, found = lengths.get(name, 0), len(held.get(name, ()))
                if needed != found:
                    raise ValueError(
                        f"The statistics hold {found} {what} of {name!r:.60}, and the features need {needed}. "
                        "Count the rows again."
                    )
        if self.missing.keys() != set(features.names) or not self.waiting.keys() <= tables.keys():
            raise ValueError("The statistics are of other features. Count the rows again.")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the statistics as plain arrays, integers in the smallest type that holds them."""
        names = {
            "rows": self.rows,
            "missing": dict(self.missing),
            **{kind: list(getattr(self, kind)) for kind in _KINDS},
        }
        waiting = {table: list(values.items()) for table, values in self.waiting.items()}
        arrays = {_NAMES: _as_bytes(names), _WAITING: _as_bytes(waiting)}
        for kind in _KINDS:
            for number, array in enumerate(getattr(self, kind).values()):
                arrays[f"{kind}{number}"] = _smallest(array) if kind == "counts" else array
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Statistics":
        """Returns the statistics that `to_arrays` wrote.

        Args:
            arrays: The arrays by name.

        Raises:
            ValueError: An array is missing, or of another type, shape or range than `to_arrays` writes.
        """
        try:
            return _from_arrays(arrays)
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ValueError(f"The statistics are damaged: {reason(error)}. Count the rows again.") from error


class Counting:
    """Counts rows window by window.

    Args:
        features: The features that the rows are encoded by.

    Example:
        >>> from nfm_tfrs import NumericFeature
        >>> counting = Counting(FeatureSpec([NumericFeature("price")]))
        >>> for prices in ([1.0, 3.0], [2.0, np.nan]):
        ...     columns = {IDS: np.zeros([2, 0], np.int64), NUMBERS: np.array(prices, np.float32)[:, None]}
        ...     counting.add(columns, [Rates("price", 2, missing=float(np.isnan(prices).mean()), unknown=0.0)])
        >>> statistics = counting.statistics()
        >>> statistics.rows, statistics.missing["price"], statistics.quantiles["price"][[0, 50, 100]].tolist()
        (4, 1, [1.0, 2.0, 3.0])
    """

    def __init__(self, features: FeatureSpec) -> None:
        self._features = features
        self._rows = 0
        sizes = [feature.num_ids + 1 for feature in features.single]
        self._starts = np.cumsum([0, *sizes])
        offsets = np.array([features.offsets[feature.name] for feature in features.single], np.int64)
        # From a row of the table, which features may share, to a place of the feature's own among all counts.
        self._shifts = self._starts[:-1] - offsets
        self._single: np.ndarray = np.zeros(self._starts[-1], np.int64)
        self._bags: dict[str, np.ndarray] = {bag.name: np.zeros(bag.num_ids + 1, np.int64) for bag in features.bags}
        self._missing = dict.fromkeys(features.names, 0)
        self._curves: dict[str, list[tuple[int, np.ndarray]]] = {number.name: [] for number in features.numbers}

    def add(self, columns: Columns, rates: Sequence[Rates]) -> None:
        """Counts more rows.

        Args:
            columns: What `FeatureEncoder.encode_arrays` returns.
            rates: Missing and unknown values of these rows, of each feature.

        Raises:
            ValueError: The rates of a feature are not there.
        """
        shares = {rate.name: rate.missing for rate in rates}
        if absent := [name for name in self._missing if name not in shares]:
            raise ValueError(f"To count, rates of feature {absent[0]!r} are needed too. Encode the rows again.")
        ids, numbers = columns[IDS], columns[NUMBERS]
        assert isinstance(ids, np.ndarray)
        assert isinstance(numbers, np.ndarray)
        rows = len(ids)
        missing = {name: round(shares[name] * rows) for name in self._missing}
        for start in range(0, rows, _ID_ROWS):
            _count(self._single, (ids[start : start + _ID_ROWS] + self._shifts).ravel())
        for feature, start in zip(self._features.single, self._starts, strict=False):
            self._single[start] -= missing[feature.name]  # which have the row of unknown values
        for bag in self._features.bags:
            values = columns[bag_key(bag.name)]
            assert isinstance(values, Bag)
            _count(self._bags[bag.name], values.values - self._features.offsets[bag.name])
        for position, number in enumerate(self._features.numbers):
            for start in range(0, rows, _NUMBER_ROWS):
                self._curves[number.name].append(percentiles(numbers[start : start + _NUMBER_ROWS, position]))
        for name, count in missing.items():
            self._missing[name] += count
        self._rows += rows

    def statistics(self, *, day: int | None = None) -> Statistics:
        """Returns the statistics of all rows.

        Args:
            day: The day on which the rows are read, in days since 1970-01-01; today's if not given.

        Raises:
            ValueError: A day that is none.
        """
        day = today() if day is None else day
        if not 0 < day <= _LAST_DAY:
            raise ValueError(f"day counts from 1970-01-01, from 1 to {_LAST_DAY}; received {day!r:.60}.")
        single = np.split(self._single, self._starts[1:-1]) if len(self._starts) > 1 else []
        own = dict(zip((feature.name for feature in self._features.single), single, strict=True)) | self._bags
        counts = {name: own[name].copy() for name in self._features.names if name in own}
        seen: dict[str, np.ndarray] = {
            name: np.zeros(rows, np.uint16) for name, (_, rows) in self._features.tables.items()
        }
        for name, count in counts.items():
            seen[self._features[name].table][count > 0] = day
        return Statistics(
            rows=self._rows,
            counts=counts,
            missing=dict(self._missing),
            quantiles={
                number.name: raw_numbers(number, merged_percentiles(self._curves[number.name]))
                for number in self._features.numbers
            },
            seen=seen,
        )


_KINDS = ("counts", "quantiles", "seen")
_NAMES, _WAITING = "names", "waiting"


def _count(counts: np.ndarray, ids: np.ndarray) -> None:
    if len(counts) <= len(ids):
        counts += np.bincount(ids, minlength=len(counts))
    else:  # which does not walk all counts
        np.add.at(counts, ids, 1)


def _merged_waiting(one: Waiting, other: Waiting) -> dict[str, dict[str | int, int]]:
    merged = {}
    for table in {**one, **other}:
        values: Counter[str | int] = Counter(one.get(table, {}))
        values.update(other.get(table, {}))
        merged[table] = dict(values.most_common(MOST_WAITING))
    return merged


def _check_same(one: Statistics, other: Statistics) -> None:
    for kind in _KINDS:
        held = [{name: len(array) for name, array in getattr(of, kind).items()} for of in (one, other)]
        for name in {**held[0], **held[1]}:
            if held[0].get(name) != held[1].get(name):
                raise ValueError(
                    f"The two statistics are of other features: {name!r:.60} has {held[0].get(name, 0)} and "
                    f"{held[1].get(name, 0)} {kind}. Count both by the same features."
                )
    if one.missing.keys() != other.missing.keys():
        raise ValueError("The two statistics are of other features. Count both by the same features.")


def _smallest(counts: np.ndarray) -> np.ndarray:
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _as_bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _from_bytes(arrays: Mapping[str, Any], name: str) -> Any:
    written = np.asarray(arrays[name])
    if written.dtype != np.uint8 or written.ndim != 1:
        raise ValueError(f"{name} is {written.dtype}")
    return json.loads(written.tobytes())


def _from_arrays(arrays: Mapping[str, Any]) -> Statistics:
    names = _from_bytes(arrays, _NAMES)
    rows, missing = _whole(read(names, "rows", int)), read(names, "missing", dict)
    if any(_whole(count) > rows for count in missing.values()):
        raise ValueError("more values are missing than there are rows")

    def of_kind(kind: str, check: Callable[[Any], np.ndarray]) -> dict[str, np.ndarray]:
        listed = read(names, kind, list)
        if len(set(listed)) < len(listed) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"{kind} are of {listed!r:.60}")
        return {name: check(arrays[f"{kind}{number}"]) for number, name in enumerate(listed)}

    counts, quantiles = of_kind("counts", _counts), of_kind("quantiles", _quantiles)
    if counts.keys() | quantiles.keys() != missing.keys():
        raise ValueError("features are missing")
    return Statistics(
        rows=rows,
        counts=counts,
        missing=missing,
        quantiles=quantiles,
        seen=of_kind("seen", _days),
        waiting=_waiting(_from_bytes(arrays, _WAITING)),
    )


def _whole(count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**63:
        raise ValueError(f"{count!r:.60} is no count")
    return count


def _flat(array: Any, kinds: str) -> np.ndarray:
    flat: np.ndarray = np.asarray(array)
    if flat.ndim != 1 or flat.dtype.kind not in kinds or not len(flat):
        raise ValueError(f"an array is {flat.dtype} of shape {flat.shape}")
    return flat


def _counts(array: Any) -> np.ndarray:
    flat = _flat(array, "ui")
    if flat.min() < 0 or float(flat.sum(dtype=np.float64)) >= 2.0**63:
        raise ValueError("a count is out of range")
    return flat.astype(np.int64)


def _quantiles(array: Any) -> np.ndarray:
    flat: np.ndarray = _flat(array, "f").astype(np.float64)
    ordered = bool((flat[1:] >= flat[:-1]).all()) and bool(np.isfinite(flat).all())
    if len(flat) != LEVELS or not (ordered or np.isnan(flat).all()):
        raise ValueError("percentiles are no numbers in order")
    return flat


def _days(array: Any) -> np.ndarray:
    flat = _flat(array, "u")
    if flat.dtype != np.uint16:
        raise ValueError(f"days are {flat.dtype}")
    return flat


def _waiting(written: Any) -> dict[str, dict[str | int, int]]:
    if not isinstance(written, dict):
        raise ValueError("what waits is no object")
    waiting: dict[str, dict[str | int, int]] = {}
    for table, values in written.items():
        if not isinstance(values, list) or len(values) > MOST_WAITING:
            raise ValueError(f"too many values wait at {table!r:.60}")
        waiting[table] = {_value(value): _whole(count) for value, count in values}
    return waiting


def _value(value: Any) -> str | int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{value!r:.60} waits, which is no category")
    return value
