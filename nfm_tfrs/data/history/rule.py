"""How the history of a user is made: which columns are read, and which are made of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.target import Label
from nfm_tfrs.written import read_texts

LAST = 20
_MOST = 10_000  # a stream keeps as many of every user
_FORM = "user_id,timestamp:movie_id,last=20, with rating=rating>=4 and name=seen behind it if you like"
_OPTIONS = ("last", "rating", "name")


@dataclass(frozen=True, kw_only=True)
class History:
    """What rows hold of what their user did before.

    The columns that are made, of type list where nothing else is said:

        without a rating       {name}, {name}_count (a number)
        with a column's        {name}, {name}_count, {name}_mean (numbers)
        with a comparison's    {name}_liked, {name}_other, {name}_count, {name}_mean (numbers)

    As text, a name that holds a comma, a colon or a quote stands in backticks.

    Args:
        user: The column of users.
        time: The column of times.
        of: The column whose values are collected.
        last: Most values of a list, at most 10,000.
        rating: A column of numbers, or a comparison such as `"rating>=4"`, whose mean so far is taken; by a comparison
            values are collected apart, those for which it holds and the others.
        name: What the names of the new columns begin with; `{of}_history` if not given.

    Raises:
        ValueError: A rating that is none, a number of values below 1, or a name that is no text, or that no text of a
            history can hold.

    Example:
        >>> seen = History.parse("user_id,timestamp:movie_id,last=5,rating=rating>=4,name=seen")
        >>> seen.names
        ('seen_liked', 'seen_other', 'seen_count', 'seen_mean')
        >>> str(seen)
        'user_id,timestamp:movie_id,last=5,rating=rating >= 4,name=seen'
    """

    user: str
    time: str
    of: str
    last: int = LAST
    rating: Label | str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for role in ("user", "time", "of"):
            column = getattr(self, role)
            if not isinstance(column, str) or not column:
                raise ValueError(f"{role} of a history must be the name of a column; received {column!r:.60}.")
        if arguments.count("last", self.last) > _MOST:
            raise ValueError(f"last of a history is at most {_MOST:,} values; received {self.last!r:.60}.")
        if isinstance(self.rating, str):
            object.__setattr__(self, "rating", Label.parse(self.rating))
        if not isinstance(self.rating, Label | None):
            raise ValueError(
                f'rating must be a column, or a comparison such as "rating>=4"; received {self.rating!r:.60}.'
            )
        if self.name is None:
            object.__setattr__(self, "name", f"{self.of}_history")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name of a history must be a text that is not empty; received {self.name!r:.60}.")
        self._check_text()

    def _check_text(self) -> None:
        """Refuses what the text of the history, which files keep, would not say again."""
        for role in ("user", "time", "of", "name"):
            if "`" in (name := getattr(self, role)):
                raise ValueError(
                    f"{role} of a history must be a name without a backtick; received {name!r:.60}. Rename it."
                )
        if isinstance(self.rating, Label) and not _is_read_again(self.rating):
            raise ValueError(
                f"rating of a history must be what a text can say; received {self.rating!r:.200}. Rename the column, "
                "or compare it with a finite number or with a text of one kind of quotes."
            )

    @classmethod
    def parse(cls, text: str) -> "History":
        """Returns the history that a text writes, such as `user_id,timestamp:movie_id,last=20`.

        A name that holds a comma, a colon or a quote stands in backticks.

        Raises:
            ValueError: It writes none.
        """
        by, *rest = _cut(text, ":", "`")
        columns = [_name(part) for part in _cut(by, ",", "`")]
        of, *told = [part.strip() for part in _cut(":".join(rest), ",", "`\"'")]
        options: dict[str, Any] = {}
        for part in told:
            option, _, value = part.partition("=")
            if option not in _OPTIONS or not value or option in options:
                raise ValueError(f"A history is {_FORM}; received {part!r:.60} in {text!r:.200}.")
            options[option] = _name(value) if option == "name" else value
        if len(columns) != 2 or not all((*columns, of)):
            raise ValueError(f"A history is {_FORM}; received {text!r:.200}.")
        if not (last := options.get("last", str(LAST))).isdecimal():
            raise ValueError(
                f"last of a history is a whole number of 1 or more; received {last!r:.60} in {text!r:.200}."
            )
        user, time = columns
        return cls(user=user, time=time, of=_name(of), **{**options, "last": int(last)})

    def __str__(self) -> str:
        user, time, of = (_quoted(name) for name in (self.user, self.time, self.of))
        rating = f",rating={_rating(self.rating)}" if isinstance(self.rating, Label) else ""
        name = "" if self.name == f"{self.of}_history" else f",name={_quoted(str(self.name))}"
        return f"{user},{time}:{of},last={self.last}{rating}{name}"

    @property
    def apart(self) -> bool:
        """Whether liked values and others are collected apart."""
        return isinstance(self.rating, Label) and self.rating.operator is not None

    @property
    def rating_column(self) -> str | None:
        """The column of ratings; None without."""
        return self.rating.column if isinstance(self.rating, Label) else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        read = (self.user, self.time, self.of, self.rating_column)
        return tuple(dict.fromkeys(column for column in read if column is not None))

    @property
    def lists(self) -> tuple[str, ...]:
        """The columns of values that are made."""
        return (f"{self.name}_liked", f"{self.name}_other") if self.apart else (str(self.name),)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers that are made."""
        return (f"{self.name}_count", *([] if self.rating is None else [f"{self.name}_mean"]))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are made."""
        return (*self.lists, *self.numbers)


def _cut(text: str, separator: str, quotes: str) -> list[str]:
    """The parts of a text between separators that stand in no quotes."""
    quoted = "|".join(f"{quote}[^{quote}]*{quote}" for quote in quotes)
    ends = [found.start() for found in re.finditer(f"{quoted}|({separator})", text) if found[1]]
    return [text[begin:end] for begin, end in zip([0, *(end + 1 for end in ends)], [*ends, len(text)], strict=True)]


def _name(part: str) -> str:
    """The name that a part of a text writes."""
    part = part.strip()
    return part[1:-1] if len(part) > 2 and part[0] == part[-1] == "`" else part


def _quoted(name: str) -> str:
    """A name as a part of a text writes it."""
    return f"`{name}`" if re.search("[,:\"']", name) or name != name.strip() else name


def _rating(label: Label) -> str:
    """A label whose commas stand in quotes."""
    written = str(label)
    plain = "," in label.column and not written.startswith("`")
    return f"`{label.column}`{written.removeprefix(label.column)}" if plain else written


def _is_read_again(label: Label) -> bool:
    try:
        return Label.parse(_rating(label)) == label
    except ValueError:
        return False


def read_histories(written: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the histories that a file says, as texts; none where it says nothing of them.

    Args:
        written: What was read of the file, an object of JSON.

    Raises:
        TypeError: They are no list of texts.
        ValueError: A text is no history.
    """
    return tuple(str(History.parse(text)) for text in read_texts(written, "histories", ()))
