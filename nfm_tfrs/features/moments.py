"""Mean and standard deviation of numbers that come batch by batch."""

import math

import numpy as np


class Moments:
    """Mean and standard deviation by Chan's pairwise update, exact enough for a mean far from 0.

    Example:
        >>> moments = Moments()
        >>> for batch in ([1.0, 2.0], [6.0]):
        ...     moments.update(np.array(batch))
        >>> moments.count, moments.mean, round(moments.std, 3)
        (3, 3.0, 2.16)
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.low = 0, 0.0, 0.0, math.inf

    def update(self, numbers: np.ndarray) -> None:
        """Takes more numbers, finite ones, `[n]`."""
        if not len(numbers):
            return
        count, mean = len(numbers), float(numbers.mean())
        total, delta = self.count + count, mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum()) + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count, self.low = total, min(self.low, float(numbers.min()))

    @property
    def std(self) -> float:
        """Standard deviation of all numbers, one at least."""
        return math.sqrt(self.squares / self.count)
