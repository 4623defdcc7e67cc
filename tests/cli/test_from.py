"""`nfm-tfrs train --from`: a run's model goes on with new rows, and its vocabularies grow with them."""

import hashlib
import json
import shutil
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.growing import Base, GrowthOptions
from nfm_tfrs.cli.interruption import Interruption
from nfm_tfrs.cli.options import Rows
from nfm_tfrs.cli.plan import planned
from nfm_tfrs.cli.pretrained import PretrainedOptions
from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training import repeat_run

TOLD = ("--label", "rating>=4", "--columns", "user_id,film,genres,price", "--split", "time:timestamp")


@pytest.fixture(scope="module")
def base(ratings, done, tmp_path_factory):
    """The run of the first day."""
    out = tmp_path_factory.mktemp("base") / "run"
    told = ("--set", "embedding_dim=4", "--epochs", 2, "--groups", "user_id", "--optimizer", "lazyadam")
    done("train", "--data", ratings, *TOLD, *told, "--learning-rate", 0.01, "--out", out)
    return out


@pytest.fixture(scope="module")
def tonight(ratings, tmp_path_factory):
    """The rows of the second day: a third of the films is new."""
    table = pq.read_table(ratings).slice(0, 300)
    films = table["film"].to_pylist()
    table = table.set_column(
        table.column_names.index("film"),
        "film",
        pa.array([f"new {n % 7}" if n % 3 == 0 else film for n, film in enumerate(films)]),
    )
    path = tmp_path_factory.mktemp("tonight") / "rows.parquet"
    pq.write_table(table, path, row_group_size=50)
    return path


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def gone_on(base, tonight, done, tmp_path_factory):
    out = tmp_path_factory.mktemp("gone") / "run"
    return out, done("train", "--from", base, "--data", tonight, "--epochs", 1, "--out", out)


def test_a_run_goes_on_with_what_it_was_told_and_its_vocabularies_grow(base, gone_on):
    out, output = gone_on
    assert "grows: film +7" in output
    assert output.index("valid rows, before") < output.index("valid rows (30)")
    record, first = read_json(out / "run.json"), read_json(base / "run.json")
    assert record["from"] == str(base)
    assert record["growth"] == {
        "init": "zeros",
        "min_count": 1,
        "max_age": None,
        "max_rows": None,
        "day": None,
        "refresh_statistics": False,
        "checksum": hashlib.sha256((base / "model.keras").read_bytes()).hexdigest()[:16],
    }
    for name in ("label", "task", "weight", "split", "groups", "recipe"):
        assert record[name] == first[name]
    metrics = read_json(out / "metrics.json")
    assert {"before", "valid", "test"} <= metrics.keys()
    old, new = (load_model(folder / "model.keras") for folder in (base, out))
    assert new.features["film"].vocabulary[: old.features["film"].num_ids] == old.features["film"].vocabulary
    assert sorted(new.features["film"].vocabulary[old.features["film"].num_ids :]) == [f"new {n}" for n in range(7)]
    assert new.optimizer.iterations > old.optimizer.iterations
    assert new.statistics.rows == old.statistics.rows + 240
    # What was learnt is where it was, but for what the new rows moved.
    assert not np.array_equal(new.embedding.table[-1], old.embedding.table[-1])
    with pytest.raises(ValueError, match=f"holds a run that went on from {base}; only the command line does that"):
        repeat_run(out)


def test_a_run_that_went_on_goes_on_again_and_is_what_other_commands_take(gone_on, tonight, done, tmp_path):
    out, _ = gone_on
    again = done("train", "--from", out, "--data", tonight, "--epochs", 1, "--out", tmp_path / "third")
    assert "grows by no value" in again
    done("evaluate", "--model", tmp_path / "third", "--data", tonight)


def test_streamed_rows_that_grew_a_model_are_resumed(base, tonight, separate, done, run, monkeypatch, tmp_path):
    told = ("train", "--from", base, "--data", tonight, "--valid", separate["valid"], "--epochs", 2)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    callback = Interruption.callback

    def sending(self):
        ending = callback(self)

        class Send(type(ending)):
            def on_train_begin(self, logs=None):
                signal.raise_signal(signal.SIGTERM)

        Send.__name__ = "End"  # a checkpoint knows beside which callbacks it was written
        return Send()

    resumed = (*told, "--stream", "--batch-size", 32, "--resume", "--out", tmp_path / "resumed")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Interruption, "callback", sending)
            assert run(*resumed).exit_code == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done(*resumed).splitlines()[0] == "goes on at step 8 of 20"
    assert read_json(tmp_path / "resumed" / "run.json")["resumed"] == [8]
    done(*told, "--stream", "--batch-size", 32, "--out", tmp_path / "in one go")
    one, other = (read_json(tmp_path / name / "metrics.json") for name in ("resumed", "in one go"))
    assert one == other


def test_the_rate_can_be_another_and_a_schedule_that_has_ended_needs_one(base, tonight, done, refused, tmp_path):
    cosine = tmp_path / "cosine"
    shutil.copytree(base, cosine)
    record = read_json(cosine / "run.json")
    record["recipe"]["training"] |= {"schedule": "cosine", "learning_rate": 0.01, "averaging": None}
    (cosine / "run.json").write_text(json.dumps(record))
    told = ("train", "--from", cosine, "--data", tonight, "--epochs", 1, "--out", tmp_path / "run")
    line = (
        f"The cosine schedule of {cosine} was for its own passes, and has ended with them. Pass --learning-rate, from"
    )
    assert line in refused(*told)
    done(*told, "--learning-rate", 0.002)
    assert read_json(tmp_path / "run" / "run.json")["recipe"]["training"]["learning_rate"] == 0.002
    assert float(load_model(tmp_path / "run" / "model.keras").optimizer.learning_rate) == pytest.approx(0.002)


def test_a_plateau_goes_on_at_the_rate_that_it_began_with(base, tonight, monkeypatch, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    record = read_json(base / "run.json")
    record["recipe"]["training"] |= {"schedule": "plateau", "schedule_arguments": {"looks": 3}, "learning_rate": 0.01}
    (tmp_path / "base" / "run.json").write_text(json.dumps(record))
    rates = []
    monkeypatch.setattr(Base, "grown", lambda *_, rate, **others: rates.append(rate))
    told = (RecipeOptions(), GrowthOptions(from_run=tmp_path / "base"), PretrainedOptions())
    plan = planned(Rows(data=[str(tonight)]), *told, groups=None, stream=False, seed=0)
    plan.prepared(trust=False, day=0)
    assert rates == [0.01]
    assert (plan.told.schedule, plan.told.schedule_arguments, plan.told.learning_rate) == ("constant", {}, 0.01)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, None),  # as it is
        ({"batch_size": 512}, 0.02),
        ({"learning_rate": 0.3}, 0.3),
        ({"learning_rate": 0.3, "batch_size": 512}, 0.6),
    ],
)
def test_the_rate_of_an_adagrad_that_goes_on_grows_with_its_batch(base, tonight, monkeypatch, tmp_path, options, rate):
    shutil.copytree(base, tmp_path / "base")
    record = read_json(base / "run.json")
    record["recipe"]["training"] = {"optimizer": "lazyadagrad", "learning_rate": 0.01, "batch_size": 256}
    (tmp_path / "base" / "run.json").write_text(json.dumps(record))
    rates = []
    monkeypatch.setattr(Base, "grown", lambda *_, rate, **others: rates.append(rate))
    told = (RecipeOptions(**options), GrowthOptions(from_run=tmp_path / "base"), PretrainedOptions())
    planned(Rows(data=[str(tonight)]), *told, groups=None, stream=False, seed=0).prepared(trust=False, day=0)
    assert rates == [rate]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--model", "fm"), "received --model. Leave it out, or train anew without --from."),
        (("--set", "dropout=0.1"), "received --set. Leave it out, or train anew without --from."),
        (("--optimizer-set", "epsilon=0"), "received --optimizer-set. Leave it out, or train anew without --from."),
        (("--schedule", "cosine"), "received --schedule. Leave it out, or train anew without --from."),
        (("--schedule-set", "floor=0"), "received --schedule-set. Leave it out, or train anew without --from."),
        (("--averaging", "0.9"), "received --averaging. Leave it out, or train anew without --from."),
        (("--optimizer", "adam"), "received --optimizer. Leave it out, or train anew without --from."),
        (
            ("--columns", "film"),
            "received --columns, --category, --number or --number-encoder. Leave them out, or train anew without --f",
        ),
        (
            ("--cache", "cache"),
            "A cache keeps rows encoded by one vocabulary, and --from grows it; received --cache. L",
        ),
        (("--task", "regression"), "is a binary one; received --task regression. Leave it out."),
        (("--max-rows", 0), "--max-rows must be a whole number of 1 or more; received 0."),
        (("--features", "f.json", "--init", "random"), "--features says which values have rows, as --init, --max-age"),
        (("--init", "ones"), 'init must be "zeros", "random" or "mean:COLUMN"; received \'ones\'.'),
    ],
)
def test_what_is_the_runs_own_is_refused(base, header_alone, refused, tmp_path, options, line):
    assert line in refused("train", "--from", base, "--data", header_alone, "--out", tmp_path / "run", *options)


def test_options_of_growth_need_a_run(header_alone, refused, tmp_path):
    line = "--init, --max-age, --max-rows, --day and --refresh-statistics say how a run's model grows. Pass --from too."
    told = ("train", "--data", header_alone, "--label", "rating", "--out", tmp_path / "run")
    assert line in refused(*told, "--init", "random")
    assert "--label is missing, which says what to predict." in refused(*told[:3], *told[5:])


def test_a_folder_that_is_no_whole_run_is_refused(base, tonight, refused, tmp_path):
    told = ("--data", tonight, "--out", tmp_path / "run")
    shutil.copytree(base, tmp_path / "half")
    record = read_json(base / "run.json")
    (tmp_path / "half" / "run.json").write_text(json.dumps({**record, "interrupted": True}))
    assert "half holds a run that was interrupted. Run its command again first: " in refused(
        "train", "--from", tmp_path / "half", *told
    )
    (tmp_path / "half" / "run.json").unlink()
    assert "half does not say how its model was made: it has no run.json and features.json of a newer train" in refused(
        "train", "--from", tmp_path / "half", *told
    )
    assert "There is no saved model at" in refused("train", "--from", tmp_path / "nothing", *told)


def test_features_that_are_not_the_runs_are_refused(base, tonight, refused, tmp_path):
    features = read_json(base / "features.json")
    film = next(one for one in features["features"] if one["name"] == "film")
    film["vocabulary"] = film["vocabulary"][1:]
    (tmp_path / "features.json").write_text(json.dumps(features))
    line = refused(
        *("train", "--from", base, "--data", tonight, "--features", tmp_path / "features.json"),
        *("--out", tmp_path / "run"),
    )
    assert "'film'" in line


@pytest.mark.parametrize("stream", [False, True])
def test_numbers_are_standardised_by_the_new_rows_where_that_is_asked_for(
    base, tonight, separate, done, stream, tmp_path
):
    told = ("train", "--from", base, "--data", tonight, "--valid", separate["valid"], "--refresh-statistics")
    done(*told, *(["--stream"] if stream else []), "--epochs", 1, "--out", tmp_path / "run")
    old, new = (load_model(folder / "model.keras").features["price"] for folder in (base, tmp_path / "run"))
    prices = pq.read_table(tonight)["price"].to_numpy()
    assert new.mean == old.mean  # of a number that is a field
    assert new.std == pytest.approx(np.sqrt(np.mean((prices - old.mean) ** 2)))
    before = read_json(tmp_path / "run" / "metrics.json")["before"]
    plain = (*told[:-1], "--epochs", 1, "--out", tmp_path / "plain")
    done(*plain)
    assert before == pytest.approx(read_json(tmp_path / "plain" / "metrics.json")["before"], abs=1e-6)
