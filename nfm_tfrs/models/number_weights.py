"""Where a model multiplies its numbers by weights."""

from typing import Any, NamedTuple


class NumberWeights(NamedTuple):
    """Weights that standardised numbers are multiplied by.

    Attributes:
        weight: The variable, `[rows, width]`; of several members `[members, rows, width]`.
        rows: The row that each number is multiplied by, in the order of the features' numbers.
        bias: The variable that is added to the products, `[width]` or `[members, width]`; None where nothing
            is.
    """

    weight: Any
    rows: range
    bias: Any
