"""Compressed tables: which rows an id is made of, against plain Python, and what is refused."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs.embedding.compressed import rows_of_ids
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.compression import PRIME, MultiHash, QuotientRemainder
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf

IDS = [0, 1, 2, 30, 99, 100, 12_345, PRIME - 1, PRIME, PRIME + 1, 2**40, 2**61 - 1]


def test_each_id_has_a_pair_of_rows_of_its_own_and_the_rows_are_the_fewest():
    for size in (9, 10, 99, 100, 101):
        compression = QuotientRemainder().with_rows_for(size)
        remainders, quotients = compression.sizes(size)
        one, other = (part.numpy() for part in rows_of_ids(compression, tf.range(size + 1, dtype=tf.int64), size))
        assert len(set(zip(one, other, strict=True))) == size + 1
        assert set(one) == set(range(remainders + 1))
        assert set(other) == set(range(remainders + 1, remainders + quotients + 2))
        assert (one[0], other[0]) == (0, remainders + 1)
        assert remainders + quotients == min(m + math.ceil(size / m) for m in range(1, size + 1))


@pytest.mark.parametrize("num_rows", [3, 1000])
def test_quotients_and_remainders_equal_plain_python(num_rows):
    compression = QuotientRemainder(num_rows=num_rows)
    found = rows_of_ids(compression, tf.constant([0, *(one + 1 for one in IDS)], tf.int64), 2**62)
    assert found[0].numpy().tolist() == [0, *(one % num_rows + 1 for one in IDS)]
    assert found[1].numpy().tolist() == [num_rows + 1, *(one // num_rows + num_rows + 2 for one in IDS)]


def test_hashes_equal_plain_python_whose_numbers_have_no_end():
    compression = MultiHash(num_rows=1000, num_hashes=3)
    found = rows_of_ids(compression, tf.constant([0, *(one + 1 for one in IDS)], tf.int64), 2**62)
    for (a, b, c), rows in zip(compression.factors, found, strict=True):
        expected = [(a * (one % PRIME) + b * (one // PRIME) + c) % PRIME % 1000 + 1 for one in IDS]
        assert rows.numpy().tolist() == [0, *expected]


def test_hashes_are_the_same_in_any_version_of_the_package():
    assert MultiHash(num_rows=9).factors == [
        (626516782, 801158004, 1187157487),
        (1498306824, 888235886, 585948680),
    ]


def test_hashes_spread_ids_evenly_and_apart():
    compression, size = MultiHash(num_rows=100), 20_000
    rows = [part.numpy() for part in rows_of_ids(compression, tf.range(1, size + 1, dtype=tf.int64), size)]
    for one in rows:
        counts = np.bincount(one, minlength=101)
        assert counts[0] == 0
        assert counts[1:].min() > 120  # of 200
    both = np.bincount(rows[0] * 101 + rows[1])
    assert both.max() < 20  # of the 2 that are to be expected


# --- both paths ------------------------------------------------------------------------------------------------------


def test_both_paths_encode_to_the_ids_of_the_feature_without_a_compression():
    words = [f"v{number}" for number in range(40)]
    plain = [
        CategoricalFeature("known", vocabulary=words),
        CategoricalFeature("hashed", num_hash_buckets=10**12, dtype="string"),
        MultiCategoricalFeature("ids", vocabulary_size=10**9),
    ]
    ways = [QuotientRemainder(), QuotientRemainder(operation="sum"), MultiHash(num_rows=20)]
    spec = FeatureSpec([replace(feature, compression=way) for feature, way in zip(plain, ways, strict=True)])
    table = pa.table({"known": ["v3", None, "x"], "hashed": ["a", "b", None], "ids": [[1, 10**9 - 1], [], [-1, 5]]})
    columns = {
        "known": tf.constant(["v3", "", "x"]),
        "hashed": tf.constant(["a", "b", ""]),
        "ids": tf.ragged.constant([[1, 10**9 - 1], [], [-1, 5]], tf.int64),
    }
    expected = FeatureEncoder(FeatureSpec(plain))(columns)
    encoder = FeatureEncoder(spec)
    for name, found in encoder(columns).items():
        assert tf.nest.flatten(found, expand_composites=True)[0].numpy().tolist() == (
            tf.nest.flatten(expected[name], expand_composites=True)[0].numpy().tolist()
        )
    arrays = encoder.encode_arrays(checked_arrays(table, spec))
    np.testing.assert_array_equal(arrays["encoded/ids"], expected["encoded/ids"])
    np.testing.assert_array_equal(arrays["encoded/bag/ids"].values, expected["encoded/bag/ids"].values)


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compression", [QuotientRemainder(num_rows=10), QuotientRemainder(operation="sum"), MultiHash(num_rows=30)]
)
def test_a_compression_survives_json_and_a_dict_stands_for_it(compression):
    feature = CategoricalFeature("ad", vocabulary_size=10_000, compression=compression, embedding_dim=4)
    spec = FeatureSpec([feature, CategoricalFeature("still", vocabulary_size=3, frozen=True)])
    assert FeatureSpec.from_json(spec.to_json()) == spec
    written = json.loads(spec.to_json())["features"][0]
    assert (
        CategoricalFeature("ad", vocabulary_size=10_000, compression=written["compression"], embedding_dim=4) == feature
    )


def test_a_vocabulary_that_grows_keeps_the_rows_of_its_values():
    feature = CategoricalFeature("ad", vocabulary=list(range(100)), compression=QuotientRemainder())
    grown = replace(feature, vocabulary=list(range(1000)))
    assert grown.compression == feature.compression == QuotientRemainder(num_rows=10)
    assert grown.compression.sizes(grown.num_ids) == (10, 100)


def test_a_spec_shows_what_is_of_its_own_in_rows():
    spec = FeatureSpec(
        [
            CategoricalFeature("ad", vocabulary_size=10_000, compression=MultiHash(num_rows=30), embedding_dim=4),
            CategoricalFeature("film", vocabulary=["a"], frozen=True),
        ]
    )
    shown = str(spec).splitlines()
    assert shown[1].endswith("ids; embedding_dim 4; multi_hash to 30 rows")
    assert shown[2].endswith("vocabulary of strings: a; frozen")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"embedding_dim": 0}, "embedding_dim of feature 'ad' must be a whole number of 1 or more; received 0."),
        ({"embedding_dim": 2.5}, "embedding_dim of feature 'ad' must be a whole number of 1 or more; received 2.5."),
        ({"frozen": 1}, "frozen of feature 'ad' must be true or false; received 1."),
        ({"compression": "hash"}, "compression of feature 'ad' must be QuotientRemainder"),
        ({"compression": {"type": "tt"}}, "an object whose type is quotient_remainder or multi_hash; received"),
        (
            {"compression": {"type": "multi_hash"}},
            "compression of feature 'ad': multi_hash needs num_rows, its number of rows. Give one below the number of ",
        ),
        (
            {"vocabulary_size": 2, "compression": QuotientRemainder()},
            "gives 3 rows for 2 ids, which saves none. Leave it out.",
        ),
        ({"compression": {"type": "multi_hash", "num_row": 3}}, "did you mean 'num_rows'?"),
        ({"compression": MultiHash(num_rows=100)}, "gives 100 rows for 100 ids, which saves none."),
        ({"compression": QuotientRemainder(num_rows=99)}, "gives 101 rows for 100 ids, which saves none."),
        ({"compression": MultiHash(num_rows=9), "frozen": True}, "which stand for one value each, and a compression"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError, match=re.escape(line)) as error:
        CategoricalFeature("ad", **{"vocabulary_size": 100, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: QuotientRemainder(num_rows=0), "num_rows of QuotientRemainder must be a whole number of 1 or more"),
        (lambda: QuotientRemainder(operation="max"), 'operation of QuotientRemainder must be "product" or "sum"'),
        (lambda: MultiHash(num_rows=1.5), "num_rows of MultiHash must be a whole number of 1 or more"),
        (lambda: MultiHash(num_rows=5, num_hashes=0), "num_hashes of MultiHash must be a whole number of 1 or more"),
        (lambda: MultiHash(num_rows=5, num_hashes=17), "at most 16 hashes; received 5 and 17."),
        (lambda: MultiHash(num_rows=2**31), "MultiHash takes less than 2,147,483,647 rows"),
    ],
)
def test_a_compression_out_of_range_is_refused(make, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        make()


def test_features_of_one_table_agree_on_its_rows():
    one = CategoricalFeature("film", vocabulary_size=9)
    for other in ({"embedding_dim": 4}, {"frozen": True}, {"compression": MultiHash(num_rows=5)}):
        bag = MultiCategoricalFeature("watched", vocabulary_size=9, embedding_name="film", **other)
        with pytest.raises(
            ValueError, match="'film' and 'watched' share the embedding 'film' but not what its rows are"
        ):
            FeatureSpec([one, bag])
