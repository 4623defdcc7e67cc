"""Texts that join several values are named, with what makes a bag of them; other texts are not."""

import itertools
import warnings

import pytest

from nfm_tfrs.features.infer import infer_features

GENRES = ["drama", "comedy", "war", "crime", "sci-fi"]
PAIRS = ["{}".join(pair) for pair in itertools.combinations(GENRES, 2)]


@pytest.mark.parametrize("delimiter", ["|", ";", ","])
def test_texts_that_join_values_are_named_with_what_makes_a_bag(delimiter):
    texts = [*GENRES, *(pair.format(delimiter) for pair in PAIRS)] * 5
    with pytest.warns(UserWarning, match="joins values with") as said:
        spec = infer_features({"genres": texts})
    assert len(spec["genres"].vocabulary) == 15
    (line,) = [str(warning.message) for warning in said]
    assert line.startswith(f"Column 'genres' joins values with {delimiter!r}, such as 'comedy{delimiter}")
    assert f"as str.split({delimiter!r}) does" in line


@pytest.mark.parametrize(
    "texts",
    [
        GENRES,
        ["Heat (1995), a film", "Solaris, another", "Stalker, too"],
        [f"city {k}, country {k}" for k in range(20)],
        [f"a{k}|b{k}" for k in range(20)],  # no part comes twice
        [*(f"name{k}" for k in range(50)), "a|b", "a|c", "b|c"],  # few
    ],
)
def test_other_texts_are_taken_without_a_word(texts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer_features({"text": texts * 5})
