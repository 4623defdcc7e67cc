"""What each user did before each row, compared with loops over rows; and what may not change it."""

import datetime
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data import histories, stream_histories
from nfm_tfrs.data.history.past import running_sums
from nfm_tfrs.features.bag import HISTORY_OF

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", None, ""]),
        st.integers(0, 5),
        st.sampled_from([*range(6), None]),
        st.sampled_from([0.1, 0.7, 2.3, None]),
    ),
    max_size=40,
)
EXAMPLES = settings(max_examples=60, deadline=None)  # the first example waits for imports
NAMES = {"user": "u", "time": "t", "of": "item"}


def table_of(rows):
    users, times, items, ratings = zip(*rows, strict=True) if rows else ([], [], [], [])
    return pa.table(
        {
            "u": pa.array(users, pa.string()),
            "t": pa.array(times, pa.int64()),
            "item": pa.array(items, pa.int64()),
            "r": pa.array(ratings, pa.float64()),
        }
    )


def earlier(rows, at):
    """The rows before one, the newest first."""
    user, time = rows[at][:2]
    before = [row for row in rows if user and row[0] == user and row[1] < time]
    return sorted(before, key=lambda row: row[1])[::-1]


def values(rows, last):
    return [row[2] for row in rows if row[2] is not None][:last]


def mean(rows, rated=lambda rating: float(np.float32(rating))):
    total = number = 0
    for row in reversed(rows):
        if row[3] is not None:
            total, number = total + rated(row[3]), number + 1
    return total / number if number else None


@EXAMPLES
@given(ROWS, st.integers(1, 4))
def test_histories_equal_the_loop(rows, last):
    found = histories(table_of(rows), **NAMES, last=last, rating="r")
    before = [earlier(rows, at) for at in range(len(rows))]
    assert found["item_history"].to_pylist() == [values(of, last) for of in before]
    assert found["item_history_count"].to_pylist() == [len(of) for of in before]
    assert found["item_history_mean"].to_pylist() == [mean(of) for of in before]  # to the bit


@EXAMPLES
@given(ROWS, st.integers(1, 4))
def test_liked_values_and_others_are_collected_apart(rows, last):
    found = histories(table_of(rows), **NAMES, last=last, rating="r>=0.7", name="seen")
    before = [earlier(rows, at) for at in range(len(rows))]
    rated = [[row for row in of if row[3] is not None] for of in before]
    assert found["seen_liked"].to_pylist() == [values([row for row in of if row[3] >= 0.7], last) for of in rated]
    assert found["seen_other"].to_pylist() == [values([row for row in of if row[3] < 0.7], last) for of in rated]
    assert found["seen_count"].to_pylist() == [len(of) for of in before]
    assert found["seen_mean"].to_pylist() == [mean(of, lambda rating: float(rating >= 0.7)) for of in before]


@EXAMPLES
@given(ROWS.filter(len), st.data())
def test_no_row_sees_what_is_not_strictly_before_it(rows, data):
    at = data.draw(st.integers(0, len(rows) - 1), "row")
    changed = data.draw(st.tuples(st.sampled_from([*range(6), None]), st.sampled_from([0.1, 2.3, None])), "to")
    other = [*rows[:at], (*rows[at][:2], *changed), *rows[at + 1 :]]
    for rating in (None, "r", "r>=0.7"):
        one, two = (histories(table_of(of), **NAMES, last=3, rating=rating).to_pylist() for of in (rows, other))
        for number, (before, after) in enumerate(zip(one, two, strict=True)):
            later = rows[number][0] == rows[at][0] and rows[number][1] > rows[at][1]
            if not later:
                assert [after[name] for name in after if "history" in name] == [
                    before[name] for name in before if "history" in name
                ]


@EXAMPLES
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_of_other_times_does_not_matter(rows, random):
    rows = list({row[:2]: row for row in rows}.values())  # one a user and time
    order = list(range(len(rows)))
    random.shuffle(order)
    straight = histories(table_of(rows), **NAMES, last=3, rating="r")
    shuffled = histories(table_of([rows[place] for place in order]), **NAMES, last=3, rating="r")
    assert shuffled.equals(straight.take(pa.array(order, pa.int64())))


@EXAMPLES
@given(ROWS.map(lambda rows: sorted(rows, key=lambda row: row[1])), st.integers(1, 50), st.sampled_from([1, 3]))
def test_batches_of_any_size_give_the_same_bits(rows, size, last):
    table = table_of(rows)
    for rating in (None, "r", "r>=0.7"):
        told = dict(**NAMES, last=last, rating=rating)
        whole = histories(table, **told)
        batches = list(stream_histories(table.to_batches(max_chunksize=size), **told))
        assert pa.Table.from_batches(batches, whole.schema).equals(whole, check_metadata=True)


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_long_histories_have_the_same_bits_in_batches(size):
    rng = np.random.default_rng(0)
    rows = 1500
    table = pa.table(
        {
            "u": rng.choice(["a", "b"], rows),  # beyond the users whose sums go side by side
            "t": np.sort(rng.integers(0, 400, rows)),
            "item": [f"film {n}" for n in rng.integers(0, 50, rows)],
            "r": rng.normal(size=rows),
        }
    )
    whole = histories(table, **NAMES, last=7, rating="r")
    found = pa.Table.from_batches(stream_histories(table.to_batches(max_chunksize=size), **NAMES, last=7, rating="r"))
    assert found.equals(whole, check_metadata=True)
    by_hand = mean([(None, None, None, rating) for rating in earlier_ratings(table, rows - 1)])
    assert whole["item_history_mean"][rows - 1].as_py() == by_hand


def earlier_ratings(table, at):
    user, time = table["u"][at].as_py(), table["t"][at].as_py()
    rows = zip(*(table[name].to_pylist() for name in ("u", "t", "r")), strict=True)
    return [rating for of, when, rating in rows if of == user and when < time][::-1]


def test_sums_are_added_one_by_one():
    rng = np.random.default_rng(1)
    lengths = [0, 1, 70, 3, 0, 64, 65, 0]
    splits = np.concatenate([[0], np.cumsum(lengths)])
    start, all_values = rng.normal(size=len(lengths)), rng.normal(size=splits[-1])
    found = running_sums(all_values, splits, start)
    for number, begin in enumerate(splits[:-1]):
        total = start[number]
        for place in range(begin, splits[number + 1]):
            total += all_values[place]
            assert found[place] == total


@pytest.mark.parametrize(
    "times",
    [
        [datetime.datetime(2024, 1, day) for day in (1, 2, 3)],
        [datetime.date(2024, 1, day) for day in (1, 2, 3)],
        [0.5, 1.5, 2.5],
        pa.array([1, 2, 3], pa.uint8()),
    ],
)
@pytest.mark.parametrize(
    "users", [[7, 7, 7], [1.5, 1.5, 1.5], [True, True, True], pa.array(["a"] * 3).dictionary_encode()]
)
def test_users_and_times_may_be_of_many_types(users, times):
    table = pa.table({"u": users, "t": times, "item": ["x", "y", "z"]})
    found = histories(table, **NAMES)
    assert found["item_history"].to_pylist() == [[], ["x"], ["y", "x"]]
    streamed = pa.Table.from_batches(stream_histories(table.to_batches(max_chunksize=2), **NAMES))
    assert streamed.equals(found)


@pytest.mark.parametrize("user", [None, float("nan"), -1.0])
def test_rows_without_a_user_have_no_history_and_are_in_none(user):
    found = histories(pa.table({"u": [user, user], "t": [1, 2], "item": [3, 4]}), **NAMES)
    assert found["item_history"].to_pylist() == [[], []]
    assert found["item_history_count"].to_pylist() == [0, 0]


def test_values_that_mean_missing_are_counted_but_take_no_place():
    found = histories(pa.table({"u": [1] * 4, "t": [1, 2, 3, 4], "item": ["a", "", None, "b"]}), **NAMES, last=1)
    assert found["item_history"].to_pylist() == [[], ["a"], ["a"], ["a"]]
    assert found["item_history_count"].to_pylist() == [0, 1, 2, 3]


def test_a_frame_is_taken_and_the_lists_say_what_they_are_of():
    found = histories(pd.DataFrame({"u": [1, 1], "t": [1, 2], "item": ["a", "b"]}), **NAMES)
    assert found["item_history"].to_pylist() == [[], ["a"]]
    assert found.schema.field("item_history").metadata == {HISTORY_OF: b"item"}


def test_rows_of_before_are_seen_and_get_nothing():
    rows = [("ann", 1, 1, 0.1), ("bob", 1, 2, 0.7), ("ann", 2, 3, None), ("ann", 3, 4, 2.3), ("ann", 3, 5, 0.1)]
    whole = histories(table_of(rows), **NAMES, last=3, rating="r")
    found = histories(
        table_of(rows[3:]), **NAMES, last=3, rating="r", earlier=[table_of(rows[:1]), table_of(rows[1:3])]
    )
    assert found.equals(whole.slice(3))


def test_rows_of_before_that_are_later_are_not_seen():
    found = histories(table_of([("ann", 1, 1, 0.1)]), **NAMES, earlier=table_of([("ann", 1, 2, 0.1), ("ann", 2, 3, 1)]))
    assert found["item_history"].to_pylist() == [[]]


def test_rows_without_ratings_see_those_of_before():
    own = table_of([("ann", 3, 3, None), ("ann", 4, 4, None)]).drop_columns("r")
    found = histories(own, **NAMES, rating="r>=1", earlier=[table_of([("ann", 1, 1, 2.0), ("ann", 2, 2, 0.0)])])
    assert found.column_names[3:] == [f"item_history_{kind}" for kind in ("liked", "other", "count", "mean")]
    assert found["item_history_liked"].to_pylist() == [[1], [1]]
    assert found["item_history_count"].to_pylist() == [2, 3]
    assert found["item_history_mean"].to_pylist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", [pa.duration("s"), pa.timestamp("s")])
def test_times_of_unlike_kinds_are_refused(kind):
    first = pa.table({"u": [1], "t": pa.array([1], pa.int64()), "item": [1]})
    second = pa.table({"u": [1], "t": pa.array([2], pa.int64()).cast(kind), "item": [1]})
    with pytest.raises(ValueError, match=re.escape(f"Column 't' is int64, {kind} in rows that a history reads")):
        histories(second, **NAMES, earlier=first)


def test_times_with_a_zone_beside_times_without_one_are_refused():
    first, second = (
        pa.table({"u": [1], "t": pa.array([day], pa.timestamp("s", zone)), "item": [1]})
        for day, zone in ((1, None), (2, "Europe/Berlin"))
    )
    with pytest.raises(ValueError, match=re.escape("Column 't' is timestamp[s], timestamp[s, tz=Europe/Berlin] in ro")):
        histories(second, **NAMES, earlier=first)


def test_integers_that_floats_do_not_hold_are_refused_beside_them():
    first = pa.table({"u": [1], "t": [2**53 + 1], "item": [1]})
    with pytest.raises(ValueError, match=r"Column 't' is int64, double in rows that a history reads"):
        histories(pa.table({"u": [1], "t": [2.0**53 + 2], "item": [1]}), **NAMES, earlier=first)


def test_a_stream_of_a_table_is_that_of_its_batches_and_one_of_anything_else_is_refused():
    table = pa.table(GOOD)
    assert pa.Table.from_batches(stream_histories(table, **NAMES)).equals(histories(table, **NAMES))
    with pytest.raises(ValueError, match=r"stream_histories takes Arrow record batches; received dict\. Give what"):
        list(stream_histories([GOOD], **NAMES))


def test_types_of_several_tables_are_widened():
    first = pa.table({"u": pa.array(["a"]).dictionary_encode(), "t": [1], "item": pa.array([1], pa.int8())})
    found = histories(pa.table({"u": ["a"], "t": [2.5], "item": [300]}), **NAMES, earlier=[first])
    assert found["item_history"].to_pylist() == [[1]]


GOOD = {"u": [1, 1], "t": [1, 2], "item": [1, 2], "r": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("columns", "told", "line"),
    [
        ({}, {"user": "person"}, "no column 'person', which a history reads"),
        ({}, {"rating": "stars"}, "no column 'stars', which a history reads"),
        ({"t": [1, None]}, {}, "Column 't', which a history reads, has no value in 1 of 2 rows, the first in row 1."),
        ({"t": ["1", "2"]}, {}, "Column 't', the time of a history, is string. Give numbers, dates or times"),
        ({"u": [[1], [2]]}, {}, "Column 'u', which a history reads, is list<item: int64>. Give one string or one numb"),
        ({"item": [{"a": 1}] * 2}, {}, "Column 'item', which a history reads, is struct<a: int64>."),
        (
            {"r": [1.0, np.inf]},
            {"rating": "r"},
            "'r', which a history reads, is infinite, or beyond float32, in row 1.",
        ),
        ({"r": ["a", "b"]}, {"rating": "r"}, "holds strings. Compare it with one"),
        ({"item_history": [1, 2]}, {}, "a column 'item_history' already, which the history of 'item' makes."),
        ({}, {"last": 0}, "last must be a whole number of 1 or more; received 0."),
        ({}, {"rating": "r>>1"}, "received 'r>>1'"),
        ({}, {"rating": 3}, 'rating must be a column, or a comparison such as "rating>=4"; received 3.'),
        ({}, {"name": ""}, "name of a history must be a text that is not empty; received ''."),
        ({}, {"of": ""}, "of of a history must be the name of a column; received ''."),
    ],
)
def test_what_no_history_can_be_made_of_is_refused(columns, told, line):
    with pytest.raises(ValueError, match=re.escape(line)) as error:
        histories(pa.table({**GOOD, **columns}), **{**NAMES, **told})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ({"u": ["a"]}, "Column 'u' is string, int64 in rows that a history reads together."),
        ({"t": [datetime.date(2024, 1, 1)]}, "Column 't' is date32[day], int64 in rows that a history reads together."),
    ],
)
def test_tables_of_other_types_are_refused(column, line):
    first = pa.table({"u": [1], "t": [1], "item": [1], **column})
    with pytest.raises(ValueError, match=re.escape(line)):
        histories(pa.table(GOOD), **NAMES, earlier=first)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_stream_that_is_not_sorted_is_refused_by_the_number_of_the_row(size):
    table = pa.table({"u": [1, 2, 3, 4, 5], "t": [1, 5, 9, 7, 9], "item": [1] * 5})
    with pytest.raises(ValueError, match=r"^Row 3 is earlier than the one before it: column 't' is 7 after 9\."):
        list(stream_histories(table.to_batches(max_chunksize=size), **NAMES))


def test_a_row_of_a_stream_without_a_time_is_named_by_its_number_in_all_rows():
    table = pa.table({"u": [1, 2, 3], "t": [1, 2, None], "item": [1] * 3})
    with pytest.raises(ValueError, match="has no value in 1 of 1 rows, the first in row 2"):
        list(stream_histories(table.to_batches(max_chunksize=2), **NAMES))


def test_batches_of_several_schemas_are_refused_and_empty_ones_left_out():
    one, other = pa.table(GOOD).to_batches()[0], pa.table({**GOOD, "item": ["a", "b"]}).to_batches()[0]
    with pytest.raises(ValueError, match="begins with row 2 has other columns, or types"):
        list(stream_histories([one, other], **NAMES))
    assert [batch.num_rows for batch in stream_histories([one.slice(0, 0), one], **NAMES)] == [2]


def test_a_stream_checks_what_it_is_told_before_a_batch_is_asked_for():
    with pytest.raises(ValueError, match="last must be"):
        stream_histories(iter([]), **NAMES, last=0)
