"""How vocabularies grow: what a person tells of it, and what differs between features and the same grown."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from nfm_tfrs import arguments
from nfm_tfrs.features.feature import Categories, Feature
from nfm_tfrs.features.spec import FeatureSpec

_MEAN = "mean:"
_FIRST_DAY = datetime.date(1970, 1, 1)
_LAST_DAY = 2**16 - 1  # statistics hold days as 16 bits: until the 6th of June 2149


@arguments.naming_the_nearest
@dataclass(frozen=True, kw_only=True)
class Growth:
    """How vocabularies grow with new data.

    Args:
        init: Where the row of a new value starts: `"zeros"`; `"random"`, as the rows of a new model do; or
            `"mean:COLUMN"`, the mean of the rows of the feature's old values that the new data holds beside the same
            value of COLUMN, zeros where there is none.
        min_count: Times that a value is seen before it gets a row: in the data of all nights together, or in this data
            alone where the model keeps no statistics.
        max_age: Days after which a value that is not seen any more loses its row; no value does if not given.
        max_rows: Most rows of the table of all features; where more are needed, the least frequent values lose theirs,
            of equally frequent ones those not seen for the longest time. Compressed tables, and their values, do not
            count. There is no limit if not given.
        day: Date of the data, such as `"2026-01-31"`; today if not given.

    Raises:
        TypeError: An argument that there is not.
        ValueError: An argument out of its range.

    Example:
        >>> Growth(init="mean:category", day="1970-01-31").day_number
        30
    """

    init: str = "zeros"
    min_count: int = 1
    max_age: int | None = None
    max_rows: int | None = None
    day: datetime.date | str | None = None

    def __post_init__(self) -> None:
        if self.init not in ("zeros", "random") and not self.group:
            raise ValueError(f'init must be "zeros", "random" or "mean:COLUMN"; received {self.init!r:.60}.')
        arguments.count("min_count", self.min_count)
        for name in ("max_age", "max_rows"):
            if getattr(self, name) is not None:
                arguments.count(name, getattr(self, name))
        if self.day is not None:
            object.__setattr__(self, "day", _date(self.day))

    @property
    def group(self) -> str | None:
        """The column whose values group the rows that a new one starts at the mean of; None for another start."""
        told = isinstance(self.init, str) and self.init.startswith(_MEAN)
        return self.init.removeprefix(_MEAN) or None if told else None

    @property
    def date(self) -> datetime.date:
        """The date of the data: today's, in UTC, where none was given."""
        return datetime.datetime.now(datetime.timezone.utc).date() if self.day is None else _date(self.day)

    @property
    def day_number(self) -> int:
        """The date of the data, in days since the first of January 1970."""
        return (self.date - _FIRST_DAY).days


@dataclass(frozen=True, eq=False)
class TableChange:
    """What differs between a table's vocabulary and the grown one.

    Args:
        new: Ids that a new value has, rising, int64 `[n]`; places of before that it has taken are among them.
        free: Ids of before whose value has no row now, rising, int64 `[m]`.
    """

    new: np.ndarray
    free: np.ndarray


def changes(
    features: FeatureSpec, grown: FeatureSpec, freed: Mapping[str, np.ndarray] | None = None
) -> dict[str, TableChange]:
    """Returns, by table, what differs between features and the same grown.

    Args:
        features: The features of before.
        grown: The grown ones: each value with its row has it at the same place, or the place is free.
        freed: By table, ids whose value has lost its row meanwhile, and which another one may have taken at once.

    Raises:
        ValueError: They are other features, or a vocabulary has lost a value or moved one; the line names it.
    """
    if features.names != grown.names:
        known, given = list(features.names), list(grown.names)
        odd = [name for name in given if name not in known] or [name for name in known if name not in given] or given
        raise ValueError(
            f"Growth takes the features of the model, {', '.join(known):.200}, in this order; received others, such as "
            f"{odd[0]!r}. Change vocabularies and free_ids alone."
        )
    found: dict[str, TableChange] = {}
    for old, new in zip(features, grown, strict=True):
        _check_alike(old, new)
        if isinstance(old, Categories) and old.vocabulary is not None and old.table not in found:
            assert isinstance(new, Categories)
            found[old.table] = _change(old, new, (freed or {}).get(old.table, np.empty(0, np.int64)))
    return found


def _check_alike(old: Feature, new: Feature) -> None:
    """Checks that two features differ by the values of their vocabularies alone."""
    if type(old) is not type(new):
        raise ValueError(
            f"Feature {new.name!r} is a {type(new).__name__}, and a {type(old).__name__} in the model. Change "
            "vocabularies and free_ids alone."
        )
    for field in fields(old):
        before, now = getattr(old, field.name), getattr(new, field.name)
        grows = field.name in ("vocabulary", "free_ids") and None not in (before, now)
        if not grows and before != now:
            raise ValueError(
                f"{field.name} of feature {new.name!r} is {now!r:.60}, and {before!r:.60} in the model. Change "
                "vocabularies and free_ids alone."
            )


def _change(old: Categories, new: Categories, freed: np.ndarray) -> TableChange:
    before, now = old.vocabulary or (), new.vocabulary or ()
    was_free, is_free = {*old.free_ids, *np.asarray(freed).tolist()}, set(new.free_ids)
    for number, value in enumerate(before):
        if number >= len(now) or (now[number] is not value and now[number] != value and number not in was_free):
            there = f"the id {now.index(value)}" if value in now else "none"
            raise ValueError(
                f"Value {value!r:.60} of feature {old.name!r} has the id {number} in the model, and {there} in what "
                "was given. Leave each value in its place, put new ones behind the last, and name in free_ids those "
                "that lose their rows."
            )
    reused = [number for number in sorted(was_free) if number not in is_free]
    added = [number for number in range(len(before), len(now)) if number not in is_free]
    free = sorted(number for number in is_free if number < len(before))
    return TableChange(np.array([*reused, *added], np.int64), np.array(free, np.int64))


def _date(given: datetime.date | str) -> datetime.date:
    """The date that a text of it, or an object, says; days from the second of 1970 on have a number of 16 bits."""
    try:
        day = datetime.date.fromisoformat(given if isinstance(given, str) else given.isoformat()[:10])
    except (ValueError, AttributeError) as error:
        raise ValueError(f'day must be a date such as "2026-01-31"; received {given!r:.60}.') from error
    if not 1 <= (day - _FIRST_DAY).days <= _LAST_DAY:
        raise ValueError(f"day must lie from 1970-01-02 to 2149-06-06; received {day}.")
    return day
