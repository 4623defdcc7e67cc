"""Vocabularies that grow: what new data holds, which values get a row or lose it, and where each place is."""

import datetime
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.features import admission, seen
from nfm_tfrs.features.admission import check_limits, grown_features
from nfm_tfrs.features.carried import carried
from nfm_tfrs.features.compression import MultiHash, QuotientRemainder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.growth import Growth, changes
from nfm_tfrs.features.seen import grouped, values_seen
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics
from nfm_tfrs.keras_compat import tf

CITY = CategoricalFeature("city", vocabulary=["Rome", "Oslo"])
FILM = CategoricalFeature("film", vocabulary=[7, 3, 2**63 + 5])
SPEC = FeatureSpec(
    [
        CITY,
        FILM,
        MultiCategoricalFeature("watched", vocabulary=FILM.vocabulary, embedding_name="film", max_length=2),
        CategoricalFeature("hour", vocabulary_size=24),
        NumericFeature("price"),
    ]
)
ROWS = {
    "city": ["Bern", "Oslo", None, "", "Bern", "Aix"],
    "film": [3, 4, -1, 9, None, 4],
    "watched": [[9, 3, 8], [], None, [-1, 9], [4, 3], [3]],
    "hour": [1, 2, 3, 4, 5, 99],
    "price": [1.0, None, 2.0, 3.0, 4.0, 5.0],
    "day": ["mo", "tu", "mo", "mo", "tu", ""],
}


# --- what new data holds ---------------------------------------------------------------------------------------------


def counts_of(found):
    return {table: dict(zip(one.values.to_pylist(), one.counts.tolist(), strict=True)) for table, one in found.items()}


def batched(rows):
    return tf.data.Dataset.from_tensor_slices(
        {
            name: tf.ragged.constant([list(bag or ()) for bag in values], tf.int64)
            if name == "watched"
            else ["" if v is None else v for v in values]
            if name in ("city", "day")
            else [-1 if v is None else v for v in values]
            for name, values in rows.items()
        }
    ).batch(4)


def written(rows, tmp_path):
    table = pa.table(rows)
    for number in (0, 1):
        pq.write_table(table.slice(3 * number, 3), tmp_path / f"{number}.parquet")
    return [str(tmp_path / "0.parquet"), tmp_path / "1.parquet"]


SOURCES = {
    "dict": lambda rows, _: rows,
    "frame": lambda rows, _: pd.DataFrame({**rows, "film": pd.array(rows["film"], "Int64")}),
    "table": lambda rows, _: pa.table(rows).append_column("unused", pa.nulls(6)),
    "dictionary": lambda rows, _: pa.table({**rows, "city": pa.array(rows["city"]).dictionary_encode()}),
    "batches": lambda rows, _: iter(pa.table(rows).to_batches(max_chunksize=2)),
    "files": written,
    "dataset": lambda rows, _: batched(rows),
}


@pytest.mark.parametrize("source", SOURCES)
def test_values_are_counted_by_table_without_missing_ones_and_those_that_a_bag_leaves_out(source, tmp_path):
    found = values_seen(SOURCES[source](ROWS, tmp_path), SPEC)

    assert found.rows == 6
    assert counts_of(found.tables) == {"city": {"Bern": 2, "Aix": 1, "Oslo": 1}, "film": {3: 4, 4: 3, 9: 3}}
    # The most frequent first, and those of one frequency in their order.
    assert found.tables["city"].values.to_pylist() == ["Bern", "Aix", "Oslo"]
    assert found.tables["film"].values.to_pylist() == [3, 4, 9]


def test_text_files_are_read_by_the_types_of_the_features(tmp_path):
    (tmp_path / "rows.csv").write_text("zip,film\n007,3\n12,9\n007,3\n")
    spec = FeatureSpec([CategoricalFeature("zip", vocabulary=["12"]), CategoricalFeature("film", vocabulary=[3])])
    found = values_seen(str(tmp_path / "rows.csv"), spec)
    assert counts_of(found.tables) == {"zip": {"007": 2, "12": 1}, "film": {3: 2, 9: 1}}


def test_unsigned_ids_of_64_bits_are_counted_and_the_one_that_means_missing_is_not():
    films = pa.array([2**63 + 5, 2**64 - 1, 2**64 - 2, 2**64 - 2, None, 3], pa.uint64())
    found = values_seen(pa.table({**ROWS, "film": films, "watched": [[]] * 6}), SPEC)
    assert counts_of(found.tables)["film"] == {2**64 - 2: 2, 3: 1, 2**63 + 5: 1}


def test_counts_are_the_same_when_they_are_added_up_in_between(monkeypatch):
    monkeypatch.setattr(seen, "_HELD", 3)
    batches = pa.table(ROWS).to_batches(max_chunksize=1)
    assert counts_of(values_seen(batches, SPEC).tables) == counts_of(values_seen(ROWS, SPEC).tables)


@pytest.mark.parametrize(
    "days",
    [ROWS["day"], pa.array(ROWS["day"]).dictionary_encode(), [1, 2, 1, 1, 2, -1], [1.5, 2.5, 1.5, 1.5, 2.5, None]],
    ids=["strings", "dictionary", "integers", "floats"],
)
def test_values_are_paired_with_the_groups_that_they_stand_beside(days):
    found = values_seen(pa.table({**ROWS, "day": days}), SPEC, group="day").tables["film"]
    expected = {"mo": Counter(), "tu": Counter()}  # and no group where there is no day
    for film, bag, day in zip(ROWS["film"], ROWS["watched"], ROWS["day"], strict=True):
        seen_here = [value for value in [film, *(bag or [])[:2]] if value is not None and value >= 0]
        expected.get(day, Counter()).update(seen_here)

    which, groups, counts = found.pairs

    got = [Counter(), Counter()]
    for number, group, count in zip(which, groups, counts.tolist(), strict=True):
        got[group][found.values[number].as_py()] = count
    assert got in ([expected["mo"], expected["tu"]], [expected["tu"], expected["mo"]])


def test_groups_tell_old_values_from_new_ones_by_their_ids_and_numbers():
    found = values_seen(ROWS, SPEC, group="day").tables["film"]
    groups = grouped(found, replace(FILM, vocabulary=[7, 4, 3], free_ids=[1]), [9, 4])
    assert groups.old_ids.tolist() == [2, 2]  # 3 on both days; 4 has no row
    assert sorted(zip(groups.new.tolist(), groups.new_counts.tolist(), strict=True)) == [(0, 3), (1, 2)]  # 9, and 4


@pytest.mark.parametrize(
    ("columns", "group", "message"),
    [
        (
            {"city": None},
            None,
            r"^There is no column 'city'; did you mean .*$|^There is no column 'city'\. The data has",
        ),
        ({"film": [str(v) for v in ROWS["film"]]}, None, "'film' is string, .* feature 'film' was declared int64"),
        ({"city": [1] * 6}, None, "'city' is int64, another type than in training: .* was declared string"),
        ({"price": ["?"] * 6}, None, "'price' is string, not a number"),
        ({}, "weekday", "There is no column 'weekday'"),
        ({}, "watched", "'watched' holds lists .*, and values are grouped by one value a row. Name another one"),
        ({name: values[:0] for name, values in ROWS.items()}, None, "cannot grow from data without a row"),
    ],
)
def test_data_that_nothing_can_grow_from_is_refused(columns, group, message):
    rows = {name: values for name, values in {**ROWS, **columns}.items() if values is not None}
    types = {"city": pa.string(), "film": pa.int64(), "watched": pa.list_(pa.int64())} if "day" in columns else {}
    with pytest.raises(ValueError, match=message) as caught:
        values_seen(pa.table({n: pa.array(v, types.get(n)) for n, v in rows.items()}), SPEC, group=group)
    assert "\n" not in str(caught.value)


def test_groups_of_two_types_are_refused():
    batches = [pa.RecordBatch.from_pydict({**ROWS, "day": days}) for days in ([1.5] * 6, ["mo"] * 6)]
    with pytest.raises(ValueError, match=r"Column 'day' is string, and double before\. Write it with one type\."):
        values_seen(batches, SPEC, group="day")


# --- which values get a row ------------------------------------------------------------------------------------------


def grow_one(feature, values, growth=None, **statistics):
    """The feature grown with data of these values; statistics are (times, last day) by value, and what waits."""
    spec = FeatureSpec([feature])
    found = values_seen({feature.name: values}, spec).tables
    kept = None
    if statistics:
        kept = of_table(spec, **statistics)
    return grown_features(spec, found, growth or Growth(), kept)


def of_table(spec, *, held, waiting=None):
    (feature,) = spec
    times, days = (np.array([0, *(held[value][k] for value in feature.vocabulary)]) for k in (0, 1))
    return Statistics(
        rows=100,
        counts={feature.name: times.astype(np.int64)},
        missing={feature.name: 0},
        quantiles={},
        seen={feature.table: days.astype(np.uint16)},
        waiting={feature.table: waiting or {}},
    )


def test_new_values_come_behind_the_last_the_most_frequent_first_and_then_in_their_order():
    grown = grow_one(CITY, ["Wien", "Aix", "Bern", "Oslo", "Bern", "Wien", "Enns"])
    assert grown.features["city"].vocabulary == ("Rome", "Oslo", "Bern", "Wien", "Aix", "Enns")
    assert grown.freed["city"].tolist() == []
    assert grown.waiting == {}


def test_free_places_are_taken_from_the_first_on_before_new_ones_and_a_value_takes_its_own_again():
    feature = CategoricalFeature("city", vocabulary=["A", "B", "C", "D"], free_ids=[0, 1, 3])
    assert grow_one(feature, ["X", "X", "D"]).features["city"] == replace(
        feature, vocabulary=("X", "B", "C", "D"), free_ids=[1]
    )
    assert grow_one(feature, ["X", "Y", "Z", "A"]).features["city"] == replace(
        feature, vocabulary=("A", "X", "C", "Y", "Z"), free_ids=()
    )


def test_data_of_known_values_changes_nothing():
    assert grow_one(CITY, ["Rome", "Rome", "Oslo"]).features == FeatureSpec([CITY])


def test_features_that_share_a_table_grow_together_and_others_stay():
    grown = grown_features(SPEC, values_seen(ROWS, SPEC).tables, Growth()).features
    assert grown["film"].vocabulary == grown["watched"].vocabulary == (7, 3, 2**63 + 5, 4, 9)
    assert [grown[name] for name in ("hour", "price")] == [SPEC["hour"], SPEC["price"]]


def test_a_value_gets_its_row_when_it_was_seen_often_enough_in_all_nights_together():
    growth, held = Growth(min_count=3), {"Rome": (9, 5), "Oslo": (9, 5)}
    one = grow_one(CITY, ["Bern"] * 2 + ["Aix"] * 3, growth, held=held)
    assert one.features["city"].vocabulary == ("Rome", "Oslo", "Aix")
    assert one.waiting == {"city": {"Bern": 2}}
    two = grow_one(CITY, ["Bern", "Enns"], growth, held=held, waiting=one.waiting["city"])
    assert two.features["city"].vocabulary == ("Rome", "Oslo", "Bern")
    assert two.waiting == {"city": {"Enns": 1}}
    assert two.earlier["city"].tolist() == [2]


def test_without_statistics_a_value_gets_its_row_by_the_new_data_alone():
    assert grow_one(CITY, ["Bern", "Aix", "Aix"], Growth(min_count=2)).features["city"].vocabulary[2:] == ("Aix",)


def test_the_rarest_of_those_that_wait_are_dropped_first(monkeypatch):
    monkeypatch.setattr(admission, "_WAITING", 2)
    held = {"Rome": (9, 5)}
    city = CategoricalFeature("city", vocabulary=["Rome"])  # four values may wait
    waiting = {"a": 1, "z": 3, "b": 1, "c": 2}
    grown = grow_one(city, ["c", "y", "x"], Growth(min_count=9), held=held, waiting=waiting)
    assert list(grown.waiting["city"].items()) == [("c", 3), ("z", 3), ("a", 1), ("b", 1)]


def test_what_a_file_lets_wait_that_is_no_value_is_left_out():
    held = {7: (1, 1), 3: (1, 1), 2**63 + 5: (1, 1)}
    waiting = {"x": 5, -1: 5, 2**64 - 1: 5, 8: 2}
    assert grow_one(FILM, [8], Growth(min_count=9), held=held, waiting=waiting).waiting == {"film": {8: 3}}


def test_a_value_not_seen_for_days_loses_its_row_and_another_takes_the_place():
    held = {"Rome": (9, 5), "Oslo": (1, 8)}
    growth = Growth(max_age=3, day="1970-01-10")  # day 9
    assert grow_one(CITY, ["Oslo"], growth, held=held).features["city"] == replace(CITY, free_ids=[0])
    assert grow_one(CITY, ["Rome"], growth, held=held).features["city"] == CITY
    grown = grow_one(CITY, ["Bern", "Aix"], growth, held=held)
    assert grown.features["city"] == replace(CITY, vocabulary=("Aix", "Oslo", "Bern"))
    assert grown.freed["city"].tolist() == [0]
    assert grow_one(CITY, ["Oslo"], replace(growth, max_age=4), held=held).features["city"] == CITY


def test_above_the_limit_the_least_frequent_values_give_way_and_of_equal_ones_the_longest_unseen():
    feature = CategoricalFeature("city", vocabulary=["A", "B", "C", "D"])
    held = {"A": (2, 7), "B": (2, 6), "C": (5, 1), "D": (1, 8)}
    growth = Growth(max_rows=5, day="1970-01-10")
    two = grow_one(feature, ["X", "X", "X", "Y", "Y", "Y"], growth, held=held)
    assert two.features["city"].vocabulary == ("A", "X", "C", "Y")
    assert two.waiting == {"city": {"B": 2, "D": 1}}  # to come back when they are the more frequent ones
    # As frequent ones do not drive out those that are there, seen later or not; a row more is filled at once.
    assert grow_one(feature, ["X"], growth, held={**held, "D": (1, 9)}).features["city"] == feature
    assert grow_one(feature, ["X"], replace(growth, max_rows=6), held=held).features["city"].num_ids == 5


@st.composite
def nights(draw):
    tables = []
    for values in (st.sampled_from("abcdefgh"), st.integers(0, 7)):
        vocabulary = draw(st.lists(values, min_size=1, max_size=5, unique=True))
        places = st.integers(0, len(vocabulary) - 1)
        tables.append(
            {
                "vocabulary": vocabulary,
                "free": draw(st.sets(places)),
                "times": draw(st.lists(st.integers(0, 4), min_size=len(vocabulary), max_size=len(vocabulary))),
                "last": draw(st.lists(st.integers(0, 6), min_size=len(vocabulary), max_size=len(vocabulary))),
                "waiting": draw(st.dictionaries(values.filter(lambda v, k=vocabulary: v not in k), st.integers(1, 3))),
                "seen": draw(st.lists(values, max_size=12)),
            }
        )
    return tables, {
        "min_count": draw(st.integers(1, 4)),
        "max_age": draw(st.none() | st.integers(1, 4)),
        "more_rows": draw(st.none() | st.integers(0, 4)),
    }


def expected(tables, day, min_count, max_age, more_rows):
    """The same, value by value."""
    wanting, aged = [], []
    for number, table in enumerate(tables):
        seen_here, old = Counter(table["seen"]), {}
        aged.append(set())
        for place, value in enumerate(table["vocabulary"]):
            if place not in table["free"]:
                last = max(table["last"][place], day if seen_here[value] else 0)
                if max_age is not None and day - last > max_age:
                    aged[-1].add(place)
                else:
                    old[value] = (-table["times"][place] - seen_here[value], -last, 0, number, place, value)
        known = {v for p, v in enumerate(table["vocabulary"]) if p not in table["free"]}
        new = {
            value: (-times - table["waiting"].get(value, 0), -day, 1, number, value, value)
            for value, times in seen_here.items()
            if value not in known and times + table["waiting"].get(value, 0) >= min_count
        }
        wanting.append({**old, **new})
    while more_rows is not None:
        beyond = [len(w) - len(t["vocabulary"]) for w, t in zip(wanting, tables, strict=True)]
        if sum(max(0, count) for count in beyond) <= more_rows:
            break
        worst = max(key for w, count in zip(wanting, beyond, strict=True) if count > 0 for key in w.values())
        del wanting[worst[3]][worst[5]]
    return [placed(table, list(want)) for table, want in zip(tables, wanting, strict=True)]


def placed(table, wanting):
    vocabulary, seen_here = list(table["vocabulary"]), Counter(table["seen"])
    free = {p for p, v in enumerate(vocabulary) if v not in wanting or p in table["free"]}
    new = [v for v in wanting if v not in vocabulary or vocabulary.index(v) in table["free"]]
    for value in sorted(new, key=lambda v: (-seen_here[v] - table["waiting"].get(v, 0), v)):
        if value in table["vocabulary"]:
            free.discard(table["vocabulary"].index(value))
    for value in sorted(new, key=lambda v: (-seen_here[v] - table["waiting"].get(v, 0), v)):
        if value not in table["vocabulary"]:
            if free:
                vocabulary[min(free)] = value
                free.discard(min(free))
            else:
                vocabulary.append(value)
    return tuple(vocabulary), tuple(sorted(free))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(nights())
def test_vocabularies_grow_as_value_by_value(case):
    tables, limits = case
    day, more = 9, limits["more_rows"]
    spec = FeatureSpec(
        [
            CategoricalFeature(name, vocabulary=table["vocabulary"], free_ids=table["free"])
            for name, table in zip("su", tables, strict=True)
        ]
    )
    found = {
        name: seen.Seen(
            pa.array([v for v, _ in in_order(table["seen"])], pa.string() if name == "s" else pa.uint64()),
            np.array([c for _, c in in_order(table["seen"])], np.int64),
            (np.empty(0, np.int64),) * 3,
        )
        for name, table in zip("su", tables, strict=True)
    }
    statistics = Statistics(
        rows=9,
        counts={name: np.array([0, *table["times"]]) for name, table in zip("su", tables, strict=True)},
        missing={"s": 0, "u": 0},
        quantiles={},
        seen={name: np.array([0, *table["last"]], np.uint16) for name, table in zip("su", tables, strict=True)},
        waiting={name: table["waiting"] for name, table in zip("su", tables, strict=True)},
    )
    growth = Growth(
        min_count=limits["min_count"],
        max_age=limits["max_age"],
        max_rows=None if more is None else spec.num_rows + 2 + more,
        day=datetime.date(1970, 1, 1 + day),
    )

    grown = grown_features(spec, found, growth, statistics, other_rows=2)

    got = [(feature.vocabulary, feature.free_ids) for feature in grown.features]
    assert got == expected(tables, day, limits["min_count"], limits["max_age"], more)
    if more is not None:
        assert grown.features.num_rows + 2 <= growth.max_rows
    differing = changes(spec, grown.features, grown.freed)  # and it is a growth, not something else
    for name, table in zip("su", tables, strict=True):
        before = [table["waiting"].get(grown.features[name].vocabulary[i], 0) for i in differing[name].new]
        assert grown.earlier[name].tolist() == before
        waits = grown.waiting[name]
        assert not waits.keys() & set(grown.features[name].known_values)
        assert waits.keys() >= {*table["seen"], *table["waiting"]} - {*grown.features[name].known_values}


def in_order(values):
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))


def test_compressed_tables_do_not_count_among_the_rows():
    many = CategoricalFeature("many", vocabulary_size=200, compression=QuotientRemainder())
    growing = CategoricalFeature("words", vocabulary=list("abcdefgh"), compression=MultiHash(num_rows=3))
    features = FeatureSpec([CITY, many, growing])  # 3 rows, and those of compressed tables
    tables = {"city": 2, "many": 200, "words": 8}
    counted = Statistics(
        rows=9,
        counts={name: np.full(ids + 1, 5) for name, ids in tables.items()},
        missing=dict.fromkeys(tables, 0),
        quantiles={},
        seen={name: np.ones(ids + 1, np.uint16) for name, ids in tables.items()},
    )
    seen = values_seen({"city": ["Bern", "Bern", "Lima"], "many": [1, 2, 3], "words": ["x", "y", "z"]}, features)

    grown = grown_features(features, seen.tables, Growth(max_rows=4), counted).features

    assert grown["city"].vocabulary == ("Rome", "Oslo", "Bern")
    assert grown["words"].num_ids == 11
    with pytest.raises(ValueError, match=r"table has 3 rows already, .* received max_rows=2\. Give 3 or more"):
        check_limits(features, Growth(max_rows=2), counted)


def test_a_limit_of_features_that_are_never_counted_says_so():
    many = CategoricalFeature("many", vocabulary_size=10**8, compression=QuotientRemainder())
    line = "it has none: for features of more than 50,000,000 ids with a compression nothing is counted. Leave it out, "
    with pytest.raises(ValueError, match=line):
        check_limits(FeatureSpec([CITY, many]), Growth(max_age=3), None)


@pytest.mark.parametrize(
    ("growth", "statistics", "message"),
    [
        (Growth(max_age=3), False, "^max_age needs the statistics of the rows .*, and it has none. Leave it out, or"),
        (Growth(max_rows=99), False, "^max_rows needs the statistics of the rows"),
        (Growth(max_rows=2), True, "table has 3 rows already, .* received max_rows=2. Give 3 or more"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(growth, statistics, message):
    held = {"held": {"Rome": (1, 1), "Oslo": (1, 1)}} if statistics else {}
    with pytest.raises(ValueError, match=message) as caught:
        grow_one(CITY, ["Bern"], growth, **held)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "ones"}, 'init must be "zeros", "random" or "mean:COLUMN"; received \'ones\''),
        ({"init": "mean:"}, 'init must be "zeros", "random" or "mean:COLUMN"; received \'mean:\''),
        ({"init": 0}, 'init must be "zeros", "random" or "mean:COLUMN"; received 0'),
        ({"min_count": 0}, "min_count must be a whole number of 1 or more; received 0"),
        ({"max_age": 0.5}, "max_age must be a whole number of 1 or more; received 0.5"),
        ({"max_rows": -1}, "max_rows must be a whole number of 1 or more; received -1"),
        ({"day": "yesterday"}, "day must be a date such as \"2026-01-31\"; received 'yesterday'"),
        ({"day": 20_000}, 'day must be a date such as "2026-01-31"; received 20000'),
        ({"day": "1970-01-01"}, "day must lie from 1970-01-02 to 2149-06-06; received 1970-01-01"),
        ({"day": "2149-06-07"}, "day must lie from 1970-01-02 to 2149-06-06; received 2149-06-07"),
    ],
)
def test_growth_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Growth(**arguments)


def test_an_argument_that_growth_does_not_have_is_named():
    with pytest.raises(TypeError, match="Growth has no argument 'max_row'; did you mean 'max_rows'"):
        Growth(max_row=5)


def test_a_day_is_a_date_a_text_or_today():
    assert (
        Growth(day="2026-01-31")
        == Growth(day=datetime.datetime(2026, 1, 31, 23))
        == Growth(day=Growth(day="2026-01-31").day)
    )
    assert Growth(day="1970-01-11").day_number == 10
    today = datetime.datetime.now(datetime.timezone.utc).date()
    assert today <= Growth().date <= today + datetime.timedelta(days=1)


# --- what differs between two -----------------------------------------------------------------------------------------


def changed(vocabulary, free_ids=(), *, old=CITY, freed=()):
    new = replace(old, vocabulary=vocabulary, free_ids=free_ids)
    found = changes(FeatureSpec([old]), FeatureSpec([new]), {"city": np.array(freed, np.int64)})["city"]
    return found.new.tolist(), found.free.tolist()


def test_what_differs_is_new_places_taken_places_and_free_ones():
    assert changed(["Rome", "Oslo"]) == ([], [])
    assert changed(["Rome", "Oslo", "Bern", "Aix"]) == ([2, 3], [])
    assert changed(["Rome", "Oslo", "Bern"], [0]) == ([2], [0])
    free = replace(CITY, free_ids=[1])
    assert changed(["Rome", "Bern"], old=free) == ([1], [])
    assert changed(["Rome", "Oslo"], old=free) == ([1], [])  # it has come back
    assert changed(["Rome", "Oslo"], [1], old=free) == ([], [1])
    assert changed(["Bern", "Oslo"], freed=[0]) == ([0], [])


@pytest.mark.parametrize(
    ("vocabulary", "line"),
    [
        (["Rome"], "Value 'Oslo' of feature 'city' has the id 1 in the model, and none in what was given. Leave each"),
        (["Oslo", "Rome"], "Value 'Rome' of feature 'city' has the id 0 in the model, and the id 1 in what was given"),
        (["Rome", "Bern", "Oslo"], "Value 'Oslo' of feature 'city' has the id 1 in the model, and the id 2 in what"),
        (["Bern", "Oslo"], "Value 'Rome' of feature 'city' has the id 0 in the model, and none in what was given"),
    ],
)
def test_a_vocabulary_that_shrank_or_changed_its_order_is_refused_by_the_value(vocabulary, line):
    with pytest.raises(ValueError, match=line) as caught:
        changed(vocabulary)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("others", "line"),
    [
        ([CITY], "features of the model, city, film, .* in this order; received others, such as 'film'"),
        ([*SPEC, CategoricalFeature("zip", vocabulary_size=3)], "received others, such as 'zip'"),
        ([*list(SPEC)[1:], CITY], "in this order; received others, such as 'film'"),
        ([CITY, *list(SPEC)[1:4], NumericFeature("price", mean=1.0)], "mean of feature 'price' is 1.0, and 0.0 in the"),
        (
            [*list(SPEC)[:3], CategoricalFeature("hour", vocabulary_size=25), SPEC["price"]],
            "vocabulary_size of feature 'hour' is 25, and 24 in the model",
        ),
        (
            [CategoricalFeature("city", num_hash_buckets=3), *list(SPEC)[1:]],
            r"vocabulary of feature 'city' is None, and \('Rome', 'Oslo'\) in the model",
        ),
        (
            [MultiCategoricalFeature("city", vocabulary=CITY.vocabulary), *list(SPEC)[1:]],
            "Feature 'city' is a MultiCategoricalFeature, and a CategoricalFeature in the model",
        ),
    ],
)
def test_other_features_are_refused_by_name(others, line):
    with pytest.raises(ValueError, match=line) as caught:
        changes(SPEC, FeatureSpec(others))
    assert "\n" not in str(caught.value)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_follow_their_values_and_those_without_a_row_count_as_unknown():
    home = replace(CITY, name="home", embedding_name="city")
    spec = FeatureSpec([CITY, home, SPEC["hour"]])
    statistics = Statistics(
        rows=30,
        counts={"city": np.array([4, 7, 9]), "home": np.array([1, 2, 3]), "hour": np.arange(25)},
        missing={"city": 0, "home": 0, "hour": 0},
        quantiles={},
        seen={"city": np.array([5, 6, 7], np.uint16), "hour": np.full(25, 3, np.uint16)},
        waiting={"city": {"Bern": 3, "Aix": 1}},
    )
    grown = FeatureSpec(
        [replace(feature, vocabulary=["Bern", "Oslo", "Enns"]) for feature in (CITY, home)] + [spec["hour"]]
    )
    differing = changes(spec, grown, {"city": np.array([0])})

    found = carried(statistics, grown, differing, {"city": np.array([3, 0])})

    found.check(grown)
    assert {name: counts.tolist() for name, counts in found.counts.items()} == {
        "city": [8, 3, 9, 0],  # 4 + Rome's 7 - Bern's 3
        "home": [3, 0, 3, 0],
        "hour": list(range(25)),
    }
    assert found.seen["city"].tolist() == [5, 0, 7, 0]
    assert found.waiting == {"city": {"Aix": 1}}
    assert statistics.counts["city"].tolist() == [4, 7, 9]
    assert statistics.waiting == {"city": {"Bern": 3, "Aix": 1}}
