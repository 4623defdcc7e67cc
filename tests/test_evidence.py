"""Evidence as types: what is written is read again, whoever wrote it, and what is no evidence is refused in a line."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import Data, Difference, Evidence, Finalist, Judged, Member, Objective, Run, TrialRecord, Winner
from nfm_tfrs.written import FORMAT

YESTERDAY = Path(__file__).parent / "yesterday" / "search.json"  # of version 0.1.0, shortened
WHOLE = Configuration(
    model="nfm",
    config={"hidden_units": [8], "task": "binary", "dropout": 0.1},
    optimizer="adam",
    optimizer_arguments={"beta_1": 0.8},
    learning_rate=0.01,
    schedule="cosine",
    batch_size=64,
    passes=2.5,
    precision="mixed_float16",
    jit_compile=True,
)
RUN = Run(seed=3, slice=7, metrics={"auc": 0.75}, file="0000-3.npy")
GAP = Difference(mean=-0.1, low=-0.2, high=0.05)
FINALIST = Finalist(trial="0000", candidate=WHOLE, runs=(RUN, RUN), diverged=(4,), mean=0.75, sd=0.01, difference=GAP)
TRIAL = TrialRecord(
    id="0001",
    parent="0000",
    status="COMPLETED",
    message=None,
    values={"layers": 1, "units": 64},
    candidate=WHOLE,
    start=9,
    end=27,
    score=0.75,
    scores=({"auc": 0.7, "log_loss": 0.5}, {"auc": 0.75, "log_loss": 0.4}),
)
FAILED = replace(TRIAL, parent=None, status="FAILED", message="OOM", start=None, end=None, score=None, scores=())
MEMBERS = (
    Member(trial="default", candidate=WHOLE, seed=1, slices=None),
    Member(trial="0007", candidate=WHOLE, seed=2, slices=5),
)
MEAN = Winner(seed=1, slices=None, members=MEMBERS)
EVIDENCE = Evidence(
    objective=Objective(name="val_auc", direction="max"),
    seed=5,
    passes=2.5,
    slices=27,
    seconds=12.25,
    trials=(TRIAL, FAILED),
    finalists=(FINALIST,),
    diverged=("0002",),
    verdict="There was one finalist.",
    winner=Winner(seed=3, slices=7, rows="train and validation"),
    test=Judged(metrics={"auc": 0.74}, low=0.7, high=0.78),
    data=Data(train=700, valid=100, test=90, label="rating>=4", split="time:timestamp", fingerprint="9f2c"),
    versions={"nfm-tfrs": "0.1.0"},
)


@pytest.fixture
def written():
    return json.loads(YESTERDAY.read_text())


@pytest.mark.parametrize(
    "thing",
    [
        EVIDENCE,
        replace(EVIDENCE, test=None, finalists=(), trials=()),
        EVIDENCE.objective,
        WHOLE,
        Configuration(model="fm"),
        TRIAL,
        FAILED,
        RUN,
        GAP,
        replace(GAP, over_seeds=True),
        FINALIST,
        replace(FINALIST, runs=(), mean=None, sd=None, difference=None),
        EVIDENCE.winner,
        Winner(seed=1, slices=None),
        Winner(seed=1, slices=40, passes=2),
        MEAN,
        replace(RUN, trained=9),
        EVIDENCE.test,
        EVIDENCE.data,
        Data(train=1, valid=2),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_written_is_read_as_the_same(thing):
    text = json.dumps(thing.to_json(), allow_nan=False)
    assert type(thing).from_json(json.loads(text)) == thing


@pytest.mark.parametrize(
    ("winner", "made"),
    [
        (Winner(seed=3, slices=7), "7 slices of the train rows, seed 3"),
        (Winner(seed=3, slices=None), "a training as without a search of the train rows, seed 3"),
        (MEAN, "the mean of 2 trainings on the train rows: default with seed 1, 0007 with seed 2"),
    ],
)
def test_how_a_model_was_made_is_a_phrase(winner, made):
    assert winner.made == made


@pytest.mark.parametrize(("trained", "improving"), [(7, True), (8, False), (None, False)])
def test_a_run_that_is_best_at_its_last_slice_is_still_improving(trained, improving):
    assert replace(RUN, trained=trained).improving == improving


def test_nan_is_written_as_null_and_read_as_nan():
    nan = math.nan
    gap = replace(GAP, low=nan, high=nan)
    assert gap.to_json() == {"mean": -0.1, "interval": [None, None]}
    assert math.isnan(Difference.from_json(gap.to_json()).low)
    run = replace(RUN, metrics={"auc": nan, "log_loss": 0.5})
    assert run.to_json()["metrics"] == {"auc": None, "log_loss": 0.5}
    assert math.isnan(Run.from_json(run.to_json()).metrics["auc"])
    judged = Judged(metrics={"auc": nan}, low=nan, high=nan)
    assert judged.to_json() == {"metrics": {"auc": None}, "interval": [None, None]}
    json.dumps(replace(TRIAL, score=nan, scores=({"auc": nan},)).to_json(), allow_nan=False)
    json.dumps(replace(FINALIST, mean=nan, sd=nan).to_json(), allow_nan=False)


def test_what_a_constant_would_have_scored_is_written_where_it_is_known():
    judged = Judged(metrics={"auc": 0.7}, low=0.6, high=0.8, constant={"log_loss": 0.69})
    assert judged.to_json()["constant"] == {"log_loss": 0.69}
    assert Judged.from_json(judged.to_json()) == judged


def test_version_010_is_read_whole(written):
    evidence = Evidence.from_json(written)
    read = evidence.to_json()
    assert read.pop("format") == FORMAT
    del written["settings"]  # what the search was told is no evidence
    assert read == written
    assert evidence.objective == Objective(name="val_auc", direction="max")
    assert evidence.finalists[0].candidate.precision == "float32"
    assert evidence.data.rows == {"train": 720, "valid": 90, "test": 90}


def test_arguments_stand_in_the_order_of_version_010(written):
    for trial, theirs in zip(Evidence.from_json(written).trials, written["trials"], strict=True):
        assert list(trial.candidate.arguments) == list(theirs["candidate"]["config"])
        assert list(trial.candidate.training) == list(theirs["candidate"]["training"])


def test_a_configuration_writes_nothing_that_is_left_to_a_default():
    training = {"schedule": "constant", "batch_size": 256}
    assert Configuration(model="fm").to_json() == {"model": "fm", "training": training, "config": {}}


def test_the_precision_is_the_models_dtype():
    made = Configuration(model="fm", config={"embedding_dim": 8}, precision="bfloat16")
    assert made.arguments == {"embedding_dim": 8, "dtype": "bfloat16"}
    assert Configuration.from_json(made.to_json()).config == {"embedding_dim": 8}


def test_xla_left_to_the_model_is_read_as_none():
    text = {"model": "fm", "config": {}, "training": {"jit_compile": "auto"}}
    assert Configuration.from_json(text).jit_compile is None


def test_a_newer_format_is_refused(written):
    message = (
        f"This evidence of a search has format {FORMAT + 1}, and this version of nfm-tfrs reads up to {FORMAT}. "
        "Install a newer nfm-tfrs."
    )
    with pytest.raises(ValueError, match="format") as refused:
        Evidence.from_json(written | {"format": FORMAT + 1})
    assert str(refused.value) == message


@pytest.mark.parametrize("thing", [[], "text", None, 3])
def test_what_is_no_object_is_refused(thing):
    with pytest.raises(ValueError, match=rf"^This is no evidence of a search: .* received {type(thing).__name__}\.$"):
        Evidence.from_json(thing)


def keys_of(thing, path=()):
    """The way to every value of what `EVIDENCE` writes that is needed."""
    optional = {"label", "split", "fingerprint", "format", "training", "config", "values", "metrics", "versions"}
    if isinstance(thing, dict):
        for name, value in thing.items():
            if name not in optional and (*path, name) != ("data", "rows", "test"):
                yield (*path, name)
                yield from () if name in ("candidate",) else keys_of(value, (*path, name))
    elif isinstance(thing, list) and thing and isinstance(thing[0], dict) and "scores" not in path:
        yield from keys_of(thing[0], (*path, 0))


def holder(written, way):
    for step in way[:-1]:
        written = written[step]
    return written


@pytest.mark.parametrize("way", list(keys_of(EVIDENCE.to_json())), ids=lambda way: "-".join(map(str, way)))
def test_a_missing_key_is_named_in_a_line(way):
    written = copy.deepcopy(EVIDENCE.to_json())
    del holder(written, way)[way[-1]]
    line = rf"^This is no evidence of a search: KeyError '{way[-1]}'\. Give a search\.json\.$"
    with pytest.raises(ValueError, match=line):
        Evidence.from_json(written)


@pytest.mark.parametrize(
    ("way", "value", "problem"),
    [
        (("seed",), "0", "'seed' is str"),
        (("passes",), None, "'passes' is NoneType"),
        (("trials",), {"id": 1}, "'trials' is dict"),
        (("trials", 0), "0000", "'0000' is no object"),
        (("trials", 0, "scores", 0), 0.5, "0.5 is no object"),
        (("trials", 0, "scores", 0, "auc"), "high", "'auc' is str"),
        (("trials", 0, "score"), "high", "'score' is str"),
        (("trials", 0, "candidate", "config"), ["ab"], "'config' is list"),
        (("trials", 0, "candidate", "training", "batch_size"), "64", "'batch_size' is str"),
        (("trials", 0, "candidate", "training", "schedule"), "steps", "'schedule' is 'steps'"),
        (("trials", 0, "candidate", "training", "jit_compile"), "always", "'jit_compile' is str"),
        (("finalists", 0, "difference"), 0.5, "'difference' is float"),
        (("finalists", 0, "difference", "interval"), [0.1], "'interval' has 1 ends"),
        (("finalists", 0, "difference", "interval"), [0.1, "b"], "'b' is no number"),
        (("objective", "direction"), "up", "'direction' is 'up'"),
        (("model", "rows"), "all", "'rows' is 'all'"),
        (("test",), [], "'test' is list"),
        (("data", "rows", "train"), 1.5, "'train' is float"),
        (("versions",), None, "'versions' is NoneType"),
    ],
)
def test_a_wrong_type_is_named_in_a_line(way, value, problem):
    written = copy.deepcopy(EVIDENCE.to_json())
    holder(written, way)[way[-1]] = value
    with pytest.raises(ValueError, match="This is no evidence") as refused:
        Evidence.from_json(written)
    assert str(refused.value) == f"This is no evidence of a search: TypeError {problem}. Give a search.json."


def test_an_objective_knows_its_metric_and_which_way_is_better():
    most, least = EVIDENCE.objective, Objective(name="val_log_loss", direction="min")
    assert (most.metric, most.sign) == ("auc", 1)
    assert (least.metric, least.sign) == ("log_loss", -1)
