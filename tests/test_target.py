"""Targets: what a label parses to, what it gives, and what is refused; weights and tasks."""

import datetime
import decimal
import json
import operator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfm_tfrs.data.labels import read_labels, read_weights
from nfm_tfrs.target import Label, Target

OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def values(text, **columns):
    return read_labels(pa.table(columns), Target.parse(text, task="regression"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("click", Label("click")),
        ("rating>=4", Label("rating", ">=", 4)),
        ("  rating  <  -4.5e1 ", Label("rating", "<", -45.0)),
        ('clicked == "yes"', Label("clicked", "==", "yes")),
        ("clicked!='no >= no'", Label("clicked", "!=", "no >= no")),
        ("watch time > .5", Label("watch time", ">", 0.5)),
        ("a.b-c==1", Label("a.b-c", "==", 1)),
        ("`a>b`<=2", Label("a>b", "<=", 2)),
        ("x==''", Label("x", "==", "")),
        ("x==99999999999999999999", Label("x", "==", 1e20)),
    ],
)
def test_an_expression_is_a_column_an_operator_and_a_value(text, label):
    assert Label.parse(text) == label
    assert Label.parse(str(label)) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "rating>=",
        ">=4",
        "rating=4",
        "a >= b",
        "clicked == yes",
        "a == 'x",
        "a>1>2",
        "__import__('os')",
        "a ==1+1",
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="A label is a column, or a column compared") as caught:
        Label.parse(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("symbol", OPERATORS)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.integers(-3, 3))
def test_a_comparison_gives_zero_and_one_as_python_does(symbol, numbers, limit):
    result = values(f"a{symbol}{limit}", a=numbers)
    assert result.dtype == np.float32
    assert result.tolist() == [float(OPERATORS[symbol](number, limit)) for number in numbers]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["yes", "no"]),
        pa.array(["yes", "no"], pa.large_string()),
        pa.array([b"yes", b"no"]),
        pa.array([b"yes", b"no"], pa.large_binary()),
        pa.array(["yes", "no"], pa.string_view()),
        pa.array([b"yes", b"no"], pa.binary_view()),
        pa.array(["yes", "no"]).dictionary_encode(),
        pa.chunked_array([["yes"], ["no"]]),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_string_compares(column):
    assert values("a == 'yes'", a=column).tolist() == [1, 0]


@pytest.mark.parametrize(
    "column",
    [[True, False], [1, 0], [1.0, 0.0], [decimal.Decimal("1.0"), decimal.Decimal("0.0")]],
    ids=["bool", "int", "float", "decimal"],
)
def test_a_plain_column_is_its_own_value(column):
    assert values("a", a=column).tolist() == [1, 0]
    assert values("a==1", a=column).tolist() == [1, 0]


def test_large_integers_compare_exactly():
    assert values(f"a=={2**53 + 1}", a=[2**53, 2**53 + 1]).tolist() == [0, 1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
@pytest.mark.parametrize(
    "limit", ["0.5", "-0.5", "-1", "300", "9007199254740992.5", f"{2**63 - 1}", f"{2**64 - 1}", "1e30"]
)
@pytest.mark.parametrize("symbol", OPERATORS)
def test_integers_compare_with_any_number_as_python_does(symbol, limit, kind):
    limits = np.iinfo(kind.to_pandas_dtype())
    numbers = [int(limits.max), 0, 1, 100, int(limits.min)]
    numbers += [2**53, 2**53 + 1] if limits.bits == 64 else []
    number = Label.parse(f"a>{limit}").value
    expected = [float(OPERATORS[symbol](one, number)) for one in numbers]
    assert values(f"a{symbol}{limit}", a=pa.array(numbers, kind)).tolist() == expected


def test_half_precision_compares_in_its_own_precision():
    column = pa.array(np.array([3.2, 3.3, 3.4], np.float16))
    assert values("a>=3.3", a=column).tolist() == [0, 1, 1]
    assert values("a<1e9", a=column).tolist() == [1, 1, 1]


def test_a_record_batch_is_taken_too():
    batch = pa.RecordBatch.from_pydict({"a": [0.5]})
    assert read_labels(batch, Target.parse("a", task="regression")).tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "column", "line"),
    [
        ("a>=4", [1, None, None], "Label column 'a' has no value in 2 of 3 rows, the first in row 1. Drop these rows"),
        ("a", [1.0, 0.0, float("nan")], "Label column 'a' has no value in 1 of 3 rows, the first in row 2. Drop"),
        ("a", pa.nulls(2), "Label column 'a' has no value in 2 of 2 rows, the first in row 0."),
        ("a", ["yes"], "Label column 'a' holds strings. Compare it with one, such as a == \"yes\"."),
        ("a>=4", ["yes"], "Label column 'a' holds strings, but a >= 4 compares it with a number. Write a >= \"yes\","),
        (
            "a=='x'",
            [1],
            "Label column 'a' holds numbers (int64), but a == \"x\" compares it with a string. Write a == 1,",
        ),
        ("a", [1.0, float("inf")], "Label column 'a' is infinite, or beyond float32, in row 1. Drop or clip it."),
        ("a", [datetime.date(2020, 1, 1)], "Label column 'a' is date32[day], neither numbers nor strings."),
        ("a", [[1]], "Label column 'a' is list<item: int64>, neither numbers nor strings."),
        ("b", [1], "There is no column 'b'. The data has 'a'."),
        ("a=='x'", [b"\xff"], "Label column 'a' holds bytes that are not UTF-8. Decode it first."),
    ],
)
def test_a_column_that_cannot_be_the_label_is_one_clear_line(text, column, line):
    with pytest.raises(ValueError, match=r".") as caught:
        values(text, a=column)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_zero_and_one_are_binary_and_so_is_one_of_them():
    Target.parse("click").check_labels(np.array([0.0, 1.0], np.float32))
    Target.parse("click").check_labels(np.array([1.0, 1.0], np.float32))


def test_a_label_that_is_not_binary_shows_its_values_and_an_expression():
    with pytest.raises(ValueError, match="not binary") as caught:
        read_labels(pa.table({"rating": [0.5, 1, 2, 4, 4, 4.5, 5]}), Target.parse("rating"))
    assert str(caught.value) == (
        "Label 'rating' is not binary: it holds 0.5, 1, 2, 4, 4.5, … (6 distinct values). "
        "Write an expression such as rating >= 4, or use the regression task."
    )


@pytest.mark.parametrize("labels", [[-1, -1, 1], [-1, 1], [-1, 1, 1]])
def test_labels_of_minus_one_and_one_suggest_what_tells_them_apart(labels):
    with pytest.raises(ValueError, match=r"it holds -1, 1 .* such as label >= 1, or"):
        read_labels(pa.table({"label": labels}), Target.parse("label"))


def test_a_target_says_which_columns_it_reads():
    assert Target.parse("rating>=4").columns == ("rating",)
    assert Target.parse("rating>=4", weight="trust").columns == ("rating", "trust")


def test_a_text_is_the_binary_target_without_weights_and_a_target_is_itself():
    target = Target.parse("rating", weight="trust", task="regression")
    assert Target.of(target) is target
    assert Target.of("rating>=4") == Target(Label("rating", ">=", 4))
    assert Target.of("rating", binary=False) == Target.parse("rating", task="regression")
    assert Target.of(target, binary=target.is_binary) is target


def test_a_target_that_says_another_task_is_refused():
    with pytest.raises(ValueError, match=r"^The target's task is 'binary'; received binary=False too. Leave it out"):
        Target.of(Target.parse("click"), binary=False)


@pytest.mark.parametrize(
    "target",
    [Target.parse("`a>b` == 'x'", weight="w"), Target.parse("rating", task="regression"), Target.parse("a<1e-3")],
    ids=str,
)
def test_a_target_is_written_as_json_and_read_again(target):
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize("written", [{"label": None}, {"label": 3}, {"label": "click", "weight": 3}], ids=str)
def test_a_target_whose_names_are_no_texts_is_refused(written):
    with pytest.raises(TypeError, match=r"^'(label|weight)' is (int|NoneType)$"):
        Target.from_json(written)


@pytest.mark.parametrize(
    "label",
    [
        Label(" liked "),
        Label("liked ", ">=", 1),
        Label("\tliked"),
        Label("say", "==", 'a\\"b'),
        Label("say", "==", "it's\\"),
        Label("say", "!=", "two\nlines"),
        Label("price", "<", float("inf")),
        Label("price", ">", float("-inf")),
    ],
    ids=repr,
)
def test_a_label_is_read_again_from_its_text(label):
    assert Label.parse(str(label)) == label


def test_a_task_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"^task must be binary or regression; received 'ranking'\.$"):
        Target.parse("click", task="ranking")


def test_weights_are_read_where_the_target_has_some():
    table = pa.table({"click": [0, 1], "trust": [0, 2]})
    assert read_weights(table, Target.parse("click")) is None
    weights = read_weights(table, Target.parse("click", weight="trust"))
    assert weights.dtype == np.float32
    assert weights.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ([1.0, -0.5], "Weight column 'w' is -0.5 in row 8. Give finite weights of 0 or more."),
        ([1.0, None], "Weight column 'w' is nan in row 8. Give finite weights of 0 or more."),
        ([float("inf"), 1.0], "Weight column 'w' is inf in row 7. Give finite weights of 0 or more."),
        (["a", "b"], "Weight column 'w' is string, but weights are numbers. Cast it first."),
    ],
)
def test_weights_that_are_none_name_the_row(column, line):
    with pytest.raises(ValueError, match=r".") as caught:
        read_weights(pa.table({"w": column}), Target.parse("click", weight="w"), first_row=7)
    assert str(caught.value) == line


def test_rows_of_one_class_count_only_where_their_weight_does():
    target, labels = Target.parse("click"), np.array([0.0, 1.0, 1.0], np.float32)
    target.check_both_classes("train", labels, None)
    with pytest.raises(ValueError, match=r"^The train rows need positives and negatives of a weight above 0; label"):
        target.check_both_classes("train", labels, np.array([0.0, 1.0, 1.0], np.float32))
    Target.parse("click", task="regression").check_both_classes("train", labels[1:], None)
