"""What an export's folder holds, what is refused, and what calibration and quantization do."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import nfm_tfrs
from nfm_tfrs.data import prepare
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.synthetic import click_log
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.serving import export, load
from nfm_tfrs.training import Recipe

FEATURES = [CategoricalFeature("city", vocabulary=["Rome", "Oslo"]), CategoricalFeature("film", vocabulary_size=9)]


@pytest.fixture(scope="module")
def trained():
    data = prepare(click_log(6000, seed=0).table.drop_columns(["timestamp"]), "click", "random")
    return data, Recipe(model="nfm", config={"embedding_dim": 16}).fit(data, epochs=2).model


def test_the_folder_holds_the_signature_the_parity_and_a_card(served):
    names = {path.name for path in served.iterdir()}
    assert {"saved_model.pb", "variables", "signature.json", "parity.json", "README.md"} <= names
    parity = json.loads((served / "parity.json").read_text())
    assert parity["bound"] == 1e-5
    assert max(parity["differences"].values()) < 1e-5
    card = (served / "README.md").read_text()
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert "pipeline_tag: tabular-classification" in front[1]
    assert "| `movie id` | int64 | [rows] |" in card
    assert "`rank` takes `in`" in card
    assert str(served.parent) not in card


@pytest.mark.parametrize("how", ["int8", "float16"])
def test_a_quantized_table_costs_little(trained, how, tmp_path):
    data, model = trained
    plain = export(model, tmp_path / "plain")
    found = export(model, tmp_path / how, quantize=how, valid=data.valid)

    table = model.embedding.table.numpy()
    saved = plain.bytes - found.bytes
    assert saved > table.nbytes * (0.64 if how == "int8" else 0.49) - 4000
    assert found.quality["export"]["auc"] == pytest.approx(found.quality["model"]["auc"], abs=2e-3)
    assert found.quality["export"] != found.quality["model"]
    assert found.milliseconds > 0  # how many is the machine's
    np.testing.assert_array_equal(model.embedding.table.numpy(), table)  # the model is as it was


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_calibrated_probabilities_are_in_the_graph(trained, how, tmp_path):
    data, model = trained
    found = export(model, tmp_path / "e", calibrate=how, valid=data.valid, negatives_kept=0.5)

    scores = load(tmp_path / "e").predict_proba(data.tables["valid"])
    adjusted = found.signature.adjustment.of_array(model.predict(data.tables["valid"], verbose=0)[:, 0])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-adjusted)), rtol=1e-4)
    assert found.quality["export"]["predicted_to_actual"] == pytest.approx(1, abs=1e-2)
    assert "What is done to the model's logit: " in (tmp_path / "e" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"format": "pmml"}, "format is savedmodel or onnx; received 'pmml'."),
        ({"quantize": "int4"}, "quantize is int8 or float16; received 'int4'."),
        ({"calibrate": "beta"}, "calibrate is platt or isotonic; received 'beta'."),
        ({"user": ["town"]}, "town"),
        ({"user": ["city", "film"]}, "user= and optional= name all columns, and none is left that each candidate has."),
        ({"format": "onnx", "user": ["city"]}, "user= is of SavedModels"),
        ({"format": "onnx", "optional": ["city"]}, "optional= is of SavedModels"),
        ({"negatives_kept": "0.5"}, "received '0.5'"),
        ({"calibrate": "platt"}, "A calibration, and a quantization, is measured on validation rows. Pass valid="),
        ({"negatives_kept": 0.0}, "negatives_kept is the share"),
        ({"user": "city"}, r"user= is a list of columns; received 'city'\. Write it in brackets"),
        ({"optional": None}, r"optional= is a list of columns; received None\."),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_left(options, line, tmp_path):
    with pytest.raises(ValueError, match=line):
        export(nfm_tfrs.NFM(FEATURES), tmp_path / "e", **options)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_exported_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Models of this package are exported; received Sequential"):
        export(keras.Sequential(), tmp_path / "e")
    with pytest.raises(ValueError, match="The model does not know its features yet"):
        export(nfm_tfrs.NFM(), tmp_path / "e")
    with pytest.raises(ValueError, match="Only the probabilities of a binary model are calibrated"):
        export(nfm_tfrs.NFM(FEATURES, task="regression"), tmp_path / "e", negatives_kept=0.5)
    bag = [*FEATURES, MultiCategoricalFeature("tags", vocabulary_size=9, combiner=None)]
    with pytest.raises(ValueError, match="ONNX needs the same number of fields in each batch"):
        export(nfm_tfrs.NFM(bag), tmp_path / "e", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_columns_of_one_name_to_tensorflow_are_refused(tmp_path):
    features = [CategoricalFeature(name, vocabulary_size=9) for name in ("a b", "a|b", "self")]
    model = nfm_tfrs.NFM(features[:2])

    with pytest.raises(ValueError, match=r"The inputs 'a b', 'a\|b' are one name to TensorFlow\. Rename a column"):
        export(model, tmp_path / "e")
    assert export(model, tmp_path / "onnx", format="onnx").parity.largest < 1e-5
    model.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="TensorFlow calls its functions self, and an input is called so"):
        export(nfm_tfrs.NFM(features[1:]), tmp_path / "e")


def test_names_that_differ_by_case_are_served_and_saved(tmp_path):
    model = nfm_tfrs.NFM([CategoricalFeature(name, vocabulary_size=9) for name in ("User", "user")])

    assert export(model, tmp_path / "e").parity.largest < 1e-5
    model.save(tmp_path / "saved")
    assert load(tmp_path / "e").predict({"User": 1, "user": 2}).shape == (1,)


def test_half_precision_is_served_as_its_float32_twin(make, tmp_path):
    model = make("dcnv2", dtype="mixed_bfloat16")

    assert export(model, tmp_path / "e", user=["in"]).parity.largest < 1e-5
    assert model.compute_dtype == "bfloat16"


def test_bags_that_share_weights_are_exported(tmp_path):
    bags = [MultiCategoricalFeature(name, vocabulary_size=5, weights="w") for name in ("a", "b")]

    assert export(nfm_tfrs.NFM(bags), tmp_path / "e").parity.largest < 1e-5
    assert export(nfm_tfrs.NFM(bags), tmp_path / "o", format="onnx").parity.largest < 1e-5


def test_numbers_that_mean_missing_do_so_in_an_export(make, tmp_path):
    largest = 1.7976931348623157e308  # beyond float32, and inferred from data that hold it
    features = [NumericFeature("x", log=True, missing_values=(largest, -1.0)), *FEATURES]
    model = make("nfm", features)
    row = {"x": largest, "city": "Rome", "film": 3}

    for form in ("savedmodel", "onnx"):
        export(model, tmp_path / form, format=form)
        scorer = load(tmp_path / form)
        missing = scorer.predict({**row, "x": None})
        for mark in (largest, -1.0, -1):
            np.testing.assert_allclose(scorer.predict({**row, "x": mark}), missing, rtol=1e-6)
        np.testing.assert_allclose(missing, model.predict([row], verbose=0)[:, 0], rtol=1e-4)
        with pytest.raises(ValueError, match=r"Column 'x' is 1e\+300, beyond float32, which the export takes"):
            scorer.predict({**row, "x": 1e300})


@pytest.mark.parametrize("form", ["savedmodel", "onnx"])
def test_a_value_whose_id_is_free_is_scored_as_an_unknown_one(make, form, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    features = [
        CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Bern"], free_ids=[1]),
        CategoricalFeature("film", vocabulary=[3, 1, 9], free_ids=[0, 1, 2]),
        CategoricalFeature("large", vocabulary=[5, 2**63 + 7, 8], free_ids=[1]),
        MultiCategoricalFeature("tags", vocabulary=["a", "b"], free_ids=[0]),
    ]
    model = make("fm", features)

    found = model.export(tmp_path / "e", format=form)  # and held against the model, on drawn rows

    assert found.parity.largest < 1e-5
    freed = {"city": ["Oslo"], "film": [9], "large": pa.array([2**63 + 7], pa.uint64()), "tags": [["a", "b"]]}
    unknown = {"city": ["?"], "film": [4], "large": pa.array([6], pa.uint64()), "tags": [["?", "b"]]}
    known = {**freed, "city": ["Rome"], "large": pa.array([5], pa.uint64())}
    scores = [load(tmp_path / "e").predict(rows) for rows in (freed, unknown, known)]
    assert scores[0] == scores[1] != scores[2]


def test_a_model_that_answers_differently_each_time_is_refused(tmp_path):
    class Dice(nfm_tfrs.NFM):
        def call(self, columns, training=None):
            return super().call(columns, training) + tf.random.normal([])

    with pytest.raises(ValueError, match="The model answers the same rows differently each time"):
        export(Dice(FEATURES), tmp_path / "e")


@pytest.mark.parametrize("written", ["[]", '{"test": null}', "{"])
def test_a_damaged_metrics_file_is_named_before_any_work(written, tmp_path):
    from nfm_tfrs.runs.folder import write_run
    from nfm_tfrs.runs.record import RunRecord
    from nfm_tfrs.target import Target

    write_run(tmp_path / "run", nfm_tfrs.NFM(FEATURES), {}, {}, RunRecord(target=Target.parse("y")))
    assert export(tmp_path / "run", tmp_path / "fine").parity.largest < 1e-5
    (tmp_path / "run" / "metrics.json").write_text(written)

    with pytest.raises(ValueError, match=r"metrics\.json is damaged: .* Train the model anew, or remove the file\.$"):
        export(tmp_path / "run", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_soft_labels_calibrate_too(tmp_path):
    model = nfm_tfrs.NFM(FEATURES)
    rows = pa.table({"city": ["Rome", "Oslo"] * 50, "film": [n % 9 for n in range(100)]})
    valid = replace(encode_part(rows, model.encoder), labels=np.array([0.3, 0.8] * 50, np.float32))

    found = export(model, tmp_path / "e", calibrate="platt", valid=valid)

    assert set(found.quality["export"]) == {"log_loss"}
    assert found.quality["export"]["log_loss"] < found.quality["model"]["log_loss"]


def test_a_model_whose_call_is_its_own_has_no_parts(tmp_path):
    class Own(nfm_tfrs.RankingModel):
        def call(self, columns, training=None):
            return super().call(columns, training) * 2

    for options in ({"format": "onnx"}, {"quantize": "int8"}):
        with pytest.raises(ValueError, match="whose call is its own; received Own"):
            export(Own(FEATURES), tmp_path / "e", **options)


def test_a_folder_that_is_there_is_kept(tmp_path):
    model = nfm_tfrs.NFM(FEATURES)
    export(model, tmp_path / "e")
    with pytest.raises(FileExistsError, match="exists already"):
        export(model, tmp_path / "e")

    export(model, tmp_path / "e", overwrite=True)
    run = tmp_path / "run"
    run.mkdir()
    model.save(run / "model.keras")
    with pytest.raises(FileExistsError, match=r"holds model\.keras, which is not of an export"):
        export(run, run, overwrite=True)
    assert (run / "model.keras").exists()
    (tmp_path / "e" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=r"holds mine\.txt, which is not of an export"):
        export(model, tmp_path / "e", overwrite=True)


def test_load_model_names_what_opens_an_export(served):
    with pytest.raises(ValueError, match=r"is an export.* Open it with nfm_tfrs\.serving\.load"):
        nfm_tfrs.load_model(served)


def test_onnx_without_its_packages_says_what_to_install(monkeypatch, tmp_path):
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "tf2onnx" else found(name, *rest))
    with pytest.raises(
        ModuleNotFoundError, match=r"ONNX needs tf2onnx, which is not .* pip install \"nfm-tfrs\[onnx\]\""
    ):
        export(nfm_tfrs.NFM(FEATURES), tmp_path / "e", format="onnx")
