"""A trained model knows its training rows: in memory, cached and streamed alike; a file takes that along."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs import load_model
from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.data.prepare import prepare, prepare_files
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.training import Recipe
from nfm_tfrs.training.statistics import adapt_statistics

YESTERDAY = Path(__file__).parents[1] / "yesterday"
RECIPE = Recipe(model="fm", config={"embedding_dim": 2}, batch_size=100)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "city": pa.array(rng.choice(["Rome", "Oslo", "Lima", ""], 400)),
            "tags": pa.array([["a", "b", "c"][: rng.integers(0, 4)] for _ in range(400)]),
            "price": pa.array(rng.normal(size=400).round(2), mask=rng.random(400) < 0.1),
            "y": rng.integers(0, 2, 400),
        }
    )


@pytest.fixture(scope="module")
def features():
    return FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo"]), NumericFeature("price", std=2.0)])


@pytest.fixture(scope="module")
def files(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    pq.write_table(table.slice(0, 300), folder / "train.parquet", row_group_size=70)
    pq.write_table(table.slice(300), folder / "valid.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(table):
    return RECIPE.fit(prepare(table, "y", "random"), epochs=1).model


def same(one, other):
    arrays, others = one.to_arrays(), other.to_arrays()
    return arrays.keys() == others.keys() and all(np.array_equal(a, others[k], True) for k, a in arrays.items())


def test_a_recipe_tells_its_model_the_training_rows(trained):
    statistics = trained.statistics

    assert statistics.rows == 320
    assert sorted(statistics.counts) == ["city", "tags"]
    assert statistics.counts["city"].sum() + statistics.missing["city"] == 320


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_rows_in_memory_cached_and_streamed_are_counted_alike(files, table, features, tmp_path, cached, stream):
    cache = tmp_path / "cache" if cached else None
    train, valid = files / "train.parquet", files / "valid.parquet"
    for _ in range(1 + cached):  # written, and read
        data = prepare_files(train, "y", valid=valid, stream=stream, features=features, cache=cache)

    rows = RECIPE.stream(train, data, seed=0) if stream else None
    found = RECIPE.fit(data, rows=rows, epochs=1).model.statistics

    city = table["city"].to_pylist()[:300]
    assert found.rows == 300
    assert found.counts["city"].tolist() == [city.count("Lima"), city.count("Rome"), city.count("Oslo")]
    assert found.missing == {"city": city.count(""), "price": table["price"].slice(0, 300).null_count}
    prices = table["price"].slice(0, 300).drop_null().to_numpy()
    np.testing.assert_array_equal(
        found.quantiles["price"], np.quantile(prices, np.linspace(0, 1, 101), method="inverted_cdf")
    )


def test_the_day_can_be_said(table, features):
    data = prepare(table, "y", "random", features=features)
    model = RankingModel(features)

    adapt_statistics(model, data, day=9)

    assert model.statistics.seen["city"].max() == 9


def test_of_rows_without_rates_and_of_models_of_others_nothing_is_remembered(table, features):
    data = prepare(table, "y", "random", features=features)
    bare = EncodedPart(data.train.columns, data.train.labels)
    model = RankingModel(features)

    adapt_statistics(model, Prepared(data.encoder, {}, {"train": bare}, data.target))
    adapt_statistics(model, Prepared(data.encoder, {}, {}, data.target))

    assert model.statistics is None
    adapt_statistics(keras.Sequential(), data)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    trained.save(path)
    return path


def test_a_file_holds_the_statistics(trained, file):
    assert same(load_model(file).statistics, trained.statistics)


def test_so_does_one_that_keras_writes(trained, tmp_path):
    keras.models.save_model(trained, tmp_path / "model.keras")

    assert same(load_model(tmp_path / "model.keras").statistics, trained.statistics)


def test_weights_folders_and_lists_are_as_without_them(trained, tmp_path):
    trained.save_weights(tmp_path / "with.weights.h5")
    trained.save(tmp_path / "with")
    weights = [weight.name for weight in trained.weights]
    statistics = trained.statistics
    trained.statistics = None
    trained.save_weights(tmp_path / "without.weights.h5")
    trained.save(tmp_path / "without")
    assert [weight.name for weight in trained.weights] == weights
    trained.statistics = statistics

    def names(path):
        found = []
        with h5py.File(path) as opened:
            opened.visit(found.append)
        return found

    assert names(tmp_path / "with.weights.h5") == names(tmp_path / "without.weights.h5")
    assert (tmp_path / "with/variables/variables.index").stat().st_size == (
        tmp_path / "without/variables/variables.index"
    ).stat().st_size
    assert load_model(tmp_path / "with").statistics is None
    other = load_model(tmp_path / "with")
    other.load_weights(tmp_path / "with.weights.h5")
    assert other.statistics is None


def test_files_of_before_have_none():
    model = load_model(YESTERDAY / "nfm.keras")

    assert model.statistics is None


def test_a_model_without_them_is_saved_without(trained, tmp_path):
    model = RankingModel(trained.features)
    model.save(tmp_path / "model.keras")

    assert load_model(tmp_path / "model.keras").statistics is None


def test_statistics_of_other_features_are_refused(trained, features):
    with pytest.raises(ValueError, match="The statistics hold 4 counts of 'city', and the features need 3"):
        RankingModel(features).statistics = trained.statistics
    with pytest.raises(ValueError, match="does not know its features yet"):
        RankingModel().statistics = trained.statistics


def rewritten(path, out, change):
    """The file with other statistics among its weights."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    weights = out.with_suffix(".h5")
    weights.write_bytes(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as opened:
        change(opened["vars"])
    parts["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out


def replace(name, value):
    def change(group):
        del group[f"statistics/{name}"]
        group[f"statistics/{name}"] = value

    return change


def no_group(group):
    del group["statistics"]
    group["statistics"] = np.ones(3)


def compressed(group):
    del group["statistics/counts0"]
    group.create_dataset("statistics/counts0", (10**9,), np.uint8, compression="gzip")


HOSTILE = {
    "too short": (replace("counts0", np.ones(2, np.uint8)), "hold 2 counts of 'city', and the features need 4"),
    "text": (replace("counts0", "many"), "The statistics are damaged: "),
    "strings": (replace("names", np.array([b"a", b"b"])), "The statistics are damaged: "),
    "compound": (replace("seen0", np.ones(3, [("a", "u2")])), "The statistics are damaged: "),
    "objects": (replace("waiting", np.void(b"ab")), "The statistics are damaged: "),
    "no group": (no_group, "The statistics are damaged: "),
    "more than there is": (compressed, "declares more than it holds"),
    "a group": (lambda group: group.create_group("statistics/counts9"), None),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_statistics_that_nobody_wrote_are_refused_in_one_line(file, tmp_path, kind):
    change, line = HOSTILE[kind]
    hostile = rewritten(file, tmp_path / "hostile.keras", change)
    if line is None:
        assert isinstance(load_model(hostile).statistics, Statistics)
        return

    with pytest.raises(ValueError, match=line) as caught:
        load_model(hostile)

    assert "\n" not in str(caught.value)
    assert "hostile.keras" in str(caught.value)
