"""What an export takes, by the features; and what is refused before anything is written."""

import json

import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving.adjustment import Adjustment
from nfm_tfrs.serving.signature import Signature, inputs_of

SPEC = FeatureSpec(
    (
        CategoricalFeature("city", vocabulary=["Rome"]),
        CategoricalFeature("any", num_hash_buckets=7),
        CategoricalFeature("large", vocabulary=[2**63]),
        NumericFeature("price"),
        NumericFeature("age", boundaries=(1.0,)),
        MultiCategoricalFeature("tags", vocabulary_size=9, weights="w"),
    )
)


def test_inputs_have_the_columns_names_and_types():
    found = [(one.name, one.dtype, one.shape) for one in inputs_of(SPEC)]

    assert found == [
        ("city", "string", ["rows"]),
        ("any", "string", ["rows"]),
        ("large", "uint64", ["rows"]),
        ("price", "float32", ["rows"]),
        ("age", "float32", ["rows"]),
        ("tags", "int64", ["values of all rows"]),
        ("tags_lengths", "int64", ["rows"]),
        ("w", "float32", ["values of all rows"]),
    ]


def test_two_bags_may_share_their_weights():
    spec = FeatureSpec((*SPEC, MultiCategoricalFeature("more", vocabulary_size=9, weights="w")))

    assert [one.name for one in inputs_of(spec)][-3:] == ["w", "more", "more_lengths"]


def test_padded_bags_have_no_lengths():
    found = {one.name: one.shape for one in inputs_of(SPEC, padded=["tags"])}

    assert found["tags"] == found["w"] == ["rows", "length"]
    assert "tags_lengths" not in found


def test_what_cannot_hash_takes_buckets():
    (hashed,) = (one for one in inputs_of(SPEC, hashes=False) if one.name == "any")

    assert (hashed.dtype, hashed.num_hash_buckets, hashed.values) == ("int64", 7, "either")


def test_missing_values_are_said_in_words():
    said = {one.name: one.to_json()["missing"] for one in inputs_of(SPEC)}

    assert said == {
        "city": '""',
        "any": '""',
        "large": str(2**64 - 1),
        "price": "NaN",
        "age": "NaN",
        "tags": str(-(2**63)),
        "tags_lengths": "length 0",
        "w": "none: missing values count nothing",
    }


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"optional": ["town"]}, "town"),
        ({"padded": ["city"]}, "padded= names bags; received 'city'. The bags are tags."),
        ({"optional": list(SPEC.names)}, "All columns are optional, and none tells the number of rows."),
    ],
)
def test_options_that_do_not_fit_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        inputs_of(SPEC, **options)


def test_bags_that_share_weights_come_alike():
    spec = FeatureSpec((*SPEC, MultiCategoricalFeature("more", vocabulary_size=9, weights="w")))

    with pytest.raises(ValueError, match=r"The bags tags, more share the weights 'w'\. Name all of them in padded="):
        inputs_of(spec, padded=["more"])


def test_two_inputs_of_one_name_are_refused():
    spec = FeatureSpec((*SPEC, NumericFeature("tags_lengths")))

    with pytest.raises(ValueError, match="Two inputs are called 'tags_lengths'"):
        inputs_of(spec)
    assert len(inputs_of(spec, padded=["tags"])) == 8


def test_a_signature_is_read_as_it_was_written(tmp_path):
    adjustment = Adjustment(thresholds=(0.0, 1.0), probabilities=(0.2, 0.7), negatives_kept=0.5)
    inputs = inputs_of(SPEC, optional=["any"], hashes=False)
    signature = Signature(
        inputs=inputs,
        binary=True,
        form="onnx",
        user=("city",),
        adjustment=adjustment,
        table="int8",
        names=("a", "rank"),
    )
    (tmp_path / "signature.json").write_text(json.dumps(signature.to_json()))

    assert Signature.from_file(tmp_path) == signature


def test_what_is_no_export_or_damaged_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no export: it has no signature\.json"):
        Signature.from_file(tmp_path)
    for text in ("{", "[]", "{}", '{"format": 99}', '{"outputs": [], "inputs": [{"name": 3}]}'):
        (tmp_path / "signature.json").write_text(text)
        with pytest.raises(ValueError, match=r"signature.json is damaged: .* Export the model anew\."):
            Signature.from_file(tmp_path)
