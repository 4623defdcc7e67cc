"""The layer by itself; its numbers are compared with TensorFlow's in test_feature_columns."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfm_tfrs.features import SequenceFeatures
from nfm_tfrs.keras_compat import keras, tf

fc = tf.feature_column
DIM = 3
WORDS = ["nought", "one", "two", "five", "seven"]


def integers() -> tf.SparseTensor:
    return tf.sparse.from_dense(tf.constant([[7, 2, 9], [0, 0, 0], [1, 0, 5]], tf.int64))


def strings() -> tf.SparseTensor:
    return tf.RaggedTensor.to_sparse(tf.ragged.constant([["seven", "two"], ["one"], ["unheard of"]]))


def two_sequences() -> list[Any]:
    return [
        fc.embedding_column(fc.sequence_categorical_column_with_vocabulary_list("words", WORDS), 4),
        fc.embedding_column(fc.sequence_categorical_column_with_hash_bucket("x", 10, tf.int64), DIM),
    ]


def two_inputs() -> dict[str, Any]:
    return {"x": integers(), "words": strings(), "other": tf.constant([[1.0]])}


def test_sequence_features_starts_as_an_embedding_column_with_a_row_of_zeros() -> None:
    layer = SequenceFeatures([fc.embedding_column(fc.sequence_categorical_column_with_identity("x", 9999), 16)])
    layer.build(None)
    table = layer.tables["x"].numpy()
    assert table.shape == (10_000, 16)
    assert not table[0].any()
    assert np.std(table[1:]) == pytest.approx(0.88 / 4, rel=0.01)  # a normal cut at two deviations has 0.88 of them
    assert np.abs(table).max() <= 2 / 4


def test_a_missing_value_leaves_a_hole_in_every_layout() -> None:
    layer = SequenceFeatures([two_sequences()[1]])
    padded = tf.constant([[7, -1, 2], [-1, -1, -1], [5, 9, -1]])
    expected, expected_lengths = layer({"x": padded})
    assert expected_lengths["x_embedding"].numpy().tolist() == [3, 0, 2]
    filled = np.abs(expected["x_embedding"]).max(axis=2) > 0
    np.testing.assert_array_equal(filled, [[True, False, True], [False] * 3, [True, True, False]])
    everywhere = tf.SparseTensor(np.argwhere(np.ones([3, 3])), tf.reshape(padded, [-1]), [3, 3])
    for layout in (everywhere, tf.RaggedTensor.from_tensor(padded)):
        embeddings, lengths = layer({"x": layout})
        np.testing.assert_array_equal(embeddings["x_embedding"], expected["x_embedding"])
        np.testing.assert_array_equal(lengths["x_embedding"], expected_lengths["x_embedding"])


def test_sequence_features_round_trips_through_plain_json() -> None:
    layer = SequenceFeatures(two_sequences(), name="sequences")
    expected, expected_lengths = layer(two_inputs())
    copy = SequenceFeatures.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build(None)
    copy.set_weights(layer.get_weights())
    embeddings, lengths = copy(two_inputs())
    assert list(embeddings) == list(lengths) == ["words_embedding", "x_embedding"]
    for name in embeddings:
        np.testing.assert_array_equal(embeddings[name], expected[name])
        np.testing.assert_array_equal(lengths[name], expected_lengths[name])


@pytest.mark.slow
def test_sequence_features_saves_inside_a_functional_model(tmp_path: Path) -> None:
    inputs = {
        "x": keras.Input([None], dtype=tf.int64, sparse=True, name="x"),
        "words": keras.Input([None], dtype=tf.string, ragged=True, name="words"),
    }
    embeddings, lengths = SequenceFeatures(two_sequences())(inputs)
    model = keras.Model(inputs, {**embeddings, "length": lengths["x_embedding"]})
    ragged = tf.RaggedTensor.from_sparse(strings())
    expected = model({"x": integers(), "words": ragged})
    assert model.output_shape["x_embedding"] == (None, None, DIM)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, output in loaded({"x": integers(), "words": ragged}).items():
        np.testing.assert_array_equal(output, expected[name])


@keras.utils.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """As its author must write it: Keras would build it on floats."""

    def __init__(self, sequences: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sequences = keras.layers.deserialize(sequences) if isinstance(sequences, dict) else sequences
        self.dense = keras.layers.Dense(1)

    def call(self, columns: dict[str, Any]) -> tf.Tensor:
        embeddings, _ = self.sequences(columns)
        return self.dense(tf.reduce_sum(embeddings["x_embedding"], axis=1))

    def get_config(self) -> dict[str, Any]:
        return {"sequences": keras.layers.serialize(self.sequences)}

    def get_build_config(self) -> dict[str, Any]:
        return {"columns": ["x", "words"]}

    def build_from_config(self, config: dict[str, Any]) -> None:
        self({"x": tf.constant([[0]]), "words": tf.constant([[""]])})


def test_sequence_features_saves_inside_a_subclassed_model(tmp_path: Path) -> None:
    model = Subclassed(SequenceFeatures(two_sequences()))
    expected = model(two_inputs())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(two_inputs()), expected)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_sequence_features_keeps_its_tables_float32_in_half_precision(dtype: str) -> None:
    layer = SequenceFeatures(two_sequences(), dtype=dtype)
    embeddings, lengths = layer(two_inputs())
    assert {output.dtype for output in embeddings.values()} == {tf.float16}
    assert {length.dtype for length in lengths.values()} == {tf.int64}
    assert {table.dtype for table in layer.tables.values()} == {tf.float32}


def test_sequence_features_trains_only_the_rows_it_read() -> None:
    layer = SequenceFeatures([two_sequences()[1]])
    with tf.GradientTape() as tape:
        embeddings, _ = layer({"x": tf.constant([[7, -1], [7, 2]])})
        total = tf.reduce_sum(embeddings["x_embedding"])
    gradient = tf.convert_to_tensor(tape.gradient(total, layer.tables["x"])).numpy()
    buckets = tf.strings.to_hash_bucket_fast(["7", "2"], 10).numpy() + 1
    expected = np.zeros([11, DIM], np.float32)
    np.add.at(expected, [buckets[0], buckets[0], buckets[1]], 1)
    np.testing.assert_array_equal(gradient, expected)


def test_sequence_features_needs_its_inputs() -> None:
    with pytest.raises(
        ValueError, match=r"no column 'words', which SequenceFeatures reads\. The data has 'x', 'other'\."
    ):
        SequenceFeatures(two_sequences())({"x": integers(), "other": tf.constant([1.0])})


def test_sequence_features_needs_steps() -> None:
    with pytest.raises(ValueError, match=r"needs 'x' as \[batch, steps\]; received shape \(2,\)\."):
        SequenceFeatures([two_sequences()[1]])({"x": tf.constant([1, 2])})


def test_sequence_features_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"Feature 'x' is a category; received float32\."):
        SequenceFeatures([two_sequences()[1]])({"x": tf.constant([[1.0]])})


def test_sequence_features_refuses_what_is_no_sequence() -> None:
    message = (
        "SequenceFeatures takes embeddings of sequences; received 'x_embedding'. Write embedding_column over a "
        "sequence_categorical_column_with_*, or use FeatureSpec.from_feature_columns."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SequenceFeatures([fc.embedding_column(fc.categorical_column_with_identity("x", 10), DIM)])


def test_sequence_features_refuses_an_input_read_twice() -> None:
    with pytest.raises(ValueError, match=r"'x' came twice\."):
        SequenceFeatures([two_sequences()[1], two_sequences()[1]])
