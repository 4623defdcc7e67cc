"""Where in a training's passes over its rows the next batch is: all that a training needs to be entered there."""

from typing import NamedTuple


class Position(NamedTuple):
    """The next batch of a training.

    Attributes:
        epoch: Passes over the rows that are behind it.
        step: Batches of this pass that are behind it.
    """

    epoch: int = 0
    step: int = 0
