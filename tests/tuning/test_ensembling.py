"""Runs are taken together where that is clearly better, and what comes out says so and is made again."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nfm_tfrs import load_model, metrics
from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.evidence import Objective
from nfm_tfrs.features.encoder import IDS
from nfm_tfrs.training.evaluate import predict
from nfm_tfrs.training.recipe import Best
from nfm_tfrs.tuning import Budget, Finals
from nfm_tfrs.tuning import winner as made
from nfm_tfrs.tuning.ensembling import together
from nfm_tfrs.tuning.winner import train_again

AUC, LOG_LOSS = Objective(name="val_auc", direction="max"), Objective(name="val_log_loss", direction="min")
RNG = np.random.default_rng(5)
TRUTH = RNG.normal(size=400)
LABELS = (RNG.random(400) < 1 / (1 + np.exp(-3 * TRUTH))).astype(np.float32)
VALID = EncodedPart({IDS: np.zeros([400, 1], np.int64)}, LABELS)
NOISY = [3 * TRUTH + RNG.normal(size=400) * scale for scale in (2.0, 2.0, 2.0, 9.0)]  # the last says little


@pytest.mark.parametrize(("goal", "score"), [(AUC, metrics.auc), (LOG_LOSS, lambda y, z: -metrics.log_loss(y, z))])
def test_each_run_that_is_added_is_the_one_that_helps_most(goal, score):
    chosen, left = [1], [0, 2, 3]
    while left:
        gains = [score(LABELS, np.mean([NOISY[k] for k in [*chosen, one]], axis=0)) for one in left]
        if max(gains) <= score(LABELS, np.mean([NOISY[k] for k in chosen], axis=0)):
            break
        chosen.append(left.pop(int(np.argmax(gains))))
    assert together(goal, VALID, NOISY, first=1, most=9) == chosen
    assert len(chosen) > 1
    assert 3 not in chosen
    assert together(goal, VALID, NOISY, first=1, most=2) == chosen[:2]


def test_what_does_not_help_or_only_by_chance_leaves_the_first_run_alone():
    assert together(AUC, VALID, [NOISY[0], NOISY[0]], first=0, most=4) == [0]
    nearly = NOISY[0] + np.where(np.arange(400) == np.argmax(LABELS), 5.0, 0.0)  # one row, put right
    assert metrics.auc(LABELS, (nearly + NOISY[0]) / 2) > metrics.auc(LABELS, NOISY[0])
    assert together(AUC, VALID, [NOISY[0], nearly], first=0, most=4) == [0]
    assert together(AUC, VALID, NOISY, first=0, most=1) == [0]


# --- from end to end --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(clicks, run, eagerly, tmp_path_factory):
    """A search that ends with the mean of three runs, one of them trained as without a search."""
    with pytest.MonkeyPatch.context() as patch, eagerly():
        patch.setattr("nfm_tfrs.training.recipe.EPOCHS", 2)
        patch.setattr("nfm_tfrs.tuning.outcome.write_report", lambda evidence, path: None)
        patch.setattr(
            made, "together", lambda goal, valid, logits, *, first, most: [first, *{0, 1, 2, 3} - {first}][:3]
        )
        few = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=2)}
        yield run(clicks, tmp_path_factory.mktemp("searches") / "mean", schedule={"patience": 1}, **few)


def folder_of(found):
    return Path(found.evidence.finalists[0].runs[0].file).parents[1]


def test_the_model_is_the_mean_of_its_members_and_is_saved_whole(found, clicks):
    members = found.evidence.winner.members
    files = {(entry.trial, run.seed): run.file for entry in found.evidence.finalists for run in entry.runs}
    assert {member.trial for member in members} == {"default", "0000"}
    expected = np.mean([np.load(files[member.trial, member.seed]) for member in members], axis=0)
    np.testing.assert_allclose(predict(found.model, clicks.valid), expected, atol=1e-5)
    saved = load_model(folder_of(found) / "model.keras")
    np.testing.assert_allclose(predict(saved, clicks.valid), expected, atol=1e-5)
    assert "The model is the mean of 3 trainings on the train rows: " in found.evidence.verdict
    assert json.loads((folder_of(found) / "best.json").read_text())["winner"]["members"][0]["trial"] == members[0].trial


def test_the_mean_is_made_again_to_the_same_bits(found, clicks, eagerly):
    best = Best.from_file(folder_of(found) / "best.json")
    assert best == found.best
    with eagerly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("nfm_tfrs.training.recipe.EPOCHS", 2)
        again = train_again(best, clicks.without("test"))
    members = best.winner.members
    lengths = [2 if member.slices is None else member.slices for member in members]
    assert [len(history["val_auc"]) for history in again.members] == lengths
    assert again.history == again.members[0]
    for mine, theirs in zip(again.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("counted")
def test_members_are_trained_on_all_rows_where_that_is_asked_for(clicks, run, tmp_path, monkeypatch):
    monkeypatch.setattr(made, "together", lambda goal, valid, logits, *, first, most: [first, 3])
    joined = []
    for name in ("models.ensemble.ensemble_of", "training.members.assembled"):
        monkeypatch.setattr(f"nfm_tfrs.{name}", lambda models: joined.append(models) or models[0])
    monkeypatch.setattr("nfm_tfrs.models.ensemble.weights_alone", lambda model, name: model)
    few = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=2, refit=True)}
    winner = run(clicks.without("test"), tmp_path, **few).evidence.winner
    assert [len(models) for models in joined] == [2, 2]
    assert winner.rows == "train and validation"
    assert [(member.trial, member.slices) for member in winner.members] == [("0000", 3), ("default", 2)]  # of 1 epoch
    assert [member.candidate.passes for member in winner.members] == [2, 2]


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("reason", ["ceiling", "package"])
def test_what_cannot_be_one_model_is_the_best_run_alone(clicks, run, tmp_path, monkeypatch, reason):
    def ensemble_of(models):
        if reason == "package":
            raise ValueError("An ensemble is of models of this package.")
        return SimpleNamespace(count_params=lambda: 9999)

    monkeypatch.setattr("nfm_tfrs.models.ensemble.ensemble_of", ensemble_of)
    monkeypatch.setattr(made, "together", lambda goal, valid, logits, *, first, most: [first, 1])
    message = "An ensemble is of" if reason == "package" else "9,999 parameters are more than 9,000."
    few = {"budget": Budget(trials=1), "finals": Finals(finalists=1, seeds=2)}
    with pytest.warns(UserWarning, match=f"The model is not the mean of several: {message}"):
        winner = run(clicks, tmp_path, space={"max_parameters": 9000}, **few).evidence.winner
    assert winner.members == ()


def test_a_training_that_is_interrupted_leaves_the_mean_of_what_was_begun(found, clicks, monkeypatch):
    seen = []

    def sliced(member, *rows, callbacks, **more):
        seen.append(member)
        callbacks[0].interrupted = True
        return SimpleNamespace(model="first", history={})

    monkeypatch.setattr(made, "_sliced", sliced)
    members = sorted(found.best.winner.members, key=lambda member: member.trial)
    best = replace(found.best, winner=replace(found.best.winner, members=tuple(members)))
    assert train_again(best, clicks.without("test"), [SimpleNamespace(interrupted=False)]).model == "first"
    assert len(seen) == 1
