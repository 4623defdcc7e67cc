"""`--history`: what rows hold of what their user did before, from training to predictions and exports."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.growing import GrowthOptions
from nfm_tfrs.cli.options import Rows
from nfm_tfrs.cli.plan import planned
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
    assert "There is no column 'rating', which a history reads" in refused(*told)
    done(*told, "--earlier", separate["train"])
    assert pq.read_table(tmp_path / "p.parquet")["film_history_count"].to_pylist()[0] > 0


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
        plan = planned(rows, recipe, GrowthOptions(), groups=None, stream=False, seed=0)
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
