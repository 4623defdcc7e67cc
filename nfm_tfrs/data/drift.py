"""New rows held against the rows that a model was trained on, feature by feature."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.arguments import share
from nfm_tfrs.data.parts import rates_of
from nfm_tfrs.data.readers.rows import read_rows
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.encoder import FeatureEncoder, standardised_numbers
from nfm_tfrs.features.feature import Feature, NumericFeature
from nfm_tfrs.features.host import finite_floats
from nfm_tfrs.features.keys import NUMBERS
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import TOO_MANY_IDS, Counting, Statistics, are_counted
from nfm_tfrs.metrics.divergence import sample_distance

THRESHOLD = 0.1


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How far a feature's new values are from those of the training rows.

    Args:
        feature: Name of the feature.
        distance: Jensen-Shannon distance of the two, from 0 to 1.
        low: Low end of its 95 % interval.
        high: High end of its 95 % interval.
        noise: What two samples of these sizes and of one distribution stay below 39 times of 40.
        missing_before: Share of the training rows whose value was missing; of a bag, of those without a value.
        missing: Share of the new rows whose value is missing.
        unknown_before: Share of the present values that had no row in the table.
        unknown: Share of the new ones that have none.
        new_values: Share of the new present values that no training row held; of a number, those outside of the
            training rows' smallest and largest.
        drifted: Whether the distance is above the threshold, and its interval above the noise.
    """

    feature: str
    distance: float
    low: float
    high: float
    noise: float
    missing_before: float
    missing: float
    unknown_before: float
    unknown: float
    new_values: float
    drifted: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What `check_drift` found.

    Args:
        rows_before: Number of training rows.
        rows: Number of new rows.
        threshold: The distance above which a feature may have drifted.
        features: Each feature's drift, the worst first: those that drifted, and among them those whose distance is
            furthest above the noise.
    """

    rows_before: int
    rows: int
    threshold: float
    features: list[FeatureDrift]

    @property
    def drifted(self) -> bool:
        """Whether any feature drifted."""
        return any(feature.drifted for feature in self.features)

    @property
    def worst(self) -> FeatureDrift:
        """The feature that drifted most, or that came nearest to it."""
        return self.features[0]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain JSON types."""
        return {"drifted": self.drifted, "worst": self.worst.feature, **asdict(self)}


def check_drift(
    model: Any, data: Any, *, threshold: float = THRESHOLD, format: str | None = None, seed: int = 0
) -> Drift:
    """Returns how far new rows are from the rows that a model was trained on, feature by feature.

        distance = √(H((p + q) / 2) - (H(p) + H(q)) / 2)    with    H(p) = -Σ_i p_i log2 p_i

    p are the training rows' shares, which travel with the model, and q the new ones': of each id, of unknown values and
    of missing ones; of a number, of the ranges between its training percentiles (each of a percent, or of what a
    repeated value has), of what is below and above all of them, and of missing ones. A bag's values count one by one,
    and a bag without any as a missing one.

    A feature has drifted where its distance is above the threshold and the low end of its interval above what chance
    alone would show, which is much where many ids are rare. Values of one bag or one user are not independent: of rows
    of few of them, chance shows more than that.

    Args:
        model: A trained `RankingModel` that knows its training rows: one of `nfm-tfrs train`, of a search, of
            `Recipe.fit`.
        data: The new rows: files (a path, a list, a glob pattern, a folder), a DataFrame (pandas, or with Arrow's C
            stream as polars has), a dict of columns, a list of dicts, or an Arrow table. Labels are not read.
        threshold: The distance above which a feature may have drifted, at least 0 and below 1.
        format: The files' format, where their suffix does not tell.
        seed: Seed of the draws that the intervals are from.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The model knows no training rows, the data holds no row, a column is missing or does not fit its
            feature, or a threshold out of its range.

    Example:
        >>> from nfm_tfrs.data import prepare
        >>> from nfm_tfrs.training import Recipe
        >>> rows = {"city": ["Rome"] * 300 + ["Oslo"] * 300, "price": [float(n % 50) for n in range(600)]}
        >>> data = prepare({**rows, "click": [0, 1] * 300}, "click", "random")
        >>> model = Recipe(model="fm", config={"embedding_dim": 2}).fit(data, epochs=1).model
        >>> check_drift(model, rows).drifted
        False
        >>> tonight = {**rows, "city": ["Rome"] * 100 + ["Lima"] * 500}
        >>> found = check_drift(model, tonight)
        >>> found.worst.feature, round(found.worst.unknown, 2), found.worst.drifted
        ('city', 0.83, True)

    Reference:
        Lin, Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 1991, equation
        4.1, of which this is the root.
    """
    threshold = share("threshold", threshold)
    before = getattr(model, "statistics", None)
    if before is None:
        if isinstance(getattr(model, "features", None), FeatureSpec) and not are_counted(model.features):
            raise ValueError(
                f"The model does not know its training rows: for {TOO_MANY_IDS}. Train one without compression, or of "
                "fewer ids."
            )
        raise ValueError(
            "The model does not know its training rows: model.fit or an earlier version trained it, or it comes from a "
            "SavedModel. Train it with nfm-tfrs train or Recipe.fit, or call nfm_tfrs.training.adapt_statistics."
        )
    if not before.rows:
        raise ValueError("The model's statistics are of no rows. Train it with rows.")
    features, ranges = model.features, {}
    for number in features.numbers:
        ranges[number.name] = _Ranges(number, before.quantiles[number.name])
    after = _counted(read_rows(data, features, format=format), model.encoder, ranges)
    found = [
        _drift(feature, before, after, ranges.get(feature.name), threshold, [seed, position])
        for position, feature in enumerate(features)
    ]
    found.sort(key=lambda drift: (not drift.drifted, drift.noise - drift.distance))
    return Drift(rows_before=before.rows, rows=after.rows, threshold=threshold, features=found)


class _Ranges:
    """The ranges of a number between its training percentiles; counts how many new values each holds.

    Range 0 is below the smallest value and the last one above the largest; none is of less than a percentile.
    """

    def __init__(self, feature: NumericFeature, quantiles: np.ndarray) -> None:
        self.ends: np.ndarray = np.zeros(0, np.float32)
        shares: np.ndarray = np.zeros(0)
        if not np.isnan(quantiles).any():
            # As the model sees them: what is one number to it is one here.
            edges = standardised_numbers(feature, finite_floats(quantiles))
            self.ends, first = np.unique(edges, return_index=True)
            shares = np.diff(np.append(first[1:], len(edges)) - 1, prepend=0) / (len(edges) - 1)
        self.lowest = self.ends[:1]
        if len(shares) > 1 and not shares[0]:  # the smallest value alone, which is of the range behind it
            self.ends, shares = self.ends[1:], shares[1:]
        self.shares: np.ndarray = np.concatenate([[0.0], shares, [0.0]])
        self.counts: np.ndarray = np.zeros(len(self.shares), np.int64)

    def add(self, values: np.ndarray) -> None:
        """Counts standardised numbers, NaN left out."""
        values = values[~np.isnan(values)]
        places = np.searchsorted(self.ends, values, side="left") + 1
        places[(values[:, None] < self.lowest).any(axis=1)] = 0
        self.counts += np.bincount(places, minlength=len(self.counts))


def _drift(
    feature: Feature,
    before: Statistics,
    after: Statistics,
    ranges: _Ranges | None,
    threshold: float,
    seed: list[int],
) -> FeatureDrift:
    name = feature.name
    missing = [statistics.missing[name] for statistics in (before, after)]
    if ranges is None:
        counts = [statistics.counts[name] for statistics in (before, after)]
        unknown = [of[0] / max(of.sum(), 1) for of in counts]
        new = counts[1][counts[0] == 0].sum()
    else:
        present = before.rows - missing[0]
        counts, unknown = [np.round(ranges.shares * present).astype(np.int64), ranges.counts], [0.0, 0.0]
        new = ranges.counts[0] + ranges.counts[-1]
    distance = sample_distance(*(np.append(of, absent) for of, absent in zip(counts, missing, strict=True)), seed=seed)
    return FeatureDrift(
        feature=name,
        distance=distance.value,
        low=distance.low,
        high=distance.high,
        noise=distance.noise,
        missing_before=missing[0] / before.rows,
        missing=missing[1] / after.rows,
        unknown_before=float(unknown[0]),
        unknown=float(unknown[1]),
        new_values=float(new / max(counts[1].sum(), 1)),
        drifted=distance.value > threshold and distance.low > distance.noise,
    )


def _counted(
    tables: Iterable[pa.Table | pa.RecordBatch], encoder: FeatureEncoder, ranges: dict[str, _Ranges]
) -> Statistics:
    features, counting, row = encoder.features, Counting(encoder.features), 0
    for table in tables:
        arrays = checked_arrays(table, features, first_row=row)
        columns = encoder.encode_arrays(arrays)
        counting.add(columns, rates_of(arrays, columns, features))
        numbers = columns[NUMBERS]
        assert isinstance(numbers, np.ndarray)
        for position, number in enumerate(features.numbers):
            ranges[number.name].add(numbers[:, position])
        row += table.num_rows
    return counting.statistics()
