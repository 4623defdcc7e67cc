"""`nfm-tfrs train --members`: several seeds in one run, which every other command takes as it takes any."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.resuming import ResumeOptions
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.runs.checkpoint import Progress, write_checkpoint
from nfm_tfrs.runs.finished import Finished
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import repeat_run

TOLD = ("--columns", "user_id,film", "--label", "rating>=4", "--set", "embedding_dim=2", "--set", "hidden_units=[3]")
TOLD = (*TOLD, "--epochs", 1, "--batch-size", 256, "--seed", 5)


@pytest.fixture(scope="module")
def two(ratings, done, tmp_path_factory):
    """A run of two members."""
    out = tmp_path_factory.mktemp("members") / "two"
    done("train", "--data", ratings, *TOLD, "--members", 2, "--out", out)
    return out


def test_a_run_of_members_is_one_model_that_every_command_takes(two, ratings, done, tmp_path):
    model = load_model(two / "model.keras")
    assert "mean of 2 NFM" in repr(model)
    record, metrics = (json.loads((two / name).read_text()) for name in ("run.json", "metrics.json"))
    assert record["members"] == 2
    assert [len(member["val_auc"]) for member in metrics["members"]] == [1, 1]
    assert metrics["history"] == metrics["members"][0]
    assert (two / "curves.png").exists()

    rows = pq.read_table(ratings)
    logits = np.mean([member.predict(rows, verbose=0)[:, 0] for member in model.models], axis=0)
    done("predict", "--model", two, "--data", ratings, "--out", tmp_path / "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")
    probability = scores.column(scores.num_columns - 1).to_numpy()
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert "auc" in done("evaluate", "--model", two, "--data", ratings)
    done("export", "--model", two, "--out", tmp_path / "served")
    assert "- members: 2" in (tmp_path / "served" / "README.md").read_text()
    assert "mean of 2 NFM" in repr(repeat_run(two).model)


def test_a_config_says_how_many_members(two, ratings, done, tmp_path):
    told = ("train", "--data", ratings, "--label", "rating>=4", "--epochs", 1, "--config", two / "run.json")
    done(*told, "--out", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "run.json").read_text())["members"] == 2
    done(*told, "--members", 1, "--out", tmp_path / "one")
    assert "members" not in json.loads((tmp_path / "one" / "run.json").read_text())


def test_an_interrupted_run_of_members_goes_on(two, ratings, done, refused, tmp_path, monkeypatch):
    from nfm_tfrs.training import members

    command = ("train", "--data", ratings, *TOLD, "--members", 2, "--resume", "--out", tmp_path / "run")
    keep = members._keep

    def once(member, trained, known):
        keep(member, trained, known)
        raise ValueError("Broken.")

    monkeypatch.setattr(members, "_keep", once)
    assert "Broken." in refused(*command)
    monkeypatch.setattr(members, "_keep", keep)
    assert "another training, whose members was 2; received 3" in refused(*command, "--members", 3)
    assert "goes on with member 2 of 2" in done(*command)
    both = [load_model(run / "model.keras").weights for run in (tmp_path / "run", two)]
    for weight, wanted in zip(*both, strict=True):
        np.testing.assert_array_equal(weight.numpy(), wanted.numpy())
    assert "is finished" in done(*command)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("was", "now"), [(1, 4), (2, 1), (4, 2)])
@pytest.mark.parametrize("ended", [False, True])
def test_what_another_number_of_members_has_left_is_removed_only_where_it_may_go(was, now, ended, tmp_path, capsys):
    out = tmp_path / "run"
    options = ResumeOptions(resume=True)
    left = options.begin(out, {"members": was}, overwrite=False, members=was)
    left = left if was == 1 else left.of_member(was - 1 if was > now else 0)
    if ended and was > 1:
        Finished(folder=left.folder, settings={"members": was}, history={}).write()
    else:
        progress = Progress(settings={"members": was}, epoch=0, step=1, steps=2, epochs=1)
        write_checkpoint(left, progress, {"weights": [tf.Variable(1.0)]})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"another training, whose members was {was}; received {now}\. Give"):
        options.begin(out, {"members": now}, overwrite=False, members=now)
    assert sorted(tmp_path.rglob("*")) == before
    assert options.begin(out, {"members": now}, overwrite=True, members=now) is not None
    assert not [*left.folder.glob("step-*"), *left.folder.glob("finished*")]


def test_slips_are_one_line(two, ratings, refused, tmp_path):
    out = ("--out", tmp_path / "run")
    assert "--members must be a whole number" in refused("train", "--data", ratings, *TOLD, "--members", 0, *out)
    line = refused("train", "--data", ratings, "--from", two, *out)
    assert "holds the mean of 2 models, which trains no further. Go on from a run of one model" in line
    line = refused("train", "--data", ratings, "--label", "rating>=4", "--config", two / "run.json", "--repeat", *out)
    assert "does not say how a search made its model" in line
    line = refused("train", "--data", tmp_path / "none.csv", "--members", 51, *out)
    assert "--members must be a whole number from 1 to 50; received 51" in line
    one = tmp_path / "one"
    shutil.copytree(two, one)
    record = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps({**record, "members": 1}))
    line = refused("train", "--data", ratings, "--from", one, "--members", 2, *out)
    assert "received --members. Leave it out" in line
