"""What is trained without a search is a finalist of every search, which so never ends below it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import DEFAULT, Finalist, Member, Objective, Run
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.training.evaluate import evaluate
from nfm_tfrs.training.recipe import AVERAGING, MEMBERS, Best, Recipe, Trained
from nfm_tfrs.tuning import Budget, Finals, RankingHyperModel, keras_tuner
from nfm_tfrs.tuning import winner as made
from nfm_tfrs.tuning.default import default_of, steps_of, trained_default
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.winner import Unjudged, train_again

FEATURES = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "item", "site")]


def told(batch_sizes=(256, 512), **space):
    hypermodel = RankingHyperModel(FEATURES, decay_steps=10, **space)
    oracle = SimpleNamespace(get_space=keras_tuner.HyperParameters)
    candidate = lambda hp: replace(hypermodel.candidate(hp), batch_size=batch_sizes[0])  # noqa: E731
    return default_of(SimpleNamespace(space=hypermodel, batch_sizes=batch_sizes, oracle=oracle, candidate=candidate))


BINARY = {"members": MEMBERS, "task": "binary"}


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, Recipe(model="nfm", config=BINARY)),  # as the command line makes it
        ({"task": "regression"}, Recipe(model="nfm", config={**BINARY, "task": "regression"})),
        ({"models": ["deepfm", "ranking"]}, Recipe(model="deepfm", config=BINARY)),
        ({"batch_sizes": (64, 1024)}, Recipe(model="nfm", config=BINARY, batch_size=64)),
        ({"precisions": ["mixed_bfloat16", "float32"]}, Recipe(model="nfm", config=BINARY)),
        ({"precisions": ["mixed_bfloat16"]}, Recipe(model="nfm", config=BINARY, precision="mixed_bfloat16")),
        (
            {"fixed": {"embedding_dim": 8, "optimizer": "lazyadam", "learning_rate": 0.01, "dtype": "mixed_float16"}},
            Recipe(
                model="nfm",
                config={"embedding_dim": 8, **BINARY},
                optimizer="lazyadam",
                learning_rate=0.01,
                precision="mixed_float16",
            ),
        ),
        ({"fixed": {"structure": "stacked"}}, Recipe(model="nfm", config={"structure": "stacked", **BINARY})),
        (
            {"fixed": {"schedule": "cosine"}},
            Recipe(model="nfm", config=BINARY, optimizer="lazyadagrad", learning_rate=0.05, schedule="cosine"),
        ),
    ],
)
def test_the_default_is_what_is_trained_without_a_search_with_what_is_fixed(space, expected):
    averaging = None if expected.schedule == "cosine" else AVERAGING
    assert told(**space) == replace(expected, averaging=averaging)


@pytest.mark.parametrize("space", [{"blocks": ["fm", "cross"]}, {"structures": ["parallel"]}])
def test_where_there_may_be_no_nfm_the_default_is_the_first_configuration(space):
    found = told(**space)
    assert (found.model, found.batch_size, found.passes) == ("ranking", 256, None)
    assert found.config["structure"] == space.get("structures", ["stacked"])[0]
    assert found.config["interaction"]["name"] == space.get("blocks", ["bi_interaction"])[0]


def test_the_steps_of_a_schedule_are_those_of_fifty_passes_or_its_own():
    assert steps_of(Configuration(model="nfm", batch_size=64), 130) == 150
    assert steps_of(Configuration(model="nfm", batch_size=64, passes=2.5), 130) == 8


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("error", "diverged", "said"),
    [
        (LossNotFinite("The loss is nan."), ("default",), ""),
        (
            ValueError("There is no such thing."),
            (),
            "The model without a search is no finalist: There is no such thing.",
        ),
        (KeyError("thing"), (), "The model without a search is no finalist: 'thing'"),
    ],
)
def test_what_fails_without_a_search_otherwise_than_by_diverging_is_said(
    clicks, run, tmp_path, monkeypatch, error, diverged, said
):
    def fit(self, data, *, seed):
        raise error

    monkeypatch.setattr(Recipe, "fit", fit)
    evidence = run(clicks, tmp_path, one=True).evidence
    assert [entry.trial for entry in evidence.finalists] == ["0000"]
    assert evidence.diverged == diverged
    assert ("is no finalist" in evidence.verdict) == bool(said)
    assert said in evidence.verdict


@pytest.mark.parametrize(
    ("raw", "averages", "best", "averaged"),
    [([0.5, 0.7, 0.6], [0.1, 0.6, 0.8], 3, True), ([0.5, 0.7, 0.6], [0.1, 0.7, 0.2], 2, False)],
)
def test_the_best_epoch_of_the_default_is_that_of_its_averages_too(monkeypatch, raw, averages, best, averaged):
    model = SimpleNamespace(objective=("val_auc", "max"))
    history = {"val_auc": raw, "averaged_val_auc": averages}
    monkeypatch.setattr(Recipe, "fit", lambda self, data, *, seed: Trained(model, history))
    monkeypatch.setattr("nfm_tfrs.tuning.default.evaluate", lambda model, part: {"auc": 0.8})
    _, run = trained_default(Recipe(model="nfm", averaging=0.9), SimpleNamespace(valid=None), "auc", 7)
    assert run == Run(seed=7, slice=best, metrics={"auc": 0.8}, file="", trained=3, averaged=averaged)


PLATEAU = {"schedule": "plateau", "schedule_arguments": {"looks": 1}}


@pytest.mark.parametrize(
    ("told", "own", "passes", "slices", "averaged"),
    [
        ({"averaging": 0.9}, True, 2, round(15 * 9 / 2), True),
        ({"schedule": "cosine"}, True, 20, round(15 * 9 / 20), False),
        ({"schedule": "one_cycle", "passes": 30.0}, True, 30, round(15 * 9 / 30), False),
        ({"schedule": "cosine"}, False, 2, 15, False),
        (PLATEAU, True, None, None, False),
        (PLATEAU, False, None, None, False),
    ],
)
def test_on_all_rows_a_training_is_as_long_as_it_was_best_and_its_rate_falls_as_it_did(
    clicks, monkeypatch, told, own, passes, slices, averaged
):
    trained = []
    monkeypatch.setattr(made, "_trained", lambda members, *rows, **more: trained.extend(members) or Trained("it", {}))
    candidate = Configuration(model="nfm", **told)
    runs = tuple(Run(seed=seed, slice=seed + 13, metrics={}, file="", averaged=averaged) for seed in (1, 3))  # 14, 16
    name = DEFAULT if own else "0000"
    first = Finalist(trial=name, candidate=candidate, runs=runs, diverged=(), mean=0.7, sd=None)
    tuner = SimpleNamespace(
        train=Slices(clicks.train, passes=2, count=9, seed=0),
        valid=clicks.valid,
        seed=5,
        goal=Objective(name="val_auc", direction="max"),
    )
    member = made._member(tuner, first, runs[0])
    if passes is None:
        with pytest.raises(Unjudged, match=f"^{name} divides its rate where validation stalls.*Leave out refit"):
            made._refitted(tuner, first, [(member, runs[0])], clicks)
        return
    _, winner = made._refitted(tuner, first, [(member, runs[0])], clicks)
    again = replace(candidate, passes=passes)
    assert trained == [Member(trial=name, candidate=again, seed=5, slices=slices, averaged=averaged)]
    # What is written makes the same training again.
    written = winner.passes or made.passes_of(tuner, first)
    assert (written, winner.slices, winner.averaged) == (passes, slices, averaged)


# --- a search that finds nothing --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(clicks, run, eagerly, tmp_path_factory):
    """A search of whose trials none learns anything."""
    drawn = RankingHyperModel.candidate
    with pytest.MonkeyPatch.context() as patch, eagerly():
        patch.setattr("nfm_tfrs.training.recipe.EPOCHS", 2)
        patch.setattr("nfm_tfrs.tuning.outcome.write_report", lambda evidence, path: None)
        patch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": 0.1, "log_loss": 9.0})
        patch.setattr(
            RankingHyperModel, "candidate", lambda self, hp: replace(drawn(self, hp), learning_rate=0.0, averaging=None)
        )
        few = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=2, members=1)}
        yield run(clicks, tmp_path_factory.mktemp("searches") / "bad", schedule={"patience": 1}, **few)


def test_where_every_trial_is_bad_the_search_ends_with_what_is_trained_without_it(searched, clicks, eagerly):
    evidence = searched.evidence
    first = evidence.finalists[0]
    assert {entry.trial for entry in evidence.finalists} == {DEFAULT, "0000"}
    assert first.trial == DEFAULT
    assert [run.seed for run in first.runs] == [1, 2]
    assert (evidence.winner.slices, evidence.winner.members) == (None, ())
    best = max(first.runs, key=lambda run: run.metrics["auc"])
    with eagerly():
        small = {**BINARY, "embedding_dim": 4, "hidden_units": [4]}
        alone = Recipe(model="nfm", config=small, averaging=AVERAGING, batch_size=64).fit(clicks, seed=best.seed)
    assert evaluate(alone.model, clicks.valid) == best.metrics
    for mine, theirs in zip(alone.model.get_weights(), searched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_search_that_finds_nothing_better_says_why(searched):
    assert "Nothing better than the model without a search was found: 1 after 2 slices was judged, over " in (
        searched.evidence.verdict
    )
    assert "until the 1 configurations that were asked for had been tried." in searched.evidence.verdict


def test_the_default_is_trained_again_to_the_same_bits(searched, clicks, eagerly):
    folder = Path(searched.evidence.finalists[0].runs[0].file).parents[1]
    best = Best.from_file(folder / "best.json")
    assert best == searched.best
    assert (best.recipe.model, best.recipe.passes) == ("nfm", None)
    with eagerly():
        again = train_again(best, clicks.without("test"))
    for mine, theirs in zip(again.model.get_weights(), searched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
