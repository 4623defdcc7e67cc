"""What several commands ask for; and slips, which are found before TensorFlow is imported or a row is read."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.cli.options import Rows, check_columns, inference_rules

# Runs each command of a list where no TensorFlow can be imported; prints their exit statuses and lines.
SCRIPT = """
import json, sys

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, NoTensorFlow())
from typer.testing import CliRunner
from nfm_tfrs.cli import app
found = [CliRunner().invoke(app, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([(result.exit_code, result.stderr) for result in found]))
"""

TRAIN = ["train", "--data", "ratings.parquet", "--out", "run", "--label", "rating>=4"]
CSV = ["train", "--data", "ratings.csv", "--out", "run", "--label", "rating>=4"]
TUNE = ["tune", "--data", "ratings.parquet", "--out", "search", "--label", "rating>=4", "--max-trials", "1"]
EVALUATE = ["evaluate", "--data", "ratings.parquet", "--model", "old"]
PREDICT = ["predict", "--data", "ratings.parquet", "--model", "old"]
DESCRIBE = ["describe", "--data", "ratings.parquet"]
PERSON = "There is no column 'person'"
SLIPS = [
    ([*TRAIN, "--label", "rating>>4"], "received 'rating>>4'"),
    ([*TRAIN, "--label", "ratings>=4"], "There is no column 'ratings', which --label reads; did you mean 'rating'?"),
    ([*TRAIN, "--weight", "weights"], "no column 'weights', which --weight reads; did you mean 'weight'?"),
    ([*TRAIN, "--groups", "person"], f"{PERSON}, which --groups reads. The data has 'user_id'"),
    ([*TRAIN, "--columns", "film,person"], f"{PERSON}. The data has 'user_id'"),
    ([*TRAIN, "--category", "person"], f"{PERSON}, which --category reads."),
    ([*TRAIN, "--number", "person"], f"{PERSON}, which --number reads."),
    ([*TRAIN, "--category", "film", "--number", "film"], "--category and --number both name film."),
    ([*TRAIN, "--split", "never"], "received 'never'"),
    ([*TRAIN, "--split", "time:day"], "There is no column 'day', which --split reads."),
    ([*TRAIN, "--history", "user_id:film"], "A history is user_id,timestamp:movie_id,last=20"),
    ([*TRAIN, "--history", "person,timestamp:film"], f"{PERSON}, which a history reads."),
    ([*TRAIN, "--features", "person.json"], f"{PERSON}. The data has 'user_id'"),
    ([*TRAIN, "--features", "broken.json"], "broken.json: A feature spec is JSON"),
    ([*TRAIN, "--features", "none.json"], "none.json"),
    ([*TRAIN, "--features", "person.json", "--columns", "film"], "Pass it alone, or edit the file."),
    ([*TRAIN, "--features", "person.json", "--min-count", "2"], "Pass it alone, or edit the file."),
    ([*TRAIN, "--optimizer", "adamm"], "adadelta, adagrad, adam, adamax, adamw"),
    ([*TRAIN, "--optimizer-set", "epsilon"], "--optimizer-set takes NAME=VALUE; received 'epsilon'"),
    ([*TRAIN, "--optimizer-set", "learning_rate=1"], "received the rate 1. Give --learning-rate instead."),
    ([*TRAIN, "--schedule", "linear"], '--schedule must be "constant", "cosine", "one_cycle" or "plateau"; received'),
    ([*TRAIN, "--schedule", "one_cycle", "--optimizer", "sgd"], "needs the highest rate of sgd; received none. Give"),
    ([*TRAIN, "--schedule-set", "warm_up=0.2"], "A constant rate takes no --schedule-set; received warm_up. Give"),
    ([*TRAIN, "--schedule", "cosine", "--schedule-set", "warm_up=2"], "warm_up must be at least 0 and below 1; rec"),
    ([*TRAIN, "--schedule", "plateau", "--schedule-set", "look=2"], "There is no argument of plateau 'look'; did you"),
    ([*TRAIN, "--averaging", "1"], "averaging must be at least 0 and below 1; received 1.0."),
    ([*TRAIN, "--averaging", "0.9", "--schedule", "cosine"], "Averaged weights gain nothing with --schedule cosine"),
    ([*TRAIN, "--set", "embedding_dim"], "--set takes NAME=VALUE; received 'embedding_dim'"),
    ([*TRAIN, "--set", "embeding_dim=3"], "nfm has no such argument. Did you mean 'embedding_dim'? It has"),
    ([*TRAIN, "--set", "interaction=crosss"], "Unknown block 'crosss'. Did you mean 'cross'?"),
    ([*TRAIN, "--set", "interaction=['fm','crosss']"], "Unknown block 'crosss'."),
    ([*TRAIN, "--set", "interaction={'name': 'crosss'}"], "Unknown block 'crosss'."),
    ([*TRAIN, "--model", "nfmm"], "Unknown model 'nfmm'. Did you mean 'nfm'?"),
    ([*TRAIN, "--precision", "auto", "--set", "dtype=float32"], "Pass one of them."),
    ([*TRAIN, "--batch-size", "-1"], "--batch-size must be a whole number of 1 or more; received -1."),
    ([*TRAIN, "--batch-size", "0"], "--batch-size must be a whole number of 1 or more; received 0."),
    ([*TRAIN, "--epochs", "0"], "--epochs must be a whole number of 1 or more; received 0."),
    ([*TRAIN, "--patience", "-1"], "--patience must be a number of 0 or more; received -1."),
    ([*TRAIN, "--seed", "-1"], "--seed must be a number of 0 or more; received -1."),
    ([*TRAIN, "--model", ""], "--model is empty. Give a value, or leave it out."),
    ([*TRAIN, "--split", ""], "--split is empty. Give a value, or leave it out."),
    ([*TRAIN, "--task", "ranking"], "--task is binary or regression; received 'ranking'."),
    ([*TRAIN, "--config", "broken.json"], "broken.json is no best.json of a search"),
    ([*TRAIN, "--config", "old/run.json"], "old/run.json is no best.json of a search"),  # it tells no recipe
    ([*TRAIN, "--repeat"], "--repeat trains as a search did: give it with --config, and nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--epochs", "3"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--patience", "3"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--schedule", "cosine"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--schedule-set", "floor=0"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--optimizer-set", "epsilon=0"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--averaging", "0"], "nothing else of the model."),
    ([*TRAIN, "--config", "best.json", "--repeat", "--tensorboard"], "in memory and without logs."),
    ([*TRAIN, "--config", "best.json", "--repeat"], "best.json does not say how a search made its model: a run, or"),
    ([*TRAIN, "--out", "old"], "old exists already. Choose another --out, or pass --overwrite"),
    ([*TRAIN, "--out", "broken.json", "--overwrite"], "broken.json is a file. Choose another --out."),
    ([*TRAIN, "--out", ".", "--overwrite"], "which is not of a run. Move it, or choose another --out."),
    ([*TRAIN, "--stream"], "Beside --stream the rows to choose on come from files of their own. Pass --valid."),
    ([*TRAIN, "--test", "ratings.parquet"], "Pass --valid."),
    ([*TRAIN, "--valid", "ratings.parquet", "--split", "random"], "Pass one of them."),
    ([*TRAIN, "--valid", "none.parquet"], "There is no file none.parquet. Check the path."),
    ([*TRAIN, "--valid", "other.parquet"], "There is no column 'rating', which --label reads."),
    (["train", "--data", "none.parquet", *TRAIN[3:]], "There is no file none.parquet. Check the path."),
    ([*TRAIN, "--format", "xml"], "received 'xml'"),
    ([*CSV, "--label", "ratings>=4"], "There is no column 'ratings', which --label reads; did you mean 'rating'?"),
    ([*CSV, "--columns", "film,person"], f"{PERSON}. The data has 'film', 'rating'"),
    ([*TUNE[:-2]], "A budget needs trials or minutes above 0"),
    ([*TUNE, "--batch-sizes", "64,x"], "--batch-sizes takes int values, separated by commas; received '64,x'."),
    ([*TUNE, "--models", "ranking,nfmm"], "Unknown model 'nfmm'. Did you mean 'nfm'?"),
    ([*TUNE, "--blocks", "fm,crosss"], "Unknown block 'crosss'. Did you mean 'cross'?"),
    ([*TUNE, "--set", "embeding_dim=3"], "ranking has no such argument. Did you mean 'embedding_dim'?"),
    ([*TUNE, "--set", "learning_rat=3"], "Did you mean 'learning_rate'?"),
    ([*TUNE, "--set", "optimizer=adamm"], "received 'adamm'"),
    ([*TUNE, "--task", "ranking"], "--task is binary or regression; received 'ranking'."),
    ([*TUNE, "--search", "luck"], 'search must be "halving" or "random"; received \'luck\'.'),
    ([*TUNE, "--label", "rating>>4"], "received 'rating>>4'"),
    ([*TUNE, "--split", "never"], "received 'never'"),
    ([*TUNE, "--columns", "film,person"], f"{PERSON}. The data has 'user_id'"),
    ([*TUNE, "--features", "broken.json"], "broken.json: A feature spec is JSON"),
    ([*TUNE, "--valid", "v.csv", "--split", "random"], "--valid and --split both say which rows"),
    ([*TUNE, "--test", "t.csv"], "Beside --test the rows to choose on come from files of their own."),
    ([*TUNE, "--out", "broken.json"], "broken.json is a file. Choose another --out."),
    ([*EVALUATE, "--label", "rating>>4"], "received 'rating>>4'"),
    ([*EVALUATE, "--label", "ratings>=4"], "no column 'ratings', which --label reads; did you mean 'rating'?"),
    ([*EVALUATE, "--groups", "person"], f"{PERSON}, which --groups reads."),
    ([*EVALUATE, "--weight", "person"], f"{PERSON}, which --weight reads."),
    ([*EVALUATE, "--model", "none"], "There is no saved model at none. Check the path."),
    (["evaluate", "--data", "none.csv", *EVALUATE[3:]], "There is no file none.csv. Check the path."),
    ([*PREDICT, "--out", "predictions.txt"], "--out ends in .parquet or .csv; received predictions.txt."),
    ([*PREDICT, "--out", "ratings.csv"], "ratings.csv exists already."),
    ([*PREDICT, "--out", "folder.csv", "--overwrite"], "folder.csv is a folder. Choose another --out."),
    ([*PREDICT, "--out", "p.csv", "--model", "none"], "There is no saved model at none. Check the path."),
    (
        ["predict", "--data", "other.parquet", *PREDICT[3:], "--out", "p.csv"],
        "There is no column 'user_id'. The data has 'city'.",
    ),
    ([*DESCRIBE, "--columns", "person"], f"{PERSON}. The data has 'user_id'"),
    ([*DESCRIBE, "--exclude", "person"], f"{PERSON}, which --exclude reads."),
    ([*DESCRIBE, "--category", "person"], f"{PERSON}, which --category reads."),
    ([*DESCRIBE, "--features", "person.json", "--number", "price"], "Pass it alone, or edit the file."),
    ([*DESCRIBE, "--out", "ratings.csv"], "ratings.csv exists already."),
    ([*DESCRIBE, "--history", "person,timestamp:film"], f"{PERSON}, which a history reads."),
    (["quickstart", "--out", "old"], "old exists already."),
    # An output that cannot be written, before rows that cannot be read are.
    ([*TRAIN, "--out", "broken.json/run"], "broken.json/run cannot be written: Not a directory. Choose another --out."),
    ([*TUNE, "--out", "broken.json/run"], "broken.json/run cannot be written: Not a directory."),
    ([*PREDICT, "--out", "broken.json/p.csv"], "broken.json/p.csv cannot be written: Not a directory."),
    ([*DESCRIBE, "--out", "broken.json/f.json"], "broken.json/f.json cannot be written: Not a directory."),
    (["quickstart", "--out", "broken.json/run"], "broken.json/run cannot be written: Not a directory."),
]


@pytest.fixture(scope="module")
def slips(run_python, header_alone, yesterday, tmp_path_factory):
    """What each of the commands above says, all of them asked in one process that cannot import TensorFlow."""
    folder = tmp_path_factory.mktemp("slips")
    shutil.copy(header_alone, folder / "ratings.parquet")
    rows = "film 1,4\n" * 200_000 + "film 1,4,too,many\n"  # behind the first block, which tells types
    (folder / "ratings.csv").write_text(f"film,rating\n{rows}")
    pq.write_table(pa.table({"city": ["Rome"]}), folder / "other.parquet")
    (folder / "broken.json").write_text("{")
    (folder / "person.json").write_text('{"features": [{"type": "numeric", "name": "person"}]}')
    (folder / "folder.csv").mkdir()
    shutil.copytree(yesterday / "run", folder / "old")
    shutil.copy(yesterday / "best_of_ratings.json", folder / "best.json")
    before = {path.name for path in folder.iterdir()}
    script = f"import sys; sys.argv = ['', {json.dumps([arguments for arguments, _ in SLIPS])!r}]\n{SCRIPT}"
    found = json.loads(run_python(script, folder=folder).stdout)
    return found, {path.name for path in folder.iterdir()} - before


@pytest.mark.parametrize("number", range(len(SLIPS)), ids=[" ".join(arguments) for arguments, _ in SLIPS])
def test_a_slip_is_refused_in_one_line_before_tensorflow_is_imported_or_a_row_is_read(slips, number):
    status, said = slips[0][number]
    assert SLIPS[number][1] in said
    assert status == 1
    assert said.count("\n") == 1


def test_slips_leave_nothing_behind(slips):
    assert slips[1] == set()


def test_rows_say_where_the_target_and_the_split_come_from():
    rows = Rows(data=["ratings.csv"], label="rating", weight="trust", split="time:day:0.6,0.2,0.2")
    assert rows.target("regression").to_json() == {"label": "rating", "weight": "trust", "task": "regression"}
    assert rows.cut(3).columns == ("day",)
    assert rows.cut(3).fractions == (0.6, 0.2, 0.2)
    assert Rows(data=["ratings.csv"], label="rating").cut(3).seed == 3


def test_kinds_and_rules_of_the_inference_are_those_that_options_say():
    assert inference_rules(None, None, None, None) == {}
    assert inference_rules(("a",), ("b", "c"), ("d",), 2) == {
        "columns": ["a"],
        "kinds": {"b": "category", "c": "category", "d": "number"},
        "min_count": 2,
    }
    assert inference_rules(None, None, None, None, "piecewise") == {"number_encoder": "piecewise"}
    with pytest.raises(ValueError, match=r"--number-encoder is one of linear, buckets, .*, autodis; received 'spline'"):
        inference_rules(None, None, None, None, "spline")


def test_columns_are_not_asked_for_where_a_format_does_not_tell_them(tmp_path):
    (tmp_path / "rows.libsvm").write_text("1 0:1\n")
    check_columns([str(tmp_path / "rows.libsvm")], [("--label", "rating")])


def test_two_encoders_of_numbers_are_refused(refused, ratings, tmp_path):
    told = ("--number-encoder", "autodis", "--set", "number_encoder=periodic")
    line = refused("train", "--data", ratings, "--label", "rating>=4", *told, "--out", tmp_path / "run")
    assert "--number-encoder says autodis, and the model's number_encoder periodic. Leave out one of them" in line
