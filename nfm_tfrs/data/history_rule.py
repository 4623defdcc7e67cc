"""How the history of a user is made: which columns are read, and which are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.target import Label
from nfm_tfrs.written import read_texts

LAST = 20
_FORM = "user_id,timestamp:movie_id,last=20, with rating=rating>=4 and name=seen behind it if you like"
_OPTIONS = ("last", "rating", "name")


@dataclass(frozen=True, kw_only=True)
class History:
    """What rows hold of what their user did before.

    The columns that are made, of type list where nothing else is said:

        without a rating       {name}, {name}_count (a number)
        with a column's        {name}, {name}_count, {name}_mean (numbers)
        with a comparison's    {name}_liked, {name}_other, {name}_count, {name}_mean (numbers)

    Args:
        user: The column of users.
        time: The column of times.
        of: The column whose values are collected.
        last: Most values of a list.
        rating: A column of numbers, or a comparison such as `"rating>=4"`, whose mean so far is taken; by a comparison
            values are collected apart, those for which it holds and the others.
        name: What the names of the new columns begin with; `{of}_history` if not given.

    Raises:
        ValueError: A rating that is none, a number of values below 1, or a name that is no text.

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
        arguments.count("last", self.last)
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

    @classmethod
    def parse(cls, text: str) -> "History":
        """Returns the history that a text writes, such as `user_id,timestamp:movie_id,last=20`.

        Raises:
            ValueError: It writes none.
        """
        by, _, made = text.partition(":")
        columns = [name.strip() for name in by.split(",")]
        of, *told = [part.strip() for part in made.split(",")]
        options: dict[str, Any] = {}
        for part in told:
            option, _, value = part.partition("=")
            if option not in _OPTIONS or not value or option in options:
                raise ValueError(f"A history is {_FORM}; received {part!r:.60} in {text!r:.200}.")
            options[option] = value
        if len(columns) != 2 or not all((*columns, of)):
            raise ValueError(f"A history is {_FORM}; received {text!r:.200}.")
        if not (last := options.get("last", str(LAST))).isdecimal():
            raise ValueError(
                f"last of a history is a whole number of 1 or more; received {last!r:.60} in {text!r:.200}."
            )
        user, time = columns
        return cls(user=user, time=time, of=of, **{**options, "last": int(last)})

    def __str__(self) -> str:
        rating = "" if self.rating is None else f",rating={self.rating}"
        name = "" if self.name == f"{self.of}_history" else f",name={self.name}"
        return f"{self.user},{self.time}:{self.of},last={self.last}{rating}{name}"

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


def read_histories(written: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the histories that a file says, as texts; none where it says nothing of them.

    Args:
        written: What was read of the file, an object of JSON.

    Raises:
        TypeError: They are no list of texts.
        ValueError: A text is no history.
    """
    return tuple(str(History.parse(text)) for text in read_texts(written, "histories", ()))
