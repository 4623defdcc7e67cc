"""Parts from files: split or given, read or streamed, with a cache or without, always the same."""

import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from nfm_tfrs.data.prepare import prepare_files
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.features.encoder import IDS, NUMBERS
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.target import Target

ROWS = 300
TARGET = Target.parse("click", weight="weight")
SPEC = FeatureSpec([CategoricalFeature("film", vocabulary=["x"]), NumericFeature("price")])


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    for name, rows in (("all", ROWS), ("train", ROWS), ("valid", 60), ("test", 50)):
        frame = pd.DataFrame(
            {
                "user": random.integers(0, 9, rows),
                "film": random.choice(["x", "y", "z"], rows),
                "price": random.normal(size=rows).astype(np.float32),
                "weight": random.random(rows),
                "click": random.integers(0, 2, rows),
            }
        )
        frame.to_parquet(folder / f"{name}.parquet", row_group_size=70)
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def prepared(paths, suffix="parquet", separate=False, **arguments):
    if separate:
        arguments |= {"valid": paths / f"valid.{suffix}", "test": paths / f"test.{suffix}"}
    data = paths / f"{'train' if separate else 'all'}.{suffix}"
    return prepare_files(data, TARGET, parse_split("random:0.6,0.2,0.2", seed=4), **arguments)


def assert_same(parts, expected):
    assert parts.features == expected.features
    assert set(parts.encoded) == set(expected.encoded)
    for name, part in parts.encoded.items():
        other = expected.encoded[name]
        for one, two in ((part.columns[IDS], other.columns[IDS]), (part.columns[NUMBERS], other.columns[NUMBERS])):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(part.labels, other.labels)
        np.testing.assert_array_equal(part.weights, other.weights)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("separate", [False, True], ids=["split", "separate"])
def test_a_cache_changes_nothing(paths, tmp_path, suffix, separate):
    expected = prepared(paths, suffix, separate)
    assert [len(expected.encoded[name]) for name in ("train", "valid", "test")] == (
        [300, 60, 50] if separate else [180, 60, 60]
    )
    for _ in range(2):
        parts = prepared(paths, suffix, separate, cache=tmp_path, keep=["user"])
        assert_same(parts, expected)
        for name, table in parts.tables.items():
            assert table["user"].to_pylist() == expected.tables[name]["user"].to_pylist()
            assert parts.encoded[name].rates == expected.encoded[name].rates
    assert len(list(tmp_path.iterdir())) == 1


def test_streamed_training_rows_are_those_of_the_file_in_its_order(paths, tmp_path):
    read = prepared(paths, separate=True)
    assert set(prepared(paths, separate=True, stream=True).encoded) == {"valid", "test"}
    for _ in range(2):
        assert_same(prepared(paths, separate=True, stream=True, cache=tmp_path), read)


def test_a_cache_notices_each_file_that_is_streamed(paths, tmp_path):
    folder, cache = tmp_path / "train", tmp_path / "cache"
    folder.mkdir()
    arguments = {"valid": paths / "valid.parquet", "stream": True, "cache": cache, "features": SPEC}
    rows = []
    for last in ("valid", "test"):
        for name, source in (("0.parquet", "train"), ("part-1", last)):  # Spark, for one, leaves the suffix out
            shutil.copy(paths / f"{source}.parquet", folder / name)
        rows.append(len(prepare_files(folder, "click", parse_split("random"), **arguments).train))
    assert rows == [300 + 60, 300 + 50]


@pytest.mark.parametrize("arguments", [{"stream": True}, {"test": "test.parquet"}], ids=["stream", "test"])
def test_rows_to_choose_on_are_asked_for_where_they_cannot_be_split_off(paths, arguments):
    line = r"^stream and test need the rows to choose on in files of their own\. Give valid=\.$"
    with pytest.raises(ValueError, match=line):
        prepared(paths, **arguments)


def test_the_second_run_reads_no_data(paths, tmp_path, monkeypatch):
    first = prepared(paths, cache=tmp_path)
    monkeypatch.setattr(sys.modules["nfm_tfrs.data.prepare"], "read_table", None)
    assert_same(prepared(paths, cache=tmp_path), first)


@pytest.mark.parametrize(
    "other",
    [
        {"target": Target.parse("click")},
        {"target": Target.parse("click", weight="weight", task="regression")},
        {"min_count": 20},
        {"exclude": ["film"]},
        {"split": parse_split("random:0.6,0.2,0.2", seed=5)},
        {"split": parse_split("random:0.5,0.3,0.2", seed=4)},
        {"features": SPEC},
        {"target": Target.parse("click>=1", weight="weight")},
        {"keep": ["user"]},
    ],
    ids=lambda other: " ".join(other),
)
def test_whatever_decides_the_rows_decides_the_entry(paths, tmp_path, other):
    split = parse_split("random:0.6,0.2,0.2", seed=4)
    settings = {"target": TARGET, "split": split, "cache": tmp_path}
    prepare_files(paths / "all.parquet", **settings)
    settings |= other
    expected = prepare_files(paths / "all.parquet", **{**settings, "cache": None})
    assert_same(prepare_files(paths / "all.parquet", **settings), expected)
    assert len(list(tmp_path.iterdir())) == 2


def test_rows_to_train_and_to_choose_on_are_not_mistaken_for_each_other(paths, tmp_path):
    one = prepared(paths, separate=True, cache=tmp_path)
    other = prepare_files(
        paths / "valid.parquet",
        TARGET,
        parse_split("random"),
        valid=paths / "train.parquet",
        test=paths / "test.parquet",
        features=one.features,
        cache=tmp_path,
    )
    assert len(other.train) == 60
    assert len(other.valid) == 300


@pytest.mark.parametrize("left", ["file", "link"])
def test_what_is_no_folder_in_the_cache_stops_no_entry(paths, tmp_path, left):
    source, cache = paths / "all.parquet", tmp_path / "cache"
    prepare_files([source], "click", parse_split("random", 0), cache=cache)
    entry = next(cache.iterdir())
    shutil.rmtree(entry)
    if left == "file":
        entry.write_text("mine")
    else:
        entry.symlink_to(tmp_path / "nowhere")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is damaged
        for seed in (0, 1):
            prepare_files([source], "click", parse_split("random", seed), cache=cache)
    assert all(path.is_dir() and not path.is_symlink() for path in cache.iterdir())
    assert [path for path in cache.iterdir() if path.name[0] != "."]


@pytest.mark.parametrize("rules", [{"min_count": np.int64(2)}, {"exclude": {"price", "weight"}}])
def test_rules_need_not_be_json(paths, tmp_path, rules):
    def once():
        return prepare_files([paths / "all.parquet"], "click", parse_split("random", 0), cache=tmp_path, **rules)

    assert once().features == once().features
    assert len(list(tmp_path.iterdir())) == 1


def test_text_among_the_numbers_of_a_csv_is_named_with_its_row_in_the_file(tmp_path):
    rows = [f"x,{number / 2},{number % 2}" for number in range(60)]
    rows[41] = "x,-,1"
    (tmp_path / "rows.csv").write_text("film,price,click\n" + "\n".join(rows) + "\n")
    with pytest.raises(
        ValueError, match=r"^Column 'price' is '-' in row 41, but feature 'price' was declared numeric\."
    ):
        prepare_files(tmp_path / "rows.csv", "click", "random", features=SPEC)


def test_a_number_that_a_file_writes_with_zeros_in_front_is_read_as_one(tmp_path):
    lines = "".join(f"{row % 12 + 1:02d},{row % 7},{row % 2}\n" for row in range(60))
    (tmp_path / "a.csv").write_text("month,user,click\n" + lines)
    inferred = prepare_files(tmp_path / "a.csv", "click", "random", kinds={"month": "number"}, min_count=1)
    assert inferred.features["month"].std > 1
    again = prepare_files(tmp_path / "a.csv", "click", "random", features=inferred.features)
    np.testing.assert_array_equal(again.train.columns["encoded/numbers"], inferred.train.columns["encoded/numbers"])
