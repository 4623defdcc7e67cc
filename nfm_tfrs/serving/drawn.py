"""Rows drawn from what features are: known, unknown and missing values, empty and long bags, huge numbers."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.features.feature import Categories, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec

_HUGE = 1e30
_LONG = 12  # values of the longest bag, of those without a limit


def drawn_rows(features: FeatureSpec, num_rows: int = 64, *, seed: int = 0) -> pa.Table:
    """Returns rows that a model of these features reads.

    The first row's values are all missing and its bags empty, the second's are unknown, its numbers huge and its bags
    longer than what is read of them; the others are drawn.

    Args:
        features: The features.
        num_rows: Number of rows.
        seed: Seed of the values.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    lengths: dict[str, list[int]] = {}  # of bags by their weights, which several may share
    for feature in features:
        if isinstance(feature, MultiCategoricalFeature):
            drawn = lengths.setdefault(feature.weights or feature.name, _lengths(feature, num_rows, rng))
            several = sum(bag.weights is not None and bag.weights == feature.weights for bag in features.bags) > 1
            columns |= _bags(feature, drawn, rng, missing=not several)
        elif isinstance(feature, NumericFeature):
            columns[feature.name] = _numbers(feature, num_rows, rng)
        else:
            values = [None, _unknown(feature), *(_value(feature, rng) for _ in range(num_rows))]
            columns[feature.name] = pa.array(values[:num_rows], _type(feature))
    return pa.table(columns)


def _type(feature: Feature) -> pa.DataType:
    if not isinstance(feature, Categories) or feature.dtype != "int64":
        return pa.string()
    return pa.uint64() if max(map(int, feature.vocabulary or [0])) >= 2**63 else pa.int64()


def _value(feature: Categories, rng: np.random.Generator) -> Any:
    """A known value or, now and then, a missing or an unknown one."""
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return _unknown(feature)
    place = int(rng.integers(feature.num_ids))
    if feature.vocabulary is not None:
        return feature.vocabulary[place]
    if feature.num_hash_buckets is not None and feature.dtype != "int64":
        return f"v{place}"
    return place


def _unknown(feature: Categories) -> Any:
    if feature.dtype != "int64":
        return "no such value, and a long one: " + "ä" * 40
    known = set(feature.vocabulary or ())
    return next(value for value in itertools.count(2**62 if feature.vocabulary is None else 0) if value not in known)


def _numbers(feature: NumericFeature, num_rows: int, rng: np.random.Generator) -> pa.Array:
    values = feature.mean + feature.std * rng.normal(size=num_rows)
    if feature.log:
        values = np.sign(values) * np.expm1(np.minimum(np.abs(values), 60))
    if feature.boundaries:
        values = rng.choice(feature.boundaries, num_rows) + rng.choice([-1.0, 0.0, 1.0], num_rows)
    values = np.where(rng.random(num_rows) < 0.1, np.nan, values)
    values = np.clip(values, -_HUGE, _HUGE)
    values[:1], values[1:2] = np.nan, _HUGE
    return pa.array(values.astype(np.float32), from_pandas=True)


def _lengths(bag: MultiCategoricalFeature, num_rows: int, rng: np.random.Generator) -> list[int]:
    longest = (bag.max_length or _LONG) + 3
    return [0, longest, *rng.integers(0, longest, num_rows).tolist()][:num_rows]


def _bags(
    bag: MultiCategoricalFeature, lengths: list[int], rng: np.random.Generator, *, missing: bool
) -> dict[str, pa.Array]:
    """A bag and its weights; a missing value, whose weight is left out, only where no other bag has these."""
    lists = [[_value(bag, rng) for _ in range(length)] for length in lengths]
    if not missing:
        lists = [[_unknown(bag) if value is None else value for value in values] for values in lists]
    found = {bag.name: pa.array(lists, pa.list_(_type(bag)))}
    if bag.weights:
        weights = [rng.random(length).astype(np.float32).tolist() for length in lengths]
        found[bag.weights] = pa.array(weights, pa.list_(pa.float32()))
    return found
