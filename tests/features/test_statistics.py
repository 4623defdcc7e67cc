"""What is counted of rows, against a count row by row; windows add up; arrays that nobody wrote are refused."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.rates import Rates, merged_rates
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import MOST_WAITING, Counting, Statistics, today

SPEC = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary_size=6, embedding_name="people"),
        CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
        MultiCategoricalFeature("genres", vocabulary=["a", "b", "c"]),
        MultiCategoricalFeature("friends", vocabulary_size=6, embedding_name="people", max_length=2),
        NumericFeature("price", mean=1.0, std=2.0),
        NumericFeature("age", boundaries=[18, 65]),
        CategoricalFeature("page", num_hash_buckets=4),
    ]
)
ENCODER = FeatureEncoder(SPEC)


def rows(count, seed=0):
    rng = np.random.default_rng(seed)

    def bags(values, most):
        return [rng.choice(values, rng.integers(0, most)).tolist() for _ in range(count)]

    return pa.table(
        {
            "user": rng.integers(-1, 8, count),
            "city": rng.choice(["Rome", "Oslo", "Paris", ""], count),
            "genres": pa.array(bags(["a", "b", "c", "x"], 4), pa.list_(pa.string())),
            "friends": pa.array(bags(np.arange(-1, 8), 5), pa.list_(pa.int64())),
            "price": pa.array(rng.integers(0, 9, count) * 1.0, mask=rng.random(count) < 0.2),
            "age": pa.array([None if rng.random() < 0.1 else float(rng.integers(0, 99)) for _ in range(count)]),
            "page": rng.choice(["a", "b", ""], count),
        }
    )


def counted(table, day=20_000):
    part = encode_part(table, ENCODER)
    return Statistics.of(part.columns, SPEC, part.rates, day=day)


def same(one, other, *, but=()):
    arrays, others = ({k: a for k, a in of.to_arrays().items() if k not in but} for of in (one, other))
    return arrays.keys() == others.keys() and all(np.array_equal(a, others[k], True) for k, a in arrays.items())


def near(found, prices):
    """Whether each percentile is within one of its rank."""
    below, upto = ((compare(prices[:, None], found)).mean(axis=0) for compare in (np.less, np.less_equal))
    levels = np.linspace(0, 1, 101)
    return bool(((below < levels + 0.011) & (upto > levels - 0.011)).all())


def test_counts_are_those_of_a_count_row_by_row():
    table = rows(500)
    found = counted(table)

    users, cities = Counter(table["user"].to_pylist()), Counter(table["city"].to_pylist())
    assert found.rows == 500
    assert found.counts["user"].tolist() == [users[6] + users[7], *(users[n] for n in range(6))]
    assert found.counts["city"].tolist() == [cities["Paris"], cities["Rome"], cities["Oslo"]]
    genres = Counter(value for bag in table["genres"].to_pylist() for value in bag)
    assert found.counts["genres"].tolist() == [genres["x"], *(genres[name] for name in "abc")]
    friends = Counter(v for bag in table["friends"].to_pylist() for v in [x for x in bag if x >= 0][:2])
    assert found.counts["friends"].tolist() == [friends[6] + friends[7], *(friends[n] for n in range(6))]
    ages = [age for age in table["age"].to_pylist() if age is not None]
    assert found.counts["age"].tolist() == [
        0,
        *np.histogram(ages, [-np.inf, 18, 65, np.inf])[0],  # of which the last edge alone is inside
    ]
    assert found.counts["page"].sum() + found.missing["page"] == 500
    assert {name: counts.dtype for name, counts in found.counts.items()} == dict.fromkeys(found.counts, np.int64)


def test_missing_are_no_value_at_all_and_of_bags_rows_without_one():
    table = rows(500)
    found = counted(table)

    assert found.missing == {
        "user": sum(user < 0 for user in table["user"].to_pylist()),
        "city": table["city"].to_pylist().count(""),
        "genres": table["genres"].to_pylist().count([]),
        "friends": sum(all(friend < 0 for friend in bag) for bag in table["friends"].to_pylist()),
        "price": table["price"].null_count,
        "age": table["age"].null_count,
        "page": table["page"].to_pylist().count(""),
    }


def test_quantiles_are_in_the_unit_of_the_column():
    table = rows(500)

    quantiles = counted(table).quantiles["price"]

    prices = table["price"].drop_null().to_numpy()
    assert quantiles.dtype == np.float64
    np.testing.assert_array_equal(quantiles, np.quantile(prices, np.linspace(0, 1, 101), method="inverted_cdf"))


def test_the_day_is_that_of_ids_that_were_read_by_any_feature_of_the_table():
    found = counted(pa.table({**rows(1).to_pydict(), "user": [2], "friends": [[4, 9]], "city": ["Oslo"]}), day=7)

    assert found.seen["people"].tolist() == [7, 0, 0, 7, 0, 7, 0]
    assert found.seen["city"].tolist() == [0, 0, 7]
    assert found.seen["city"].dtype == np.uint16


def test_today_is_the_day_if_none_is_given():
    before = today()
    part = encode_part(rows(50), ENCODER)

    assert before <= Statistics.of(part.columns, SPEC, part.rates).seen["city"].max() <= today()


@pytest.mark.parametrize("day", [0, -1, 65_536])
def test_a_day_that_is_none_is_refused(day):
    with pytest.raises(ValueError, match=rf"day counts from 1970-01-01, from 1 to 65535; received {day}\."):
        counted(rows(1), day=day)


def test_windows_add_up_to_all_rows():
    table, counting = rows(300), Counting(SPEC)
    for start in range(0, 300, 70):
        part = encode_part(table.slice(start, 70), ENCODER)
        counting.add(part.columns, part.rates)

    found = counting.statistics(day=20_000)
    assert same(found, counted(table), but=["quantiles0"])
    assert near(found.quantiles["price"], table["price"].drop_null().to_numpy())


def test_merged_statistics_are_those_of_both_and_of_the_later_day():
    one, other = rows(300), rows(200, seed=1)

    found = counted(one, day=20_001).merged(counted(other, day=20_000))

    together = pa.concat_tables([one, other])
    assert same(found, counted(together, day=20_001), but=["quantiles0"])
    assert near(found.quantiles["price"], together["price"].drop_null().to_numpy())
    few = pa.table({**rows(1).to_pydict(), "city": ["Rome"]})
    assert counted(few, day=3).merged(counted(few, day=2)).seen["city"].tolist() == [0, 3, 0]


def test_no_rows_are_counted_too():
    found = counted(rows(0))

    assert found.rows == 0
    assert not any(counts.any() for counts in found.counts.values())
    assert np.isnan(found.quantiles["price"]).all()
    assert same(found.merged(counted(rows(40))), counted(rows(40)))
    assert same(Statistics.from_arrays(found.to_arrays()), found)


@pytest.mark.parametrize("name", ["price", "genres", "city"])
def test_features_of_one_kind_alone_are_counted_too(name):
    spec = FeatureSpec([SPEC[name]])
    part = encode_part(rows(40), FeatureEncoder(spec))

    found = Statistics.of(part.columns, spec, part.rates, day=20_000)

    every = counted(rows(40))
    for kind in ("counts", "quantiles", "missing"):
        for feature, value in getattr(found, kind).items():
            np.testing.assert_array_equal(value, getattr(every, kind)[feature])
    found.check(spec)


def test_what_waits_is_added_up():
    def waiting(values):
        found = counted(rows(1))
        return Statistics(**{**vars(found), "waiting": values})

    merged = waiting({"city": {"Paris": 2, "Lima": 1}}).merged(waiting({"city": {"Paris": 3}, "people": {9: 1}}))

    assert merged.waiting == {"city": {"Paris": 5, "Lima": 1}, "people": {9: 1}}


def test_of_too_many_values_that_wait_the_most_frequent_are_kept(monkeypatch):
    monkeypatch.setattr("nfm_tfrs.features.statistics.MOST_WAITING", 1)
    one = Statistics(**{**vars(counted(rows(1))), "waiting": {"city": {"Paris": 2, "Lima": 3}}})

    assert one.merged(counted(rows(1))).waiting == {"city": {"Lima": 3}}


def test_rates_that_are_not_there_are_missed():
    part = encode_part(rows(3), ENCODER)

    with pytest.raises(ValueError, match=r"rates of feature 'user' are needed too. Encode the rows again"):
        Statistics.of(part.columns, SPEC, part.rates[1:])


def test_rates_of_windows_together_are_those_of_all_rows():
    table = rows(100)
    windows = [
        (len(part), part.rates) for part in (encode_part(table.slice(s, 30), ENCODER) for s in range(0, 100, 30))
    ]

    merged = merged_rates(windows)

    for one, other in zip(merged, encode_part(table, ENCODER).rates, strict=True):
        assert (one.name, one.values) == (other.name, other.values)
        assert [one.missing, one.unknown] == pytest.approx([other.missing, other.unknown])
    assert merged_rates([(0, [Rates("user", 0, 0.0, 0.0)])]) == [Rates("user", 0, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("feature", "what"),
    [
        (CategoricalFeature("city", vocabulary=["Rome"]), "hold 3 counts of 'city', and the features need 2"),
        (NumericFeature("page"), "hold 5 counts of 'page', and the features need 0"),
        (NumericFeature("price", boundaries=[1]), "hold 0 counts of 'price', and the features need 3"),
    ],
)
def test_statistics_of_other_features_do_not_fit(feature, what):
    with pytest.raises(ValueError, match=what):
        counted(rows(5)).check(SPEC.replace(feature))


def test_statistics_of_other_features_are_not_merged():
    fewer = FeatureSpec([feature for feature in SPEC if feature.name != "city"])
    part = encode_part(rows(5), FeatureEncoder(fewer))
    other = Statistics.of(part.columns, fewer, part.rates)

    with pytest.raises(ValueError, match="of other features: 'city' has 3 and 0 counts"):
        counted(rows(5)).merged(other)
    with pytest.raises(ValueError, match="hold 0 counts of 'city'"):
        other.check(SPEC)


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_arrays_are_small_and_come_back():
    found = Statistics(**{**vars(counted(rows(300))), "waiting": {"city": {"Lima": 3}, "people": {2**64 - 2: 1}}})

    arrays = found.to_arrays()

    assert {array.dtype.kind for array in arrays.values()} == {"u", "f"}
    assert arrays["counts0"].dtype == np.uint8
    again = Statistics.from_arrays(arrays)
    assert same(again, found)
    assert again.waiting == found.waiting
    assert again.missing == found.missing
    assert all(counts.dtype == np.int64 for counts in again.counts.values())
    again.check(SPEC)


def as_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


def nested(depth):
    return as_bytes("[" * depth + "]" * depth)


HOSTILE = {
    "another type": ("counts0", np.ones(7, np.float32)),
    "negative": ("counts0", np.full(7, -1, np.int64)),
    "beyond int64": ("counts0", np.full(7, 2**63, np.uint64)),
    "a sum beyond int64": ("counts0", np.full(7, 2**62, np.uint64)),
    "two dimensions": ("counts0", np.ones([7, 1], np.uint8)),
    "none": ("counts0", np.ones(0, np.uint8)),
    "objects": ("counts0", np.array([{}] * 7, object)),
    "a scalar": ("seen0", np.uint16(3)),
    "no days": ("seen0", np.ones(0, np.uint16)),
    "days of another type": ("seen0", np.ones(7, np.uint8)),
    "not in order": ("quantiles0", np.arange(101.0)[::-1]),
    "too few": ("quantiles0", np.arange(100.0)),
    "infinite": ("quantiles0", np.r_[np.arange(100.0), np.inf]),
    "a NaN among numbers": ("quantiles0", np.r_[np.arange(100.0), np.nan]),
    "no JSON": ("names", as_bytes("{")),
    "no object": ("names", as_bytes("[]")),
    "deep": ("names", nested(100_000)),
    "no bytes": ("names", np.ones(4, np.float64)),
    "not UTF-8": ("names", np.full(4, 255, np.uint8)),
    "rows that are no count": ("names", as_bytes('{"rows": 1e3}')),
    "rows below 0": ("names", as_bytes('{"rows": -1, "missing": {}, "counts": [], "quantiles": [], "seen": []}')),
    "a feature twice": (
        "names",
        as_bytes('{"rows": 9, "missing": {"a": 1}, "counts": ["a", "a"], "quantiles": [], "seen": []}'),
    ),
    "more missing than rows": (
        "names",
        as_bytes('{"rows": 1, "missing": {"a": 2}, "counts": ["a"], "quantiles": [], "seen": ["a"]}'),
    ),
    "no missing values": (
        "names",
        as_bytes('{"rows": 1, "missing": {}, "counts": ["a"], "quantiles": [], "seen": []}'),
    ),
    "waiting is a list": ("waiting", as_bytes("[]")),
    "waiting values are no pairs": ("waiting", as_bytes('{"city": [1]}')),
    "a waiting value is a list": ("waiting", as_bytes('{"city": [[[1], 1]]}')),
    "a waiting value is true": ("waiting", as_bytes('{"city": [[true, 1]]}')),
    "a waiting count is text": ("waiting", as_bytes('{"city": [["a", "b"]]}')),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_arrays_that_nobody_wrote_are_refused_in_one_line(kind):
    name, array = HOSTILE[kind]
    arrays = counted(rows(20)).to_arrays()

    with pytest.raises(ValueError, match=r"^The statistics are damaged: [^\n]+\. Count the rows again\.$"):
        Statistics.from_arrays({**arrays, name: array})


@pytest.mark.parametrize("name", ["names", "waiting", "counts3", "quantiles0", "seen0"])
def test_an_array_that_is_not_there_is_missed(name):
    arrays = counted(rows(20)).to_arrays()
    del arrays[name]

    with pytest.raises(ValueError, match=f"it has no '{name}'"):
        Statistics.from_arrays(arrays)


def test_too_many_values_wait_for_no_table(monkeypatch):
    monkeypatch.setattr("nfm_tfrs.features.statistics.MOST_WAITING", 2)
    assert MOST_WAITING > 2
    arrays = counted(rows(20)).to_arrays()

    with pytest.raises(ValueError, match="too many values wait at 'city'"):
        Statistics.from_arrays({**arrays, "waiting": as_bytes('{"city": [["a", 1], ["b", 1], ["c", 1]]}')})
