"""What won elsewhere is shipped, fits the space, and is left out where a set is measured."""

import sys

import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.tuning import Budget, Finals, RankingHyperModel, Space, keras_tuner
from nfm_tfrs.tuning.oracle import _has
from nfm_tfrs.tuning.prior import Known, known_sets, proposals, read_sets
from nfm_tfrs.written import FORMAT

FEATURES = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "item", "site")]
SETS = {
    "one": [Known(values={"x": 1}, gain=0.2), Known(values={"x": 2}, gain=0.1)],
    "two": [Known(values={"x": 3}, gain=0.3)],
}


def test_the_best_of_each_set_comes_before_the_second_of_any():
    assert proposals(SETS) == [{"x": 1}, {"x": 3}, {"x": 2}]
    assert proposals(SETS, ["one"]) == [{"x": 3}]
    assert proposals(SETS, ["one", "two"]) == []


def test_winners_are_read_the_best_first_and_a_newer_file_is_refused():
    winners = [{"values": {"x": 1}, "gain": 0.1}, {"values": {"x": 2}, "gain": 1}]
    assert [known.values["x"] for known in read_sets({"sets": {"one": {"winners": winners}}})["one"]] == [2, 1]
    with pytest.raises(ValueError, match=f"This prior has format {FORMAT + 1}"):
        read_sets({"format": FORMAT + 1, "sets": {}})


def test_what_is_shipped_changes_the_candidate_as_it_says():
    hypermodel = RankingHyperModel(FEATURES, decay_steps=10)
    default = hypermodel.candidate(keras_tuner.HyperParameters())
    for values in proposals(known_sets()):
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        assert hypermodel.candidate(hp) != default


@pytest.mark.usefixtures("counted")
def test_what_is_shipped_is_of_the_space(clicks, run, tmp_path):
    found, whole = [], {"fixed": {}, "blocks": None, "batch_sizes": Space().batch_sizes}
    run(clicks, tmp_path, space=whole, watch=lambda oracle, trial, scores: found.append(oracle), one=True)
    space = found[0].get_space().space
    for values in proposals(known_sets()):
        for name, value in values.items():
            assert any(_has(hp, value) for hp in space if hp.name == name), (name, value)
        filled = found[0]._filled(values)
        assert {name: filled.get(name) for name in values} == values  # and nothing that it depends on is missing


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("prior", "without", "search"),
    [(True, (), "halving"), (True, ("published",), "halving"), (False, (), "halving"), (True, (), "random")],
)
def test_a_search_tries_what_won_elsewhere_right_after_the_defaults(
    clicks, run, tmp_path, monkeypatch, prior, without, search
):
    cycle = {"schedule": "one_cycle", "optimizer": "lazyadam", "adam/learning_rate": 0.005}
    known = {"own": [Known(values={"averaging": 0.0}, gain=0.2)], "published": [Known(values=cycle, gain=0.1)]}
    monkeypatch.setattr(sys.modules["nfm_tfrs.tuning.search"], "known_sets", lambda: known)
    space = {"fixed": {"hidden_units": [4], "embedding_dim": 4}, "prior": prior, "prior_without": without}
    few = {"budget": Budget(trials=4), "finals": Finals(finalists=1, seeds=1)}
    trials = run(clicks, tmp_path, space=space, schedule={"search": search}, **few).evidence.trials
    prior = prior and search == "halving"  # what is drawn at random is drawn at random
    tried = [trial.candidate for trial in trials if trial.parent is None][1:]
    raw = [one for one in tried if one.averaging is None and (one.schedule, one.learning_rate) == ("constant", 0.05)]
    cycled = [one for one in tried if (one.schedule, one.learning_rate) == ("one_cycle", 0.005)]
    assert (len(raw) > 0, len(cycled) > 0) == (prior, prior and not without)
