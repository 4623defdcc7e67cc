"""The text of a history, and the columns that it reads and makes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data import History
from nfm_tfrs.data.history.rule import read_histories
from nfm_tfrs.target import Label


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("u,t:film", History(user="u", time="t", of="film")),
        (" u , t : film , last=3 ", History(user="u", time="t", of="film", last=3)),
        ("u,t:film,rating=stars", History(user="u", time="t", of="film", rating=Label("stars"))),
        ("u,t:film,rating=stars>=4,last=7", History(user="u", time="t", of="film", last=7, rating="stars >= 4")),
        (
            'u,t:film,rating=done == "yes",name=seen',
            History(user="u", time="t", of="film", rating='done=="yes"', name="seen"),
        ),
    ],
)
def test_a_history_is_what_its_text_says_and_the_text_is_read_again(text, rule):
    assert History.parse(text) == rule
    assert History.parse(str(rule)) == rule


NAMES = st.text("ab,:=`'\" ", min_size=1, max_size=4) | st.text(min_size=1, max_size=4)
LABELS = st.builds(
    Label, NAMES, st.sampled_from([">=", "==", "!="]), st.integers(-9, 9) | st.floats() | st.text("a,:=`'\" ")
)


@settings(max_examples=400, deadline=None)
@given(st.lists(NAMES, min_size=3, max_size=3), st.none() | NAMES, st.none() | st.builds(Label, NAMES) | LABELS)
def test_the_text_of_a_history_of_any_names_says_the_same_or_it_is_refused(columns, name, rating):
    user, time, of = columns
    plain = not any("`" in text for text in (*columns, name or "", rating.column if rating else ""))
    try:
        rule = History(user=user, time=time, of=of, name=name, rating=rating)
    except ValueError:
        assert not plain or rating is not None
    else:
        assert History.parse(str(rule)) == rule
        assert read_histories({"histories": [str(rule)]}) == (str(rule),)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"time": "ns:t", "of": "v"}, "u,`ns:t`:v,last=20"),
        ({"user": "user,id"}, "`user,id`,t:film,last=20"),
        ({"rating": 'done == "a,b"'}, 'u,t:film,last=20,rating=done == "a,b"'),
        ({"rating": Label("a,b", ">=", 4)}, "u,t:film,last=20,rating=`a,b` >= 4"),
        ({"name": "a,b"}, "u,t:film,last=20,name=`a,b`"),
        ({"of": "a b=c"}, "u,t:a b=c,last=20"),
    ],
)
def test_a_name_that_text_would_take_apart_stands_in_backticks(told, text):
    rule = History(**{"user": "u", "time": "t", "of": "film", **told})
    assert str(rule) == text
    assert History.parse(text) == rule


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"user": "a`b"}, "user of a history must be a name without a backtick; received 'a`b'. Rename it."),
        ({"name": "`"}, "name of a history must be a name without a backtick; received '`'. Rename it."),
        ({"rating": Label("a`b")}, "rating of a history must be what a text can say; received Label(column='a`b'"),
        ({"rating": Label("a", "==", "\"'")}, "rating of a history must be what a text can say"),
    ],
)
def test_what_no_text_can_hold_is_refused(told, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        History(**{"user": "u", "time": "t", "of": "film", **told})


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({}, ("film_history", "film_history_count")),
        ({"name": "seen"}, ("seen", "seen_count")),
        ({"rating": "stars"}, ("film_history", "film_history_count", "film_history_mean")),
        ({"rating": "stars>=4", "name": "s"}, ("s_liked", "s_other", "s_count", "s_mean")),
    ],
)
def test_names_follow_from_what_is_told(told, names):
    assert History(user="u", time="t", of="film", **told).names == names


def test_each_column_that_is_read_comes_once():
    assert History(user="u", time="t", of="stars", rating="stars>=4").columns == ("u", "t", "stars")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("film", "A history is user_id,timestamp:movie_id,last=20, with rating=rating>=4 and name=seen"),
        ("u:film", "received 'u:film'."),
        ("u,t,s:film", "received 'u,t,s:film'."),
        (",t:film", "received ',t:film'."),
        ("u,t:", "received 'u,t:'."),
        ("u,t:film,20", "received '20' in 'u,t:film,20'."),
        ("u,t:film,lats=20", "received 'lats=20' in"),
        ("u,t:film,last=", "received 'last=' in"),
        ("u,t:film,last=1,last=2", "received 'last=2' in"),
        ("u,t:film,last=many", "last of a history is a whole number of 1 or more; received 'many' in"),
        ("u,t:film,last=0", "last must be a whole number of 1 or more; received 0."),
        (f"u,t:film,last={2**70}", "last of a history is at most 10,000 values; received 118"),
        ("u,t:film,rating=stars>>4", "received 'stars>>4'"),
    ],
)
def test_a_text_that_is_no_history_is_refused_in_one_line(text, line):
    with pytest.raises(ValueError, match=re.escape(line)) as error:
        History.parse(text)
    assert "\n" not in str(error.value)


def test_histories_of_a_file_are_checked():
    assert read_histories({}) == ()
    assert read_histories({"histories": ["u,t:film"]}) == ("u,t:film,last=20",)
    with pytest.raises(ValueError, match="received 'film'"):
        read_histories({"histories": ["film"]})
    with pytest.raises(TypeError, match="'histories' holds 3"):
        read_histories({"histories": [3]})
