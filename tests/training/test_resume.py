"""A training that breaks and goes on from its checkpoints ends as the one that nothing broke, to the bit."""

import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data.prepare import prepare_files
from nfm_tfrs.keras_compat import keras, private, tf
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.runs import checkpoint
from nfm_tfrs.runs.checkpoint import Checkpoints, last_checkpoint
from nfm_tfrs.training import Recipe, resume

STEPS = 19  # of a pass: 300 rows by 16
RECIPE = Recipe(
    model="nfm",
    config={"embedding_dim": 4, "hidden_units": [8], "dropout": 0.3, "interaction_dropout": 0.3},
    learning_rate=0.05,
    batch_size=16,
)


class Broken(Exception):
    """What ends a training: nothing is written by whoever raises it, as nothing is after a kill."""


def break_at(step):
    """A callback that ends a training after so many steps of all; it counts as the package's own, as --resume's do."""

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if step is not None and private.steps_taken(self.model).numpy() >= step:
                raise Broken

    Break.on_train_batch_end.__module__ = "nfm_tfrs.tests"  # else one step would run at a time
    return Break()


def table(rows, seed):
    rng = np.random.default_rng(seed)
    user, film = rng.integers(0, 30, rows), rng.integers(0, 40, rows)
    return pa.table(
        {
            "user": [f"u{number}" for number in user],
            "film": film,
            "genres": [[f"g{number}" for number in range(one % 4)] for one in film],
            "price": rng.normal(size=rows).astype(np.float32),
            "click": ((user + film) % 3 == 0).astype(np.float32),
        }
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, rows, seed in (("train", 300, 0), ("valid", 100, 1)):
        pq.write_table(table(rows, seed), folder / f"{name}.parquet", row_group_size=40)
    return folder


@pytest.fixture(scope="module")
def prepared(files):
    """The rows in memory, in a cache, or streamed."""

    def prepared(where):
        return prepare_files(
            str(files / "train.parquet"),
            "click",
            valid=str(files / "valid.parquet"),
            stream=where != "memory",
            cache=files / "cache" if where == "cached" else None,
            min_count=1,
        )

    return {where: prepared(where) for where in ("memory", "cached", "streamed")}


@pytest.fixture(scope="module")
def train(files, prepared):
    """Trains three passes; without checkpoints in one go."""

    def train(where="memory", checkpoints=None, *, at=None, recipe=RECIPE, data=None, seed=3, **arguments):
        data = data or prepared[where]

        def batches(start=None):
            return recipe.stream(str(files / "train.parquet"), data, seed=seed, start=start)

        rows = None if where == "memory" else batches if checkpoints else batches()
        # No score is ever better by 1: the rate falls behind the second epoch.
        more = arguments.pop("more", [])
        plateau = keras.callbacks.ReduceLROnPlateau("val_auc", mode="max", patience=0, factor=0.5, min_delta=1.0)
        told = {"epochs": 3, "patience": 3, **arguments}
        return recipe.fit(
            data, rows=rows, seed=seed, callbacks=[plateau, *more, break_at(at)], checkpoints=checkpoints, **told
        )

    return train


def broken(train, checkpoints, *steps, **arguments):
    """Breaks a training at each of these steps, once after the other."""
    for step in steps:
        with pytest.raises(Broken):
            train(checkpoints=checkpoints, at=step, **arguments)


def numbers(trained):
    """All that a training ends with."""
    model = trained.model
    found = {**resume._variables(model), **resume._metrics(model)}
    return {name: [variable.numpy() for variable in listed] for name, listed in found.items()}


def assert_equal(trained, whole):
    assert trained.history == whole.history
    for name, values in numbers(whole).items():
        for one, other in zip(numbers(trained)[name], values, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture(scope="module")
def whole(train):
    return train()


@pytest.mark.parametrize(
    ("where", "precision", "optimizer", "schedule"),
    [
        ("memory", "mixed_float16", "lazyadam", "constant"),
        ("cached", None, "adam", "constant"),
        ("streamed", None, None, "constant"),
        ("memory", None, None, "one_cycle"),
    ],
)
def test_a_training_that_broke_ends_as_the_one_that_did_not(train, tmp_path, where, precision, optimizer, schedule):
    recipe = replace(RECIPE, precision=precision, optimizer=optimizer, schedule=schedule)
    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", steps=4)
    broken(train, checkpoints, 9, 50, where=where, recipe=recipe)
    trained = train(where, checkpoints, recipe=recipe)
    # Inside of passes of 19 steps: checkpoints lie between executions of 8.
    assert trained.resumed == (8, 46)
    assert_equal(trained, train(where, recipe=recipe))


@pytest.mark.parametrize(
    ("where", "precision", "every", "breaks", "resumed"),
    # Inside of passes and between them.
    [
        pytest.param("memory", "mixed_float16", 4, (30, 70), (27, 65), marks=pytest.mark.slow),
        ("streamed", None, 19, (30, 50), (19, 38)),
    ],
)
def test_averages_and_plateaus_go_on_as_if_nothing_had_broken(
    train, tmp_path, where, precision, every, breaks, resumed
):
    plateau = {"schedule": "plateau", "schedule_arguments": {"factor": 16.0, "looks": 1, "drops": 2}}
    recipe = replace(RECIPE, precision=precision, optimizer="lazyadam", averaging=0.9, **plateau)
    told = {"where": where, "recipe": recipe, "epochs": 5, "patience": 5}
    whole = train(**told)
    rates = np.array(whole.history["lr"])
    assert (rates[1:] / rates[:-1] < 0.1).any()  # beside the callback, which halves it
    assert (np.array(whole.history["averaged_val_auc"]) > whole.history["val_auc"]).any()
    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", steps=every)
    broken(train, checkpoints, *breaks, **told)
    trained = train(checkpoints=checkpoints, **told)
    assert trained.resumed == resumed
    assert_equal(trained, whole)


def test_checkpoints_change_nothing_and_the_last_of_them_are_kept(train, whole, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=1, keep=3)
    trained = train(checkpoints=checkpoints)
    assert trained.resumed == ()
    assert_equal(trained, whole)
    # Behind the validation of an epoch (38), but neither behind its last step alone nor where nothing is left (57).
    names = sorted(path.name for path in tmp_path.iterdir())
    best = f"best-{np.argmax(whole.history['val_auc'][:2]):012d}"
    assert names == [best, "starts.json", *(f"step-{number:012d}" for number in (38, 46, 54))]


def test_a_damaged_checkpoint_is_passed_over(train, whole, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 19)
    last = tmp_path / f"step-{16:012d}" / "checkpoint.data-00000-of-00001"
    written = bytearray(last.read_bytes())
    written[len(written) // 2] ^= 1
    last.write_bytes(written)
    with pytest.warns(UserWarning, match=rf"^The checkpoint {last.parent} is damaged and passed over: .*$"):
        trained = train(checkpoints=checkpoints)
    assert trained.resumed == (8,)
    assert_equal(trained, whole)


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew_and_nothing_removed(train, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=4, keep=1)
    broken(train, checkpoints, 9)
    (path,) = tmp_path.glob("step-*")
    (path / "checkpoint.index").write_bytes(b"")
    line = f"None of the checkpoints in {tmp_path} is whole. Remove the folder to start anew."
    with pytest.warns(UserWarning, match="damaged and passed over"), pytest.raises(ValueError, match=re.escape(line)):
        train(checkpoints=checkpoints)
    assert path.exists()


def test_what_cannot_be_read_or_is_of_another_version_is_not_taken_for_damaged(train, monkeypatch, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 9)
    with monkeypatch.context() as version:
        version.setattr(checkpoint, "_FORMAT", 2)
        with pytest.raises(
            ValueError, match=r"was written by another version of nfm-tfrs\. Install that one, or remove"
        ):
            last_checkpoint(tmp_path)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "_whole", denied)
    with pytest.raises(
        OSError,
        match=rf"^The checkpoint {tmp_path}/step-\d+ cannot be read: Permission denied\. Make it readable",
    ):
        last_checkpoint(tmp_path)


def test_a_training_that_a_callback_stops_is_over(train, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    train(checkpoints=Checkpoints(folder=tmp_path, minutes=60), more=[Stop()])
    assert not list(tmp_path.glob("step-*"))


def test_early_stopping_waits_as_long_as_without_a_break(train, tmp_path):
    told = {"patience": 2, "epochs": 8, "seed": 5}
    without = train(**told)
    assert without.model.stop_training
    last = 19 * len(without.history["loss"])
    assert len(without.history["loss"]) < 8
    best = int(np.argmax(without.history["val_auc"]))
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, last - 5, **told)
    trained = train(checkpoints=checkpoints, **told)
    (step,) = trained.resumed
    assert 19 * (best + 1) < step < last  # the best epoch lies before the break, and it waits already
    assert_equal(trained, without)


def test_other_callbacks_are_refused(train, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 9)
    line = "are of another training, whose callbacks was "
    with pytest.raises(ValueError, match=re.escape(line)):
        train(checkpoints=checkpoints, more=[keras.callbacks.TerminateOnNaN()])


def test_rows_that_do_not_begin_where_they_are_told_are_refused(prepared, tmp_path):
    data = prepared["memory"]
    with pytest.raises(
        ValueError, match=r"^With checkpoints rows begins at the position that it is given and has no end"
    ):
        RECIPE.fit(data, rows=lambda start: data.train.dataset(16), checkpoints=Checkpoints(folder=tmp_path))


def test_logs_of_a_start_that_wrote_no_checkpoint_are_taken_out(train, tmp_path):
    logs, checkpoints = tmp_path / "logs", Checkpoints(folder=tmp_path / "checkpoints", minutes=60)
    broken(train, checkpoints, 25, tensorboard=logs)
    train(checkpoints=checkpoints, tensorboard=logs)
    (path,) = (logs / "train").iterdir()
    assert [event.step for event in events(path) if "epoch_loss" in tags(event)] == [0, 1, 2]


def test_what_a_killed_write_left_is_removed_and_nothing_else(train, tmp_path):
    left = tmp_path / ".step-000000000008.unfinished-0a"
    left.mkdir(parents=True)
    mine = [tmp_path / name for name in (".git", ".bashrc", "notes.txt", ".step-8")]
    for path in mine:
        path.write_text("mine")
    train(checkpoints=Checkpoints(folder=tmp_path, minutes=60))
    assert not left.exists()
    assert all(path.read_text() == "mine" for path in mine)


def test_early_stopping_of_ones_own_is_refused(train, tmp_path):
    line = (
        r"^With checkpoints a training stops early by itself; received an EarlyStopping of your own, whose weights no"
    )
    with pytest.raises(ValueError, match=line):
        train(checkpoints=Checkpoints(folder=tmp_path), more=[keras.callbacks.EarlyStopping("val_loss")])


def test_numbers_of_numpy_are_refused_as_without_checkpoints(train, tmp_path):
    recipe = replace(RECIPE, config={"embedding_dim": np.int64(4)})
    with pytest.raises(ValueError, match=r"embedding_dim must be a whole number of 1 or more; received np\.int64\(4\)"):
        train(checkpoints=Checkpoints(folder=tmp_path), recipe=recipe)


def test_the_day_is_that_of_the_first_start(train, monkeypatch, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, minutes=60)
    monkeypatch.setattr(checkpoint, "today", lambda: 20_000)
    broken(train, checkpoints, 9)
    monkeypatch.setattr(checkpoint, "today", lambda: 20_001)
    assert set(np.unique(train(checkpoints=checkpoints).model.statistics.seen["user"])) <= {0, 20_000}
    other = replace(checkpoints, settings={"another": "training"})
    assert checkpoint.Starts.noted(other).day == 20_001


def test_every_flipped_byte_of_a_checkpoint_is_found_or_changes_nothing(tmp_path):
    checkpoints = Checkpoints(folder=tmp_path)
    values = np.arange(6, dtype=np.float32)
    progress = checkpoint.Progress(settings={"seed": 1}, epoch=0, step=3, steps=5, epochs=2)
    variable = tf.Variable(values)
    checkpoint.write_checkpoint(checkpoints, progress, {"weights": [variable]})
    folder = next(tmp_path.iterdir())
    silent = 0
    for path in sorted(folder.iterdir()):
        written = path.read_bytes()
        for place in range(0, len(written), 5):
            path.write_bytes(written[:place] + bytes([written[place] ^ 0x10]) + written[place + 1 :])
            try:
                found = checkpoint.Checkpoint(folder)
                found.load({"weights": [variable]})
            except Exception:  # noqa: BLE001
                continue
            silent += 1
            assert found.progress == progress
            np.testing.assert_array_equal(variable.numpy(), values)
        path.write_bytes(written)
    assert silent < 20


@pytest.mark.parametrize(
    ("error", "words", "why"),
    [
        (tf.errors.ResourceExhaustedError, "No space left on device", None),
        (tf.errors.ResourceExhaustedError, "Disk quota exceeded", None),
        # Which Keras would take for the end of the rows.
        (tf.errors.OutOfRangeError, "File too large [Op:SaveV2]", "{tmp_path} cannot be written: File too large."),
    ],
)
def test_a_full_disk_is_said_and_the_last_checkpoint_stays(train, whole, monkeypatch, tmp_path, error, words, why):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 9)
    write = tf.train.Checkpoint.write

    def full(self, prefix, **options):
        write(self, prefix, **options)
        raise error(None, None, f"{{{{node}}}} {prefix}; {words}")

    place = tmp_path / f"step-{16:012d}"
    line = f"The disk is full: {place} cannot be written. Make room, and start again."
    line = "No checkpoint was written, and the training goes on: " + (why or line).format(tmp_path=tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(tf.train.Checkpoint, "write", full)
        with pytest.warns(UserWarning, match=f"^{re.escape(line)}$"):
            broken(train, checkpoints, 27)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["starts.json", f"step-{8:012d}"]
    trained = train(checkpoints=checkpoints)
    assert trained.resumed == (8, 8)
    assert_equal(trained, whole)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"recipe": replace(RECIPE, learning_rate=0.1)}, "training.learning_rate was 0.05; received 0.1"),
        ({"recipe": replace(RECIPE, config={"embedding_dim": 4})}, "config.dropout was 0.3; received None"),
        ({"seed": 4}, "seed was 3; received 4"),
        ({"patience": 2}, "patience was 3; received 2"),
    ],
)
def test_checkpoints_of_another_training_are_refused_with_the_setting(train, tmp_path, what, line):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 9)
    whose = f"The checkpoints in {tmp_path} are of another training, whose {line}. Give what it had, or remove the "
    with pytest.raises(ValueError, match=re.escape(whose)):
        train(checkpoints=checkpoints, **what)


@pytest.mark.parametrize(
    ("recipe", "name", "why"),
    [
        (
            replace(RECIPE, schedule="cosine"),
            "passes was None; received 3",
            "a schedule falls over the passes of its own training now",
        ),
        (RECIPE, "rate_rows was None; received 256", "the rate of an Adagrad grows with the rows of a step now"),
    ],
)
def test_checkpoints_of_an_earlier_version_with_other_rates_are_refused(
    train, tmp_path, monkeypatch, recipe, name, why
):
    known = Recipe._known

    def before(*arguments):
        steps, found = known(*arguments)
        training = {key: value for key, value in found["training"].items() if key not in ("passes", "rate_rows")}
        return steps, {**found, "training": training}

    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    with monkeypatch.context() as earlier:
        earlier.setattr(Recipe, "_known", before)
        broken(train, checkpoints, 9, recipe=replace(recipe, rate_rows=None if "rate" in name else 256))
    line = f"whose training.{name}. An earlier version began it, and {why}. Pass --overwrite, or remove the folder to"
    with pytest.raises(ValueError, match=re.escape(line)):
        train(checkpoints=checkpoints, recipe=recipe)


def test_checkpoints_of_other_rows_are_refused(train, files, prepared, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 9)
    data = prepare_files(
        str(files / "train.parquet"), "click", valid=str(files / "train.parquet"), features=prepared["memory"].features
    )
    with pytest.raises(ValueError, match=r"another training, whose rows was '\w+'; received '\w+'\."):
        train(checkpoints=checkpoints, data=data)


def test_a_checkpoint_of_other_variables_is_refused(train, tmp_path):
    broken(train, Checkpoints(folder=tmp_path, steps=4), 9)
    found = last_checkpoint(tmp_path)
    line = f"The checkpoint {found.path} holds other weights than this training's: another version wrote it. Remove"
    with pytest.raises(ValueError, match=re.escape(line)):
        found.load({"weights": [tf.Variable(1.0)]})


def test_batches_that_cannot_be_entered_are_refused(prepared, tmp_path):
    batches = prepared["memory"].train.dataset(16)
    with pytest.raises(ValueError, match=r"With checkpoints rows is a function of the position .*; received _\w+\. Gi"):
        RECIPE.fit(prepared["memory"], rows=batches, checkpoints=Checkpoints(folder=tmp_path))


def test_logs_hold_each_epoch_once_and_a_file_a_start(train, tmp_path):
    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", steps=4)
    logs = tmp_path / "logs"
    other = logs / "train" / "events.out.tfevents.0.earlier"
    other.parent.mkdir(parents=True)
    shutil.copy(__file__, other)
    broken(train, checkpoints, 9, 42, tensorboard=logs)
    train(checkpoints=checkpoints, tensorboard=logs)
    assert other.exists()  # it was there when the training began
    other.unlink()
    for part, files in (("train", 3), ("validation", 2)):  # the first start ended before a validation
        found = sorted((logs / part).iterdir())
        assert len(found) == files
        losses = [event.step for path in found for event in events(path) if "epoch_loss" in tags(event)]
        assert losses == [0, 1, 2]


def events(path):
    for record in tf.data.TFRecordDataset(str(path)):
        yield tf.compat.v1.Event.FromString(record.numpy())


def tags(event):
    return [value.tag for value in event.summary.value]


def test_a_message_behind_a_checkpoint_counts_the_batches_of_the_whole_epoch(train, tmp_path, monkeypatch):
    checkpoints = Checkpoints(folder=tmp_path, steps=4)
    broken(train, checkpoints, 30)
    load = checkpoint.Checkpoint.load

    def without_sense(self, variables):
        load(self, variables)
        for variable in variables.get("weights", []):
            variable.assign(variable * np.nan)

    monkeypatch.setattr(checkpoint.Checkpoint, "load", without_sense)
    # 27 steps are behind it, of which 8 are of the second epoch.
    monkeypatch.setattr(checkpoint.Checkpoint, "best_weights", lambda self: None)
    with pytest.raises(LossNotFinite, match="in batch 9 of epoch 2, which moved no weight"):
        train(checkpoints=checkpoints)


def test_layers_whose_random_numbers_cannot_be_restored_are_named():
    model = keras.Sequential([keras.layers.Dropout(0.5, name="theirs"), keras.layers.Dense(1)])
    with pytest.warns(UserWarning, match=r"^A training that goes on draws other random numbers in theirs: their state"):
        resume._warn_of_hidden_states(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume._warn_of_hidden_states(keras.Sequential([keras.layers.Dense(1)]))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"minutes": 0}, "minutes must be a number above 0; received 0."),
        ({"steps": 0}, "steps must be a whole number of 1 or more; received 0."),
        ({"keep": 0}, "keep must be a whole number of 1 or more; received 0."),
        ({"minutes": 1, "steps": 1}, "minutes and steps both say how often a checkpoint is written; received 1 and 1."),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        Checkpoints(folder=tmp_path, **settings)


class Clock:
    """Seconds that pass by an amount with each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


@pytest.mark.parametrize(("minutes", "seconds", "count"), [(None, 0.001, 0), (None, 60.0, 1), (1.0, 31.0, 4)])
def test_minutes_and_the_time_of_a_write_decide_how_often(train, monkeypatch, tmp_path, minutes, seconds, count):
    # Looks at the clock: one when it begins, two inside each epoch and one behind it, two more with each write. At 60 s
    # a look a write takes 60, and the next one waits for 3000; at 31 s every second look is a minute later.
    written = []
    monkeypatch.setattr(resume, "time", Clock(seconds))
    monkeypatch.setattr(resume, "write_checkpoint", lambda *arguments: written.append(arguments))
    train(checkpoints=Checkpoints(folder=tmp_path, minutes=minutes))
    assert len(written) == count
