"""Histories that attend to a target leave the process as any other column does."""

import numpy as np
import pytest

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.serving import check_parity, load
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.target import Target
from nfm_tfrs.training.evaluate import predict

FILMS = {"vocabulary": tuple(range(0, 60, 3)), "embedding_name": "films"}
FEATURES = [
    CategoricalFeature("user", vocabulary_size=9),
    CategoricalFeature("movie id", **FILMS),
    CategoricalFeature("country", vocabulary=["it", "no"], embedding_name="country"),
    NumericFeature("price"),
    MultiCategoricalFeature("seen", **FILMS, combiner="attention", target="movie id", max_length=4, weights="w",
                            attention=Attention(units=(5, 3), softmax=True, positions=True)),
    MultiCategoricalFeature("liked", **FILMS, combiner="attention", target="movie id"),
    MultiCategoricalFeature("visited", vocabulary=["it", "no"], embedding_name="country", combiner="attention",
                            target="country", attention=Attention(units=(4,), activation="prelu")),
    MultiCategoricalFeature("tags", vocabulary_size=6, combiner=None, max_length=2),
]  # fmt: skip
MODELS = [("nfm", {}), ("ranking", {"structure": "concat", "interaction": "cross"})]
# Of the histories of films both on the side of the user, both on that of the candidates, and one on each.
SIDES = [["user", "seen", "liked", "w"], ["movie id", "user"], ["user", "liked", "visited", "price"]]


@pytest.mark.parametrize(
    ("name", "config", "user"),
    [
        (*MODELS[0], SIDES[0]),
        (*MODELS[1], SIDES[2]),
        pytest.param(*MODELS[0], SIDES[1], marks=pytest.mark.slow),
        pytest.param(*MODELS[1], SIDES[0], marks=pytest.mark.slow),
        pytest.param(*MODELS[1], SIDES[1], marks=pytest.mark.slow),
    ],
)
def test_a_saved_model_ranks_with_the_history_on_either_side(make, name, config, user, tmp_path):
    model = make(name, FEATURES, **config)
    rows = drawn_rows(model.features, 9, seed=3).slice(4)
    found = model.export(tmp_path / "e", user=[column for column in user if column != "w"])
    assert found.parity.largest < 1e-5
    of_user = [*user, *(["w"] if "seen" in user else [])]
    asked = {column: rows[column][0].as_py() for column in of_user}
    candidates = [{**row, **asked} for row in rows.to_pylist()]
    ranked = load(tmp_path / "e").rank(
        asked, [{k: v for k, v in row.items() if k not in of_user} for row in candidates]
    )
    logits = np.asarray([predict(model, rows.from_pylist([row], schema=rows.schema)).item() for row in candidates])
    np.testing.assert_allclose(ranked, 1 / (1 + np.exp(-logits)), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "config", "options"),
    [
        (*MODELS[0], {}),
        (*MODELS[1], {"padded": ["seen", "liked"]}),
        pytest.param(*MODELS[1], {}, marks=pytest.mark.slow),
    ],
)
def test_an_onnx_file_answers_as_the_model(make, name, config, options, tmp_path):
    pytest.importorskip("onnxruntime")
    model = make(name, FEATURES, **config)
    assert model.export(tmp_path / "e", format="onnx", **options).parity.largest < 1e-5
    assert check_parity(model, tmp_path / "e", drawn_rows(model.features, 100, seed=5)).largest < 1e-5


@pytest.mark.parametrize(
    "arguments", [{"format": "onnx", "quantize": "int8"}, {"user": ["seen"], "quantize": "float16"}]
)
def test_an_export_with_a_quantized_table_answers_as_the_model_of_that_table(make, arguments, tmp_path):
    model = make("nfm", FEATURES)
    rows = drawn_rows(model.features, 200)
    valid = encode_part(rows.append_column("y", [np.arange(200) % 2]), model.encoder, Target.parse("y"))
    assert model.export(tmp_path / "e", valid=valid, **arguments).parity.largest < 1e-5
