"""ONNX files answer as the models do, each in one file, without TensorFlow."""

import json
from importlib import util

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.serving import check_parity, load
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.training.evaluate import predict
from tfrs_registry import list_models

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
SMALL = [CategoricalFeature(name, vocabulary_size=9) for name in "uv"]
FAST = ("nfm", "dcnv2", "autoint")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in list_models()]
)
def test_every_model_is_one_file_that_answers_as_it_does(make, name, tmp_path):
    model = make(name)

    found = model.export(tmp_path / "e", format="onnx")

    assert found.parity.largest < 1e-5  # 64 rows, one and none
    assert check_parity(model, tmp_path / "e", drawn_rows(model.features, 300, seed=5)).largest < 1e-5
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        *("model.onnx", "signature.json", "parity.json", "README.md")
    }


@pytest.mark.parametrize("options", [{"quantize": "int8"}, {"quantize": "float16"}, {"padded": ["tags", "hist"]}])
def test_options_are_in_the_file(make, options, tmp_path):
    model = make("ranking", structure="concat")
    valid = None
    if "quantize" in options:
        from nfm_tfrs.data.parts import encode_part
        from nfm_tfrs.target import Target

        rows = drawn_rows(model.features, 200)
        rows = rows.append_column("y", [np.arange(200) % 2])
        valid = encode_part(rows, model.encoder, Target.parse("y"))

    found = model.export(tmp_path / "e", format="onnx", valid=valid, calibrate=valid and "isotonic", **options)

    assert found.parity.largest < 1e-5


def test_half_precision_is_exported_as_its_float32_twin(make, tmp_path):
    assert make("nfm", dtype="mixed_bfloat16").export(tmp_path / "e", format="onnx").parity.largest < 1e-5


@pytest.mark.parametrize("numeric", ["concat", "bottom_mlp"])
def test_numbers_beside_the_interaction(make, numeric, tmp_path):
    features = [CategoricalFeature("u", vocabulary_size=9), NumericFeature("p"), NumericFeature("q", log=True)]

    for bag in ([], [MultiCategoricalFeature("b", vocabulary_size=5, combiner="sum")]):
        model = make("ranking", [*features, *bag], numeric=numeric, interaction="cross")
        assert model.export(tmp_path / f"e{len(bag)}", format="onnx").parity.largest < 1e-5


def test_rows_of_dicts_are_scored_without_tensorflow(make, tmp_path, run_python):
    model = make()
    model.export(tmp_path / "e", format="onnx")
    rows = drawn_rows(model.features, 20).slice(2)  # not the huge number, whose square cancels
    expected = predict(model, rows)

    one_by_one = [load(tmp_path / "e").predict(row).item() for row in rows.to_pylist()]
    (tmp_path / "rows.json").write_text(json.dumps(rows.to_pylist()))
    script = f"""
import json, sys
sys.modules["tensorflow"] = sys.modules["tf_keras"] = None
from nfm_tfrs.serving import load
rows = json.load(open({str(tmp_path / "rows.json")!r}))
print(json.dumps([float(load({str(tmp_path / "e")!r}).predict(row)[0]) for row in rows[:3]]))
"""
    alone = json.loads(run_python(script).stdout.splitlines()[-1])

    np.testing.assert_allclose(load(tmp_path / "e").predict(rows), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(alone, expected[:3], rtol=1e-5, atol=1e-5)


def test_a_large_table_lies_beside_the_file(make, tmp_path, monkeypatch):
    from nfm_tfrs.serving import onnx_model

    # Above the limit neither the merge nor the check may see the table.
    monkeypatch.setattr(onnx_model, "_MOST_BYTES", 1000)
    monkeypatch.setattr(onnx.checker, "MAXIMUM_PROTOBUF", 60_000)
    model = make("fm", [CategoricalFeature(name, vocabulary_size=9000) for name in "uv"])

    found = model.export(tmp_path / "e", format="onnx")

    assert (tmp_path / "e" / "model.onnx.data").exists()
    assert found.parity.largest < 1e-5


def test_a_damaged_file_is_one_line(make, tmp_path):
    make("fm", SMALL).export(tmp_path / "e", format="onnx")
    path = tmp_path / "e" / "model.onnx"
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(ValueError, match=r"model\.onnx is not opened: .* Export the model anew\.$") as raised:
        load(tmp_path / "e")
    assert "\n" not in str(raised.value)


def test_no_runtime_says_what_to_install(make, tmp_path, monkeypatch):
    make("fm", SMALL).export(tmp_path / "e", format="onnx")
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest))

    with pytest.raises(ModuleNotFoundError, match=r'ONNX needs onnxruntime, .* pip install "nfm-tfrs\[onnx\]"'):
        load(tmp_path / "e")


def test_columns_may_be_called_as_tensors_of_the_graph(make, tmp_path):
    features = [CategoricalFeature(name, vocabulary_size=9) for name in ("x0", "x1", "x2", "Cast")]

    assert make("nfm", features).export(tmp_path / "e", format="onnx").parity.largest < 1e-5
    for name in ("logit", "encoder/ids"):
        with pytest.raises(ValueError, match="is a name of the ONNX file's own"):
            make("nfm", [*features, CategoricalFeature(name, vocabulary_size=9)]).export(tmp_path / "o", format="onnx")


@pytest.mark.parametrize("combiner", ["max", "mean", "sum"])
def test_padded_bags_may_all_be_empty(make, combiner, tmp_path):
    features = [CategoricalFeature("u", vocabulary_size=4)]
    features.append(MultiCategoricalFeature("h", vocabulary_size=9, combiner=combiner))

    assert make("nfm", features).export(tmp_path / "e", format="onnx", padded=["h"]).parity.largest < 1e-5


def test_lengths_that_do_not_add_up_are_refused(make, tmp_path):
    features = [MultiCategoricalFeature("b", vocabulary_size=9), NumericFeature("p")]
    make("ranking", features).export(tmp_path / "e", format="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "e" / "model.onnx")

    for lengths in ([1, 1], [2, 2]):
        rows = {"b": np.arange(3), "b_lengths": np.array(lengths), "p": np.zeros(2, np.float32)}
        with pytest.raises(Exception, match="Reshape"):
            session.run(None, rows)
