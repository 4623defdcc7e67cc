"""Checks of arguments and of names: what their errors say."""

import pytest

from nfm_tfrs.arguments import missing_column


@pytest.mark.parametrize(
    ("name", "columns", "reader", "line"),
    [
        ("w", ["a"], None, "There is no column 'w'. The data has 'a'."),
        ("film", ["a", "films"], None, "There is no column 'film'; did you mean 'films'? The data has 'a', 'films'."),
        ("w", {"a": 1}, "--groups", "There is no column 'w', which --groups reads. The data has 'a'."),
        ("ab", ["abc"], "x", "There is no column 'ab', which x reads; did you mean 'abc'? The data has 'abc'."),
        ("w", [], None, "There is no column 'w'. The data has no columns."),
        ("w", [3, "a"], None, "There is no column 'w'. The data has '3', 'a'."),
    ],
)
def test_a_missing_column_is_said_in_one_wording(name, columns, reader, line):
    assert str(missing_column(name, columns, reader=reader)) == line


def test_twenty_columns_are_listed_and_the_others_counted():
    line = str(missing_column("w", [f"column_{number:02}" for number in range(22)]))
    assert line.endswith("'column_19' and 2 more.")
    assert "column_20" not in line
