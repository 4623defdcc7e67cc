import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nfm_tfrs.embedding.row_sums import added_rows, copied_rows, pairs, row_sums
from nfm_tfrs.keras_compat import tf

WIDTHS = [1, 17, 31, 32, 65]  # 31 columns are the most that are multiplied in one piece
ROWS, SUMS = 5, 4


def draw(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=[count, width]).astype(np.float32)


def entries_of(lists):
    return np.array(lists, np.int32).reshape(len(lists), 2)


def one_hot(positions, depth):
    """float64 [positions, depth]."""
    matrix = np.zeros([len(positions), depth])
    for row, position in enumerate(positions):
        matrix[row, position] = 1.0
    return matrix


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


some_entries = st.lists(st.tuples(st.integers(0, SUMS - 1), st.integers(0, ROWS - 1)), max_size=12)


@settings(max_examples=40, deadline=None)
@given(entries=some_entries, width=st.sampled_from(WIDTHS), weighted=st.booleans())
@example(entries=[], width=32, weighted=False)
@example(entries=[(3, 4)], width=65, weighted=True)
@example(entries=[(0, 0)] * 9, width=31, weighted=True)
def test_row_sums_and_their_gradient_equal_a_loop_over_the_entries(entries, width, weighted):
    rows, upstream = draw(ROWS, width), draw(SUMS, width, seed=1)
    weights = np.linspace(-1.0, 2.0, len(entries)).astype(np.float32)
    sums, gradient = np.zeros([SUMS, width]), np.zeros([ROWS, width])
    for (to, row), weight in zip(entries, weights if weighted else np.ones(len(entries)), strict=True):
        sums[to] += np.float64(weight) * rows[row]
        gradient[row] += np.float64(weight) * upstream[to]
    data = tf.constant(weights) if weighted else None
    variable = tf.Variable(rows)
    with tf.GradientTape() as tape:
        got = row_sums(variable + 0.0, tf.constant(entries_of(entries)), SUMS, data)
        objective = tf.reduce_sum(got * upstream)
    assert got.shape == (SUMS, width)
    assert_close(got, sums)
    assert_close(tape.gradient(objective, variable), gradient)


@pytest.mark.parametrize("width", WIDTHS)
def test_row_sums_equal_a_dense_matrix_product(width):
    rng = np.random.default_rng(width)
    rows, upstream = draw(ROWS, width), draw(SUMS, width, seed=1)
    entries = np.stack([rng.integers(0, SUMS, 20), rng.integers(0, ROWS, 20)], axis=1).astype(np.int32)
    weights = rng.normal(size=20).astype(np.float32)
    matrix = one_hot(entries[:, 0], SUMS).T @ (weights[:, None] * one_hot(entries[:, 1], ROWS))
    tensor = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        got = row_sums(tensor, tf.constant(entries), SUMS, tf.constant(weights))
    assert_close(got, matrix @ rows)
    assert_close(tape.gradient(got, tensor, output_gradients=tf.constant(upstream)), matrix.T @ upstream)


@settings(max_examples=20, deadline=None)
@given(positions=st.lists(st.integers(0, ROWS - 1), max_size=12), width=st.sampled_from(WIDTHS))
@example(positions=[], width=32)
@example(positions=[2], width=1)
def test_copied_rows_are_those_of_gather_and_so_is_their_gradient(positions, width):
    variable, upstream = tf.Variable(draw(ROWS, width)), draw(len(positions), width, seed=1)
    ids = tf.constant(positions, tf.int64)
    with tf.GradientTape(persistent=True) as tape:
        copied, gathered = copied_rows(variable + 0.0, ids), tf.gather(variable, ids)
    np.testing.assert_array_equal(copied, gathered)
    gradient = tape.gradient(copied, variable, output_gradients=tf.constant(upstream))
    expected = tape.gradient(gathered, variable, output_gradients=tf.constant(upstream))
    assert_close(gradient, tf.convert_to_tensor(expected))
    assert_close(gradient, one_hot(positions, ROWS).T @ upstream)


@settings(max_examples=20, deadline=None)
@given(positions=st.lists(st.integers(0, ROWS - 1), max_size=12), width=st.sampled_from(WIDTHS))
@example(positions=[], width=1)
@example(positions=[4], width=65)
def test_added_rows_equal_a_loop(positions, width):
    values = draw(len(positions), width)
    expected = np.zeros([ROWS, width])
    for value, position in zip(values, positions, strict=True):
        expected[position] += value
    got = added_rows(tf.constant(values), tf.constant(positions, tf.int64), ROWS)
    assert got.shape == (ROWS, width)
    assert_close(got, expected)


def test_no_rows_add_up_to_none():
    assert added_rows(tf.zeros([0, 3]), tf.zeros([0], tf.int64), 0).shape == (0, 3)
    assert row_sums(tf.zeros([0, 3]), tf.zeros([0, 2], tf.int32), 0).shape == (0, 3)
    np.testing.assert_array_equal(row_sums(tf.zeros([0, 3]), tf.zeros([0, 2], tf.int32), 2), np.zeros([2, 3]))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_pairs_are_a_stack(count):
    rng = np.random.default_rng(count)
    first, second = (rng.integers(0, 2**31, count) for _ in range(2))
    first[:1], second[:1] = 2**31 - 1, 2**31 - 1
    both = pairs(tf.constant(first), tf.constant(second))
    assert both.dtype == tf.int32
    np.testing.assert_array_equal(both, np.stack([first, second], axis=1))


@pytest.mark.parametrize("width", WIDTHS)
def test_one_graph_serves_any_number_of_entries(width):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, width]),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def summed(rows, sums, positions, num_sums):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            total = row_sums(copied_rows(rows, positions), pairs(sums, tf.range(tf.size(sums, tf.int64))), num_sums)
        return total, tape.gradient(total, rows)

    for count in (0, 1, 9):
        rng = np.random.default_rng(count)
        rows, sums, positions = draw(ROWS, width), rng.integers(0, SUMS, count), rng.integers(0, ROWS, count)
        matrix = one_hot(sums, SUMS).T @ one_hot(positions, ROWS)
        total, gradient = summed(rows, sums, positions, np.int32(SUMS))
        assert_close(total, matrix @ rows)
        assert_close(gradient, matrix.T @ np.ones([SUMS, width]))
    assert summed.experimental_get_tracing_count() == 1


def test_only_the_rows_of_entries_are_read():
    rows = draw(ROWS, 33)
    rows[3] = np.inf
    upstream = np.ones([2, 33], np.float32)
    tensor = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        total = row_sums(tensor, tf.constant([[1, 0], [1, 2]]), 2)
    assert_close(total, [np.zeros(33), rows[0] + rows[2]])
    gradient = tape.gradient(total, tensor, output_gradients=tf.constant(upstream))
    assert_close(gradient, np.outer([1, 0, 1, 0, 0], np.ones(33)))
