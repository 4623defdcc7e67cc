"""What a search is told: its space, its budget, how trials are trained, and what becomes of the best."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args

from nfm_tfrs import arguments
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.vectors import check_frozen
from nfm_tfrs.training.recipe import Recipe

Search = Literal["halving", "random"]

# Fixed beside a model's arguments.
TRAINING = (
    *("optimizer", "optimizer_arguments", "learning_rate", "rate_rows", "schedule", "schedule_arguments", "averaging"),
    *("jit_compile", "batch_size"),
)


@dataclass(frozen=True, kw_only=True)
class Space:
    """What there is to search.

    Args:
        models: Registered models. Blocks, structure and tower are searched of `"ranking"`; every other model keeps its
            own, and only sizes and regularisation are searched.
        blocks: Registered blocks; all that fit the features if not given.
        structures: Where the tower of `"ranking"` stands: stacked, parallel, concat.
        precisions: Dtype policies to choose from.
        batch_sizes: Rows of a training step to choose from.
        fixed: Hyperparameters that are not searched, and any other argument of the models, by name.
        max_parameters: Ceiling of a model's parameters; None for none.
        max_latency: Ceiling of the seconds that a model takes for 100 rows; None for none.
        prior: Whether configurations that won on other sets are tried first; a search at random tries none.
        prior_without: Sets whose winners are not among them, as for a benchmark on such a set; None leaves out none.

    Raises:
        ValueError: An argument out of its range.
    """

    models: tuple[str, ...] = ("ranking",)
    blocks: tuple[str, ...] | None = None
    structures: tuple[str, ...] = ("stacked", "parallel", "concat")
    precisions: tuple[str, ...] = ("float32",)
    batch_sizes: tuple[int, ...] = (256, 512, 1024)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    max_parameters: int | None = None
    max_latency: float | None = None
    prior: bool = True
    prior_without: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        arguments.switch("prior", self.prior)
        for name in ("models", "blocks", "structures", "precisions"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, arguments.listed(name, values))
        sizes = (self.fixed["batch_size"],) if "batch_size" in self.fixed else self.batch_sizes
        object.__setattr__(self, "batch_sizes", arguments.widths("batch_sizes", sizes))
        if not self.batch_sizes:
            raise ValueError("batch_sizes must hold one or more; received (). Leave it out for the default.")
        if self.max_parameters is not None:
            arguments.count("max_parameters", self.max_parameters)
        if self.max_latency is not None:
            arguments.positive("max_latency", self.max_latency)
        fixed = {name: value for name, value in self.fixed.items() if name != "batch_size"}
        check_training(fixed)
        object.__setattr__(self, "fixed", arguments.plain("fixed", fixed))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to search: until either is used up.

    Args:
        trials: Configurations to try.
        minutes: Minutes of search, without the finalists; a trial that runs when they are over is finished first. What
            would take more than a fifth of them to be trained whole fails after its second slice, but for the first.

    Raises:
        ValueError: Neither is given, or one is not above 0.
    """

    trials: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.trials, self.minutes) if value is not None]
        numbers = isinstance(self.trials, Integral | None) and isinstance(self.minutes, Real | None)
        if not given or not numbers or not all(value > 0 for value in given):
            raise ValueError(
                f"A budget needs trials or minutes above 0; received {self.trials!r} and {self.minutes!r}. "
                "Give one or both."
            )

    @property
    def seconds(self) -> float | None:
        """Seconds of search; None for no limit."""
        return None if self.minutes is None else 60 * self.minutes


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How trials are trained, and which of them go on.

    Args:
        search: `"halving"`: configurations at random, each block in its turn, and beside the best, on a third of the
            slices, the best third of them on all; `"random"`: at random, each on all slices.
        passes: Passes over the training rows in a whole training, a fraction included. A rate without an end, constant
            or a plateau, goes on behind them until the score has stopped improving, up to 50.
        slices: Slices that these passes are cut into; the model is judged after each.
        patience: Slices without a better score after which a training ends.

    Raises:
        ValueError: An argument out of its range.
    """

    search: Search = "halving"
    passes: float = 12
    slices: int = 27
    patience: int = 8

    def __post_init__(self) -> None:
        arguments.choice("search", self.search, get_args(Search))
        arguments.count("patience", self.patience)
        # JSON's own numbers: they are written among the search's settings.
        numbers = isinstance(self.slices, int) and isinstance(self.passes, int | float)
        if not numbers or not self.slices >= 1 or not 0 < self.passes < math.inf:
            raise ValueError(
                f"A training needs passes above 0 and a slice or more; received {self.passes!r} and {self.slices!r}."
            )

    @property
    def rungs(self) -> list[int]:
        """Slices after which trials are compared, rising to all of them.

        The first of a halving has a third of them. After a ninth, making a model takes as long as training it, and
        models of Adagrad, which start slowly, all look bad: benchmarks report how well scores after either part rank
        the models.

        Example:
            >>> Schedule().rungs, Schedule(search="random").rungs
            ([9, 27], [27])
        """
        halved = self.search == "halving" and self.slices >= 3
        return [self.slices // 3, self.slices] if halved else [self.slices]


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What becomes of the best configurations.

    Args:
        finalists: How many configurations are trained again as a whole, beside the model that is trained without a
            search.
        seeds: How many times each finalist is trained.
        members: How many trainings of the finalists the model may be the mean of at most, where that is better on
            validation; 1 for never.
        refit: Whether the winner is trained once more, on training and validation rows; not one whose rate is divided
            where validation stalls.

    Raises:
        ValueError: A number below 1.
    """

    finalists: int = 3
    seeds: int = 3
    members: int = 4
    refit: bool = False

    def __post_init__(self) -> None:
        arguments.count("finalists", self.finalists)
        arguments.count("seeds", self.seeds)
        arguments.count("members", self.members)
        arguments.switch("refit", self.refit)


def check_training(fixed: Mapping[str, Any]) -> None:
    """Refuses a training that none of its own arguments would let be, whatever model and rate are drawn.

    Args:
        fixed: Hyperparameters that are not searched, by name.

    Raises:
        ValueError: One is out of its range, or two do not go together.
    """
    known = [name for name in TRAINING if name in fixed]
    Recipe(model="ranking", **{"learning_rate": 1.0} | {name: fixed[name] for name in known})


def check_features(features: FeatureSpec) -> None:
    """Refuses features that no search trains.

    Args:
        features: The features.

    Raises:
        ValueError: One is frozen: the rows of a trial's model begin at no vectors.
    """
    remedy = "Search without frozen, and pass the vectors of {!r} to a training with the best.json."
    check_frozen(features, (), remedy)


def resume_key(space: Space, schedule: Schedule, **others: Any) -> dict[str, Any]:
    """Returns what a search must have in common with one that it goes on from, as flat JSON: `"space.blocks"`, ….

    Budget and finals are not among it: more minutes, or other finalists, go on with the same trials.

    Args:
        space: The search's space.
        schedule: The search's schedule.
        **others: Further settings, plain JSON types.
    """
    blocks = space.blocks and sorted(space.blocks)  # their order decides nothing
    groups = {"space": {**asdict(space), "blocks": blocks}, "schedule": asdict(schedule)}
    return others | {f"{group}.{name}": value for group, fields in groups.items() for name, value in fields.items()}
