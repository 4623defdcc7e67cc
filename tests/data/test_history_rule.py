"""The text of a history, and the columns that it reads and makes."""

import re

import pytest

from nfm_tfrs.data import History
from nfm_tfrs.data.history_rule import read_histories
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
