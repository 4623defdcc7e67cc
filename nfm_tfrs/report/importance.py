"""How much each hyperparameter of a search matters, by Optuna over its imported trials."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nfm_tfrs.report.view import Chain, Search, plain, text, varied

FEWEST = 10  # configurations to estimate from
SLICES = "slices trained"  # beside the hyperparameters, of which none has a space in its name


@dataclass(frozen=True)
class Importances:
    """Shares of the variation of the score, each of one hyperparameter alone.

    Args:
        always: Shares of the hyperparameters that all configurations have.
        conditional: Shares of the other hyperparameters, each among the configurations that have it.
        few: The names of those that too few have.
    """

    always: dict[str, float] = field(default_factory=dict)
    conditional: dict[str, float] = field(default_factory=dict)
    few: list[str] = field(default_factory=list)


def importances(optuna: Any, search: Search) -> Importances:
    """Returns the importances, all configurations compared after the slices that each of them has."""
    having: dict[tuple[int, ...], list[str]] = {}
    for name in varied(search.chains):
        members = tuple(number for number, chain in enumerate(search.chains) if name in chain[-1].values)
        having.setdefault(members, []).append(name)
    found = Importances()
    for members, names in having.items():
        chains = [search.chains[number] for number in members]
        if len(chains) < FEWEST or len({search.score(chain, search.common) for chain in chains}) == 1:
            found.few.extend(names)
            continue
        # Not its default, PED-ANOVA, which takes noise for importance with so few trials.
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with quiet(optuna):
            study = imported(optuna, search, chains, search.common)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        kind = found.always if len(chains) == len(search.chains) else found.conditional
        kind.update({name: float(shares[text(name)]) for name in names})
    return found


def imported(optuna: Any, search: Search, chains: Sequence[Chain], slices: int | None = None) -> Any:
    """Returns a study with one trial a configuration.

    Args:
        optuna: The module.
        search: What the configurations are of.
        chains: The configurations.
        slices: Number of first slices that the best score is taken of; all if not given, their number then being a
            parameter as well.
    """
    study = optuna.create_study(direction="maximize" if search.highest else "minimize")
    rows = [{text(name): plain(value) for name, value in chain[-1].values.items()} for chain in chains]
    if slices is None:
        rows = [row | {SLICES: len(chain[-1].scores)} for row, chain in zip(rows, chains, strict=True)]
    names = {name for row in rows for name in row}
    distributions = {name: _distribution(optuna, [row[name] for row in rows if name in row]) for name in names}
    for row, chain in zip(rows, chains, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=row,
                distributions={name: distributions[name] for name in row},
                value=search.score(chain, slices),
            )
        )
    return study


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Optuna says nothing: what there is to say about few trials is on the page."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(optuna: Any, values: Sequence[Any]) -> Any:
    """Of numbers that hardly repeat, a range; of all others, the values themselves."""
    distinct = set(values)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(distinct) > 1 and (len(distinct) == len(values) or len(distinct) > 12):
        kind = "Int" if all(isinstance(value, int) for value in values) else "Float"
        low, high = min(values), max(values)
        make = getattr(optuna.distributions, f"{kind}Distribution")
        return make(low, high, log=low > 0 and high > 9 * low)
    return optuna.distributions.CategoricalDistribution(sorted(distinct, key=None if numbers else str))
