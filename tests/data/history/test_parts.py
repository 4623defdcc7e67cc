"""Histories of rows in parts: what each part sees, what becomes a feature, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs.data import Target, histories, prepare, prepare_files, read_table
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.features.spec import FeatureSpec

TOLD = "user,day:film,last=3,rating=stars>=4"
NAMES = ["film_history_liked", "film_history_other", "film_history_count", "film_history_mean"]


def rows(number, seed=0):
    rng = np.random.default_rng(seed)
    films = [f"film {n}" for n in rng.integers(0, 6, number)]
    user, stars = rng.integers(0, 5, number), rng.integers(1, 6, number).astype(float)
    return pa.table({"user": user, "film": films, "stars": stars, "day": rng.integers(0, 40, number)})


def made(table, earlier=None):
    told = {"user": "user", "time": "day", "of": "film", "last": 3, "rating": "stars>=4"}
    return histories(table, **told, earlier=earlier)


@pytest.fixture
def files(tmp_path):
    table = rows(300)
    parts = {"train": table.slice(0, 200), "valid": table.slice(200, 60), "test": table.slice(260)}
    for name, part in {**parts, "all": table}.items():
        pq.write_table(part, tmp_path / f"{name}.parquet")
    return tmp_path


def test_one_file_gets_its_histories_before_it_is_split(files):
    found = prepare_files(files / "all.parquet", "stars>=4", "user-time:user,day", histories=[TOLD], min_count=1)
    by_hand = prepare(made(rows(300)), "stars>=4", "user-time:user,day", exclude=["day"], min_count=1)
    assert found.histories == ("user,day:film,last=3,rating=stars >= 4",)
    assert found.features == by_hand.features
    assert found.features.names == ("user", "film", *NAMES)
    assert {name: part.to_pylist() for name, part in found.tables.items()} == {
        name: part.to_pylist() for name, part in by_hand.tables.items()
    }
    assert sum(found.tables["valid"]["film_history_count"].to_pylist()) > 0


def test_rows_of_later_files_see_those_of_earlier_ones_and_not_the_other_way_round(files):
    parts = {name: read_table(files / f"{name}.parquet") for name in ("train", "valid", "test")}
    paths = {name: files / f"{name}.parquet" for name in ("valid", "test")}
    found = prepare_files(files / "train.parquet", "stars>=4", **paths, histories=[TOLD]).tables
    assert found["train"].equals(made(parts["train"]))
    assert found["valid"].equals(made(parts["valid"], [parts["train"]]))
    assert found["test"].equals(made(parts["test"], [parts["train"], parts["valid"]]))


def test_rows_of_before_are_seen_by_all_and_are_in_no_part(files):
    train, valid, before = (files / f"{name}.parquet" for name in ("train", "valid", "test"))
    found = prepare_files(train, "stars>=4", valid=valid, earlier=before, histories=[TOLD]).tables
    tables = {name: read_table(files / f"{name}.parquet") for name in ("train", "valid", "test")}
    assert set(found) == {"train", "valid"}
    assert found["train"].equals(made(tables["train"], [tables["test"]]))
    assert found["valid"].equals(made(tables["valid"], [tables["test"], tables["train"]]))


def test_what_histories_read_of_times_and_ratings_is_a_feature_only_where_it_is_named(files):
    def names(**told):
        split = "user-time:user,day"
        return prepare_files(files / "all.parquet", "film == 'film 1'", split, histories=[TOLD], **told).features.names

    assert names() == ("user", *NAMES)
    assert names(columns=["user", "stars", "day"]) == ("user", "stars", "day", *NAMES)
    assert names(columns=["user", "film_history_count"]) == ("user", "film_history_count")  # this one alone


def test_a_cache_tells_histories_apart(files):
    def prepared(text, earlier=None):
        return prepare_files(
            files / "train.parquet", "stars>=4", "time:day", histories=[text], earlier=earlier, cache=files / "cache"
        )

    first = prepared("user,day:film,last=50")
    again, shorter = prepared("user,day:film,last=50"), prepared("user,day:film,last=5")
    more = prepared("user,day:film,last=50", files / "test.parquet")
    assert first.histories == again.histories == ("user,day:film,last=50",)
    lengths = [len(one.train.columns["encoded/bag/film_history"].values) for one in (shorter, first, again, more)]
    assert lengths[0] < lengths[1] == lengths[2] < lengths[3]


def test_a_random_split_of_rows_with_ratings_is_warned_of(files):
    with pytest.warns(UserWarning, match="The split is random, and histories go by time"):
        prepare_files(files / "all.parquet", "stars>=4", "random", histories=[TOLD])
    prepare_files(files / "all.parquet", "stars>=4", "random", histories=["user,day:film"])  # warnings are errors


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"histories": ["film"]}, "A history is user_id,timestamp:movie_id"),
        ({"histories": [TOLD, TOLD]}, "Two histories make a column 'film_history_liked'."),
        ({"earlier": "test.parquet"}, "Rows of before are for histories alone, and there is none. Give histories="),
        ({"histories": [TOLD], "stream": True}, "Histories are made of rows in memory. Write files that hold them"),
        ({"histories": ["user,hour:film"]}, "no column 'hour', which a history reads"),
        (
            {"histories": [TOLD], "features": FeatureSpec((CategoricalFeature("user", vocabulary_size=9),))},
            "The features read none of 'film_history_liked', .*, which the history user,day:film,.* makes. Leave the",
        ),
    ],
)
def test_what_cannot_be_is_refused(files, told, line):
    with pytest.raises(ValueError, match=line):
        prepare_files(files / "train.parquet", Target.parse("stars>=4"), valid=files / "valid.parquet", **told)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_a_file_whose_rows_would_count_twice_is_refused(files, name):
    paths = {part: files / f"{part}.parquet" for part in ("valid", "test")}
    earlier = files / "again" / ".." / f"{name}.parquet"
    (files / "again").mkdir()
    with pytest.raises(ValueError, match=f"{name}.parquet is in earlier= too, and its rows would count twice. Give"):
        prepare_files(files / "train.parquet", "stars>=4", **paths, histories=[TOLD], earlier=earlier)


def test_a_list_becomes_a_bag_that_shares_the_rows_of_its_column():
    spec = infer_features(made(rows(300)), exclude=["stars", "day"], min_count=1)
    film, liked = spec["film"], spec["film_history_liked"]
    assert (liked.target, liked.table, liked.combiner) == ("film", "film", "mean")
    assert liked.vocabulary == film.vocabulary
    assert spec.num_rows == 1 + spec["user"].num_ids + 1 + film.num_ids
    assert type(spec["film_history_count"]).__name__ == type(spec["film_history_mean"]).__name__ == "NumericFeature"


def test_values_of_a_history_alone_are_unknown():
    before = pa.table({"user": [1] * 3, "day": [1] * 3, "film": ["old", "a", "b"], "stars": [1.0] * 3})
    table = pa.table({"user": [1] * 10, "day": [2] * 10, "film": ["a", "b"] * 5, "stars": [1.0] * 10})
    found = histories(table, user="user", time="day", of="film", earlier=before)
    assert infer_features(found, columns=["film", "film_history"])["film_history"].vocabulary == ("a", "b")


@pytest.mark.parametrize(
    "films",
    [
        pa.array([3.0, 4.0, None, 3.0] * 30),  # ids as pandas stores them where one is missing
        pa.array([2**63 + 1, 2**63 + 2, 5, 5] * 30, pa.uint64()),
        pa.array([f"film {n}" for n in range(120)]).dictionary_encode(),  # all rare: hashed
    ],
)
def test_histories_of_ids_of_any_type_share_their_rows(films):
    table = pa.table({"user": [1, 2] * 60, "day": range(120), "film_id": films})
    spec = infer_features(histories(table, user="user", time="day", of="film_id"), exclude=["day"])
    one, bag = spec["film_id"], spec["film_id_history"]
    assert (bag.target, bag.vocabulary, bag.num_hash_buckets) == ("film_id", one.vocabulary, one.num_hash_buckets)


def test_a_history_whose_column_is_no_feature_is_a_bag_of_its_own():
    found = made(rows(300))
    spec = infer_features(found, columns=["user", "film_history_liked"])
    assert spec["film_history_liked"].target is None
    assert spec["film_history_liked"].table == "film_history_liked"


def test_a_parquet_file_keeps_what_a_list_is_of(tmp_path):
    found = made(rows(300))
    pq.write_table(found, tmp_path / "rows.parquet")
    told = {"exclude": ["stars", "day"]}
    assert infer_features(tmp_path / "rows.parquet", **told) == infer_features(found, **told)
