"""Batches from memory: every row once, in an order that a seed and the epoch's number decide."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data.pipeline.batches import Packing, batches, plain_errors
from nfm_tfrs.data.pipeline.position import Position
from nfm_tfrs.features.check import Bag, raw_columns
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf

ROWS = 23


def columns_of(num_rows=ROWS):
    """Columns of every kind, from which a row's number can be read off."""
    number = np.arange(num_rows)
    lengths = number % 3
    return {
        "integer": number,
        "string": np.array([str(row).encode() for row in number], dtype=object),
        "float": number.astype(np.float32),
        "other": number * 10,
        "matrix": np.stack([number, -number], axis=1),
        "bag": Bag(np.repeat(number, lengths), np.concatenate([[0], np.cumsum(lengths)])),
        "texts": Bag(np.repeat(np.array([b"%d" % row for row in number], object), lengths), np.cumsum([0, *lengths])),
    }


def make(num_rows=ROWS, **arguments):
    rows = np.arange(num_rows)
    settings = {"batch_size": 5, "shuffle": True, "seed": 1, **arguments}
    return batches(columns_of(num_rows), rows / 2, rows + 0.5, **settings)


def rows_of(dataset):
    return [row for features, *_ in dataset for row in features["integer"].numpy().tolist()]


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_kind_of_column_stays_with_its_row(shuffle):
    for features, label, weight in make(shuffle=shuffle):
        rows = features["integer"].numpy()
        assert features["string"].numpy().tolist() == [str(row).encode() for row in rows]
        assert features["float"].numpy().tolist() == rows.tolist()
        assert features["other"].numpy().tolist() == (rows * 10).tolist()
        assert features["matrix"].numpy().tolist() == [[row, -row] for row in rows]
        assert features["bag"].to_list() == [[row] * (row % 3) for row in rows]
        assert features["texts"].to_list() == [[str(row).encode()] * (row % 3) for row in rows]
        assert label.numpy().tolist() == (rows / 2).tolist()
        assert weight.numpy().tolist() == (rows + 0.5).tolist()


def test_the_structure_and_the_types_are_declared():
    features, label, weight = make().element_spec
    assert list(features) == list(columns_of())
    assert features["integer"] == tf.TensorSpec([None], tf.int64)
    assert features["string"] == tf.TensorSpec([None], tf.string)
    assert features["float"] == tf.TensorSpec([None], tf.float32)
    assert features["matrix"] == tf.TensorSpec([None, 2], tf.int64)
    assert features["bag"] == tf.RaggedTensorSpec([None, None], tf.int64, 1, tf.int64)
    assert features["texts"] == tf.RaggedTensorSpec([None, None], tf.string, 1, tf.int64)
    assert label == weight == tf.TensorSpec([None], tf.float32)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(1, 13), st.booleans(), st.booleans())
def test_an_epoch_has_every_row_once_in_batches_of_the_size(num_rows, batch_size, shuffle, drop_remainder):
    if drop_remainder and batch_size > num_rows:
        with pytest.raises(ValueError, match=f"{num_rows} rows are no whole batch of {batch_size}"):
            make(num_rows, batch_size=batch_size, shuffle=shuffle, drop_remainder=True)
        return
    dataset = make(num_rows, batch_size=batch_size, shuffle=shuffle, drop_remainder=drop_remainder)
    batches_of_rows = [features["integer"].numpy().tolist() for features, _, _ in dataset]
    sizes = [len(rows) for rows in batches_of_rows]
    seen = [row for rows in batches_of_rows for row in rows]
    whole, rest = divmod(num_rows, batch_size)
    assert sizes == [batch_size] * whole + [rest] * bool(rest and not drop_remainder)
    assert len(dataset) == len(sizes)
    if not drop_remainder:
        assert sorted(seen) == list(range(num_rows))
    if not shuffle:
        assert seen == list(range(sum(sizes)))


@pytest.mark.parametrize("shuffle", [True, False])
def test_dropping_the_remainder_makes_the_batch_size_static(shuffle):
    features, label, _ = make(shuffle=shuffle, drop_remainder=True).element_spec
    assert label.shape == features["integer"].shape == [5]
    assert features["matrix"].shape == [5, 2]


def test_each_epoch_has_an_order_of_its_own():
    dataset = make()
    epochs = [rows_of(dataset) for _ in range(4)]
    assert len({tuple(epoch) for epoch in [*epochs, range(ROWS)]}) == 5


def test_a_seed_decides_the_order_of_every_epoch():
    first, again, other = make(), make(), make(seed=2)
    epochs = [(rows_of(first), rows_of(again), rows_of(other)) for _ in range(2)]
    assert all(one == same != another for one, same, another in epochs)


def test_an_epoch_left_early_does_not_disturb_the_next():
    dataset, left = make(), make()
    for _ in left:
        break
    rows_of(dataset)
    assert rows_of(dataset) == rows_of(left)


def test_iterators_open_at_once_are_different_epochs():
    dataset = make()
    expected = make()
    pairs = list(zip(dataset, dataset, strict=True))
    for position in range(2):
        rows = [row for pair in pairs for row in pair[position][0]["integer"].numpy().tolist()]
        assert sorted(rows) == list(range(ROWS))
    first = [row for pair in pairs for row in pair[0][0]["integer"].numpy().tolist()]
    assert first == rows_of(expected)


def test_repeat_and_keras_epochs_are_shuffled_anew():
    rows = rows_of(make().repeat(2))
    assert sorted(rows[:ROWS]) == sorted(rows[ROWS:]) == list(range(ROWS))
    assert rows[:ROWS] != rows[ROWS:]


def test_keras_trains_on_the_batches_and_knows_their_number():
    labels = np.arange(ROWS) % 2
    dataset = batches({"x": np.arange(ROWS, dtype=np.float32)}, labels, batch_size=5, shuffle=True, seed=0)
    inputs = keras.Input([], name="x")
    model = keras.Model({"x": inputs}, keras.layers.Dense(1)(inputs[:, None]))
    model.compile("sgd", "mse")
    history = model.fit(dataset, epochs=2, verbose=0)
    assert history.params["steps"] == 5


def test_without_labels_a_batch_is_the_features_alone():
    dataset = batches({"a": np.arange(3)}, None, batch_size=2, shuffle=False, seed=0)
    assert [batch["a"].numpy().tolist() for batch in dataset] == [[0, 1], [2]]


def test_raw_columns_of_arrow_are_taken_as_they_are():
    spec = FeatureSpec([CategoricalFeature("a", num_hash_buckets=5), MultiCategoricalFeature("b", num_hash_buckets=5)])
    columns = raw_columns({"a": pa.array(["x", None]), "b": pa.array([[1, 2], None])}, spec)
    ((features, label),) = batches(columns, np.array([0, 1]), batch_size=9, shuffle=False, seed=0)
    assert features["a"].numpy().tolist() == [b"x", b""]
    assert features["b"].to_list() == [[1, 2], []]
    assert label.dtype == tf.float32


def test_packing_keeps_names_and_order():
    columns = columns_of()
    packed = Packing(columns).pack(columns)
    assert packed["packed/int64"].shape == (ROWS, 2)
    assert set(packed) == {"packed/int64", "packed/float32", "string", "matrix", "bag", "texts"}


@pytest.mark.parametrize(
    ("columns", "labels", "weights", "batch_size", "line"),
    [
        ({"a": [1, 2]}, [1], None, 1, "Columns, labels and weights must be of one length; received a 2, label 1."),
        (
            {"a": [1]},
            [1],
            [1, 2],
            1,
            "Columns, labels and weights must be of one length; received a 1, label 1, weight 2.",
        ),
        ({}, None, None, 1, "Columns, labels and weights must be of one length; received no columns."),
        ({"a": []}, [], None, 1, "The columns have no rows. Give at least one."),
        ({"a": [1]}, [1], None, 0, "batch_size must be 1 or more; received 0."),
        ({"a": [1]}, None, [1], 1, "weights were given without labels. Give labels too, or leave the weights out."),
    ],
)
def test_arguments_that_do_not_fit_are_one_clear_line(columns, labels, weights, batch_size, line):
    arrays = {name: np.array(values) for name, values in columns.items()}
    labels, weights = (None if part is None else np.array(part) for part in (labels, weights))
    with pytest.raises(ValueError, match=r".") as caught:
        batches(arrays, labels, weights, batch_size=batch_size, shuffle=True, seed=0)
    assert str(caught.value) == line


def test_plain_errors_leaves_errors_of_tensorflow_alone():
    with pytest.raises(tf.errors.InvalidArgumentError), plain_errors():
        tf.debugging.assert_equal(1, 2)
    with pytest.raises(KeyError), plain_errors():
        raise KeyError("a")


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [Position(0, 0), Position(0, 2), Position(2, 1)])
def test_an_iterator_entered_at_a_position_goes_on_as_if_it_had_been_there_before(shuffle, start):
    columns, labels = {"row": np.arange(10)}, np.arange(10)
    whole = batches(columns, labels, batch_size=3, shuffle=shuffle, seed=5)
    passes = [features["row"].numpy().tolist() for _ in range(4) for features, _ in whole]
    entered = batches(columns, labels, batch_size=3, shuffle=shuffle, seed=5, start=start)
    assert int(entered.cardinality()) == tf.data.INFINITE_CARDINALITY
    expected = passes[4 * start.epoch + start.step :]
    for _ in range(2):  # each iterator begins there
        found = [features["row"].numpy().tolist() for features, _ in entered.take(len(expected))]
        assert found == expected
