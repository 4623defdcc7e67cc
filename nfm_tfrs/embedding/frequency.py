"""How often the training rows read each row of a table."""

from typing import Any

import numpy as np

from nfm_tfrs.embedding.compressed import rows_of_ids
from nfm_tfrs.embedding.layout import Layout
from nfm_tfrs.features.feature import MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics
from nfm_tfrs.keras_compat import tf


def row_counts(layout: Layout, features: FeatureSpec, statistics: Statistics) -> np.ndarray:
    """Returns how often the training rows read each row of a variable, float64 `[rows]`.

    A row that several values share is read whenever one of them is; one of unknown values by missing ones, too.

    Args:
        layout: What lies in the variable.
        features: The features.
        statistics: What was counted of the training rows.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> from nfm_tfrs.embedding.layout import layouts_of
        >>> spec = FeatureSpec([CategoricalFeature("city", vocabulary=["Rome", "Oslo"])])
        >>> statistics = Statistics(
        ...     rows=5, counts={"city": np.array([1, 2, 1])}, missing={"city": 1}, quantiles={}, seen={}
        ... )
        >>> row_counts(layouts_of(spec, 4, numbers=True)[0], spec, statistics)
        array([2., 2., 1.])
    """
    found: np.ndarray = np.zeros(layout.num_rows)
    for feature in features:
        table: Any = getattr(feature, "table", None)
        if table not in layout.tables:
            continue
        counts: np.ndarray = statistics.counts.get(feature.name, np.zeros(1)).astype(np.float64)
        if not isinstance(feature, MultiCategoricalFeature):  # a bag without a value reads nothing
            counts[0] += statistics.missing.get(feature.name, 0)
        if layout.compression is None:
            first, _ = layout.tables.get(table, (0, 0))
            found[first : first + len(counts)] += counts
            continue
        for places in rows_of_ids(layout.compression, tf.range(len(counts), dtype=tf.int64), len(counts) - 1):
            found += np.bincount(places.numpy(), counts, minlength=layout.num_rows)
    if layout.numbers:
        missing = np.array([statistics.missing.get(number.name, 0) for number in features.numbers])
        for rows, counts in zip(layout.number_rows(), (missing, statistics.rows - missing), strict=True):
            found[rows.start : rows.stop : rows.step] = counts
    return found
