"""The notebook this grew from, step by step in plain TensorFlow, beside the package."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from nfm_tfrs import NFM, BiInteraction, FeatureSpec
from nfm_tfrs.features import SequenceFeatures, embedding_dim
from nfm_tfrs.keras_compat import keras, tf

fc = tf.feature_column
INPUTS = ("seq_1", "seq_2", "target")


def notebook_columns() -> list[Any]:
    sequences = [
        fc.sequence_categorical_column_with_hash_bucket(name, hash_bucket_size=10, dtype=tf.int64) for name in INPUTS
    ]
    return [fc.embedding_column(sequence, dimension=8) for sequence in sequences]


def notebook_inputs() -> dict[str, Any]:
    indices = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]
    return {
        "seq_1": tf.sparse.SparseTensor(indices, values=[1100, 1101, 1102, 1101, 1103], dense_shape=[3, 2]),
        "seq_2": tf.sparse.SparseTensor(indices, values=[2200, 2201, 2202, 2201, 2203], dense_shape=[3, 2]),
        "target": tf.sparse.SparseTensor([[0, 0], [1, 0], [2, 0]], values=[1102, 1103, 1100], dense_shape=[3, 1]),
    }


class Notebook:
    """Its layers, with random weights everywhere, BatchNormalization's moving averages included."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        # One layer a column, as the notebook's own: TensorFlow's concatenates, and needs equal lengths.
        self.sequences = {
            name: keras.experimental.SequenceFeatures([column])
            for name, column in zip(INPUTS, notebook_columns(), strict=True)
        }
        self.batch_norm = keras.layers.BatchNormalization()
        self.dense = [keras.layers.Dense(units, activation="relu") for units in (16, 8)]
        self.output = keras.layers.Dense(1, activation="sigmoid")
        self(notebook_inputs())
        for layer in (*self.sequences.values(), *self.dense, self.output):
            layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
        self.batch_norm.set_weights([rng.uniform(0.5, 2.0, size=8) for _ in range(4)])

    def embed(self, inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {f"{name}_embedding": layer(inputs)[0] for name, layer in self.sequences.items()}

    def __call__(self, inputs: dict[str, Any]) -> np.ndarray:
        x = tf.concat(list(self.embed(inputs).values()), axis=1)  # [3, 5, 8]
        net = 0.5 * (tf.pow(tf.reduce_sum(x, axis=1), 2) - tf.reduce_sum(tf.pow(x, 2), axis=1))
        net = self.batch_norm(net)
        for dense in self.dense:
            net = dense(net)
        return self.output(net).numpy()


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    return Notebook()


def nfm_like(notebook: Notebook, spec: FeatureSpec) -> NFM:
    """An NFM with the notebook's weights: our row of an id is one behind theirs."""
    model = NFM(
        spec,
        embedding_dim=embedding_dim(notebook_columns()),
        linear=False,
        batch_norm=False,
        interaction_batch_norm=True,
        hidden_units=(16, 8),
    )
    table = np.zeros(model.embedding.table.shape, np.float32)
    for name, layer in notebook.sequences.items():
        first = spec.offsets[name] + 1
        table[first : first + 10] = layer.get_weights()[0]
    model.embedding.table.assign(table)
    model.get_layer("interaction_batch_norm").set_weights(notebook.batch_norm.get_weights())
    model.get_layer("tower").set_weights([weight for dense in notebook.dense for weight in dense.get_weights()])
    kernel, bias = notebook.output.get_weights()
    model.get_layer("head").set_weights([kernel])
    next(weight for weight in model.weights if weight.name == "bias:0").assign(bias)
    return model


def test_the_printed_vectors_give_the_printed_interaction() -> None:
    x = [
        [0.01905249, 0.2711436, -0.16974296, -0.41354162, -0.45203206, -0.1237737, 0.01610972, -0.3776071],
        [0.5781513, 0.60547346, -0.01465757, -0.36699656, -0.040447, 0.29422325, 0.35566035, -0.03534933],
        [-0.40586925, -0.642621, -0.17732742, -0.05926026, -0.18070647, -0.11091012, 0.10545808, -0.42049518],
        [0.50875366, -0.3321689, 0.40166482, -0.0013006, -0.04791581, -0.18354316, -0.33573154, 0.11226024],
        [0.3518665, 0.24142267, -0.59557533, 0.02514912, -0.03666467, 0.13006938, -0.07243787, -0.21522275],
    ]
    net = [0.11230832, -0.5005896, -0.13389155, 0.1779626, 0.16597268, -0.08237883, -0.12553449, 0.24864766]
    np.testing.assert_allclose(BiInteraction()(tf.constant([x]))[0], net, rtol=0, atol=1e-6)


def test_sequence_features_returns_the_notebooks_two_dicts(notebook: Notebook) -> None:
    inputs = notebook_inputs()
    layer = SequenceFeatures(notebook_columns(), name="sequence_features_input_layer")
    layer.build(None)
    for name, theirs in notebook.sequences.items():
        layer.tables[name].assign(np.pad(theirs.get_weights()[0], [[1, 0], [0, 0]]))
    embeddings, lengths = layer(inputs)
    assert list(embeddings) == ["seq_1_embedding", "seq_2_embedding", "target_embedding"]
    assert {name: length.numpy().tolist() for name, length in lengths.items()} == {
        "seq_1_embedding": [2, 2, 1],
        "seq_2_embedding": [2, 2, 1],
        "target_embedding": [1, 1, 1],
    }
    for name, theirs in notebook.embed(inputs).items():
        np.testing.assert_array_equal(embeddings[name], theirs)
    np.testing.assert_array_equal(embeddings["seq_1_embedding"][2, 1], np.zeros(8))  # padding


@pytest.mark.parametrize("max_length", [None, 2, 4])
def test_nfm_gives_the_notebooks_numbers(notebook: Notebook, max_length: int | None) -> None:
    spec = FeatureSpec.from_feature_columns(notebook_columns())
    for feature in spec:
        spec = spec.replace(dataclasses.replace(feature, max_length=max_length))
    model = nfm_like(notebook, spec)
    ours = tf.sigmoid(model(notebook_inputs())).numpy()
    expected = notebook(notebook_inputs())
    assert np.ptp(expected) > 0.01  # three different numbers, none of them saturated
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_nfm_gives_the_notebooks_numbers_on_encoded_columns(notebook: Notebook) -> None:
    model = nfm_like(notebook, FeatureSpec.from_feature_columns(notebook_columns()))
    ours = tf.sigmoid(model(model.encoder(notebook_inputs()))).numpy()
    np.testing.assert_allclose(ours, notebook(notebook_inputs()), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_nfm_trains_on_the_notebooks_sparse_tensors(notebook: Notebook) -> None:
    model = nfm_like(notebook, FeatureSpec.from_feature_columns(notebook_columns()))
    before = model(notebook_inputs()).numpy()
    model.compile(keras.optimizers.Adagrad(0.05))
    batches = tf.data.Dataset.from_tensors((notebook_inputs(), [1.0, 0.0, 1.0]))
    history = model.fit(batches.repeat(20), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    after = model.predict(batches, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, model(notebook_inputs()), rtol=0, atol=1e-6)
