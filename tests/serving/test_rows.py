"""Rows of any library become the arrays that an export takes."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving import encode
from nfm_tfrs.serving.hashing import bucket_numbers
from nfm_tfrs.serving.rows import arrays_of
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
        ({"film": 1.5}, "'film'"),
        ({"film": "x"}, "'film'"),
        ({"city": 3.5}, "'city'"),
        ({"any": 1.5}, "'any'"),
        ({"price": "x"}, "'price'"),
        ({"price": float("inf")}, "'price'"),
        ({"w": [1.0, None]}, "'w'"),
        ({"w": [1.0]}, "'w'"),
        ({"price": 1e300}, "'price'"),
        ({"film": 2**63}, "'film'"),
    ],
)
def test_values_that_do_not_fit_are_refused(change, line):
    lines = []
    for rows in ({**ROWS[0], **change}, [{**ROWS[0], **change}]):
        with pytest.raises(ValueError, match=line) as raised:
            arrays_of(INPUTS, rows)
        lines.append(str(raised.value))
    assert lines[0] == lines[1]  # a row alone is refused as it is among others
    assert "\n" not in lines[0]


@pytest.mark.parametrize("rows", [{"city": "Rome"}, [{"city": "Rome"}]])
def test_a_missing_column_is_named(rows):
    with pytest.raises(ValueError, match="film"):
        arrays_of(INPUTS, rows)


def test_a_row_of_numpy_values_is_a_row():
    row = {**ROWS[0], "film": np.int64(3), "price": np.float32(1.5), "tags": np.array(["a", "b"]), "w": np.ones(2)}
    bag = inputs_of(FeatureSpec((MultiCategoricalFeature("tags", vocabulary_size=9),)))

    assert arrays_of(INPUTS, row)["tags"].tolist() == ["a", "b"]
    assert [arrays_of(bag, {"tags": tags})["tags_lengths"].tolist() for tags in ([1, 2], [], [[1], [2, 3]])] == [
        [2],
        [0],
        [1, 2],
    ]


@pytest.mark.parametrize(
    "change",
    [
        *({"film": 3.0}, {"film": True}, {"film": np.int8(3)}, {"film": 2**62}, {"any": True}, {"any": 3.0}),
        *({"price": 3}, {"price": True}, {"price": np.float16(2)}, {"large": 5}, {"large": None}),
        *({"tags": ["a", None], "w": [1.0, 2.0]}, {"tags": ("a",), "w": (1.0,)}, {"tags": None, "w": None}),
        {"city": b"Rome"},
    ],
    ids=str,
)
def test_a_row_alone_is_taken_as_it_is_among_others(change):
    row = {**ROWS[0], **change}
    alone, among = arrays_of(INPUTS, row), arrays_of(INPUTS, [row])

    for name, array in alone.items():
        assert array.dtype == among[name].dtype
        assert array.tolist() == among[name].tolist(), name


def test_whole_floats_and_nan_are_integers():
    found = [arrays_of(INPUTS, {**ROWS[0], "film": value})["film"][0] for value in (3.0, float("nan"), True)]

    assert (found[0], found[2]) == (3, 1)
    assert found[1] < 0
