"""Rows of any library become the arrays that an export takes."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving import encode
from nfm_tfrs.serving.hashing import bucket_numbers
from nfm_tfrs.serving.rows import arrays_of, num_rows
from nfm_tfrs.serving.signature import Signature, inputs_of

SPEC = FeatureSpec(
    (
        CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
        CategoricalFeature("film", vocabulary_size=9),
        CategoricalFeature("any", num_hash_buckets=7),
        CategoricalFeature("large", vocabulary=[2**63]),
        NumericFeature("price"),
        MultiCategoricalFeature("tags", vocabulary=["a", "b"], weights="w"),
    )
)
INPUTS = inputs_of(SPEC)
ROWS = [
    {"city": "Rome", "film": 3, "any": 12, "large": 2**63, "price": 1.5, "tags": ["a", "b"], "w": [1.0, 2.0]},
    {"city": None, "film": None, "any": "x", "large": None, "price": None, "tags": [], "w": []},
]
EXPECTED = {
    "city": ["Rome", ""],
    "any": ["12", "x"],
    "large": [2**63, 2**64 - 1],
    "tags": ["a", "b"],
    "tags_lengths": [2, 0],
    "w": [1.0, 2.0],
}


def test_a_row_is_a_dict():
    first, second = (arrays_of(INPUTS, row) for row in ROWS)

    for name, values in EXPECTED.items():
        assert [*first[name].tolist(), *second[name].tolist()] == values, name
    assert first["film"].tolist() == [3]
    assert second["film"][0] < 0
    assert np.isnan(second["price"][0])
    assert {name: array.dtype.name for name, array in first.items()} == {
        "city": "object",
        "film": "int64",
        "any": "object",
        "large": "uint64",
        "price": "float32",
        "tags": "object",
        "tags_lengths": "int64",
        "w": "float32",
    }


def test_columns_of_any_library_are_alike():
    plain = [{**row, "any": str(row["any"])} for row in ROWS]
    table = pa.table({name: [row[name] for row in plain] for name in plain[0] if name != "large"})
    table = table.append_column("large", pa.array([2**63, None], pa.uint64()))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["large"] = np.array([2**63, 2**64 - 1], np.uint64)

    for given in (table, columns, pd.DataFrame({**columns, "other": [1, 2]})):
        found = arrays_of(INPUTS, given)
        assert num_rows(INPUTS, found) == 2
        for name, values in EXPECTED.items():
            assert found[name].tolist() == values, name


def test_padded_bags_are_filled_up():
    found = arrays_of(inputs_of(SPEC, padded=["tags"]), [{**row, "any": str(row["any"])} for row in ROWS])

    assert found["tags"].tolist() == [["a", "b"], ["", ""]]
    assert found["w"].tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_optional_columns_may_be_left_out():
    inputs = inputs_of(SPEC, optional=["city", "price", "tags"])
    row = {name: ROWS[0][name] for name in ("film", "any", "large")}

    for found in (arrays_of(inputs, row), arrays_of(inputs, [{**row, "any": "1"}] * 3)):
        assert found["city"].tolist() == [""]
        assert np.isnan(found["price"]).tolist() == [True]
        assert (found["tags"].tolist(), found["tags_lengths"].tolist()) == ([], [0])


def test_hashed_values_become_buckets():
    signature = Signature(inputs=inputs_of(SPEC, hashes=False), binary=True, form="onnx")

    found = [encode(signature, row)["any"] for row in ROWS]

    assert np.concatenate(found).tolist() == bucket_numbers(np.array(["12", "x"], object), 7).tolist()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"film": 1.5}, "Column 'film' is a whole number; received 1.5. Convert it."),
        ({"film": "3"}, "Column 'film' is a whole number; received '3'. Convert it."),
        ({"city": 3}, "Column 'city' is a string; received 3. Convert it."),
        ({"any": 1.5}, "Column 'any' is a string or a whole number; received 1.5. Convert it."),
        ({"price": "1"}, "Column 'price' is a number; received '1'. Convert it."),
        ({"price": float("inf")}, "Column 'price' is inf. Clip it, or give NaN for missing."),
        ({"w": [1.0, None]}, "Weights 'w' have no value in place 1. Give finite numbers."),
        ({"large": -5}, "Column 'large' is a whole number; received -5. Convert it."),
    ],
)
def test_values_that_do_not_fit_are_refused(change, line):
    with pytest.raises(ValueError, match=line.replace(".", r"\.")):
        arrays_of(INPUTS, {**ROWS[0], **change})


@pytest.mark.parametrize("rows", [{"city": "Rome"}, [{"city": "Rome"}]])
def test_a_missing_column_is_named(rows):
    with pytest.raises(ValueError, match="film"):
        arrays_of(INPUTS, rows)


def test_whole_floats_and_nan_are_integers():
    found = [arrays_of(INPUTS, {**ROWS[0], "film": value})["film"][0] for value in (3.0, float("nan"), True)]

    assert (found[0], found[2]) == (3, 1)
    assert found[1] < 0
