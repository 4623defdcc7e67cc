"""The public and drawn sets that choices of quality are made on, prepared, each with rows to choose on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfm_tfrs.data import parse_split
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.data.prepare import prepare, prepare_files
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.data.synthetic import click_log

MOVIELENS, LASTFM = "NFM_TFRS_MOVIELENS", "NFM_TFRS_LASTFM"  # ratings.parquet; a folder of train and valid.parquet
LOG_ROWS, LOG_SEED = 250_000, 50  # a seed that no other benchmark judges on
MOVIE_COLUMNS = ("user_id", "movie_id", "year", "genres")


def movielens() -> Prepared:
    """MovieLens-small: whether a user rates a film 4 or more; the last tenth but one of each user's rows to choose on.

    Raises:
        KeyError: The environment does not say where it lies.
    """
    ratings = read_table(Path(os.environ[MOVIELENS]))
    split = parse_split("user-time:user_id,timestamp")
    return prepare(ratings, "rating>=4", split, columns=MOVIE_COLUMNS)


def lastfm() -> Prepared:
    """Last.fm tags: whether a user gave an artist a tag, or would not have; there are no rows to judge on.

    Raises:
        KeyError: The environment does not say where it lies.
    """
    return tags_of(Path(os.environ[LASTFM]))


def tags_of(folder: Path) -> Prepared:
    """Last.fm tags from the folder of its train.parquet and valid.parquet."""
    return prepare_files([folder / "train.parquet"], "label", valid=[folder / "valid.parquet"])


def pairs() -> Prepared:
    """A click log with pairs, split by time."""
    return _clicks(2)


def triples() -> Prepared:
    """A click log with triples too, split by time."""
    return _clicks(3)


def digits(**rules: Any) -> Prepared:
    """scikit-learn's digits as the ink in each row and column of their pictures; whether the digit is 5 or more.

    Args:
        **rules: Rules of the inference of the features.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    sums = {"row": found.images.sum(axis=2), "column": found.images.sum(axis=1)}
    columns = {f"{axis}_{n}": ink[:, n] for axis, ink in sums.items() for n in range(8)}
    return prepare({**columns, "y": (found.target >= 5).astype(int)}, "y", parse_split("random", 0), **rules)


def _clicks(order: int) -> Prepared:
    log = click_log(LOG_ROWS, seed=LOG_SEED, order=order)  # type: ignore[arg-type]
    return prepare(log.table, "click", parse_split("time:timestamp"))


SETS: dict[str, Callable[[], Prepared]] = {
    "movielens-small": movielens,
    "lastfm-tags": lastfm,
    "pairs": pairs,
    "triples": triples,
    "digits": digits,
}
