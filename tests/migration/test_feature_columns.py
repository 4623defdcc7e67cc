"""Every kind of feature column, beside what TensorFlow computes from it with the same weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfm_tfrs import features
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features import (
    CategoricalFeature,
    FeatureEncoder,
    FeatureSpec,
    MultiCategoricalFeature,
    NumericFeature,
    SequenceFeatures,
    embedding_dim,
)
from nfm_tfrs.keras_compat import keras, tf

fc = tf.feature_column
DIM = 3
# Rows: two values and a repetition, none, an unknown place for a hole, none again at the end.
INDICES = [[0, 0], [0, 1], [0, 2], [2, 0], [2, 1]]
SHAPE = [4, 3]
INTEGERS = [7, 2, 7, 0, 5]
STRINGS = ["seven", "two", "seven", "nought", "five"]
WORDS = ["nought", "one", "two", "five", "seven"]
NUMBERS = [0, 7, 1, 2, 5]


def words_file(tmp_path: Path, values: list[Any], end: str = "\n") -> str:
    path = tmp_path / "vocabulary.txt"
    path.write_bytes("".join(f"{value}{end}" for value in values).encode())
    return str(path)


# Name → (the column for "x" and a folder, the values).
KINDS: dict[str, tuple[Callable[[str, Path], Any], list[Any]]] = {
    "hash of integers": (lambda prefix, _: kind(prefix, "hash_bucket")("x", 10, tf.int64), INTEGERS),
    "hash of strings": (lambda prefix, _: kind(prefix, "hash_bucket")("x", 10), STRINGS),
    "identity": (lambda prefix, _: kind(prefix, "identity")("x", 10), INTEGERS),
    "list of strings": (lambda prefix, _: kind(prefix, "vocabulary_list")("x", WORDS), STRINGS),
    "list of integers": (lambda prefix, _: kind(prefix, "vocabulary_list")("x", NUMBERS), INTEGERS),
    "list of NumPy strings": (lambda prefix, _: kind(prefix, "vocabulary_list")("x", np.array(WORDS)), STRINGS),
    "list of bytes": (lambda prefix, _: kind(prefix, "vocabulary_list")("x", [w.encode() for w in WORDS]), STRINGS),
    "file of strings": (lambda prefix, tmp: kind(prefix, "vocabulary_file")("x", words_file(tmp, WORDS)), STRINGS),
    "file of integers": (
        lambda prefix, tmp: kind(prefix, "vocabulary_file")("x", words_file(tmp, NUMBERS), dtype=tf.int64),
        INTEGERS,
    ),
    "head of a Windows file": (
        lambda prefix, tmp: kind(prefix, "vocabulary_file")(
            "x", words_file(tmp, [*WORDS, "more"], "\r\n"), vocabulary_size=len(WORDS)
        ),
        STRINGS,
    ),
}


def kind(prefix: str, way: str) -> Callable[..., Any]:
    return getattr(fc, f"{prefix}categorical_column_with_{way}")


def sparse(values: list[Any]) -> tf.SparseTensor:
    return tf.SparseTensor(INDICES, tf.constant(values, tf.string if isinstance(values[0], str) else tf.int64), SHAPE)


def padded(values: list[Any]) -> tf.Tensor:
    """With a hole in the third row: its second value moves to the third place."""
    hole = "" if isinstance(values[0], str) else -1
    return tf.constant(
        [[values[0], values[1], values[2]], [hole] * 3, [values[3], hole, values[4]], [hole] * 3],
        tf.string if isinstance(values[0], str) else tf.int64,
    )


def weights_for(column: Any, seed: int = 0) -> np.ndarray:
    categories = column.categorical_column
    return np.random.default_rng(seed).normal(size=[categories.num_buckets, DIM]).astype(np.float32)


def theirs(column: Any, inputs: dict[str, Any], weights: np.ndarray | None = None) -> np.ndarray:
    layer = keras.layers.DenseFeatures([column])
    layer(inputs)
    if weights is not None:
        layer.set_weights([weights])
    return layer(inputs).numpy()


def their_sequence(column: Any, inputs: dict[str, Any], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer = keras.experimental.SequenceFeatures([column])
    layer(inputs)
    layer.set_weights([weights])
    return tuple(output.numpy() for output in layer(inputs))


def ours(column: Any, inputs: dict[str, Any], weights: np.ndarray) -> np.ndarray:
    """Fields [batch, fields, DIM]; our row i + 1 is their row i, and row 0 is zero."""
    spec = FeatureSpec.from_feature_columns([column])
    embedding = FusedEmbedding(spec, DIM, linear=False)
    encoded = FeatureEncoder(spec)(inputs)
    embedding(encoded)
    embedding.table.assign(np.pad(weights, [[1, 0], [0, 0]]))
    return embedding(encoded).embeddings.numpy()


def our_sequence(column: Any, inputs: dict[str, Any], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer = SequenceFeatures([column])
    layer.build(None)
    layer.tables["x"].assign(np.pad(weights, [[1, 0], [0, 0]]))
    embeddings, lengths = layer(inputs)
    return embeddings["x_embedding"].numpy(), lengths["x_embedding"].numpy()


# --- the same numbers


@pytest.mark.parametrize("layout", [sparse, padded])
@pytest.mark.parametrize("name", KINDS)
def test_a_bag_is_pooled_as_in_tensorflow(name: str, layout: Any, tmp_path: Path) -> None:
    make, values = KINDS[name]
    column = fc.embedding_column(make("", tmp_path), DIM)
    inputs, weights = {"x": layout(values)}, weights_for(column)
    expected = theirs(column, inputs, weights)
    assert np.abs(expected[[0, 2]]).min() > 0
    np.testing.assert_allclose(ours(column, inputs, weights)[:, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", [sparse, padded])
@pytest.mark.parametrize("name", KINDS)
def test_a_sequence_is_embedded_as_in_tensorflow(name: str, layout: Any, tmp_path: Path) -> None:
    make, values = KINDS[name]
    column = fc.embedding_column(make("sequence_", tmp_path), DIM)
    inputs, weights = {"x": layout(values)}, weights_for(column)
    expected, expected_lengths = their_sequence(column, inputs, weights)
    embeddings, lengths = our_sequence(column, inputs, weights)
    np.testing.assert_array_equal(embeddings, expected)
    np.testing.assert_array_equal(lengths, expected_lengths)
    # As fields of a model: holes are closed, and there are as many as the longest row needs.
    fields = ours(column, inputs, weights)
    np.testing.assert_array_equal(fields[0], expected[0])
    np.testing.assert_allclose(fields.sum(axis=1), expected.sum(axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", None])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_combiner_pools_as_in_tensorflow(combiner: str | None, weighted: bool) -> None:
    categories = fc.categorical_column_with_identity("x", 10)
    if weighted:
        categories = fc.weighted_categorical_column(categories, "w")
    column = fc.embedding_column(categories, DIM, combiner=combiner)
    inputs = {"x": sparse(INTEGERS), "w": tf.SparseTensor(INDICES, [0.5, 2.0, 0.25, 3.0, 1.5], SHAPE)}
    weights = weights_for(column)
    np.testing.assert_allclose(ours(column, inputs, weights)[:, 0], theirs(column, inputs, weights), rtol=0, atol=1e-6)


def test_a_dense_column_of_one_value_is_a_bag_of_one() -> None:
    column = fc.embedding_column(fc.categorical_column_with_hash_bucket("x", 10, tf.int64), DIM)
    inputs, weights = {"x": tf.constant([[7], [-1], [2]])}, weights_for(column)
    expected = theirs(column, inputs, weights)
    np.testing.assert_array_equal(ours(column, inputs, weights)[:, 0], expected)
    np.testing.assert_array_equal(ours(column, {"x": tf.constant([7, -1, 2])}, weights)[:, 0], expected)


def test_ragged_input_is_read_as_sparse_input() -> None:
    column = fc.embedding_column(fc.sequence_categorical_column_with_identity("x", 10), DIM)
    weights = weights_for(column)
    ragged = {"x": tf.ragged.constant([[7, 2, 7], [], [0, 5], []], dtype=tf.int64)}
    np.testing.assert_array_equal(ours(column, ragged, weights), ours(column, {"x": sparse(INTEGERS)}, weights))
    for one, other in zip(
        our_sequence(column, ragged, weights), our_sequence(column, {"x": sparse(INTEGERS)}, weights), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_number_is_the_number() -> None:
    column = fc.numeric_column("x", dtype=tf.int32)
    spec = FeatureSpec.from_feature_columns([column])
    inputs = {"x": tf.constant([[3], [-7]])}
    assert spec.features == (NumericFeature("x"),)
    np.testing.assert_array_equal(FeatureEncoder(spec)(inputs)["encoded/numbers"], theirs(column, inputs))


def test_a_bucket_is_the_bucket() -> None:
    column = fc.bucketized_column(fc.numeric_column("x"), [0.0, 0.5, 10.0])
    inputs = {"x": tf.constant([[-1.0], [0.0], [0.49], [0.5], [10.0], [1e9]])}
    spec = FeatureSpec.from_feature_columns([column])
    buckets = theirs(column, inputs).argmax(axis=1)  # one-hot
    assert buckets.tolist() == [0, 1, 1, 2, 3, 3]
    np.testing.assert_array_equal(FeatureEncoder(spec)(inputs)["encoded/ids"][:, 0], 1 + buckets)


def test_a_bucket_is_embedded_as_in_tensorflow() -> None:
    column = fc.embedding_column(fc.bucketized_column(fc.numeric_column("x"), [0.0, 0.5]), DIM)
    inputs, weights = {"x": tf.constant([[-1.0], [0.0], [0.5]])}, weights_for(column)
    np.testing.assert_array_equal(ours(column, inputs, weights)[:, 0], theirs(column, inputs, weights))


# --- other numbers, and why


def test_an_unknown_value_counts_in_a_mean_here_and_not_there() -> None:
    column = fc.embedding_column(fc.categorical_column_with_vocabulary_list("x", WORDS), DIM)
    inputs, weights = {"x": tf.constant([["two", "unheard of"]])}, weights_for(column)
    np.testing.assert_allclose(theirs(column, inputs, weights)[0], weights[2], rtol=1e-6)
    np.testing.assert_allclose(ours(column, inputs, weights)[0, 0], weights[2] / 2, rtol=1e-6)


def test_an_unknown_value_adds_nothing_to_a_sum_or_a_sequence() -> None:
    inputs = {"x": tf.constant([["two", "unheard of"]])}
    column = fc.embedding_column(fc.categorical_column_with_vocabulary_list("x", WORDS), DIM, combiner="sum")
    weights = weights_for(column)
    np.testing.assert_array_equal(ours(column, inputs, weights)[:, 0], theirs(column, inputs, weights))
    column = fc.embedding_column(fc.sequence_categorical_column_with_vocabulary_list("x", WORDS), DIM)
    expected, expected_lengths = their_sequence(column, inputs, weights)
    embeddings, lengths = our_sequence(column, inputs, weights)
    np.testing.assert_array_equal(embeddings, expected)
    assert lengths == expected_lengths == [2]


def test_an_identity_beyond_its_size_is_unknown_here_and_fails_there() -> None:
    column = fc.embedding_column(fc.categorical_column_with_identity("x", 10), DIM)
    inputs, weights = {"x": tf.constant([[10]])}, weights_for(column)
    with pytest.raises(tf.errors.InvalidArgumentError):
        theirs(column, inputs, weights)
    np.testing.assert_array_equal(ours(column, inputs, weights), np.zeros([1, 1, DIM]))


@pytest.mark.parametrize(("value", "dtype"), [(-1, tf.int64), ("", tf.string)])
def test_a_missing_value_in_sparse_input_is_hashed_there_and_missing_here(value: Any, dtype: Any) -> None:
    column = fc.embedding_column(fc.categorical_column_with_hash_bucket("x", 10, dtype), DIM)
    inputs, weights = {"x": tf.SparseTensor([[0, 0]], tf.constant([value], dtype), [1, 1])}, weights_for(column)
    assert np.abs(theirs(column, inputs, weights)).max() > 0
    np.testing.assert_array_equal(ours(column, inputs, weights), np.zeros([1, 1, DIM]))


def test_a_negative_weight_drops_its_value_there_and_weighs_here() -> None:
    categories = fc.weighted_categorical_column(fc.categorical_column_with_identity("x", 10), "w")
    column = fc.embedding_column(categories, DIM, combiner="sqrtn")
    inputs = {"x": tf.sparse.from_dense([[1, 2]]), "w": tf.sparse.from_dense([[3.0, -4.0]])}
    weights = weights_for(column)
    np.testing.assert_allclose(theirs(column, inputs, weights)[0], weights[1], rtol=1e-6)
    expected = (3 * weights[1] - 4 * weights[2]) / 5
    np.testing.assert_allclose(ours(column, inputs, weights)[0, 0], expected, rtol=1e-5)


def test_a_bucketised_nan_is_in_the_last_bucket_there_and_missing_here() -> None:
    column = fc.bucketized_column(fc.numeric_column("x"), [0.0])
    inputs = {"x": tf.constant([[float("nan")]])}
    assert theirs(column, inputs).argmax() == 1
    assert FeatureEncoder(FeatureSpec.from_feature_columns([column]))(inputs)["encoded/ids"].numpy() == [[0]]


# --- the features themselves


def test_each_column_becomes_one_feature_in_its_place() -> None:
    spec = FeatureSpec.from_feature_columns(
        [
            fc.embedding_column(fc.sequence_categorical_column_with_hash_bucket("seq", 9, tf.int32), DIM),
            fc.numeric_column("price"),
            fc.embedding_column(
                fc.weighted_categorical_column(
                    fc.categorical_column_with_vocabulary_list("tags", WORDS), "tag_weights"
                ),
                DIM,
                combiner="sqrtn",
            ),
            fc.embedding_column(fc.categorical_column_with_identity("user", 8), DIM),
            fc.bucketized_column(fc.numeric_column("age"), [18, 65]),
        ]
    )
    assert spec.features == (
        MultiCategoricalFeature("seq", num_hash_buckets=9, dtype="int64", combiner=None),
        NumericFeature("price"),
        MultiCategoricalFeature("tags", vocabulary=WORDS, combiner="sqrtn", weights="tag_weights"),
        MultiCategoricalFeature("user", vocabulary_size=8, combiner="mean"),
        NumericFeature("age", boundaries=(18.0, 65.0)),
    )
    assert FeatureSpec.from_json(spec.to_json()) == spec


def test_a_bag_of_one_may_be_replaced_by_a_category() -> None:
    column = fc.embedding_column(fc.categorical_column_with_identity("x", 10), DIM)
    spec = FeatureSpec.from_feature_columns([column])
    single = spec.replace(CategoricalFeature("x", vocabulary_size=10))
    weights = weights_for(column)
    embedding = FusedEmbedding(single, DIM, linear=False)
    encoded = FeatureEncoder(single)({"x": tf.constant([7, 2])})
    embedding(encoded)
    embedding.table.assign(np.pad(weights, [[1, 0], [0, 0]]))
    expected = theirs(column, {"x": tf.constant([[7], [2]])}, weights)
    np.testing.assert_array_equal(embedding(encoded).embeddings[:, 0], expected)


def test_embedding_dim_is_that_of_every_embedding() -> None:
    columns = [fc.numeric_column("n"), fc.embedding_column(fc.categorical_column_with_identity("x", 10), 7)]
    assert embedding_dim(columns) == 7


# --- refusals


def embedded(categories: Any = None, **options: Any) -> Any:
    return fc.embedding_column(categories or fc.categorical_column_with_identity("x", 10), DIM, **options)


def shared_embedding() -> Any:
    with tf.Graph().as_default():
        return fc.shared_embeddings([fc.categorical_column_with_identity("x", 10)], DIM)[0]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "one column": (
        lambda: embedded(),
        "A list of feature columns is needed; received the single 'x_embedding'. Write [column].",
    ),
    "no column": (lambda: [], "A list of feature columns is needed; received an empty one."),
    "something else": (
        lambda: ["x"],
        "A list of feature columns is needed; received a str in it. Leave it out.",
    ),
    "crossed": (
        lambda: [embedded(fc.crossed_column(["a", "b"], 10))],
        "Feature column 'a_X_b' is of kind crossed_column, which has no feature. "
        "Give each of its inputs a column of its own; the interaction makes the pairs.",
    ),
    "indicator": (
        lambda: [fc.indicator_column(fc.categorical_column_with_identity("x", 10))],
        "Feature column 'x_indicator' is of kind indicator_column, which has no feature. "
        "Write embedding_column in its place.",
    ),
    "sequence of numbers": (
        lambda: [fc.sequence_numeric_column("x")],
        "Feature column 'x' is of kind sequence_numeric_column, which has no feature. "
        "Give each position a numeric_column of its own.",
    ),
    "shared": (
        lambda: [shared_embedding()],
        "Feature column 'x_shared_embedding' is of kind shared_embedding, which has no feature. "
        "Write embedding_columns, and give their features one embedding_name.",
    ),
    "bare hash": (
        lambda: [fc.categorical_column_with_hash_bucket("x", 10)],
        "Feature column 'x' is of kind categorical_column_with_hash_bucket, which has no feature. "
        "Wrap it in tf.feature_column.embedding_column.",
    ),
    "bare sequence": (
        lambda: [fc.sequence_categorical_column_with_identity("x", 10)],
        "Feature column 'x' is of kind sequence_categorical_column, which has no feature. "
        "Wrap it in tf.feature_column.embedding_column.",
    ),
    "weighted bucket": (
        lambda: [embedded(fc.weighted_categorical_column(fc.bucketized_column(fc.numeric_column("x"), [0.0]), "w"))],
        "Feature column 'x_bucketized' is of kind bucketized_column, which has no feature. Leave its weights out.",
    ),
    "weighted sequence": (
        lambda: [embedded(fc.weighted_categorical_column(fc.sequence_categorical_column_with_identity("x", 10), "w"))],
        "Feature column 'x_weighted_by_w_embedding' weights a sequence column, which TensorFlow cannot embed by "
        "position. Write MultiCategoricalFeature('x', combiner=None, weights='w', …).",
    ),
    "unequal dimensions": (
        lambda: [embedded(), fc.embedding_column(fc.categorical_column_with_identity("y", 10), 4)],
        "All embeddings need one dimension; 'x_embedding' has 3 and 'y_embedding' 4. Give both the same.",
    ),
    "two on one input": (
        lambda: [fc.numeric_column("x"), fc.bucketized_column(fc.numeric_column("x"), [0.0])],
        "Feature columns 'x' and 'x_bucketized' both read the input 'x'. "
        "Keep one, or give the other a copy of the input under another name.",
    ),
    "identity default": (
        lambda: [embedded(fc.categorical_column_with_identity("x", 10, default_value=0))],
        "Feature column 'x' has default_value=0, but unknown values have a row of their own here. "
        "Leave default_value out.",
    ),
    "vocabulary default": (
        lambda: [embedded(fc.categorical_column_with_vocabulary_list("x", WORDS, default_value=2))],
        "Feature column 'x' has default_value=2, but unknown values have a row of their own here. "
        "Leave default_value out.",
    ),
    "buckets for the unknown": (
        lambda: [embedded(fc.categorical_column_with_vocabulary_list("x", WORDS, num_oov_buckets=2))],
        "Feature column 'x' has num_oov_buckets=2, but all unknown values have one row here. "
        "Leave num_oov_buckets out.",
    ),
    "vector of numbers": (
        lambda: [fc.numeric_column("x", shape=(2,))],
        "Feature column 'x' has shape (2,), but a number is one value an example. "
        "Give each position a column of its own.",
    ),
    "normaliser": (
        lambda: [fc.bucketized_column(fc.numeric_column("x", normalizer_fn=tf.math.log), [0.0])],
        "Feature column 'x' has a normalizer_fn, which a spec cannot keep. "
        "Write NumericFeature('x', mean=…, std=…, log=…), or normalise the input.",
    ),
    "max_norm": (
        lambda: [embedded(max_norm=1.0)],
        "Feature column 'x_embedding' has max_norm=1.0, but embeddings are not clipped here. "
        "Leave max_norm out; embedding_l2= of the model keeps embeddings small.",
    ),
    "untrained": (
        lambda: [embedded(trainable=False)],
        "Feature column 'x_embedding' has trainable=False, but all embeddings are trained here. Leave trainable out.",
    ),
    "checkpoint": (
        lambda: [embedded(ckpt_to_load_from="old.ckpt", tensor_name_in_ckpt="x")],
        "Feature column 'x_embedding' loads a checkpoint, 'old.ckpt'. "
        "Leave ckpt_to_load_from out, and assign the weights once the model is built.",
    ),
    "another initializer": (
        lambda: [embedded(initializer=tf.ones_initializer())],
        "Feature column 'x_embedding' has an initializer of its own. Leave it out, and give the model "
        "embedding_stddev=, or assign the weights once it is built.",
    ),
    "another spread": (
        lambda: [embedded(initializer=tf.compat.v1.truncated_normal_initializer(stddev=2.0))],
        "Feature column 'x_embedding' has an initializer of its own. Leave it out, and give the model "
        "embedding_stddev=, or assign the weights once it is built.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_clear_line(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FeatureSpec.from_feature_columns(make())


def test_embedding_dim_of_no_embedding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"None of the feature columns is an embedding_column\. Choose embedding_dim"):
        embedding_dim([fc.numeric_column("x")])


def vocabulary_file(path: Path | str, **options: Any) -> list[Any]:
    return [embedded(fc.categorical_column_with_vocabulary_file("x", str(path), **options))]


def test_a_vocabulary_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    columns = vocabulary_file(tmp_path / "gone.txt", vocabulary_size=2)
    with pytest.raises(ValueError, match=r"gone\.txt of feature column 'x' cannot be read \(.*\)\. Check the path"):
        FeatureSpec.from_feature_columns(columns)


def test_a_vocabulary_file_of_another_dtype_is_refused(tmp_path: Path) -> None:
    columns = vocabulary_file(words_file(tmp_path, WORDS), dtype=tf.int64)
    with pytest.raises(
        ValueError, match=r"cannot be read \(invalid literal .*'nought'\)\. .* and the column's dtype\."
    ):
        FeatureSpec.from_feature_columns(columns)


def test_a_vocabulary_file_shorter_than_declared_is_refused(tmp_path: Path) -> None:
    columns = vocabulary_file(words_file(tmp_path, WORDS), vocabulary_size=6)
    with pytest.raises(ValueError, match=r"'x' has 5 lines, not vocabulary_size=6\. Leave vocabulary_size out\."):
        FeatureSpec.from_feature_columns(columns)


def test_a_vocabulary_of_records_is_refused(tmp_path: Path) -> None:
    columns = vocabulary_file(tmp_path / "words.tfrecord.gz", vocabulary_size=2)
    with pytest.raises(ValueError, match=r"'x' is a TFRecord\. Write it as text, one value a line\."):
        FeatureSpec.from_feature_columns(columns)


# --- the package


def test_describing_features_does_not_import_tensorflow(run_python: Callable[..., Any]) -> None:
    run_python(
        "import sys, nfm_tfrs.features as f\n"
        "f.FeatureSpec([f.CategoricalFeature('a', vocabulary_size=3), f.NumericFeature('b')])\n"
        "assert set(f.__all__) <= set(dir(f))\n"
        "assert 'tensorflow' not in sys.modules"
    )


@pytest.mark.parametrize("name", features.__all__)
def test_every_export_is_there(name: str) -> None:
    assert getattr(features, name).__name__ == name


def test_an_unknown_export_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sequences'"):
        features.Sequences  # noqa: B018
