"""An ensemble against the mean of its models, each asked alone."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pyarrow as pa
import pytest

import nfm_tfrs
from nfm_tfrs import NFM, CategoricalFeature, MultiCategoricalFeature, NumericFeature, RankingModel
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models import FM
from nfm_tfrs.models.ensemble import EnsembleModel, ensemble_of
from nfm_tfrs.runs.contents import read_contents
from nfm_tfrs.training import Recipe
from tfrs_registry import get_model, list_models

FEATURES = FeatureSpec(
    (
        CategoricalFeature("user", vocabulary=["ann", "bob", "eve"]),
        CategoricalFeature("film", vocabulary_size=9),
        MultiCategoricalFeature("tags", vocabulary_size=7, combiner="mean"),
        NumericFeature("price", mean=2.0, std=3.0),
    )
)
FILMS = FeatureSpec(tuple(FEATURES)[:2])
ROWS = {
    "user": ["ann", "eve", "zoe", "bob", "ann"],
    "film": [1, 8, 3, 3, 0],
    "tags": [[1, 2], [], [3], [6, 5, 4], [0]],
    "price": [1.0, 7.5, -2.0, 0.0, 3.0],
}


def moved(model, seed):
    """The model with weights as after a training."""
    for number, variable in enumerate(model.weights):
        if variable.dtype.is_floating and "variance" not in variable.name:
            variable.assign_add(tf.random.stateless_normal(variable.shape, [seed, number], 0.0, 0.2))
    return model


@pytest.fixture(scope="module")
def models():
    """Three models that differ in all that they may."""
    return [
        moved(NFM(FEATURES, embedding_dim=4, hidden_units=(5,), dropout=0.2), 0),
        moved(get_model("dcnv2", features=FEATURES, embedding_dim=6, hidden_units=(3,)), 1),
        moved(
            RankingModel(
                FEATURES.replace(replace(FEATURES["user"], embedding_dim=2)),
                embedding_dim=3,
                interaction="fm",
                hidden_units=(),
                number_encoder="periodic",
                dtype="mixed_bfloat16",
            ),
            2,
        ),
    ]


def tensors():
    return {name: (tf.ragged.constant if name == "tags" else tf.constant)(values) for name, values in ROWS.items()}


def mean_of(models, rows=ROWS):
    return np.mean([model.predict(rows, verbose=0).astype(np.float64) for model in models], axis=0)


@pytest.fixture(scope="module")
def wanted(models):
    return mean_of(models)


def test_the_output_is_the_mean_of_the_logits(models, wanted):
    ensemble = ensemble_of(models)
    np.testing.assert_allclose(ensemble.predict(ROWS, verbose=0), wanted, atol=1e-6)
    np.testing.assert_allclose(ensemble.predict_proba(ROWS, verbose=0), 1 / (1 + np.exp(-wanted[:, 0])), atol=1e-6)
    columns = tensors()
    encoded = ensemble.encoder(columns)
    apart = np.concatenate([model(encoded).numpy() for model in models], axis=1)
    np.testing.assert_allclose(ensemble.member_logits(encoded).numpy(), apart, atol=1e-6)
    for _ in range(10):  # from the eighth on what was traced answers
        np.testing.assert_allclose(ensemble.predict_on_batch(columns), wanted, atol=1e-6)


def test_members_of_a_model_stand_beside_those_of_others(models):
    several = moved(NFM(FEATURES, embedding_dim=2, hidden_units=(3,), members=3), 4)
    ensemble = ensemble_of([several, models[0]])
    apart = np.concatenate([several.member_logits(tensors()), models[0](tensors())], axis=1)
    assert ensemble.members == 4
    wanted = (apart[:, :3].mean(axis=1) + apart[:, 3]) / 2
    np.testing.assert_allclose(ensemble.predict(ROWS, verbose=0)[:, 0], wanted, atol=1e-6)
    probability, spread = ensemble.predict_proba(ROWS, uncertainty=True, verbose=0)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-wanted)), atol=1e-6)
    np.testing.assert_allclose(spread, (1 / (1 + np.exp(-apart))).std(axis=1), atol=1e-6)


def test_columns_are_encoded_once(models, monkeypatch):
    ensemble = ensemble_of(models)
    read = []
    for model in ensemble.models:
        encode = model.encoder.encode
        watched = lambda columns, spec, encode=encode: read.append(set(columns)) or encode(columns, spec)  # noqa: E731
        monkeypatch.setattr(model.encoder, "encode", watched)
    columns = tensors()
    ensemble.call(columns)
    assert sum("user" in names for names in read) == 1


def test_a_regression_is_the_mean_of_the_predictions(models):
    both = [moved(NFM(FEATURES, embedding_dim=2, task="regression"), seed) for seed in (0, 1)]
    ensemble = ensemble_of(both)
    np.testing.assert_allclose(ensemble.predict(ROWS, verbose=0), mean_of(both), atol=1e-6)
    assert not ensemble.is_binary


def test_it_is_evaluated_as_it_predicts(models, wanted):
    labels = np.float32([1, 0, 1, 0, 1])
    report = ensemble_of(models).evaluate(ROWS, labels, return_dict=True, verbose=0)
    logits = wanted[:, 0]
    assert report["loss"] == pytest.approx(np.mean(np.logaddexp(0, logits) - labels * logits), abs=1e-5)


def test_what_becomes_of_its_models_changes_nothing():
    model = moved(NFM(FEATURES, embedding_dim=2), 0)
    ensemble = ensemble_of([model, model])
    before = model.predict(ROWS, verbose=0)
    moved(model, 5)
    np.testing.assert_allclose(ensemble.predict(ROWS, verbose=0), before, atol=1e-6)


def test_nothing_of_it_is_trained(models):
    ensemble = ensemble_of(models)
    assert ensemble.trainable_variables == []
    line = r"is the mean of 3 trained models, and trains nothing\. Train its models"
    for train in (ensemble.fit, ensemble.train_on_batch):
        with pytest.raises(ValueError, match=line):
            train(ROWS, np.ones(5))
    with pytest.raises(ValueError, match=line):
        ensemble.train_step((tensors(), tf.ones([5])))
    with pytest.raises(ValueError, match=line):
        ensemble.compile(averaging=0.9)


def test_it_says_what_it_is(models):
    ensemble = ensemble_of([models[0], models[0], models[1]])
    said = f"<EnsembleModel {ensemble.name!r}: 4 features (user, film, tags, price), mean of 2 NFM + 1 DCNv2, 1,807"
    assert repr(ensemble).startswith(said)
    assert "mean of 2 NFM + 1 DCNv2" in ensemble._repr_html_()
    assert "ensemble" not in list_models()  # it is made of models, not of features


def test_a_file_holds_weights_alone_and_opens_in_a_fresh_process(models, trained, tmp_path):
    ensemble = ensemble_of([trained, models[1]])
    ensemble.save(tmp_path / "model.keras")
    np.save(tmp_path / "wanted.npy", mean_of([trained, models[1]]))
    code = f"""
import numpy as np, nfm_tfrs
model = nfm_tfrs.load_model(r"{tmp_path}/model.keras")
np.testing.assert_allclose(model.predict({ROWS!r}, verbose=0), np.load(r"{tmp_path}/wanted.npy"), atol=1e-6)
print(repr(model), sorted(model.statistics.to_arrays()))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "mean of 1 NFM + 1 DCNv2" in said.stdout, said.stderr[-2000:]
    assert str(sorted(trained.statistics.to_arrays())) in said.stdout
    sizes = []
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as file,
        file.open("model.weights.h5") as member,
        h5py.File(member, "r") as weights,
    ):
        weights.visititems(lambda name, part: sizes.append(part.size) if isinstance(part, h5py.Dataset) else None)
    counted = sum(array.size for array in trained.statistics.to_arrays().values())
    own = sum(weight.shape.num_elements() for weight in ensemble.weights) + counted
    assert own <= sum(sizes) <= own + 20  # the rate and the step of the optimizer that it is compiled with


def test_a_saved_model_opens_again(tmp_path):
    models = [moved(FM(FILMS, embedding_dim=dim, interaction_batch_norm=True), dim) for dim in (2, 3)]
    ensemble_of(models).save(tmp_path / "saved")
    opened = nfm_tfrs.load_model(tmp_path / "saved")
    for found, model in zip(opened.models, models, strict=True):
        for weight, wanted in zip(found.weights, model.weights, strict=True):
            np.testing.assert_array_equal(weight, wanted, err_msg=wanted.name)
    np.testing.assert_allclose(opened.predict(ROWS, verbose=0), mean_of(models), atol=1e-6)


def test_it_does_not_grow_and_is_not_refreshed(models):
    ensemble = ensemble_of(models[:2])
    with pytest.raises(
        ValueError, match=r"The models of an ensemble grow; received .* the mean of 2\. Grow each, and call"
    ):
        nfm_tfrs.grow(ensemble, ROWS)
    with pytest.raises(ValueError, match="models that compute as RankingModel does; received EnsembleModel"):
        nfm_tfrs.refreshed(ensemble, {"price": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"the mean of 2\. Set those of each of its models, and call ensemble_of with"):
        nfm_tfrs.load_pretrained(ensemble, {"user": (["ann"], [[1.0]])})


@pytest.fixture(scope="module")
def trained():
    """A trained model that has an optimizer and statistics."""
    rows = pa.table({name: values * 20 for name, values in ROWS.items()} | {"click": [0.0, 1.0, 1.0, 0.0, 1.0] * 20})
    data = prepare(rows, "click", "random", features=FEATURES)
    return Recipe(model="nfm", config={"embedding_dim": 4}, optimizer="adam").fit(data, epochs=1).model


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: [], "An ensemble is the mean of models; received none. Give trained models."),
        (lambda: None, "An ensemble is of a list of models; received NoneType. Give [model, ...]."),
        (lambda: 5, "An ensemble is of a list of models; received int."),
        (lambda: NFM(FEATURES, hidden_units=()), "An ensemble is of a list of models; received NFM."),
        (lambda: [NFM(FEATURES)] * 51, "An ensemble has 50 models at most; received 51. Give fewer."),
        (lambda: [keras.Sequential()], "received Sequential. Give RankingModels"),
        (lambda: [NFM(FEATURES), ensemble_of([NFM(FEATURES)])], "received EnsembleModel. Give RankingModels"),
        (lambda: [NFM(name="one")], "one does not know its features yet"),
        (
            lambda: [NFM(FEATURES, name="one"), NFM(FEATURES, task="regression", name="other")],
            "share features and task; other has another task than one. Give models that were trained on the same rows.",
        ),
        (
            lambda: [
                NFM(FEATURES, name="one"),
                NFM(FEATURES.replace(replace(FEATURES["film"], vocabulary_size=8)), name="other"),
            ],
            "other reads other features than one",
        ),
    ],
)
def test_what_makes_no_ensemble_is_one_line(other, said):
    with pytest.raises(ValueError, match=r"An ensemble|know its features|The models of") as caught:
        ensemble_of(other())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a"])
def test_weights_of_another_number_of_models_are_another_models(name, tmp_path):
    one, other = (moved(FM(FILMS, embedding_dim=2), seed) for seed in (0, 1))
    both, first = ensemble_of([one, other]), ensemble_of([one])
    both.save_weights(tmp_path / name)
    before = first.get_weights()
    with pytest.raises(
        ValueError, match=rf"{name} is damaged or holds weights of another model \(.*\)\. Give"
    ) as caught:
        first.load_weights(tmp_path / name)
    assert "\n" not in str(caught.value)
    again = ensemble_of([other, one])
    again.load_weights(tmp_path / name)
    for found, weight in zip(again.get_weights(), both.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight)
    assert name == "a.weights.h5" or all(map(np.array_equal, before, first.get_weights()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda models: models[:1], "its weights are of 2 models, and this is the mean of 1"),
        (lambda models: None, '"models" of an ensemble is a list of the configs of models'),
        (lambda models: [1, 2], '"models" of an ensemble is a list of the configs of models'),
        (lambda models: [], "An ensemble is the mean of models; received none"),
        (lambda models: models * 26, "its config declares 52 models, and 50 are the most"),
        (
            lambda models: [{**models[0], "config": {**models[0]["config"], "members": 5_000}}, *models[1:]],
            "members=5000 of 1 blocks and layers each make 5,000, and 256 are the most",
        ),
    ],
)
def test_a_file_whose_models_are_none_of_its_weights_is_one_line(change, said, tmp_path):
    ensemble_of([FM(FILMS, embedding_dim=2)] * 2).save(tmp_path / "model.keras")
    rewrite(tmp_path / "model.keras", tmp_path / "other.keras", change)
    with pytest.raises(ValueError, match=r"other\.keras is not opened: ") as caught:
        nfm_tfrs.load_model(tmp_path / "other.keras")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


class Halved(FM):
    def call(self, columns, training=None):
        return super().call(columns, training) / 2


@pytest.mark.parametrize("wrapped", [False, True])
def test_members_that_are_not_apart_are_one_line(wrapped):
    model = Halved(FILMS, embedding_dim=2, members=2)
    with pytest.raises(ValueError, match=r"^Members are apart in .*; Halved has a call of its own\. Let it") as caught:
        (ensemble_of([model]) if wrapped else model).predict_proba(ROWS, uncertainty=True, verbose=0)
    assert "\n" not in str(caught.value)


def rewrite(path, other, change):
    """Writes a file whose list of models is another one."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["models"] = change(config["config"]["models"])
    with zipfile.ZipFile(other, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else part)
    return other


def test_a_file_that_declares_more_than_it_holds_is_refused(tmp_path):
    sizes = {"user": 120_000, "film": 9}
    large = FeatureSpec(tuple(CategoricalFeature(name, vocabulary_size=size) for name, size in sizes.items()))
    ensemble = ensemble_of([NFM(large, embedding_dim=7, hidden_units=())])
    ensemble.save(tmp_path / "model.keras")
    assert isinstance(nfm_tfrs.load_model(tmp_path / "model.keras"), EnsembleModel)

    def written(change):
        return rewrite(tmp_path / "model.keras", tmp_path / "other.keras", change)

    with pytest.raises(ValueError, match=r"declares 1,920,.* weights at features, and it holds 1,048,576 at most"):
        read_contents(written(lambda models: models * 2))
    with pytest.raises(ValueError, match=r"names os\.system"):
        nfm_tfrs.load_model(written(lambda models: [{"module": "os", "class_name": "system", "config": {}}]))
