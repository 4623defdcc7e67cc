"""The benchmark of the defaults keeps each run, pairs seeds, adds sets up, and gives peers the rows of the models."""

import json

import numpy as np
import pytest
from lib import baselines
from quality import defaults
from quality.defaults import CANDIDATES, REFERENCE, averaged, folder_of, gathered, over_sets, summarised
from scipy.stats import ttest_rel

from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.features.keys import IDS, NUMBERS
from nfm_tfrs.metrics import auc
from nfm_tfrs.training import Recipe

OTHER = "four members"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    tags = [[["x", "y", "z"][k] for k in range(n % 4)] for n in range(400)]
    rows = {"user": [f"u{n % 7}" for n in range(400)], "tags": tags, "price": rng.normal(size=400)}
    rows["y"] = ((np.arange(400) % 7 + rng.normal(size=400)) > 3).astype(int)
    return prepare(rows, "y", "random", min_count=1)


def runs_of(*aucs):
    return {seed: {"auc": value, "log_loss": 1 - value, "epochs": 3, "seconds": 1.0} for seed, value in enumerate(aucs)}


def test_what_is_gained_is_paired_by_the_seeds_that_both_have():
    found = summarised({REFERENCE: runs_of(0.5, 0.6, 0.7), OTHER: runs_of(0.6, 0.65)})
    gained = found[OTHER]["gained"]["auc"]
    assert gained["mean"] == pytest.approx(0.075)
    interval = ttest_rel([0.6, 0.65], [0.5, 0.6]).confidence_interval(0.95)
    assert gained["interval"] == pytest.approx([interval.low, interval.high])
    assert "gained" not in found[REFERENCE]
    assert found[REFERENCE]["seeds"] == 3


def test_sets_count_alike_and_their_errors_add_up():
    def of(mean, half):
        return {OTHER: {"gained": {"auc": {"mean": mean, "interval": [mean - half, mean + half]}}}}

    found = over_sets({"one": of(0.01, 0.003), "two": of(0.03, 0.004)})[OTHER]
    assert found["mean"] == pytest.approx(0.02)
    assert found["interval"] == pytest.approx([0.02 - 0.0025, 0.02 + 0.0025])
    assert over_sets({"one": of(0.01, 0.003), "two": {}}) == {}  # which has not run on every set


def test_every_run_is_kept_once_and_three_are_averaged(tmp_path, monkeypatch, data):
    trained = []

    class Tiny(Recipe):
        def fit(self, rows, *, seed, epochs, patience):
            trained.append((self.config["members"], seed))
            return Recipe(model="fm", config={"embedding_dim": 2}).fit(rows, seed=seed, epochs=1)

    monkeypatch.setattr(defaults, "Recipe", Tiny)
    monkeypatch.setattr(defaults, "SETS", {"tiny": lambda: data})
    monkeypatch.setattr(defaults, "RESULTS", tmp_path / "defaults.json")
    told = ["--sets", "tiny", "--candidates", REFERENCE, OTHER, "--seeds", "3", "--runs", str(tmp_path / "runs")]
    defaults.main(told)
    assert trained == [(members, seed) for seed in range(3) for members in (1, 4)]
    defaults.main(told)  # nothing is trained again
    assert len(trained) == 6
    found = json.loads((tmp_path / "defaults.json").read_text())
    logits = [np.load(folder_of(tmp_path / "runs", "tiny", OTHER) / f"{seed}.npy") for seed in range(3)]
    assert found["three averaged"]["tiny"][OTHER]["auc"] == auc(data.valid.labels, sum(logits) / 3)
    assert found["over sets"][OTHER]["mean"] == pytest.approx(found["sets"]["tiny"][OTHER]["gained"]["auc"]["mean"])
    assert gathered(tmp_path / "none", ["tiny"]) == {"sets": {}, "three averaged": {}, "over sets": {}}


def test_candidates_differ_from_the_reference_and_are_recipes():
    assert len({json.dumps(told) for told in CANDIDATES.values()}) == len(CANDIDATES)
    for told in CANDIDATES.values():
        arguments = {name: value for name, value in told.items() if name not in ("model", "patience")}
        Recipe(model="nfm", config=told["model"], **arguments).check_arguments()


@pytest.mark.parametrize("part", ["train", "valid"])
def test_peers_see_each_row_as_the_models_do(data, part):
    dense, sparse = baselines.dense(data, part), baselines.sparse_rows(data, part).toarray()
    table, tags = data.tables[part], next(bag for bag in data.features.bags)
    price = data.encoded[part].columns[NUMBERS][:, 0]
    for row, bag in enumerate(table["tags"].to_pylist()):
        shares = {tag: bag.count(tag) / len(bag) for tag in bag}
        ids = data.encoded[part].columns[IDS][row]
        expected = [shares.get(value, 0.0) for value in tags.vocabulary]
        np.testing.assert_allclose(dense[row], [*ids, price[row], 0.0, *expected])
        first = data.features.offsets["tags"]
        np.testing.assert_allclose(sparse[row, first + 1 : first + 1 + len(expected)], expected)
        assert (sparse[row, ids[0]], sparse[row, -1]) == (1.0, pytest.approx(price[row]))


def test_logistic_regression_learns(data):
    assert auc(data.valid.labels, baselines.logistic(data)("valid")) > 0.7


def test_several_logits_are_averaged_before_they_are_judged():
    found = averaged(np.array([1.0, 0.0]), [np.array([2.0, 0.0]), np.array([0.0, -2.0])])  # the mean is 1 and -1
    assert found == {"auc": 1.0, "log_loss": pytest.approx(np.log1p(np.exp(-1)))}
