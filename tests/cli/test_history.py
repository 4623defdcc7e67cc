"""`--history`: what rows hold of what their user did before, from training to predictions and exports."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.growing import GrowthOptions
from nfm_tfrs.cli.options import Rows
from nfm_tfrs.cli.plan import planned
from nfm_tfrs.cli.pretrained import PretrainedOptions
from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.data import histories
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.serving import load
from nfm_tfrs.serving.signature import Signature
from nfm_tfrs.training import predict
from nfm_tfrs.training.recipe import Best
from nfm_tfrs.training.repeat import rows_of_run

TEXT = "user_id,timestamp:film,last=4,rating=rating>=4"
CANONICAL = "user_id,timestamp:film,last=4,rating=rating >= 4"
NAMES = ["film_history_liked", "film_history_other", "film_history_count", "film_history_mean"]
TOLD = ("--label", "rating>=4", "--columns", "user_id,film", "--set", "embedding_dim=4", "--epochs", 1)
ALONE = "The histories of the rows are made of these rows alone"


def made(table, earlier=None):
    told = {"user": "user_id", "time": "timestamp", "of": "film", "last": 4, "rating": "rating>=4"}
    return histories(table, **told, earlier=earlier)


@pytest.fixture(scope="module")
def base(ratings, done, tmp_path_factory):
    """A run with histories."""
    out = tmp_path_factory.mktemp("history") / "run"
    split = ("--split", "user-time:user_id,timestamp")
    done("train", "--data", ratings, "--history", TEXT, *split, *TOLD, "--groups", "user_id", "--out", out)
    return out


def read_json(path):
    return json.loads(path.read_text())


def test_train_makes_histories_and_remembers_how(base):
    features = {feature["name"]: feature for feature in read_json(base / "features.json")["features"]}
    assert list(features) == ["user_id", "film", *NAMES]
    for name in NAMES[:2]:
        assert (features[name]["target"], features[name]["embedding_name"]) == ("film", "film")
        assert features[name]["vocabulary"] == features["film"]["vocabulary"]
    assert read_json(base / "run.json")["histories"] == [CANONICAL]


def test_the_rows_of_a_run_are_made_again_from_its_folder(base):
    record = RunRecord.from_file(base / "run.json")
    found = rows_of_run(record, read_features(base / "features.json"))  # by their fingerprint the same
    assert found.histories == (CANONICAL,)


def test_the_rows_of_a_run_whose_features_read_none_of_its_histories_are_made_without_them(base):
    record, features = RunRecord.from_file(base / "run.json"), read_features(base / "features.json")
    record = replace(record, source=replace(record.source, fingerprint=None))
    assert rows_of_run(record, features.part(["user_id", "film"])).histories == ()


def test_rows_that_lack_histories_get_them_by_the_rule_of_the_run(base, ratings, separate, run, tmp_path):
    table = pq.read_table(ratings)
    before, rows = tmp_path / "before.parquet", tmp_path / "rows.parquet"
    pq.write_table(table.slice(0, 700), before)
    pq.write_table(table.slice(700), rows)
    model = load_model(base / "model.keras")
    for number, (options, by_hand) in enumerate(
        [((), made(table.slice(700))), (("--earlier", before), made(table.slice(700), [table.slice(0, 700)]))]
    ):
        out = tmp_path / f"{number}.parquet"
        result = run("predict", "--model", base, "--data", rows, *options, "--out", out)
        assert result.exit_code == 0, result.output
        assert (ALONE in result.stderr) == (not options)
        logits = predict(model, encode_part(by_hand, model.encoder))
        np.testing.assert_allclose(pq.read_table(out)["prediction"].to_numpy(), 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_rows_that_hold_histories_are_taken_as_they_are(base, ratings, run, tmp_path):
    pq.write_table(made(pq.read_table(ratings)).drop_columns("timestamp"), tmp_path / "rows.parquet")
    result = run("evaluate", "--model", base, "--data", tmp_path / "rows.parquet")
    assert result.exit_code == 0, result.output
    assert ALONE not in result.stderr


def test_rows_to_predict_need_no_rating_where_those_of_before_have_one(base, separate, done, refused, tmp_path):
    pq.write_table(pq.read_table(separate["test"]).drop_columns("rating"), tmp_path / "rows.parquet")
    told = ("predict", "--model", base, "--data", tmp_path / "rows.parquet", "--out", tmp_path / "p.parquet")
    line = refused(*told)
    assert "There is no column 'rating', which a history reads" in line
    assert "Rows without it may see those of before, which have it: pass --earlier." in line
    done(*told, "--earlier", separate["train"])
    assert pq.read_table(tmp_path / "p.parquet")["film_history_count"].to_pylist()[0] > 0


def test_rows_beside_those_of_before_need_what_else_a_history_reads(base, ratings, separate, refused, tmp_path):
    told = ("--data", _without_time(ratings, tmp_path), "--earlier", separate["train"])
    line = refused("predict", "--model", _without_a_model(base, tmp_path), *told, "--out", tmp_path / "p.parquet")
    assert "There is no column 'timestamp', which a history reads" in line
    assert "pass --earlier" not in line


def test_rows_that_hold_a_history_in_part_are_refused(base, ratings, refused, tmp_path):
    pq.write_table(made(pq.read_table(ratings)).drop_columns(NAMES[3]), tmp_path / "rows.parquet")
    told = ("predict", "--model", base, "--data", tmp_path / "rows.parquet", "--out", tmp_path / "p.parquet")
    line = f"The data has '{NAMES[0]}' and lacks '{NAMES[3]}', which one history makes. Give all of '{NAMES[0]}', "
    assert line in refused(*told)


def test_a_file_in_both_is_refused_before_rows_are_read(base, header_alone, refused, tmp_path):
    line = f"{header_alone} is in --earlier too, and its rows would count twice. Give each row once, in one of them."
    rows = ("--data", header_alone, "--earlier", header_alone)
    assert line in refused("evaluate", "--model", base, *rows)
    for command, out in (("train", ("--out", tmp_path / "run")), ("describe", ())):
        assert line in refused(command, *rows, "--history", TEXT, "--label", "rating>=4", *out)


def test_a_history_that_the_given_features_do_not_read_is_refused(base, header_alone, refused, tmp_path):
    told = ("--data", header_alone, "--history", "user_id,timestamp:price,last=3", "--label", "rating>=4")
    line = "The features read none of 'price_history', 'price_history_count', which the history user_id,timestamp:"
    for command, more in (("train", ()), ("tune", ("--max-trials", 1)), ("describe", ())):
        given = ("--features", base / "features.json", "--out", tmp_path / "out", *more)
        assert line in refused(command, *told, *given)
    assert line in refused("train", *told, "--config", base / "run.json", "--out", tmp_path / "run")


def test_a_history_of_a_config_that_the_given_features_do_not_read_is_left_out(base, ratings, tmp_path):
    (tmp_path / "features.json").write_text(read_features(base / "features.json").part(["user_id", "film"]).to_json())
    rows = Rows(data=[str(ratings)], label="rating>=4", features=tmp_path / "features.json")
    told = (rows, RecipeOptions(config=base / "run.json"), GrowthOptions(), PretrainedOptions())
    assert planned(*told, groups=None, stream=False, seed=0).record.histories == ()


@pytest.mark.parametrize("earlier", [[], ["train"]])
def test_histories_of_the_rows_of_a_night_alone_are_warned_of(base, separate, capsys, earlier):
    rows = Rows(data=[str(separate["test"])], earlier=[str(separate[name]) for name in earlier])
    told = (RecipeOptions(), GrowthOptions(from_run=base), PretrainedOptions())
    assert planned(rows, *told, groups=None, stream=False, seed=0).record.histories == (CANONICAL,)
    assert (ALONE in " ".join(capsys.readouterr().err.split())) == (not earlier)


def test_evaluate_and_drift_take_rows_of_before(base, separate, run):
    told = ("--model", base, "--data", separate["test"])
    with_earlier, alone = run("evaluate", *told, "--earlier", separate["train"]), run("drift", *told)
    assert (with_earlier.exit_code, ALONE in with_earlier.stderr) == (0, False)
    assert (alone.exit_code in (0, 3), ALONE in alone.stderr) == (True, True)


def test_a_run_goes_on_with_its_histories(base, separate, done, tmp_path):
    told = ("--data", separate["train"], "--valid", separate["valid"], "--earlier", separate["test"])
    done("train", "--from", base, *told, "--epochs", 1, "--out", tmp_path / "run")
    record = read_json(tmp_path / "run" / "run.json")
    assert (record["histories"], record["data"]["earlier"]) == ([CANONICAL], [str(separate["test"])])


def test_train_takes_the_histories_of_a_config_where_the_data_lacks_them(base, ratings, tmp_path):
    pq.write_table(made(pq.read_table(ratings)), tmp_path / "rows.parquet")
    for data, remembered in ((ratings, (CANONICAL,)), (tmp_path / "rows.parquet", ())):
        rows, recipe = Rows(data=[str(data)], label="rating>=4"), RecipeOptions(config=base / "run.json")
        plan = planned(rows, recipe, GrowthOptions(), PretrainedOptions(), groups=None, stream=False, seed=0)
        assert plan.record.histories == tuple(plan.rows.histories) == remembered


def test_tune_writes_down_its_histories(ratings, done, tmp_path):
    split = ("--split", "user-time:user_id,timestamp")
    told = ("--data", ratings, "--label", "rating>=4", *split)
    search = ("--models", "fm", "--max-trials", 1, "--passes", 1, "--slices", 1, "--finalists", 1, "--seeds", 1)
    done("tune", *told, "--columns", "user_id,film", "--history", TEXT, *search, "--out", tmp_path / "search")
    assert read_json(tmp_path / "search" / "best.json")["histories"] == [CANONICAL]
    assert Best.from_file(tmp_path / "search" / "best.json").histories == (CANONICAL,)


def test_describe_shows_what_train_would_infer(ratings, separate, done, tmp_path):
    out, told = tmp_path / "features.json", ("--columns", "user_id,film", "--label", "rating>=4")
    output = done("describe", "--data", ratings, "--history", TEXT, *told, "--out", out)
    assert all(name in output for name in NAMES)
    assert [feature["name"] for feature in read_json(out)["features"]] == ["user_id", "film", *NAMES]
    done("describe", "--data", separate["test"], "--history", TEXT, "--earlier", separate["train"], "--features", out)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--history", "film"), "A history is user_id,timestamp:movie_id"),
        (("--history", "person,timestamp:film"), "no column 'person', which a history reads"),
        (("--history", TEXT, "--history", TEXT), "Two histories make a column 'film_history_liked'."),
        (
            ("--history", "user_id,timestamp:film,name=cost", "--earlier", "none.parquet"),
            "There is no file none.parquet",
        ),
        (
            ("--earlier", "ratings"),
            "Rows of before are for histories alone, and there is none. Give --history too.",
        ),
        (("--history", "user_id,timestamp:rating,name=film"), "The data has a column 'film' already"),
    ],
)
@pytest.mark.parametrize("command", ["train", "tune", "describe"])
def test_a_slip_is_one_line_before_rows_are_read(header_alone, refused, tmp_path, command, options, line):
    told = {"train": ("--out", tmp_path / "run"), "tune": ("--out", tmp_path / "search", "--max-trials", 1)}
    options = [header_alone if option == "ratings" else option for option in options]
    assert line in refused(command, "--data", header_alone, "--label", "rating>=4", *options, *told.get(command, ()))


def test_streamed_rows_are_refused(separate, refused, tmp_path):
    told = ("--data", separate["train"], "--valid", separate["valid"], "--stream", "--history", TEXT, *TOLD)
    assert (
        "Write files that hold them with nfm_tfrs.data.stream_histories, and stream those without --history."
        in refused("train", *told, "--out", tmp_path / "run")
    )


def test_rows_of_before_that_nothing_needs_are_refused(base, ratings, refused, tmp_path):
    pq.write_table(made(pq.read_table(ratings)), tmp_path / "rows.parquet")
    told = ("--data", tmp_path / "rows.parquet", "--earlier", ratings)
    line = "--earlier is for histories, and the model reads none, or the data holds them. Leave it out."
    assert line in refused("evaluate", "--model", base, *told)
    assert line in refused("predict", "--model", base, *told, "--out", tmp_path / "p.csv")
    assert "Pass it too, or leave --earlier out." in refused(
        "export", "--model", base, "--earlier", ratings, "--out", tmp_path / "export"
    )
    assert "no column 'timestamp'" in refused("evaluate", "--model", base, "--data", _without_time(ratings, tmp_path))


def _without_a_model(base, folder):
    """The folder of a run whose model cannot be opened: what is refused is refused before."""
    (folder / "closed").mkdir()
    for name in ("run.json", "features.json"):
        (folder / "closed" / name).write_bytes((base / name).read_bytes())
    (folder / "closed" / "model.keras").write_bytes(b"")
    return folder / "closed"


def _without_time(ratings, folder):
    pq.write_table(pq.read_table(ratings).drop_columns("timestamp"), folder / "untimed.parquet")
    return folder / "untimed.parquet"


def test_the_histories_of_a_run_are_not_told_anew(base, header_alone, refused, tmp_path):
    told = ("--from", base, "--data", header_alone, "--history", TEXT, "--out", tmp_path / "run")
    assert "received --history. Leave it out." in refused("train", *told)


def test_an_export_takes_the_history_of_a_row_from_its_client(base, ratings, separate, done, tmp_path):
    earlier = ("--valid", separate["test"], "--earlier", separate["train"], "--calibrate", "platt")
    done("export", "--model", base, "--out", tmp_path / "export", *earlier)  # whose validation rows lack histories
    table, model = made(pq.read_table(ratings)), load_model(base / "model.keras")
    assert (
        "- `film_history_liked` and `film_history_other` each hold the last 4 values of `film` in rows of the same "
        "`user_id` whose `timestamp` is strictly earlier, newest first, those for which `rating >= 4` holds in the "
        "first and the others in the second; `film_history_count` counts all such rows, and `film_history_mean` is "
        "the share of them for which `rating >= 4` holds, missing without any.\n"
    ) in (tmp_path / "export" / "README.md").read_text()
    read = table.select(list(model.features.columns)).slice(600, 20)
    calibrated = Signature.from_file(tmp_path / "export").adjustment
    expected = calibrated.of_array(predict(model, encode_part(read, model.encoder)))
    scorer = load(tmp_path / "export")
    np.testing.assert_allclose(np.ravel(scorer.predict(read)), expected, atol=1e-6)
    row = read.slice(7, 1).to_pylist()[0]
    assert row["film_history_liked"]
    np.testing.assert_allclose(np.ravel(scorer.predict(row)), expected[7:8], atol=1e-6)
    without = {**row, "film_history_liked": [], "film_history_count": 0.0, "film_history_mean": None}
    assert abs(float(np.ravel(scorer.predict(without))[0]) - expected[7]) > 1e-6  # it is read


def test_a_folder_written_by_an_earlier_version_has_no_histories(yesterday):
    assert RunRecord.from_file(yesterday / "run" / "run.json").histories == ()
    assert Best.from_file(yesterday / "best.json").histories == ()
