"""Several members of one recipe against as many trainings, each told its seed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data.prepare import prepare_files
from nfm_tfrs.keras_compat import keras, private
from nfm_tfrs.models.ensemble import EnsembleModel
from nfm_tfrs.runs.checkpoint import Checkpoints
from nfm_tfrs.training import Recipe

RECIPE = Recipe(model="nfm", config={"embedding_dim": 2, "hidden_units": [3], "dropout": 0.3}, batch_size=64)


class Broken(Exception):
    """What ends a training, as a kill does."""


def table(rows, seed):
    rng = np.random.default_rng(seed)
    user, film = rng.integers(0, 30, rows), rng.integers(0, 40, rows)
    click = ((user + film) % 3 == 0).astype(np.float32)
    return pa.table({"user": [f"u{number}" for number in user], "film": film, "click": click})


def break_in(member, step):
    """A callback that ends a member after so many steps of it, counted from the last start."""

    class Break(keras.callbacks.Callback):
        begun = 0

        def on_train_begin(self, logs=None):
            self.begun += 1

        def on_train_batch_end(self, batch, logs=None):
            if self.begun == member and private.steps_taken(self.model).numpy() >= step:
                raise Broken

    Break.on_train_batch_end.__module__ = "nfm_tfrs.tests"
    return Break()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, rows, seed in (("train", 300, 0), ("valid", 100, 1)):
        pq.write_table(table(rows, seed), folder / f"{name}.parquet", row_group_size=40)
    return folder


@pytest.fixture(scope="module")
def data(files):
    return {
        stream: prepare_files(
            str(files / "train.parquet"), "click", valid=str(files / "valid.parquet"), stream=stream, min_count=1
        )
        for stream in (False, True)
    }


@pytest.fixture(scope="module")
def apart(data):
    """Two trainings of seeds 3 and 4."""
    return [RECIPE.fit(data[False], seed=seed, epochs=2) for seed in (3, 4)]


def weights(model):
    return [weight.numpy() for weight in model.weights]


def assert_same(trained, wanted):
    assert isinstance(trained.model, EnsembleModel)
    assert list(trained.members) == [one.history for one in wanted]
    assert trained.history == wanted[0].history
    for member, one in zip(trained.model.models, wanted, strict=True):
        for found, weight in zip(weights(member), weights(one.model), strict=True):
            np.testing.assert_array_equal(found, weight)


def test_members_are_trainings_of_seeds_that_follow_each_other(data, apart):
    trained = RECIPE.fit(data[False], seed=3, epochs=2, members=2)
    assert_same(trained, apart)
    assert trained.model.statistics is not None
    assert [model.statistics for model in trained.model.models] == [None, None]


def test_one_member_is_the_model_itself(data, apart):
    trained = RECIPE.fit(data[False], seed=3, epochs=2, members=1)
    assert type(trained.model).__name__ == "NFM"
    assert trained.members == ()
    assert trained.history == apart[0].history


def test_a_break_in_the_second_member_leaves_the_first_as_it_is(data, apart, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=2)
    with pytest.raises(Broken):
        RECIPE.fit(data[False], seed=3, epochs=2, members=2, checkpoints=checkpoints, callbacks=[break_in(2, 7)])
    assert (tmp_path / "member-1" / "finished.json").exists()
    assert not list((tmp_path / "member-1").glob("step-*"))
    begun = break_in(0, 0)
    trained = RECIPE.fit(data[False], seed=3, epochs=2, members=2, checkpoints=checkpoints, callbacks=[begun])
    assert begun.begun == 1
    assert_same(trained, apart)
    assert len(trained.resumed) == 1
    again = RECIPE.fit(data[False], seed=3, epochs=2, members=2, checkpoints=checkpoints, callbacks=[begun])
    assert begun.begun == 1  # both are whole
    assert_same(again, apart)
    with pytest.raises(ValueError, match="member-1 holds a member of another training, whose epochs was 2; received 3"):
        RECIPE.fit(data[False], seed=3, epochs=3, members=2, checkpoints=checkpoints)


def test_an_interruption_leaves_the_members_that_are_whole(data, apart):
    class Stop(keras.callbacks.Callback):
        interrupted, begun = False, 0

        def on_train_begin(self, logs=None):
            self.begun += 1

        def on_train_batch_end(self, batch, logs=None):
            if self.begun == 2:
                self.interrupted = self.model.stop_training = True

    trained = RECIPE.fit(data[False], seed=3, epochs=2, members=3, callbacks=[Stop()])
    assert_same(trained, apart[:1])


def test_each_member_reads_a_stream_anew(files, data):
    def stream(seed):
        return RECIPE.stream(str(files / "train.parquet"), data[True], seed=seed)

    rows = [stream(3), stream(4)]
    trained = RECIPE.fit(data[True], rows=rows, seed=3, epochs=1, members=2)
    assert_same(trained, [RECIPE.fit(data[True], rows=stream(seed), seed=seed, epochs=1) for seed in (3, 4)])
    for wrong, said in (
        (iter(rows), r"Each member reads the rows anew; received an iterator \(list_iterator\)"),
        (rows[:1], "A list of rows has those of each member; received 1 for 2 members."),
    ):
        with pytest.raises(ValueError, match=said):
            RECIPE.fit(data[True], rows=wrong, seed=3, epochs=1, members=2)


def test_slips_are_one_line(data, apart):
    for wrong in (0, 51):  # more than a file of models may hold
        with pytest.raises(ValueError, match=rf"members must be a whole number from 1 to 50; received {wrong}\."):
            RECIPE.fit(data[False], members=wrong)
    with pytest.raises(ValueError, match=r"A model that goes on is one; received members=2 beside it\. Leave"):
        RECIPE.fit(data[False], model=apart[0].model, members=2)


def test_a_record_remembers_its_members(tmp_path):
    from nfm_tfrs.runs.record import RunRecord
    from nfm_tfrs.target import Target

    record = RunRecord(target=Target.parse("click"), members=3)
    (tmp_path / "run.json").write_text(json.dumps(record.to_json()))
    assert RunRecord.from_file(tmp_path / "run.json").members == 3
    assert "members" not in RunRecord(target=Target.parse("click")).to_json()  # as files of before
    assert RunRecord(target=Target.parse("click")).settings["members"] == 1
