"""A run that is trained again from its folder."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data import parse_split, prepare_files
from nfm_tfrs.runs.folder import write_run
from nfm_tfrs.runs.record import RunRecord, Source
from nfm_tfrs.target import Target
from nfm_tfrs.training import Best, Recipe, repeat_run

RECIPE = Recipe(model="nfm", config={"embedding_dim": 2, "hidden_units": [4]}, batch_size=32, learning_rate=0.1)
TARGET = Target.parse("click")


def digest(model):
    return [weight.tobytes() for weight in model.get_weights()]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for name, rows in (("train", 200), ("valid", 60)):
        user, film = rng.integers(0, 9, rows), rng.integers(0, 5, rows)
        clicks = pa.table({"user": user, "film": [f"film {i}" for i in film], "click": (user + film) % 2})
        pq.write_table(clicks, folder / f"{name}.parquet", row_group_size=50)
    return folder


@pytest.fixture(scope="module", params=["split", "streamed"])
def run(request, files, tmp_path_factory):
    """A run's folder and the weights of its model."""
    data, stream = str(files / "train.parquet"), request.param == "streamed"
    valid = [str(files / "valid.parquet")] if stream else None
    prepared = prepare_files([data], TARGET, parse_split("random", 3), valid=valid, stream=stream, min_count=1)
    batches = RECIPE.stream([data], prepared, seed=3) if stream else None
    trained = RECIPE.fit(prepared, rows=batches, seed=3, epochs=2, patience=1)
    record = RunRecord(
        target=TARGET,
        seed=3,
        recipe=RECIPE,
        epochs=2,
        patience=1,
        source=Source(data=(data,), valid=tuple(valid or ()), stream=stream),
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    write_run(folder, trained.model, trained.history, {}, record)
    return folder, digest(trained.model)


def changed(folder, out, **changes):
    """A copy of a run whose run.json says something else."""
    shutil.copytree(folder, out)
    path = out / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return out


def test_a_run_is_trained_again_to_the_bit(run):
    folder, weights = run
    assert digest(repeat_run(folder).model) == weights


def test_another_seed_trains_another_model(run, tmp_path):
    folder, weights = run
    assert digest(repeat_run(changed(folder, tmp_path / "run", seed=4)).model) != weights


def test_a_run_gives_its_recipe_and_features(run):
    best = Best.from_file(run[0] / "run.json")
    assert best.winner is None
    assert best.recipe.without_features() == RECIPE
    assert best.recipe.features.names == ("user", "film")


def test_other_rows_are_refused(run, tmp_path):
    folder, _ = run
    data = json.loads((folder / "run.json").read_text())["data"]
    other = changed(folder, tmp_path / "run", data={**data, "stream": False, "fingerprint": "0" * 64})
    with pytest.raises(ValueError, match=r"The run had other rows: their fingerprint was 00000000…; received \w{8}…\."):
        repeat_run(other)


@pytest.mark.parametrize("missing", ["recipe", "data"])
def test_a_run_that_does_not_say_how_it_was_made_is_refused(run, tmp_path, missing):
    with pytest.raises(ValueError, match="does not say how and of which rows its model was made"):
        repeat_run(changed(run[0], tmp_path / "run", **{missing: None}))


def test_a_run_whose_recipe_names_what_is_not_known_is_refused(run, tmp_path):
    recipe = json.loads((run[0] / "run.json").read_text())["recipe"]
    block = {"module": "a_block_of_mine", "class_name": "Block", "registered_name": "mine>Block", "config": {}}
    hostile = changed(run[0], tmp_path / "run", recipe={**recipe, "config": {"interaction": block}})
    with pytest.raises(ValueError, match=r"names a_block_of_mine\.Block, which is not registered in this process"):
        repeat_run(hostile)
    with pytest.raises(ValueError, match="What the config names is not there: No module named 'a_block_of_mine'"):
        repeat_run(hostile, trust=True)


def test_a_run_that_repeated_a_search_is_refused(run, tmp_path):
    made = {"seed": 1, "slices": 2, "rows": "train", "of": 3}
    repeated = changed(run[0], tmp_path / "run", winner=made, command="nfm-tfrs train --repeat")
    with pytest.raises(ValueError, match="Run its command again: nfm-tfrs train --repeat"):
        repeat_run(repeated)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no run at .*: it has no run\.json\."):
        repeat_run(tmp_path)
