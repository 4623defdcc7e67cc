"""The columns a spec reads, checked and normalised on the host: Arrow in, NumPy for feeding out.

All checks of incoming values live here, so that the served graph needs none.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.bag import INT_MISSING, UINT64_MISSING, splits_of
from nfm_tfrs.features.bag import Bag as Bag
from nfm_tfrs.features.bag import Columns as Columns
from nfm_tfrs.features.feature import FLOAT32_MAX, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.host import finite_floats

if TYPE_CHECKING:
    from nfm_tfrs.features.spec import FeatureSpec

STRING_MISSING = b""
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
# By number: a wide table asks for every column, and functions of types take microseconds each.
_LISTS = {
    make(pa.int8()).id
    for make in (pa.list_, pa.large_list, lambda kind: pa.list_(kind, 1), pa.list_view, pa.large_list_view)
}
_TEXTS = {
    kind.id
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.binary_view())
}


def checked_arrays(table: pa.Table | pa.RecordBatch, spec: "FeatureSpec", *, first_row: int = 0) -> dict[str, pa.Array]:
    """Returns the columns `spec` reads, each as one Arrow array of a normal type, nulls kept.

    | declared | normal type |
    |---|---|
    | category | int64, uint64, string or dictionary of string; floats must be whole numbers, their NaN become null |
    | number | float32 without nulls: null, NaN and the feature's missing values are NaN |
    | bag | list of int64, uint64 or string; a scalar column is taken as bags of one; nulls inside are kept |
    | weights of a bag | list of float32, shaped as the bag; NaN only beside a null value |

    Args:
        table: The data; columns that the spec does not name are ignored.
        spec: The features that are read.
        first_row: Row of the file, from 0, at which the data begins, for the row numbers in messages.

    Raises:
        ValueError: A column is missing, of another type than declared, infinite or beyond float32, or the weights
            are not shaped as their bag.
    """
    arrays: dict[str, pa.Array] = {}
    for feature in spec:
        array = _column(table, feature.name)
        if isinstance(feature, NumericFeature):
            arrays[feature.name] = _numbers(feature, _dense(feature, decoded(array)), first_row)
        elif isinstance(feature, MultiCategoricalFeature):
            arrays[feature.name] = _bag(feature, decoded(array), first_row)
        else:
            rows = np.arange(first_row, first_row + len(array))
            arrays[feature.name] = _categories(feature, _dense(feature, array), rows)
    for bag in spec.bags:
        if bag.weights:
            arrays[bag.weights] = _weights(bag, decoded(_column(table, bag.weights)), arrays[bag.name], first_row)
    return arrays


def raw_columns(arrays: dict[str, pa.Array], spec: "FeatureSpec") -> Columns:
    """Returns the arrays of `checked_arrays` as NumPy, for a model that encodes in its graph.

    Missing categories are -1 (2⁶⁴ - 1 of uint64) or `b""`, missing numbers NaN. A null bag is empty; nulls inside a
    bag are dropped together with their weights.

    Returns:
        Categories `[n]` int64, uint64, or object holding bytes; numbers `[n]` float32; bags and their weights as `Bag`.
    """
    columns: Columns = {}
    for feature in spec:
        array = arrays[feature.name]
        if isinstance(feature, NumericFeature):
            columns[feature.name] = array.to_numpy()
        elif isinstance(feature, MultiCategoricalFeature):
            lengths, values = _rows_of(array)
            kept = np.asarray(values.is_valid())
            splits = splits_of(lengths)
            kept_splits = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[splits]
            columns[feature.name] = Bag(_plain(values.filter(pa.array(kept))), kept_splits)
            if feature.weights:
                weights = _rows_of(arrays[feature.weights])[1].to_numpy(zero_copy_only=False)
                columns[feature.weights] = Bag(weights[kept], kept_splits)
        else:
            columns[feature.name] = _plain(array)
    return columns


def _plain(array: pa.Array) -> np.ndarray:
    if types.is_integer(array.type):
        return array.fill_null(UINT64_MISSING if types.is_uint64(array.type) else INT_MISSING).to_numpy()
    # By the distinct values: equal rows then share one bytes object.
    encoded = array.dictionary_encode()
    distinct: np.ndarray = np.empty(len(encoded.dictionary) + 1, dtype=object)
    distinct[:-1] = encoded.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False)
    distinct[-1] = STRING_MISSING
    return distinct[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()]


def _column(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    position = table.schema.get_field_index(name)  # a list of names for each column would take the square of time
    if position < 0:
        raise missing_column(name, table.schema.names)
    array = table.column(position)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.unify_dictionaries().chunks)
    return array


def decoded(array: pa.Array) -> pa.Array:
    """Returns the array with the values themselves where it holds a dictionary and indices."""
    return array.cast(array.type.value_type) if types.is_dictionary(array.type) else array


def _dense(feature: Feature, array: pa.Array) -> pa.Array:
    array = one_a_row(array)
    if is_list(array.type):
        raise ValueError(
            f"Column {feature.name!r} holds lists ({array.type}), but a {type(feature).__name__} has one value a row. "
            "Declare a MultiCategoricalFeature."
        )
    return array


def _categories(feature: Feature, array: pa.Array, rows: np.ndarray) -> pa.Array:
    """Returns int64, uint64, string or dictionary of string; `rows` holds the row of each value, for messages."""
    name, declared = feature.name, getattr(feature, "dtype", None)
    if types.is_dictionary(array.type):
        if is_text(array.type.value_type) and not array.dictionary.null_count:
            distinct = _categories(feature, array.dictionary, rows)
            return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), distinct)
        array = decoded(array)
    if types.is_null(array.type):
        return array.cast(pa.string() if declared == "string" else pa.int64())
    if is_text(array.type):
        if declared == "int64":
            raise _another_type(name, array.type, declared)
        return utf8(name, array)
    if not is_real(array.type):
        raise ValueError(
            f"Column {name!r} is {array.type}, but categories are strings or whole numbers. Cast the column first."
        )
    if declared == "string":
        raise _another_type(name, array.type, declared)
    if types.is_floating(array.type):
        array = whole_numbers(name, array, rows)
    if types.is_uint64(array.type):
        return array  # as it is: half of such ids, where a hash made them, are beyond int64
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Column {name!r} is {array.type} with values that are no int64. Round the column, or make it a string."
        ) from error


def utf8(name: str, array: pa.Array) -> pa.Array:
    """Returns text or bytes as strings.

    Args:
        name: Name of the column, for the message.
        array: Text or bytes, `[n]`.

    Raises:
        ValueError: A value is no UTF-8: Arrow reads the strings of a damaged file as they are.
    """
    try:
        strings = array.cast(pa.string())
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"Column {name!r} holds bytes that are not UTF-8. Decode it to strings first.") from error
    return strings


def whole_numbers(name: str, array: pa.Array, rows: np.ndarray) -> pa.Array:
    """Returns pandas' nullable integers, floats that hold whole numbers and NaN, as int64.

    Args:
        name: Name of the column, for the message.
        array: Floats, `[n]`.
        rows: The row of each value, `[n]`, for the message.

    Raises:
        ValueError: A value is not whole.
    """
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    whole = missing | ((np.floor(values) == values) & (np.abs(values) < 2.0**63))
    if not whole.all():
        at = int(np.argmin(whole))
        raise ValueError(
            f"Column {name!r} is {values[at]} in row {rows[at]}, but categories are strings or whole numbers. "
            "Round the column, or declare a NumericFeature."
        )
    return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)


def _numbers(feature: NumericFeature, array: pa.Array, first_row: int) -> pa.Array:
    name = feature.name
    if types.is_null(array.type):
        return pa.array(np.full(len(array), np.nan, np.float32))
    if is_text(array.type):
        check_text_of_number(name, array, first_row)
    if not is_real(array.type):
        what = "a date or time" if types.is_temporal(array.type) else "not a number"
        raise ValueError(
            f"Column {name!r} is {array.type}, {what}, but feature {name!r} was declared numeric. "
            "Turn the column into a number first."
        )
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # null becomes NaN
    if feature.missing_values:
        narrow = [np.float32(mark) for mark in feature.missing_values if abs(mark) <= FLOAT32_MAX]
        with np.errstate(over="ignore"):
            marked = np.isin(values, feature.missing_values) | np.isin(values.astype(np.float32), narrow)
        values = np.where(marked, np.nan, values)
    infinite = np.isinf(values)
    if infinite.any():
        at = int(np.argmax(infinite))
        raise ValueError(
            f"Column {name!r} is infinite ({values[at]}) in row {first_row + at}. Clip it, or set it to null for "
            "missing."
        )
    return pa.array(finite_floats(values))


def check_text_of_number(name: str, array: pa.Array | pa.ChunkedArray, first_row: int = 0) -> None:
    """Checks that a column of strings is not one of numbers but for a few values, as a CSV file with a `-` gives it.

    Args:
        name: Name of the column, which was declared a number.
        array: Its strings, `[n]`.
        first_row: Row of the file, from 0, at which the column begins, for the message.

    Raises:
        ValueError: More than half of its values are numbers; the line names the first that is none, and its row.
    """
    text = array.cast(pa.binary()).cast(pa.large_binary())
    number = pc.match_substring_regex(text, _NUMBER).fill_null(True).to_numpy(zero_copy_only=False)
    odd = ~number & (pc.binary_length(text).fill_null(0).to_numpy(zero_copy_only=False) > 0)
    if odd.any() and odd.mean() < 0.5:
        at = int(np.argmax(odd))
        value = text[at].as_py().decode(errors="replace")
        raise ValueError(
            f"Column {name!r} is {value!r} in row {first_row + at}, but feature {name!r} was declared numeric. "
            "Leave the value empty where it means missing, or write a number."
        )


def _bag(feature: MultiCategoricalFeature, array: pa.Array, first_row: int) -> pa.Array:
    if not is_list(array.type):
        values = _categories(feature, array, np.arange(first_row, first_row + len(array)))
        valid = np.asarray(values.is_valid())
        return pa.ListArray.from_arrays(
            pa.array(splits_of(valid.astype(np.int64)).astype(np.int32)), values.drop_null(), mask=pa.array(~valid)
        )
    lengths, values = _rows_of(array)
    if is_list(values.type):
        raise ValueError(f"Column {feature.name!r} holds lists of lists ({array.type}). Give one flat list a row.")
    values = _categories(feature, decoded(values), np.repeat(np.arange(first_row, first_row + len(array)), lengths))
    return _listed(array, lengths, values)


def _weights(feature: MultiCategoricalFeature, array: pa.Array, bag: pa.Array, first_row: int) -> pa.Array:
    name, lengths = feature.weights or "", _rows_of(bag)[0]
    if is_list(array.type):
        weight_lengths, values = _rows_of(array)
    else:
        weight_lengths, values = lengths, array.filter(bag.is_valid())
        if len(values) != lengths.sum():
            raise ValueError(
                f"Column {name!r} holds one number a row ({array.type}), but it weighs the bags of {feature.name!r}. "
                "Give one list of weights a row."
            )
    different = weight_lengths != lengths
    if different.any():
        at = int(np.argmax(different))
        raise ValueError(
            f"Column {name!r} weighs {feature.name!r}, but row {first_row + at} has {weight_lengths[at]} weights for "
            f"{lengths[at]} values. Give each value one weight."
        )
    if not (is_real(values.type) or types.is_null(values.type)):
        raise ValueError(f"Column {name!r} is {array.type}, but weights are numbers. Cast the column first.")
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    wrong = ~(np.abs(numbers) <= FLOAT32_MAX) & np.asarray(_rows_of(bag)[1].is_valid())
    if wrong.any():
        at = int(np.argmax(wrong))
        row = first_row + int(np.repeat(np.arange(len(lengths)), lengths)[at])
        raise ValueError(f"A weight in column {name!r} is {numbers[at]} in row {row}. Give finite numbers.")
    with np.errstate(over="ignore"):  # a weight beside a null is never used
        return _listed(bag, lengths, pa.array(numbers.astype(np.float32)))


def _rows_of(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns the length of each list, 0 for null, and the values of all lists."""
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths, array.flatten()


def _listed(like: pa.Array, lengths: np.ndarray, values: pa.Array) -> pa.Array:
    offsets = pa.array(splits_of(lengths), pa.int64()).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=like.is_null())


def _another_type(name: str, received: Any, declared: str) -> ValueError:
    return ValueError(
        f"Column {name!r} is {received}, another type than in training: feature {name!r} was declared {declared}. "
        "Cast the column, or infer the features again."
    )


def one_a_row(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Returns a column of one value a row, `[n, 1]`, as `[n]`; any other as it is."""
    single = types.is_fixed_size_list(array.type) and array.type.list_size == 1
    return pc.list_element(array, 0) if single else array


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bags."""
    return kind.id in _LISTS


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    return kind.id in _TEXTS


def is_real(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers or booleans."""
    return any(is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal))
