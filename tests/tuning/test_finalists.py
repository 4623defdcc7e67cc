"""Which trials are trained again, how a whole training ends, what the verdict says, and what is refused."""

import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import DEFAULT, Difference, Finalist, Member, Objective, Run, TrialRecord, Winner
from nfm_tfrs.keras_compat import keras
from nfm_tfrs.training.recipe import MEMBERS, Recipe
from nfm_tfrs.training.schedules import plateau_of
from nfm_tfrs.training.stopping import follow
from nfm_tfrs.tuning import Budget, Finals
from nfm_tfrs.tuning.finalists import chosen, train_whole
from nfm_tfrs.tuning.oracle import END, PARENT, START
from nfm_tfrs.tuning.slices import Slices
from nfm_tfrs.tuning.tuner import Diverged, SliceTuner
from nfm_tfrs.tuning.verdict import remarks, verdict
from nfm_tfrs.tuning.winner import _sliced, train_again

RANDOM = {"search": "random"}
AUC, LOG_LOSS = Objective(name="val_auc", direction="max"), Objective(name="val_log_loss", direction="min")


def trial(name, score, **values):
    return SimpleNamespace(trial_id=name, score=score, hyperparameters=SimpleNamespace(values=values))


def test_each_configuration_is_chosen_once_by_its_last_trial():
    trials = [
        trial("0000", 0.7, units=8, **{"tuner/epochs": 1}),
        trial("0001", 0.9, units=16, **{"tuner/epochs": 1}),
        trial("0002", 0.8, units=4, **{"tuner/epochs": 1}),
        trial("0003", 0.9, units=16, **{"tuner/epochs": 3}),  # no better than where it went on from
        trial("0004", 0.75, units=8, **{"tuner/epochs": 3}),
    ]
    assert [entry.trial_id for entry in chosen(trials, 9, lambda entry: entry.score)] == ["0003", "0002", "0004"]
    assert [entry.trial_id for entry in chosen(trials, 2, lambda entry: -entry.score)] == ["0000", "0002"]


# --- a whole training -------------------------------------------------------------------------------------------------


class Scored:
    """A model whose weights are the number of slices it was trained for."""

    def __init__(self):
        self.slices = 0

    def fit(self, *_, **__):
        self.slices += 1
        return SimpleNamespace(history={"loss": [0.5]})

    def get_weights(self):
        return self.slices

    def set_weights(self, weights):
        self.slices = weights


@pytest.mark.parametrize(
    ("goal", "scores", "patience", "best", "trained"),
    [
        (AUC, [0.5, 0.7, 0.6, 0.6, 0.9], 2, 2, 4),  # ended before the last
        (AUC, [0.5, 0.7, 0.6, 0.8, 0.7], 2, 4, 5),
        (AUC, [0.9, 0.9, 0.9, 0.9, 0.9], 9, 1, 5),  # of equal ones the first
        (LOG_LOSS, [0.5, 0.7, 0.4, 0.6, 0.6], 2, 3, 5),
    ],
)
def test_a_whole_training_ends_with_the_weights_of_its_best_slice(
    clicks, monkeypatch, goal, scores, patience, best, trained
):
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {goal.metric: scores[model.slices - 1]})
    model, cut = Scored(), Slices(clicks.train, passes=1, count=5, seed=0)
    found = train_whole(model, cut, clicks.valid, batch_size=64, goal=goal, patience=patience)
    assert found == (best, [{goal.metric: score} for score in scores[:trained]], False)
    assert model.slices == best


# --- the verdict ------------------------------------------------------------------------------------------------------


def finalist(mean=None, low=None, high=None, diverged=()):
    gap = None if mean is None else Difference(mean=mean, low=low, high=high)
    config = Configuration(model="nfm")
    return Finalist(trial="0", candidate=config, runs=(), diverged=diverged, mean=0.7, sd=None, difference=gap)


@pytest.mark.parametrize(
    ("goal", "second", "expected"),
    [
        (AUC, finalist(-0.02, -0.03, -0.01), "The first finalist is better than the second: .* +0.0200"),
        (LOG_LOSS, finalist(0.02, 0.01, 0.03), "The first finalist is better than the second: .* -0.0200"),
        (AUC, finalist(-0.01, -0.03, 0.01), "There is no clear winner: "),
        (AUC, finalist(0.02, 0.01, 0.03, (7,)), "The first finalist is the steadier one: .* with 1 of its seeds"),
        (LOG_LOSS, finalist(-0.02, -0.03, -0.01, (7,)), "The first finalist is the steadier one: "),
    ],
)
def test_the_verdict_says_which_way_the_difference_goes(goal, second, expected):
    assert re.match(expected.replace("+", r"\+"), verdict([finalist(), second], goal))


def test_the_verdict_of_several_seeds_is_over_seeds_too():
    for second, where in (
        (finalist(-0.02, -0.03, -0.01), "The first finalist is better than the second: {} its auc"),
        (
            finalist(-0.01, -0.03, 0.01),
            "There is no clear winner: {} the second finalist's auc differs from the first's",
        ),
        (finalist(0.02, 0.01, 0.03, (7,)), r"The first finalist is the steadier one: .* {}, diverged with 1"),
    ):
        one, several = "on these validation rows", "over these validation rows and seeds"
        assert re.match(where.format(one), verdict([finalist(), second], AUC))
        second = replace(second, difference=replace(second.difference, over_seeds=True))
        assert re.match(where.format(several), verdict([finalist(), second], AUC))


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([1], "1 after 1 slice was judged"),
        ([3], "1 after 3 slices was judged"),
        ([1, 1], "2 after 1 slice were judged"),
        ([9, 3, 3], "2 after 3 slices, 1 after 9 slices were judged"),
    ],
)
def test_what_was_judged_is_said_in_sentences(ends, said):
    trials = [SimpleNamespace(end=end, status="COMPLETED", values={}, scores=[0.5] * end) for end in ends]
    of_default = replace(finalist(), trial=DEFAULT)
    assert f": {said}, over " in remarks([of_default], trials, SimpleNamespace(members=()), "then")[0]


def test_the_verdict_on_one_finalist_says_why_there_is_one():
    assert verdict([finalist()], AUC) == "There was one finalist."
    assert verdict([finalist()], AUC, 2) == "One finalist is left: 2 diverged with all their seeds."


@pytest.mark.parametrize("of_several", [False, True])
def test_that_nothing_better_was_found_is_said_whatever_the_model_is_made_of(of_several):
    own = replace(finalist(), trial=DEFAULT)
    member = Member(trial=DEFAULT, candidate=own.candidate, seed=1, slices=None)
    winner = Winner(seed=1, slices=None, members=(member, replace(member, seed=2)) if of_several else ())
    tried = [_record(count=2, end=3), _record(count=2, end=9), _record(count=14, end=9)]
    said = " ".join(remarks([own], tried, winner, "the end"))
    assert "Nothing better than the model without a search was found: 2 after 2 slices, 1 after 14 slices " in said
    assert ("The model is the mean of 2 trainings" in said) == of_several


def _record(count, end):
    scores = tuple({"auc": 0.5} for _ in range(count))
    told = {"message": None, "parent": None, "values": {}, "start": 0, "score": 0.5}
    candidate = Configuration(model="nfm")
    return TrialRecord(id="0", status="COMPLETED", candidate=candidate, end=end, scores=scores, **told)


@pytest.mark.parametrize(("schedule", "expected"), [("constant", True), ("cosine", False), ("one_cycle", False)])
def test_more_passes_may_be_better_where_the_last_slice_is_the_best_and_the_rate_has_no_end(schedule, expected):
    runs = (Run(seed=1, slice=9, metrics={}, file="", trained=9),)
    one = replace(finalist(), runs=runs, candidate=Configuration(model="nfm", schedule=schedule))
    said = remarks([one], [], Winner(seed=1, slices=9), "the end")
    assert said == (["Best at the last slice of a run, so that more passes may be better: 0."] if expected else [])


# --- finalists that diverge -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counted")
def test_where_all_finalists_diverge_the_search_says_so(clicks, run, tmp_path, monkeypatch):
    values = itertools.chain([0.5] * 3, itertools.repeat(float("nan")))  # the trial's slices, then the finalist's
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": next(values)})
    monkeypatch.setattr("nfm_tfrs.tuning.default.evaluate", lambda model, part: {"auc": float("nan")})
    with pytest.raises(
        ValueError, match=r"All finalists diverged when they were trained again\. Search at lower rates"
    ):
        run(clicks, tmp_path, one=True)


@pytest.mark.usefixtures("counted")
def test_a_finalist_that_always_diverges_is_named_and_so_is_a_refit(clicks, run, tmp_path, monkeypatch):
    def refitted(*_):
        raise Diverged("It diverged.")

    values = itertools.chain([0.9] * 3, [0.8] * 3, [0.9] * 3, itertools.repeat(float("nan")))  # two trials, a finalist
    monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": next(values)})
    monkeypatch.setattr("nfm_tfrs.tuning.winner._refitted", refitted)
    few = {"budget": Budget(trials=2), "finals": Finals(finalists=2, seeds=1, refit=True)}
    with pytest.warns(UserWarning, match="The model is not trained on all rows: It diverged."):
        evidence = run(clicks, tmp_path, schedule={**RANDOM, "patience": 4}, **few).evidence
    assert evidence.diverged == ("0001",)
    assert [entry.trial for entry in evidence.finalists] == ["0000", "default"]
    assert evidence.winner.rows == "train"
    assert "Diverged with every seed: trial 0001." in (tmp_path / "card.md").read_text()


@pytest.mark.usefixtures("counted")
def test_the_winner_is_trained_once_more_on_all_rows_where_that_is_asked_for(clicks, run, tmp_path):
    few = {"budget": Budget(trials=2), "finals": Finals(finalists=2, seeds=2, refit=True)}
    few["finals"] = replace(few["finals"], members=1)
    found = run(clicks.without("test"), tmp_path, schedule=RANDOM, **few)
    assert found.evidence.test is None
    slices = round(np.mean([made.slice for made in found.evidence.finalists[0].runs]))
    whole = Winner(seed=0, slices=slices, rows="train and validation", objective=AUC)  # of averaged weights
    assert found.evidence.winner == whole
    assert found.model.slices == slices
    card = (tmp_path / "card.md").read_text()
    assert f"- the model: {slices} slices of the train and validation rows, seed 0" in card


# --- members ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("fixed", [None, 1, 2])
def test_trials_have_one_member_and_finalists_as_many_as_without_a_search(clicks, run, tmp_path, fixed):
    told = {"embedding_dim": 4, "hidden_units": [4]} | ({} if fixed is None else {"members": fixed})
    evidence = run(clicks, tmp_path, space={"fixed": told}).evidence
    assert {trial.candidate.config.get("members") for trial in evidence.trials} == {fixed}
    found = {finalist.candidate.config.get("members") for finalist in evidence.finalists}
    assert found == {fixed or MEMBERS}


@pytest.mark.usefixtures("counted")
def test_a_finalist_whose_members_are_over_a_ceiling_keeps_one(clicks, run, tmp_path):
    evidence = run(clicks, tmp_path, one=True, space={"max_parameters": 3000}).evidence
    (finalist,) = evidence.finalists
    assert (finalist.trial, finalist.candidate.config.get("members")) == ("0000", None)
    assert "0000 has one member: 4,080 parameters are more than 3,000." in evidence.verdict


# --- training the search's model again --------------------------------------------------------------------------------


@pytest.mark.usefixtures("counted")
def test_the_model_is_trained_again_on_the_search_s_rows_alone(clicks, run, tmp_path):
    best = run(clicks, tmp_path, one=True).best
    assert train_again(best, clicks.without("test")).model.slices == best.winner.slices
    other = replace(clicks, encoded={**clicks.encoded, "train": clicks.valid, "valid": clicks.train})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        train_again(best, other)
    assert re.fullmatch(
        r"The search had other rows: their fingerprint was \w{8}…; received \w{8}…\. "
        r"Give its data, label, split, seed and features, or leave out --repeat\.",
        str(caught.value),
    )


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("gone", ["winner", "slices"])
def test_a_best_json_that_does_not_say_how_its_model_was_made_is_not_repeated(clicks, run, tmp_path, gone):
    best = replace(run(clicks, tmp_path, one=True).best, **{gone: None})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        train_again(best, clicks)
    assert str(caught.value) == (
        "This best.json does not say how the search made its model: nfm-tfrs 0.1.0 wrote it. Leave out --repeat."
    )


# --- averages and plateaus --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("averaged", "plateau"), [(True, False), (False, True)])
def test_what_a_whole_training_left_is_made_again_to_the_bit(clicks, monkeypatch, averaged, plateau):
    told = {"schedule": "plateau", "schedule_arguments": {"looks": 1, "drops": 1}} if plateau else {}
    config = {"features": clicks.features.to_dict(), "embedding_dim": 4, "hidden_units": [4], "batch_norm": True}
    candidate = Configuration(
        model="nfm", config=config, learning_rate=0.5, rate_rows=None, batch_size=64, passes=2.0, averaging=0.9, **told
    )
    # The averages are judged behind the weights; the best are those behind the third slice.
    raw, of_averages = [0.5, 0.4, 0.6, 0.5], [0.3, 0.4, 0.7 if averaged else 0.5, 0.5]

    def train():
        scores = iter(score for both in zip(raw, of_averages, strict=True) for score in both)
        monkeypatch.setattr("nfm_tfrs.tuning.tuner.evaluate", lambda model, part: {"auc": next(scores)})

    train()
    cut = Slices(clicks.train, passes=2.0, count=4, seed=5)
    keras.utils.set_random_seed(5)
    model = Recipe.of(candidate).build(clicks.features, steps=cut.steps(64))
    whole = train_whole(model, cut, clicks.valid, batch_size=64, goal=AUC, patience=3, plateau=plateau_of(candidate))
    assert whole.averaged == averaged
    assert (whole.slices, len(whole.scores)) == (3, 4)
    assert float(model.optimizer.learning_rate) == np.float32(0.05 if plateau else 0.5)
    train()
    member = Member(trial="0", candidate=candidate, seed=5, slices=3, averaged=averaged)
    again = _sliced(member, clicks.train, clicks.valid, count=4, features=clicks.features)
    for one, other in zip(again.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.history == {"val_auc": [score["auc"] for score in whole.scores[:3]]}


class Trials(SliceTuner):
    """Runs trials of one configuration, without a search."""

    def __init__(self, folder, candidate, train, valid):
        self.folder, self.made, self.train, self.valid = folder, candidate, train, valid
        self.ceilings, self.patience, self.seed, self.max_seconds, self.goal = (None, None), 9, 0, None, AUC
        self.space = SimpleNamespace(
            built=lambda made, steps: Recipe.of(made).build(Recipe.of(made).features, steps=steps)
        )
        self.watch = lambda trial, scores: None

    def candidate(self, hp):
        return self.made

    def _folder(self, trial_id):
        (self.folder / trial_id).mkdir(exist_ok=True)
        return self.folder / trial_id


def test_a_promoted_trial_goes_on_with_its_averages_and_from_its_best_slice(clicks, tmp_path, monkeypatch):
    followed = []

    def spied(*arguments):
        followed.append(follow(*arguments))
        return followed[-1]

    monkeypatch.setattr("nfm_tfrs.tuning.tuner.follow", spied)
    config = {"features": clicks.features.to_dict(), "embedding_dim": 4, "hidden_units": [4], "dropout": 0.3}
    plateau = {"schedule": "plateau", "schedule_arguments": {"looks": 2, "drops": 1}}
    candidate = Configuration(
        model="nfm", config=config, learning_rate=0.5, batch_size=16, passes=8.0, averaging=0.9, **plateau
    )
    trials = Trials(tmp_path, candidate, Slices(clicks.train, passes=8.0, count=8, seed=5), clicks.valid)

    def run(name, start, end, parent=None):
        values = {START: start, END: end, PARENT: parent}
        trials.run_trial(SimpleNamespace(trial_id=name, hyperparameters=SimpleNamespace(values=values)))
        return trials.scores(name)

    seeded = keras.utils.set_random_seed
    monkeypatch.setattr(keras.utils, "set_random_seed", lambda seed: seeded(1))  # else each trial has its own
    run("1", 0, 7)
    drop = followed.index("drop")  # behind the best slice, the place of the cut
    assert "better" in followed[:drop]
    assert followed[drop - 1] == "go on"
    for name in ("2", "3"):
        run(name, 0, drop) if name == "2" else run(name, drop, 7, "2")
    assert trials.scores("3") == trials.scores("1")


@pytest.mark.parametrize("kind", [Run, Winner])
def test_whether_weights_are_averages_is_written_where_they_are(kind):
    told = {"seed": 1, "slices": 2} if kind is Winner else {"seed": 1, "slice": 2, "metrics": {}, "file": "a"}
    plain, averaged = kind(**told), kind(**told, averaged=True)
    assert "averaged" not in plain.to_json()
    assert averaged.to_json() == {**plain.to_json(), "averaged": True}
    judged = replace(averaged, objective=LOG_LOSS) if kind is Winner else averaged
    for one in (plain, averaged, judged):
        assert kind.from_json(one.to_json()) == one
