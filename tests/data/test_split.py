"""Splits, compared with loops over rows."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfm_tfrs.data.split import Parts, Split, parse_split


def by_loop(order, fractions=(0.8, 0.1, 0.1)):
    """Parts of one group whose rows are listed in order, by position / count."""
    parts = [], [], []
    for position, row in enumerate(order):
        share = position / len(order)
        first, second = round(fractions[0], 9), round(fractions[0] + fractions[1], 9)
        parts[0 if share < first else 1 if share < second else 2].append(row)
    return [sorted(part) for part in parts]


def lists(parts):
    return [part.tolist() for part in parts]


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=60)


@given(ROWS)
def test_a_split_by_time_within_users_equals_the_loop(rows):
    users, times = [row[0] for row in rows], [row[1] for row in rows]
    expected = [], [], []
    for user in set(users):
        own = [row for row in range(len(rows)) if users[row] == user]
        for part, found in zip(expected, by_loop(sorted(own, key=lambda row: times[row])), strict=True):
            part.extend(found)
    table = pa.table({"u": pa.array(users, pa.string()), "t": pa.array(times, pa.int64())})
    assert lists(parse_split("user-time:u,t").parts(table)) == [sorted(part) for part in expected]


@given(ROWS, st.sampled_from([(0.8, 0.1, 0.1), (0.1, 0.2, 0.7), (0.5, 0.0, 0.5), (0.7, 0.1, 0.2)]))
def test_a_split_by_time_equals_the_loop(rows, fractions):
    times = [row[1] for row in rows]
    text = "time:t:" + ",".join(map(str, fractions))
    expected = by_loop(sorted(range(len(rows)), key=lambda row: times[row]), fractions)
    assert lists(parse_split(text).parts(pa.table({"t": pa.array(times, pa.int64())}))) == expected


@given(st.integers(0, 50), st.integers(0, 3))
def test_a_random_split_is_every_row_once_and_the_same_for_a_seed(num_rows, seed):
    table = pa.table({"a": np.zeros(num_rows)})
    parts = parse_split("random", seed).parts(table)
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_rows))
    assert [len(part) for part in parts] == [len(part) for part in by_loop(range(num_rows))]
    assert lists(parts) == lists(parse_split("random", seed).parts(table))


def test_another_seed_is_another_split():
    table = pa.table({"a": np.zeros(100)})
    assert lists(parse_split("random", 0).parts(table)) != lists(parse_split("random", 1).parts(table))
    assert parse_split("random", 0).parts(table).train.tolist() != list(range(80))


def test_the_row_at_the_limit_is_of_the_next_part():
    parts = parse_split("time:t").parts(pa.table({"t": np.arange(10)}))
    assert lists(parts) == [list(range(8)), [8], [9]]
    parts = parse_split("time:t:0.1,0.2,0.7").parts(pa.table({"t": np.arange(10)}))  # 0.1 + 0.2 > 0.3 in floats
    assert lists(parts) == [[0], [1, 2], [3, 4, 5, 6, 7, 8, 9]]


def test_ties_keep_the_order_of_the_file():
    parts = parse_split("user-time:u,t").parts(pa.table({"u": [1] * 10, "t": [7] * 10}))
    assert lists(parts) == [list(range(8)), [8], [9]]


@pytest.mark.parametrize(
    "times",
    [
        [datetime.datetime(2020, 1, day) for day in range(10, 0, -1)],
        [datetime.date(2020, 1, day) for day in range(10, 0, -1)],
        [datetime.time(hour) for hour in range(10, 0, -1)],
        [float(day) for day in range(10, 0, -1)],
        pa.array(range(90_000, 0, -9_000), pa.int32()).cast(pa.time32("s")),  # hours beyond those of a day among them
    ],
    ids=["timestamp", "date", "time", "float", "odd time"],
)
def test_time_may_be_numbers_dates_or_times(times):
    assert lists(parse_split("time:t").parts(pa.table({"t": times}))) == [list(range(2, 10)), [1], [0]]


def test_users_may_be_a_chunked_dictionary():
    users = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()])
    parts = parse_split("user-time:u,t:0.5,0,0.5").parts(pa.table({"u": users, "t": [1, 2, 1, 2]}))
    assert lists(parts) == [[0, 2], [], [1, 3]]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("random", Split("random", (), seed=3)),
        ("random:0.6,0.2,0.2", Split("random", (), (0.6, 0.2, 0.2), 3)),
        ("time:timestamp", Split("time", ("timestamp",), seed=3)),
        ("user-time:user_id, timestamp : 1,0,0", Split("user-time", ("user_id", "timestamp"), (1, 0, 0), 3)),
    ],
)
def test_a_split_is_parsed(text, split):
    assert parse_split(text, 3) == split


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rand", "A split is random, time:timestamp or user-time:user_id,timestamp, each with :0.8,0.1,0.1 behind it"),
        ("time", "A time split needs one column, the time; received 'time'."),
        ("time:a,b", "A time split needs one column, the time; received 'time:a,b'."),
        ("user-time:a", "A user-time split needs two columns, the user and the time; received 'user-time:a'."),
        ("user-time:a,", "A user-time split needs two columns"),
        (
            "random:0.8,0.1",
            "The fractions of a split are three numbers of sum 1, such as 0.8,0.1,0.1; received '0.8,0.1'.",
        ),
        ("random:0.8,0.1,0.2", "The fractions of a split are three numbers of sum 1"),
        ("random:1.1,-0.1,0", "The fractions of a split are three numbers of sum 1"),
        ("random:a,b,c", "The fractions of a split are three numbers of sum 1"),
        ("time:t:1,0,0:x", "A split is random, time"),
    ],
)
def test_text_that_is_no_split_is_one_clear_line(text, line):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_split(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"user": [1], "t": [1]}, "There is no column 'u'"),
        (
            {"u": [1, None], "t": [1, 2]},
            "Column 'u', which the split reads, has no value in 1 of 2 rows, the first in row 1.",
        ),
        ({"u": [1], "t": [float("nan")]}, "Column 't', which the split reads, has no value in 1 of 1 rows"),
        ({"u": [1], "t": ["10:00"]}, "Column 't', the time of the split, is string. Give numbers, dates or times"),
    ],
)
def test_a_column_the_split_cannot_use_is_one_clear_line(columns, line):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_split("user-time:u,t").parts(pa.table(columns))
    assert str(caught.value).startswith(line)


def test_parts_are_named():
    assert Parts._fields == ("train", "valid", "test")
