"""Mean and deviation of the numbers in new rows, as features standardise by them."""

from typing import Any

import numpy as np

from nfm_tfrs.data.readers.rows import read_rows
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.moments import Moments
from nfm_tfrs.features.spec import FeatureSpec


def moments(data: Any, features: FeatureSpec, *, format: str | None = None) -> dict[str, tuple[float, float]]:
    """Returns the mean and the standard deviation of each number in some rows, logged where its feature logs.

    Args:
        data: The rows: files (a path, a list, a glob pattern, a folder), a DataFrame (pandas, or with Arrow's C stream
            as polars has), a dict of columns, a list of dicts, or an Arrow table. Parquet is read batch by batch.
        features: The features; those that are no plain numbers are not read.
        format: The files' format, where their suffix does not tell.

    Returns:
        By number, for `nfm_tfrs.refreshed`; those whose present values are all the same, or that have none, are left
        out.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No rows, or a column is missing or does not fit its feature.

    Example:
        >>> from nfm_tfrs import NumericFeature
        >>> moments({"price": [1.0, None, 3.0]}, FeatureSpec([NumericFeature("price")]))
        {'price': (2.0, 1.0)}
    """
    if not features.numbers:
        return {}
    numbers, row = FeatureSpec(features.numbers), 0
    found = {number.name: Moments() for number in numbers}
    for table in read_rows(data, numbers, format=format):
        arrays = checked_arrays(table, numbers, first_row=row)
        for number in features.numbers:
            values = arrays[number.name].to_numpy(zero_copy_only=False).astype(np.float64)
            values = values[~np.isnan(values)]
            found[number.name].update(np.sign(values) * np.log1p(np.abs(values)) if number.log else values)
        row += table.num_rows
    return {name: (one.mean, one.std) for name, one in found.items() if one.count and one.std > 0}
