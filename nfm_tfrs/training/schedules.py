"""How a rate changes over a training: along a cosine, once up and down, or divided when validation stalls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.configuration import Configuration, RateSchedule


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """A rate that falls along half a cosine, from its peak to a floor, over the steps of a whole training.

        η_t = η t / w                                                      for t < w
        η_t = η (f + (1 - f) (1 + cos(π (t - w) / (T - w))) / 2)           for w ≤ t ≤ T

    with η the peak, T the steps, w those that warm up, and f the floor's share of the peak. t is what the optimizer has
    counted: a training that is cut into slices, or goes on from a checkpoint, has the same rates.

    Args:
        warm_up: Share of the steps over which the rate rises to its peak, in a straight line from 0.
        floor: Share of the peak that is left at the end.

    Raises:
        ValueError: A share below 0, or not below 1.

    Example:
        >>> rate = Cosine(warm_up=0.5, floor=0.1).over(0.2, steps=8)
        >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 6, 8)]
        [0.0, 0.1, 0.2, 0.11, 0.02]

    Reference:
        Loshchilov & Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, equation 5. With a warm-up
        it is one cycle of Smith & Topin, Super-Convergence, SPIE 2019 (arXiv 2018), section 3.
    """

    warm_up: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        arguments.share("warm_up", self.warm_up)
        arguments.share("floor", self.floor)

    def over(self, peak: float, *, steps: int) -> Any:
        """Returns Keras' schedule of these rates.

        Args:
            peak: The highest rate.
            steps: Steps of the whole training.
        """
        from nfm_tfrs.keras_compat import keras  # TensorFlow: a recipe is told without it

        rising = int(self.warm_up * steps)
        if not rising:
            return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=float(self.floor))
        return keras.optimizers.schedules.CosineDecay(
            0.0, steps - rising, alpha=float(self.floor), warmup_target=peak, warmup_steps=rising
        )


@dataclass(frozen=True)
class Plateau:
    """A rate that is divided when validation stalls, and a training that goes on there from its best epoch.

    Args:
        factor: What the rate is divided by.
        looks: Looks at the validation rows, without a better metric, after which it is: epochs of a training, slices of
            a search.
        drops: How often at most it is.

    Raises:
        ValueError: A factor that is no finite number above 1, or a number below 1.
    """

    factor: float = 10.0
    looks: int = 2
    drops: int = 2

    def __post_init__(self) -> None:
        number = isinstance(self.factor, int | float) and not isinstance(self.factor, bool)
        if not number or not 1 < self.factor < math.inf:
            raise ValueError(f"factor must be a number above 1; received {self.factor!r:.60}.")
        arguments.count("looks", self.looks)
        arguments.count("drops", self.drops)


_KINDS = {"cosine": Cosine, "one_cycle": Cosine, "plateau": Plateau}
_OWN = {"one_cycle": {"warm_up": 0.2}}  # what a schedule has where nobody says otherwise
OVER_STEPS = ("cosine", "one_cycle")  # which need to know the steps of the whole training


def schedule_of(name: RateSchedule, given: Mapping[str, Any]) -> Cosine | Plateau | None:
    """Returns a schedule by its name; None for a constant rate.

    Args:
        name: The schedule's name.
        given: Its arguments, by name.

    Raises:
        ValueError: An argument that it does not take, or one out of its range.
    """
    kind = _KINDS.get(name)
    if kind is None:
        if given:
            raise ValueError(
                f"A constant rate takes no schedule_arguments; received {', '.join(given)}. Give schedule= too: "
                f"{', '.join(_KINDS)}."
            )
        return None
    known = [field.name for field in fields(kind)]
    for argument in given:
        if argument not in known:
            raise arguments.unknown_name(f"argument of {name}", argument, known)
    made: Cosine | Plateau = kind(**{**_OWN.get(name, {}), **given})
    return made


def plateau_of(configuration: Configuration) -> Plateau | None:
    """Returns when the rate of a training is divided; None where validation has no say in it."""
    found = schedule_of(configuration.schedule, configuration.schedule_arguments)
    return found if isinstance(found, Plateau) else None
