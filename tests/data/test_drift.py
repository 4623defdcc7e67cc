"""New rows held against training rows: nothing is found in rows alike, and what moved is found and named."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nfm_tfrs import check_drift
from nfm_tfrs.data.drift import Drift
from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.readers.rows import ROWS
from nfm_tfrs.features.compression import QuotientRemainder
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Counting, Statistics

SPEC = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary_size=50),
        CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Lima"]),
        MultiCategoricalFeature("tags", vocabulary=["a", "b", "c"]),
        NumericFeature("price", mean=3.0, std=7.0, log=True),
        NumericFeature("stars", mean=3.0, std=1.5),
        NumericFeature("age", boundaries=[18, 65]),
    ]
)


def rows(count, seed=0, *, city=(0.5, 0.3, 0.2), more=0.0, missing=0.1, tags=3, unknown=0.0):
    rng = np.random.default_rng(seed)
    cities = rng.choice(["Rome", "Oslo", "Lima"], count, p=city)
    cities[rng.random(count) < unknown] = "Bonn"
    bags = [list("abc")[: rng.integers(0, tags)] for _ in range(count)]
    return pa.table(
        {
            "user": rng.integers(0, 50, count),
            "city": cities,
            "tags": pa.array(bags, pa.list_(pa.string())),
            "price": pa.array(rng.lognormal(1.0 + more, 1.0, count), mask=rng.random(count) < missing),
            "stars": rng.integers(1, 6, count),
            "age": rng.normal(40, 20, count),
        }
    )


def model_of(table, spec=SPEC):
    encoder = FeatureEncoder(spec)
    part = encode_part(table, encoder)
    return SimpleNamespace(
        features=spec, encoder=encoder, statistics=Statistics.of(part.columns, spec, part.rates, day=1)
    )


@pytest.fixture(scope="module")
def model():
    return model_of(rows(4000, seed=99))


def of(drift, name):
    return next(feature for feature in drift.features if feature.feature == name)


def divergence(before, after):
    """The Jensen-Shannon distance of two lists of values, counted one by one."""
    found = 0.0
    for value in set(before) | set(after):
        p, q = before.count(value) / len(before), after.count(value) / len(after)
        found += sum(share * np.log2(2 * share / (p + q)) / 2 for share in (p, q) if share)
    return found**0.5


def test_the_distance_is_that_of_the_values_themselves(model):
    before, after = rows(4000, seed=99), rows(500, city=(0.2, 0.3, 0.5), unknown=0.1, tags=4)

    found = check_drift(model, after)

    for name in ("city", "user", "stars"):
        values = [table[name].to_pylist() for table in (before, after)]
        assert of(found, name).distance == pytest.approx(divergence(*values), abs=1e-2 if name == "stars" else 1e-9)
    bags = [[tag for bag in table["tags"].to_pylist() for tag in bag or [None]] for table in (before, after)]
    assert of(found, "tags").distance == pytest.approx(divergence(*bags))
    ages = [np.digitize(table["age"].to_numpy(), [18, 65]).tolist() for table in (before, after)]
    assert of(found, "age").distance == pytest.approx(divergence(*ages))


def test_the_distance_of_numbers_is_that_of_their_percentiles(model):
    before, after = rows(4000, seed=99)["price"], rows(500, more=0.3)["price"]
    ends = np.quantile(before.drop_null().to_numpy(), np.linspace(0, 1, 101), method="inverted_cdf")[1:]

    def ranges(column):
        return [None if value is None else int(np.searchsorted(ends, value)) for value in column.to_pylist()]

    found = check_drift(model, rows(500, more=0.3))

    assert of(found, "price").distance == pytest.approx(divergence(ranges(before), ranges(after)), abs=1e-3)


@pytest.mark.parametrize("count", [100, 4000])
def test_rows_alike_have_not_drifted(model, count):
    alarms, distances = 0, []
    for seed in range(20):
        found = check_drift(model, rows(count, seed), threshold=0.0, seed=seed)
        alarms += sum(feature.drifted for feature in found.features)
        distances.append([feature.distance > feature.noise for feature in found.features])

    assert alarms <= 1  # of 120
    assert np.mean(distances) < 0.08


@pytest.mark.parametrize(
    ("moved", "worst"),
    [
        ({"city": (0.2, 0.3, 0.5)}, "city"),
        ({"unknown": 0.1}, "city"),
        ({"more": 0.5}, "price"),
        ({"missing": 0.3}, "price"),
        ({"tags": 4}, "tags"),
    ],
)
def test_what_moved_is_found_and_named(model, moved, worst):
    found = check_drift(model, rows(2000, **moved))

    assert found.drifted
    assert found.worst.feature == worst
    assert [feature.feature for feature in found.features if feature.drifted] == [worst]
    assert found.worst.low < found.worst.distance < found.worst.high


def test_a_threshold_that_is_not_met_is_no_drift(model):
    moved = rows(2000, city=(0.45, 0.3, 0.25))

    small = check_drift(model, moved, threshold=0.02)
    assert small.worst.feature == "city"
    assert small.drifted
    assert not check_drift(model, moved, threshold=0.5).drifted


def test_rates_are_those_of_both_and_new_values_those_that_no_training_row_held():
    spec = FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Lima"]), NumericFeature("price")])
    before = pa.table({"city": ["Rome", "Rome", "Oslo", ""], "price": [1.0, 2.0, 3.0, 3.0]})
    after = pa.table({"city": ["Rome", "Lima", "Bonn", "Oslo", ""], "price": [0.5, 1.0, 3.0, 9.0, None]})

    found = check_drift(model_of(before, spec), after)

    city, price = of(found, "city"), of(found, "price")
    assert (found.rows_before, found.rows) == (4, 5)
    assert (city.missing_before, city.missing, city.unknown_before, city.unknown) == (0.25, 0.2, 0.0, 0.25)
    assert city.new_values == 0.5
    assert (price.missing_before, price.missing, price.unknown) == (0.0, 0.2, 0.0)
    assert price.new_values == 0.5


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ([5.0] * 300, [5.0] * 200, 0.0),
        ([5.0] * 300, [4.0] * 200, 1.0),
        ([5.0] * 300, [6.0] * 200, 1.0),
        ([0.0] * 150 + [1.0] * 150, [1.0] * 200, divergence([0, 1], [1])),
        ([0.0] * 150 + [1.0] * 150, [0.0, 1.0] * 100, 0.0),
        ([1e30, 2e30] * 100, [2e30, 1e30] * 100, 0.0),
        ([None] * 100, [None] * 50, 0.0),
        ([None] * 100, [3.0] * 50, 1.0),
        ([3.0] * 100, [None] * 50, 1.0),
        ([-0.1, 0.1] * 100, [-0.1, 0.1] * 100, 0.0),
    ],
)
@pytest.mark.parametrize("feature", [NumericFeature("x"), NumericFeature("x", mean=0.1, std=3.0, log=True)], ids=str)
def test_numbers_of_one_or_two_values_are_told_apart(feature, before, after, distance):
    column = pa.array(before, pa.float64())
    model = model_of(pa.table({"x": column}), FeatureSpec([feature]))

    found = check_drift(model, {"x": pa.array(after, pa.float64())}).worst

    assert found.distance == pytest.approx(distance, abs=0.01)
    assert found.drifted == (distance > 0.1)


def test_the_smallest_number_is_of_the_range_behind_it():
    model = model_of(pa.table({"x": np.arange(1000.0)}), FeatureSpec([NumericFeature("x")]))

    smallest, below = (check_drift(model, {"x": [value] * 500}).worst for value in (0.0, -1.0))

    assert (smallest.new_values, below.new_values) == (0.0, 1.0)
    assert smallest.distance < 0.99 < below.distance == 1.0


def test_numbers_stay_alike_where_their_mean_has_moved(model):
    """Percentiles are of the column, not of what the model made of it."""
    spec = SPEC.replace(NumericFeature("price", mean=1.37, std=0.71, log=True))
    spec = spec.replace(NumericFeature("stars", mean=0.3, std=11.0))
    moved = SimpleNamespace(features=spec, encoder=FeatureEncoder(spec), statistics=model.statistics)

    tonight = rows(2000)

    for name in ("price", "stars"):
        assert of(check_drift(moved, tonight), name) == of(check_drift(model, tonight), name)


def test_any_source_and_files_give_the_same(model, tmp_path):
    table = rows(300)
    pq.write_table(table.slice(0, 200), tmp_path / "a.parquet", row_group_size=60)
    pq.write_table(table.slice(200), tmp_path / "b.parquet")
    frame = table.to_pandas()

    expected = check_drift(model, table)

    for source in (frame, dict(frame), table.to_pylist(), tmp_path, [tmp_path / "a.parquet", tmp_path / "b.parquet"]):
        assert check_drift(model, source) == expected


def test_ids_of_a_csv_keep_the_type_of_the_features(tmp_path):
    spec = FeatureSpec([CategoricalFeature("shop", vocabulary=["1", "2"])])
    model = model_of(pa.table({"shop": ["1", "2"] * 100}), spec)
    (tmp_path / "rows.csv").write_text("shop\n" + "1\n2\n" * 50)

    assert check_drift(model, tmp_path / "rows.csv").worst.distance == 0


def test_more_rows_than_are_encoded_at_once_are_counted_alike(model, monkeypatch):
    table = rows(300)
    expected = check_drift(model, table)
    assert ROWS > 1000

    monkeypatch.setattr("nfm_tfrs.data.readers.rows.ROWS", 70)

    assert check_drift(model, table) == expected


def test_the_same_seed_gives_the_same_and_another_one_another(model):
    table = rows(300)

    assert check_drift(model, table, seed=1) == check_drift(model, table, seed=1)
    assert check_drift(model, table, seed=1) != check_drift(model, table, seed=2)


def test_a_result_is_json_with_the_worst_named(model):
    found = check_drift(model, rows(500, more=1.0))

    written = json.loads(json.dumps(found.to_json()))

    assert isinstance(found, Drift)
    assert written["worst"] == "price"
    assert written["drifted"] is True
    assert (written["rows"], written["rows_before"], written["threshold"]) == (500, 4000, 0.1)
    assert written["features"][0] == vars(found.worst)
    assert len(written["features"]) == 6


def test_one_row_and_rows_of_unknown_values_alone_are_held_against_too(model):
    one = check_drift(model, rows(1))
    assert not one.drifted
    every = check_drift(model, rows(200, unknown=1.0))
    assert every.worst.feature == "city"
    assert (every.worst.distance, every.worst.unknown, every.worst.new_values) == (1.0, 1.0, 1.0)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [rows(0), rows(0).to_pandas()], ids=["table", "frame"])
def test_data_without_rows_is_refused(model, source):
    with pytest.raises(ValueError, match=r"^The data has no rows\. Give data with at least one\.$"):
        check_drift(model, source)


def test_files_that_are_not_there_or_hold_no_row_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        check_drift(model, tmp_path / "none.parquet")
    with pytest.raises(FileNotFoundError, match="The list of files is empty"):
        check_drift(model, [])
    pq.write_table(rows(0), tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="no rows"):
        check_drift(model, tmp_path / "empty.parquet")


def test_a_column_that_is_not_there_is_named(model, tmp_path):
    table = rows(5).drop_columns(["city"])
    pq.write_table(table, tmp_path / "rows.parquet")
    for source in (table, tmp_path / "rows.parquet"):
        with pytest.raises(ValueError, match="'city'") as caught:
            check_drift(model, source)
        assert "\n" not in str(caught.value)


def test_a_column_of_another_type_is_named(model):
    with pytest.raises(ValueError, match=r"Column 'city' is .*int64.*declared string"):
        check_drift(model, {**dict(pd.DataFrame(rows(5).to_pylist())), "city": [1, 2, 3, 4, 5]})


def test_a_model_that_knows_no_rows_is_refused(model):
    line = "^The model does not know its training rows: .* or call nfm_tfrs.training.adapt_statistics.$"
    for lacking in (SimpleNamespace(), SimpleNamespace(statistics=None)):
        with pytest.raises(ValueError, match=line):
            check_drift(lacking, rows(5))
    many = FeatureSpec([CategoricalFeature("ad", vocabulary_size=10**8, compression=QuotientRemainder())])
    with pytest.raises(ValueError, match="for features of more than 50,000,000 ids with a compression nothing is coun"):
        check_drift(SimpleNamespace(features=many, statistics=None), {"ad": [1]})
    empty = SimpleNamespace(features=SPEC, encoder=model.encoder, statistics=Counting(SPEC).statistics())
    with pytest.raises(ValueError, match=r"^The model's statistics are of no rows\. Train it with rows\.$"):
        check_drift(empty, rows(5))


@pytest.mark.parametrize("threshold", [1.0, -0.1, float("nan"), "much"])
def test_a_threshold_out_of_its_range_is_refused(model, threshold):
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1; received"):
        check_drift(model, rows(5), threshold=threshold)
