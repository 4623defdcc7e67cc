"""Parquet streams: the rows of the files in bounded windows, and readers' errors through the pipeline."""

import gc
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data import plain_errors
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.pipeline import windows
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.data.pipeline.streaming import stream
from nfm_tfrs.data.pipeline.windows import encode_windows
from nfm_tfrs.features.check import Bag, raw_columns
from nfm_tfrs.features.encoder import IDS, NUMBERS, FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.target import Target

ROWS = 60
SPEC = FeatureSpec(
    [
        CategoricalFeature("row", vocabulary_size=1000),
        CategoricalFeature("text", num_hash_buckets=10),
        MultiCategoricalFeature("bag", num_hash_buckets=10, weights="w"),
        NumericFeature("number"),
    ]
)


def table_of(num_rows=ROWS, start=0):
    rows = range(start, start + num_rows)
    return pa.table(
        {
            "row": pa.array(rows, pa.int32()),
            "text": [None if row % 7 == 0 else f"t{row}" for row in rows],
            "bag": pa.array([[row] * (row % 3) if row % 5 else None for row in rows], pa.list_(pa.int64())),
            "w": pa.array([[row / 4] * (row % 3) if row % 5 else None for row in rows], pa.list_(pa.float32())),
            "number": [None if row % 4 == 0 else float(row) for row in rows],
            "rating": [row % 5 + 0.5 for row in rows],
            "weight": [row + 1.0 for row in rows],
        }
    )


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch):
    monkeypatch.setattr(windows, "READ_ROWS", 4)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(table_of(), path, row_group_size=9)
    return path


def make(path, spec=SPEC, label="rating>=2", weight=None, task="binary", **arguments):
    target = Target.parse(label, weight=weight, task=task)
    return stream(path, spec, target, **{"batch_size": 8, "shuffle": True, "seed": 1, "window_rows": 17, **arguments})


def rows_of(dataset):
    return [row for features, *_ in dataset for row in features["row"].numpy().tolist()]


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_value_stays_with_its_row(path, shuffle):
    seen = []
    for features, label, weight in make(path, shuffle=shuffle, weight="weight"):
        rows = features["row"].numpy().tolist()
        assert features["text"].numpy().tolist() == [b"" if row % 7 == 0 else b"t%d" % row for row in rows]
        assert features["bag"].to_list() == [[row] * (row % 3) if row % 5 else [] for row in rows]
        assert features["w"].to_list() == [[row / 4] * (row % 3) if row % 5 else [] for row in rows]
        numbers = np.array([np.nan if row % 4 == 0 else row for row in rows], np.float32)
        np.testing.assert_array_equal(features["number"].numpy(), numbers)
        assert label.numpy().tolist() == [float(row % 5 + 0.5 >= 2) for row in rows]
        assert weight.numpy().tolist() == [row + 1.0 for row in rows]
        seen += rows
    assert sorted(seen) == list(range(ROWS))
    assert (seen == list(range(ROWS))) is not shuffle


@pytest.mark.parametrize("group_rows", [1, 9, ROWS], ids=["a row a group", "many groups", "one group"])
@pytest.mark.parametrize("window_rows", [1, 30, 1000])
def test_only_the_last_batch_is_partial_whatever_groups_and_windows(tmp_path, group_rows, window_rows):
    path = tmp_path / "rows.parquet"
    pq.write_table(table_of(), path, row_group_size=group_rows)
    dataset = make(path, window_rows=window_rows)
    batches = [features["row"].numpy().tolist() for features, _ in dataset]
    assert [len(rows) for rows in batches] == [8] * 7 + [4]
    assert len(dataset) == 8
    assert sorted(row for rows in batches for row in rows) == list(range(ROWS))


def test_the_structure_and_the_types_are_declared(path):
    features, label, weight = make(path, weight="weight").element_spec
    assert list(features) == ["row", "text", "bag", "w", "number"]
    assert features["row"] == tf.TensorSpec([None], tf.int64)
    assert features["text"] == tf.TensorSpec([None], tf.string)
    assert features["bag"] == tf.RaggedTensorSpec([None, None], tf.int64, 1, tf.int64)
    assert features["w"] == tf.RaggedTensorSpec([None, None], tf.float32, 1, tf.int64)
    assert features["number"] == label == weight == tf.TensorSpec([None], tf.float32)


def test_epochs_differ_and_a_seed_decides_them(path):
    first, again, other = make(path), make(path), make(path, seed=2)
    epochs = [(tuple(rows_of(first)), tuple(rows_of(again)), tuple(rows_of(other))) for _ in range(2)]
    assert all(one == same != another for one, same, another in epochs)
    assert len({one for one, _, _ in epochs}) == 2


def test_row_groups_come_in_random_order(path):
    dataset = make(path, window_rows=8)
    first_rows = [next(iter(dataset))[0]["row"].numpy()[0] for _ in range(6)]
    assert len({row // 9 for row in first_rows}) > 2


def test_a_window_bounds_how_far_a_row_moves_in_one_row_group(tmp_path):
    pq.write_table(table_of(), tmp_path / "rows.parquet")
    rows = rows_of(make(tmp_path, window_rows=16))
    assert rows != list(range(ROWS))
    assert [row // 16 for row in rows] == [row // 16 for row in range(ROWS)]


@pytest.mark.parametrize(("window_bytes", "window_rows"), [(1, 8), (16 * 1000, 16), (24 * 1000, 24)])
def test_a_window_not_given_is_sized_by_bytes(tmp_path, monkeypatch, window_bytes, window_rows):
    path = tmp_path / "wide.parquet"
    text = ["x" * (1000 - 8 - 4)] * ROWS  # with its offset of 4 and the int64, 1000 bytes a row
    pq.write_table(pa.table({"row": range(ROWS), "text": text, "y": [1] * ROWS}), path)
    spec = FeatureSpec([CategoricalFeature("row", vocabulary_size=99), CategoricalFeature("text", num_hash_buckets=9)])
    monkeypatch.setattr(windows, "WINDOW_BYTES", int(window_bytes * 1.01))  # the offsets are one more than the rows
    rows = rows_of(make(path, spec, "y", window_rows=None))
    assert [row // window_rows for row in rows] == [row // window_rows for row in range(ROWS)]
    assert rows != list(range(ROWS))


def test_several_files_are_one_stream(tmp_path):
    for number in range(3):
        pq.write_table(table_of(10, start=10 * number), tmp_path / f"{number}.parquet")
    assert rows_of(make(tmp_path, shuffle=False)) == list(range(30))
    assert sorted(rows_of(make([tmp_path / "2.parquet", tmp_path / "0.parquet"]))) == [*range(10), *range(20, 30)]


def test_a_transform_makes_the_columns(path):
    def encode(arrays):
        columns = raw_columns(arrays, SPEC)
        return {
            "row": columns["row"],
            "encoded/ids": np.stack([columns["row"], -columns["row"]], axis=1),
            "b": columns["bag"],
        }

    for features, _ in make(path, transform=encode):
        rows = features["row"].numpy().tolist()
        assert features["encoded/ids"].numpy().tolist() == [[row, -row] for row in rows]
        assert features["b"].to_list() == [[row] * (row % 3) if row % 5 else [] for row in rows]


def test_a_regression_label_is_any_number(path):
    labels = [
        value for _, label in make(path, label="rating", task="regression", shuffle=False) for value in label.numpy()
    ]
    assert labels == [row % 5 + 0.5 for row in range(ROWS)]


def late(tmp_path, **columns):
    """A file whose last row is wrong, and whose first batch is not."""
    path = tmp_path / "late.parquet"
    table = table_of()
    for name, last in columns.items():
        values = [*table[name].to_pylist()[:-1], last]
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, path, row_group_size=50)
    return path


@pytest.mark.parametrize(
    ("columns", "label", "line"),
    [
        (
            {"number": float("inf")},
            "rating>=2",
            "Column 'number' is infinite (inf) in row 59. Clip it, or set it to null",
        ),
        ({"rating": None}, "rating>=2", "Label column 'rating' has no value in 1 of 2 rows, the first in row 59."),
        ({"weight": -1.0}, "rating>=2", "Weight column 'weight' is -1.0 in row 59. Give finite weights of 0 or more."),
        ({"weight": None}, "rating>=2", "Weight column 'weight' is nan in row 59."),
        ({"w": [1.0]}, "rating>=2", "Column 'w' weighs 'bag', but row 59 has 1 weights for 2 values."),
    ],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_wrong_row_deep_in_the_file_is_one_clear_line(tmp_path, columns, label, line, shuffle):
    path = late(tmp_path, **columns)
    dataset = make(path, label=label, weight="weight", shuffle=shuffle)
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(f"{path}: {line}")):
        rows_of(dataset)
    with pytest.raises(ValueError, match=r".") as caught, plain_errors():
        rows_of(dataset)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


def test_a_late_label_that_is_not_binary_is_told_to_whoever_fits(tmp_path):
    table = table_of().append_column("click", pa.array([0.0] * (ROWS - 1) + [3.0]))
    path = tmp_path / "late.parquet"
    pq.write_table(table, path)
    spec = FeatureSpec([NumericFeature("row")])
    inputs = keras.Input([], name="row")
    model = keras.Model({"row": inputs}, keras.layers.Dense(1)(inputs[:, None]))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r".") as caught, plain_errors():
        model.fit(make(path, spec, "click"), verbose=0)
    assert str(caught.value).startswith(f"{path}: Label 'click' is not binary: it holds 0, 3 (2 distinct values).")
    assert "\n" not in str(caught.value)


def test_a_wrong_first_batch_is_told_at_once(path):
    with pytest.raises(ValueError, match=r"rows\.parquet: Label 'rating' is not binary: it holds 0\.5, 1\.5, 2\.5"):
        make(path, label="rating")
    with pytest.raises(ValueError, match=r"rows\.parquet: There is no column 'ratings'; did you mean 'rating'"):
        make(path, label="ratings>2")
    with pytest.raises(ValueError, match=r"rows\.parquet: Column 'text' is string, not a number"):
        make(path, FeatureSpec([NumericFeature("text")]))
    with pytest.raises(ValueError, match="Weight column 'text' is string, but weights are numbers"):
        make(path, weight="text")
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        make(path, batch_size=0)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        make("nowhere.parquet")


def test_a_type_that_changes_between_files_is_one_clear_line(tmp_path):
    spec = FeatureSpec([CategoricalFeature("a", num_hash_buckets=10)])
    for number, values in enumerate([[1] * 9, [None] * 9, ["x"] * 9]):
        pq.write_table(pa.table({"a": values, "y": [1] * 9}), tmp_path / f"{number}.parquet")
    nulls = make(str(tmp_path / "[01].parquet"), spec, "y", shuffle=False)
    assert [row for features, _ in nulls for row in features["a"].numpy()] == [1] * 9 + [-1] * 9
    nulls = make([tmp_path / "2.parquet", tmp_path / "1.parquet"], spec, "y", shuffle=False)
    assert [row for features, _ in nulls for row in features["a"].numpy()] == [b"x"] * 9 + [b""] * 9
    with pytest.raises(ValueError, match=r".") as caught, plain_errors():
        list(make(tmp_path, spec, "y", shuffle=False))
    first, last = tmp_path / "0.parquet", tmp_path / "2.parquet"
    assert str(caught.value) == f"{last}: Column 'a' is string, but int64 in {first}. Write it with one type."


def test_bags_of_a_transform_may_hold_rows_of_numbers(path):
    def pairs(arrays):
        bag = raw_columns(arrays, SPEC)["bag"]
        return {"pairs": Bag(np.stack([bag.values, bag.values], axis=1), bag.row_splits)}

    features, _ = next(iter(make(path, transform=pairs, shuffle=False)))
    assert features["pairs"].to_list()[:3] == [[], [[1, 1]], [[2, 2], [2, 2]]]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_are_open_only_while_they_are_streamed(path):
    def opened():
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # another thread's, closed meanwhile
                if os.readlink(link) == str(path):
                    return True
        return False

    def closes():
        """Whether it is closed within a few seconds: TensorFlow's threads let go of arrays when they come to it."""
        deadline = time.monotonic() + 20
        while opened() and time.monotonic() < deadline:
            gc.collect()
            tf.constant(0)
            time.sleep(0.05)
        return not opened()

    dataset = make(path, window_rows=8)
    iterator = iter(dataset)
    next(iterator)
    assert opened()
    del iterator
    assert closes()
    rows_of(dataset)
    assert closes()


def test_iterators_open_at_once_are_different_epochs(path):
    dataset, again = make(path), make(path)
    pairs = list(zip(dataset, dataset, strict=True))
    for position in range(2):
        rows = [row for pair in pairs for row in pair[position][0]["row"].numpy().tolist()]
        assert rows == rows_of(again)


ENCODE = FeatureEncoder(SPEC).encode_arrays


@pytest.mark.parametrize("window_bytes", [1, 700, 10**6])
def test_windows_encoded_one_by_one_are_the_rows_in_order(path, monkeypatch, window_bytes):
    monkeypatch.setattr(windows, "WINDOW_BYTES", window_bytes)
    parts = list(encode_windows(path, SPEC, Target.parse("rating>=2", weight="weight"), ENCODE))
    assert (len(parts) == 1) is (window_bytes == 10**6)
    whole = encode_part(table_of(), FeatureEncoder(SPEC), Target.parse("rating>=2", weight="weight"))
    start = 0
    for part in parts:
        rows = np.arange(start, start + len(part))
        for name, column in whole.columns.items():
            expected = column.take(rows) if isinstance(column, Bag) else column[rows]
            for one, other in zip(
                *((c.values, c.row_splits) if isinstance(c, Bag) else (c,) for c in (part.columns[name], expected)),
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(part.labels, whole.labels[rows])
        np.testing.assert_array_equal(part.weights, whole.weights[rows])
        start += len(part)
    assert start == ROWS


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("weight", ["weight", None])
@pytest.mark.parametrize(("group_rows", "window_rows"), [(9, 17), (9, 1000), (ROWS, 16), (1, None)])
def test_rows_encoded_before_come_in_the_same_batches(tmp_path, group_rows, window_rows, shuffle, weight):
    pq.write_table(table_of(25), tmp_path / "0.parquet", row_group_size=group_rows)
    pq.write_table(table_of(ROWS - 25, 25), tmp_path / "1.parquet", row_group_size=group_rows)
    (encoded,) = encode_windows(tmp_path, SPEC, Target.parse("rating>=2", weight=weight), ENCODE)
    options = {"shuffle": shuffle, "weight": weight, "window_rows": window_rows, "transform": ENCODE}
    read, before = make(tmp_path, **options), make(tmp_path, **options, encoded=encoded)
    assert before.element_spec == read.element_spec
    for _ in range(2):  # epochs
        for pair in zip(read, before, strict=True):
            for one, other in zip(*(tf.nest.flatten(batch, expand_composites=True) for batch in pair), strict=True):
                np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_rows_encoded_from_another_file_are_refused(path, tmp_path):
    pq.write_table(table_of(9), tmp_path / "other.parquet")
    (encoded,) = encode_windows(tmp_path / "other.parquet", SPEC, Target.parse("rating>=2"), ENCODE)
    with pytest.raises(ValueError, match=r"The files have 60 rows, but 9 were encoded\. Encode them again\."):
        make(path, encoded=encoded)


@pytest.mark.parametrize(
    ("weight", "of_encoded", "were"), [("weight", None, "without weights"), (None, "weight", "with weights")]
)
def test_rows_encoded_with_another_weight_are_refused(path, weight, of_encoded, were):
    (encoded,) = encode_windows(path, SPEC, Target.parse("rating>=2", weight=of_encoded), ENCODE)
    line = f"weight is {weight!r}, but the rows were encoded {were}. Encode them again with it."
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        make(path, encoded=encoded, weight=weight)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("before", [True, False], ids=["encoded before", "read"])
@pytest.mark.parametrize("start", [Position(0, 0), Position(0, 5), Position(1, 2), Position(2, 7)])
@pytest.mark.parametrize(("group_rows", "window_rows"), [(9, 17), (ROWS, 16), (1, 32)])
def test_a_stream_is_entered_at_a_position(tmp_path, group_rows, window_rows, start, before, shuffle):
    pq.write_table(table_of(25), tmp_path / "0.parquet", row_group_size=group_rows)
    pq.write_table(table_of(ROWS - 25, 25), tmp_path / "1.parquet", row_group_size=group_rows)
    options = {"shuffle": shuffle, "window_rows": window_rows, "transform": ENCODE}
    if before:
        (options["encoded"],) = encode_windows(tmp_path, SPEC, Target.parse("rating>=2"), ENCODE)
    whole, entered = make(tmp_path, **options), make(tmp_path, **options, start=start)
    passes = [ids_of(batch) for _ in range(4) for batch in whole]
    assert int(entered.cardinality()) == tf.data.INFINITE_CARDINALITY
    expected = passes[8 * start.epoch + start.step :]
    assert [ids_of(batch) for batch in entered.take(len(expected))] == expected


def ids_of(batch):
    features, labels = batch
    return [features[IDS].numpy().tolist(), features[NUMBERS].numpy().tobytes(), labels.numpy().tolist()]
