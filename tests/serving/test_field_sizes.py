"""Models with rows of several lengths, frozen and compressed, answer the same once exported."""

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs import (
    CategoricalFeature,
    MultiCategoricalFeature,
    MultiHash,
    NumericFeature,
    QuotientRemainder,
    RankingModel,
    load_pretrained,
)
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.serving import check_parity, export

WORDS = [f"v{number}" for number in range(12)]
ATTENTION = {"combiner": "attention", "target": "film"}
FEATURES = [
    CategoricalFeature("hour", vocabulary_size=24),
    CategoricalFeature("user", num_hash_buckets=50, dtype="int64", embedding_dim=2),
    CategoricalFeature("film", vocabulary=WORDS, frozen=True, embedding_dim=6),
    CategoricalFeature("ad", vocabulary_size=400, compression=QuotientRemainder()),
    CategoricalFeature("page", num_hash_buckets=10**12, dtype="string", compression=MultiHash(num_rows=30)),
    MultiCategoricalFeature("seen", vocabulary=WORDS, frozen=True, embedding_dim=6, embedding_name="film", **ATTENTION),
    MultiCategoricalFeature(
        "tags", vocabulary_size=90, combiner="max", weights="w", embedding_dim=3, compression=MultiHash(num_rows=9)
    ),
    MultiCategoricalFeature("path", vocabulary_size=9, combiner=None, max_length=2, embedding_dim=2),
    NumericFeature("price"),
]
ROWS = pa.table(
    {
        "hour": [3, 4, None, 25],
        "user": [10**9, 7, 7, -1],
        "film": ["v1", "v11", "new", None],
        "ad": [0, 399, 400, 17],
        "page": ["a", "", "b", "c"],
        "seen": [["v1", "v2"], [], ["new"], ["v0"]],
        "tags": [[1, 2, 89], [90], [], [5]],
        "w": [[1.0, 2.0, -1.0], [0.5], [], [2.0]],
        "path": [[1, 2, 3], [], [8], [9]],
        "price": [1.0, None, -3.0, 0.5],
        "click": [0, 1, 1, 0],
    }
)


def model_of(interaction, structure):
    keras.utils.set_random_seed(0)
    model = RankingModel(FEATURES, embedding_dim=4, interaction=interaction, structure=structure, hidden_units=(4,))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    load_pretrained(model, {"film": (WORDS, rng.normal(size=[12, 6]))})
    return model


@pytest.fixture(scope="module")
def by_sums():
    return model_of("bi_interaction", "stacked")


@pytest.fixture(scope="module")
def by_fields():
    return model_of("cross", "parallel")


def test_a_savedmodel_answers_as_its_model_user_and_candidates_apart(by_sums, tmp_path):
    found = export(by_sums, tmp_path / "e", user=["user", "seen"])
    assert found.parity.largest < 1e-5
    assert check_parity(by_sums, tmp_path / "e", ROWS.drop_columns("click")).largest < 1e-5


def test_a_quantized_savedmodel_holds_every_table_in_fewer_bytes(by_fields, tmp_path):
    tables = [table.numpy().copy() for table in by_fields.embedding.tables]
    options = {"user": ["user", "seen"], "valid": ROWS, "target": "click"}
    found = export(by_fields, tmp_path / "e", quantize="int8", **options)
    assert found.parity.largest < 1e-5
    shapes = [tuple(shape) for _, shape in tf.train.list_variables(str(tmp_path / "e" / "variables" / "variables"))]
    for variable, before, layout in zip(by_fields.embedding.tables, tables, by_fields.embedding.layouts, strict=True):
        assert (layout.num_rows, layout.dim) in shapes
        np.testing.assert_array_equal(variable.numpy(), before)


def test_an_onnx_file_answers_as_its_model(by_fields, tmp_path):
    assert export(by_fields, tmp_path / "e", format="onnx").parity.largest < 1e-5
    assert check_parity(by_fields, tmp_path / "e", ROWS.drop_columns("click")).largest < 1e-5


def test_keras_own_folder_answers_as_the_model(by_fields, tmp_path):
    by_fields.save(tmp_path / "folder")
    again = keras.models.load_model(tmp_path / "folder", compile=False)
    np.testing.assert_allclose(again.predict(ROWS, verbose=0), by_fields.predict(ROWS, verbose=0), rtol=1e-5)
