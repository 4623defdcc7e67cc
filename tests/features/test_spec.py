import copy
import dataclasses
import json
import pickle

import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec

USER = CategoricalFeature("user", vocabulary_size=3)
BAG = MultiCategoricalFeature("genres", vocabulary=["a", "b"], weights="w")
PRICE = NumericFeature("price", mean=1.0, std=2.0)
AGE = NumericFeature("age", boundaries=[18, 65])
FRIEND = CategoricalFeature("friend", vocabulary_size=3, embedding_name="user")
SPEC = FeatureSpec([USER, BAG, PRICE, AGE, FRIEND])


def test_one_id_space_covers_all_features_in_order():
    assert SPEC.tables == {"user": (0, 4), "genres": (4, 3), "age": (7, 4)}
    assert SPEC.offsets == {"user": 0, "genres": 4, "age": 7, "friend": 0}
    assert SPEC.num_rows == 11


def test_features_by_kind_keep_their_order():
    assert SPEC.names == ("user", "genres", "price", "age", "friend")
    assert SPEC.columns == ("user", "genres", "price", "age", "friend", "w")
    assert SPEC.single == (USER, AGE, FRIEND)
    assert SPEC.numbers == (PRICE,)
    assert SPEC.bags == (BAG,)


def test_a_spec_is_a_collection_of_features():
    assert list(SPEC) == [USER, BAG, PRICE, AGE, FRIEND]
    assert len(SPEC) == 5
    assert SPEC["price"] is PRICE
    assert "age" in SPEC
    assert "w" not in SPEC
    with pytest.raises(KeyError, match="zip"):
        SPEC["zip"]


def test_a_spec_survives_json_dict_copy_and_pickle():
    assert FeatureSpec.from_json(SPEC.to_json()) == SPEC
    assert FeatureSpec.from_json(SPEC.to_json(indent=None)) == SPEC
    assert FeatureSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    assert copy.deepcopy(SPEC) == SPEC
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC


def test_json_keeps_letters_readable():
    assert "Пермь" in FeatureSpec([CategoricalFeature("city", vocabulary=["Пермь"])]).to_json()


def test_a_spec_is_hashable_and_frozen():
    assert len({SPEC, FeatureSpec(list(SPEC))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.features = ()


def test_the_order_of_features_matters():
    assert FeatureSpec([USER, PRICE]) != FeatureSpec([PRICE, USER])


def test_replace_puts_a_feature_in_the_place_of_its_namesake():
    hashed = CategoricalFeature("user", num_hash_buckets=9)
    spec = FeatureSpec([USER, PRICE]).replace(hashed)
    assert list(spec) == [hashed, PRICE]
    with pytest.raises(ValueError, match="no feature 'age' to replace; there are user, price"):
        spec.replace(AGE)


def test_printing_shows_a_line_a_feature():
    lines = str(SPEC).splitlines()
    assert [line.split()[0] for line in lines] == ["feature", *SPEC.names]
    assert "mean 1, std 2" in lines[3]
    assert "bag (mean)" in lines[2]
    assert "vocabulary of strings: a, b" in lines[2]
    assert "2 boundaries" in lines[4]


def test_printing_shows_known_values_and_how_many_ids_are_free():
    spec = FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Bern"], free_ids=[0])])
    assert str(spec).splitlines()[1].endswith("vocabulary of strings: Oslo, Bern (1 free)")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "needs at least one feature"),
        (USER, r"received a single one. Write FeatureSpec\(\[feature\]\)"),
        (["user"], "takes CategoricalFeature, MultiCategoricalFeature and NumericFeature; received str"),
        ([USER, PRICE, USER], "'user' came twice"),
        ([NumericFeature("encoded/ids")], "begin with 'encoded/' are reserved; received 'encoded/ids'"),
        (
            [USER, CategoricalFeature("friend", vocabulary_size=4, embedding_name="user")],
            "'user' and 'friend' share the embedding 'user' but not their categories",
        ),
        (
            [
                CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
                CategoricalFeature("home", vocabulary=["Rome", "Oslo"], free_ids=[0], embedding_name="city"),
            ],
            "'city' and 'home' share the embedding 'city' but not their categories",
        ),
        (
            [
                MultiCategoricalFeature("seen", vocabulary_size=2, target="film"),
                CategoricalFeature("movie", vocabulary_size=2),
                NumericFeature("film"),
            ],
            "target of feature 'seen' must be a CategoricalFeature of the same spec; received 'film', and there are "
            "movie",
        ),
    ],
)
def test_specs_that_cannot_be_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec(features)


def test_a_part_may_leave_the_target_of_a_bag_out():
    seen = MultiCategoricalFeature("seen", vocabulary_size=2, combiner="attention", target="film")
    spec = FeatureSpec([CategoricalFeature("film", vocabulary_size=2), seen, NumericFeature("price")])
    assert spec.part(["price", "seen"]).names == ("seen", "price")
    assert "ids; history of film, attention by 80, 40, dice, softmax" in str(spec)
    assert spec.histories == (seen,)


def test_a_plain_number_has_no_rows_to_share():
    spec = FeatureSpec([NumericFeature("age"), CategoricalFeature("band", vocabulary_size=3, embedding_name="age")])
    assert spec.tables == {"age": (0, 4)}


@pytest.mark.parametrize("text", ["[]", "{}", '{"features": 3}', "3"])
def test_json_that_is_no_spec_is_refused(text):
    with pytest.raises(ValueError, match='is an object with a list "features"; received'):
        FeatureSpec.from_json(text)


def test_broken_json_says_where():
    with pytest.raises(ValueError, match="line 1 column 14"):
        FeatureSpec.from_json('{"features": ]')


def test_json_that_nests_without_end_is_refused():
    with pytest.raises(ValueError, match=r"is not nested so deep as '\[\["):
        FeatureSpec.from_json("[" * 100_000)


def test_a_key_that_a_spec_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"has \"features\" alone; received 'rows' too\. Leave that out\."):
        FeatureSpec.from_dict({**FeatureSpec([USER]).to_dict(), "rows": 3})


@pytest.mark.parametrize("config", [{}, {"features": None}, {"features": {"name": "x"}}])
def test_a_dict_that_is_no_spec_is_refused(config):
    with pytest.raises(ValueError, match=r'^A feature spec is an object with a list "features"; received '):
        FeatureSpec.from_dict(config)
