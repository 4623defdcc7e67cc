"""Whole Arrow columns as NumPy, on their way to ids."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nfm_tfrs.features.bag import INT_MISSING, UINT64_MISSING, Bag
from nfm_tfrs.features.feature import Categories, Feature, MultiCategoricalFeature, NumericFeature

if TYPE_CHECKING:
    import pyarrow as pa

_DENSE = 8  # times its size is above a dense vocabulary's largest value: 64 bytes a value, as an embedding of 16


def local_rows(feature: Categories) -> np.ndarray:
    """Returns the row of each value of a vocabulary, counted from the feature's first: that one where its id is free.

    They are int64 `[n]`, in the order of the vocabulary.
    """
    rows: np.ndarray = np.arange(1, feature.num_ids + 1, dtype=np.int64)
    rows[list(feature.free_ids)] = 0
    return rows


def rows_of_integers(feature: Feature) -> np.ndarray | None:
    """Returns the rows of the integers 0, 1, …, counted from the feature's first, and at the end 0, that of all others.

    None for what is no vocabulary of integers, or none of a dense range.
    """
    if isinstance(feature, NumericFeature) or feature.vocabulary is None or feature.dtype != "int64":
        return None
    vocabulary = np.array(feature.vocabulary, np.uint64)
    if vocabulary.max() >= _DENSE * len(vocabulary):
        return None
    rows: np.ndarray = np.zeros(int(vocabulary.max()) + 2, np.int64)
    rows[vocabulary] = local_rows(feature)
    return rows


def host_bag(feature: MultiCategoricalFeature, arrays: Mapping[str, Any]) -> tuple["pa.Array", Any, Bag | None]:
    """Returns the present values of each bag, at most `max_length`, their row splits `[n + 1]`, and their weights."""
    # Imported here: the graph's encoder, which imports this module, does without Arrow.
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = arrays[feature.name]
    values = lists.flatten()
    rows: np.ndarray = np.repeat(
        np.arange(len(lists)), pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    )
    kept = np.flatnonzero(pc.invert(means_missing(values)).fill_null(False).to_numpy(zero_copy_only=False))
    splits = _row_splits(rows[kept], len(lists))
    if feature.max_length is not None:
        kept = kept[np.arange(len(kept)) - splits[rows[kept]] < feature.max_length]
        splits = _row_splits(rows[kept], len(lists))
    weights = Bag(floats(arrays[feature.weights].flatten())[kept], splits) if feature.weights else None
    return values.take(pa.array(kept)), splits, weights


def _row_splits(rows: np.ndarray, num_rows: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))]).astype(np.int64)


def means_missing(array: Any) -> Any:
    """Returns booleans `[n]`: whether a category that is there means missing; null where it is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        return pc.equal(array, "")
    if pa.types.is_uint64(array.type):
        return pc.equal(array, pa.scalar(UINT64_MISSING, pa.uint64()))
    return pc.less(array, 0)


def integers(array: Any) -> np.ndarray:
    """Returns the bits of int64 or uint64 `[n]` as int64, missing ones as those of a negative number."""
    missing = INT_MISSING if str(array.type) == "int64" else UINT64_MISSING
    return array.fill_null(missing).to_numpy(zero_copy_only=False).view(np.int64)


def unsigned(values: np.ndarray) -> np.ndarray:
    """Returns the same bits as uint64, those of negative integers from 2⁶³ on: beyond every limit."""
    return values.view(np.uint64)


def floats(array: Any) -> np.ndarray:
    """Returns float32 `[n]`, missing ones NaN."""
    return array.fill_null(float("nan")).to_numpy(zero_copy_only=False).astype(np.float32)


def finite_floats(values: np.ndarray) -> np.ndarray:
    """Returns numbers `[n]` as float32, and where a finite one is beyond it all as float64, that one as it is."""
    with np.errstate(over="ignore"):
        narrow: np.ndarray = values.astype(np.float32)
    beyond = np.isinf(narrow) & np.isfinite(values)
    return np.where(beyond, values, narrow) if beyond.any() else narrow
