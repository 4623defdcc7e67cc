"""Files of JSON in which any one value is odd: opened, or refused in one line that names the file; nothing else."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import Winner
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.runs.record import RunRecord, Source
from nfm_tfrs.target import Target
from nfm_tfrs.training.recipe import Best, Recipe

SPEC = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary=[3, 5], embedding_name="people"),
        CategoricalFeature("city", vocabulary=["Rome"], dtype="string"),
        MultiCategoricalFeature("tags", num_hash_buckets=9, weights="w", max_length=3, combiner="sum", dtype="string"),
        MultiCategoricalFeature("seen", vocabulary_size=9, combiner=None),
        NumericFeature("price", mean=1.0, std=2.0, log=True),
        NumericFeature("age", boundaries=[18.0, 65.0]),
    ]
)
RECIPE = {
    "model": "nfm",
    "config": {"embedding_dim": 8},
    "optimizer": "adam",
    "optimizer_arguments": {"beta_1": 0.8},
    "learning_rate": 0.1,
    "schedule": "cosine",
    "passes": 2.0,
    "precision": "float32",
    "jit_compile": False,
}
RECORD = RunRecord(
    target=Target.parse("rating>=4", weight="trust"),
    split="time:day",
    groups="user",
    recipe=Configuration(**RECIPE),
    epochs=5,
    patience=2,
    winner=Winner(seed=1, slices=7),
    slices=9,
    source=Source(data=("a.csv",), valid=("v.csv",), test=("t.csv",), format="csv", fingerprint="f00"),
    versions={"nfm-tfrs": "0.1.0"},
    date="2026-01-02T03:04:05+00:00",
    command="nfm-tfrs train",
)
BEST = Best(
    recipe=Recipe(**{**RECIPE, "config": {"embedding_dim": 8, "features": SPEC.to_dict()}}),
    winner=RECORD.winner,
    slices=9,
    fingerprint="f00",
)
FILES = {
    "features.json": (SPEC.to_dict(), read_features),
    "run.json": (RECORD.to_json(), RunRecord.from_file),
    "best.json": (BEST.to_json(), Best.from_file),
}

LONGEST = 400  # characters of a line beside the file's path
ODD = {
    "null": None,
    "list": [],
    "list of lists": [[]],
    "list of numbers": [1.5, -1],
    "dict": {},
    "dict of dicts": {"a": {"b": 1}},
    "text": "",
    "huge text": "x\n" * 5000,
    "true": True,
    "zero": 0,
    "negative": -1,
    "fraction": -0.5,
    "huge number": 10**400,
    "nan": math.nan,
    "infinity": math.inf,
}


def places(value, place=()):
    """The place of each value, the whole included, as the keys and positions that lead there."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*place, key))


def replaced(value, place, odd):
    """A copy of the value with an odd one in a place."""
    if not place:
        return odd
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = odd
    return changed


def problem(path, text, read):
    """What is wrong with how the reading of a text ends; None if it opens, or is refused as it should be."""
    path.write_text(text)
    try:
        read(path)
    except (ValueError, LookupError) as error:
        line = str(error)
        said = type(error) is not KeyError and str(path) in line and "\n" not in line
        return None if said and len(line) < len(str(path)) + LONGEST else line[:999]
    return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_it_was_written_opens(tmp_path, name):
    written, read = FILES[name]
    (tmp_path / name).write_text(json.dumps(written))
    assert read(tmp_path / name)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", FILES)
def test_an_odd_value_anywhere_is_one_line_that_names_the_file(tmp_path, name, odd):
    written, read = FILES[name]
    problems = {
        str(place): problem(tmp_path / name, json.dumps(replaced(written, place, odd)), read)
        for place in places(written)
    }
    assert {place: found for place, found in problems.items() if found} == {}


@pytest.mark.parametrize("name", FILES)
def test_a_key_too_many_or_too_few_is_one_line_that_names_the_file(tmp_path, name):
    written, read = FILES[name]
    problems = {}
    for place in places(written):
        more, fewer = copy.deepcopy(written), copy.deepcopy(written)
        of_more, of_fewer = more, fewer
        for key in place[:-1]:
            of_more, of_fewer = of_more[key], of_fewer[key]
        if place and isinstance(of_more, dict):
            of_more["odd"] = [1]
            del of_fewer[place[-1]]
            for changed in (more, fewer):
                problems[str(place)] = problem(tmp_path / name, json.dumps(changed), read)
    assert {place: found for place, found in problems.items() if found} == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_anywhere_is_one_line_that_names_the_file(tmp_path_factory, name, data):
    written, read = FILES[name]
    changed = replaced(written, data.draw(st.sampled_from(list(places(written)))), data.draw(JSON))
    assert problem(tmp_path_factory.getbasetemp() / name, json.dumps(changed), read) is None


@pytest.mark.parametrize("text", ["", "{", "\ufeff{}", "[" * 100_000, "1" * 5000, "NaN", '"\\ud800"'])
@pytest.mark.parametrize("name", FILES)
def test_text_that_is_no_object_is_one_line_that_names_the_file(tmp_path, name, text):
    path = tmp_path / name
    assert problem(path, text, FILES[name][1]) is None
    with pytest.raises(ValueError, match=name):
        FILES[name][1](path)
