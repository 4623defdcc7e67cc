"""A search as its page shows it: configurations, their scores, and what they are called."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import Evidence, TrialRecord

NAMES = {"auc": "AUC", "rmse": "RMSE", "mae": "MAE"}
Chain = list[TrialRecord]


class Search:
    """A search as the page sees it: configurations, each the chain of trials that went on from one another.

    Args:
        evidence: What the search tried and measured.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.metric = evidence.objective.metric
        self.name = NAMES.get(self.metric, self.metric.replace("_", " "))
        self.label = f"validation {self.name}"
        self.highest = evidence.objective.direction == "max"
        self.chains = _chains(evidence.trials)
        counts = [len(chain[-1].scores) for chain in self.chains]
        self.common, self.most = min(counts, default=0), max(counts, default=0)  # slices that all have, or any

    def score(self, chain: Chain, slices: int | None = None) -> float:
        """Returns the best score of a configuration, of its first slices only if their number is given."""
        return self.best(scores[self.metric] for scores in chain[-1].scores[:slices])

    def best(self, values: Iterable[float]) -> float:
        """Returns the highest or lowest of some scores, as the objective has it."""
        return max(values) if self.highest else min(values)

    @property
    def winner(self) -> Chain:
        """The first finalist's chain; without finalists, the one with the best score."""
        first = [finalist.trial for finalist in self.evidence.finalists[:1]]
        named = [chain for chain in self.chains if first and first[0] in (trial.id for trial in chain)]
        sign = self.evidence.objective.sign
        return named[0] if named else max(self.chains, key=lambda chain: sign * self.score(chain))

    @property
    def candidate(self) -> Configuration | None:
        """The first finalist's candidate; without finalists, that of the best score."""
        if self.evidence.finalists:
            return self.evidence.finalists[0].candidate
        return self.winner[-1].candidate if self.chains else None


def title(candidate: Configuration) -> str:
    """Returns what a person calls a candidate: its block and structure, or its model."""
    return ", ".join(part for part in (block(candidate), structure(candidate)) if part)


def flat(candidate: Configuration) -> dict[str, Any]:
    """Returns all of a candidate's arguments, by name."""
    found: dict[str, Any] = {"model": candidate.model}
    for name, value in (candidate.arguments | candidate.training).items():
        if isinstance(value, dict) and "name" in value:
            found[name] = value["name"]
            found |= {f"{name} {key}": argument for key, argument in (value.get("config") or {}).items()}
        else:
            found[name] = value
    return found


def shown(value: Any) -> str:
    """Returns a value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def number(value: float | None) -> str:
    """Returns a metric as a person writes it."""
    return "-" if value is None else f"{value:.4f}"


def block(candidate: Configuration) -> str:
    """Returns the names of a candidate's blocks, or of a model that has its own."""
    given = candidate.config.get("interaction") or candidate.model
    given = given if isinstance(given, list) else [given]
    return " + ".join(one["name"] if isinstance(one, dict) else one for one in given)


def structure(candidate: Configuration) -> str | None:
    """Returns how a candidate's tower stands to its block; None where the model has its own way."""
    named: str | None = candidate.config.get("structure")
    return named or ("no tower" if candidate.config.get("hidden_units") == [] else None)


def values_of(chains: Sequence[Chain], name: str) -> list[Any]:
    """Returns a hyperparameter's values in the configurations that have it."""
    return [plain(chain[-1].values[name]) for chain in chains if name in chain[-1].values]


def varied(chains: Sequence[Chain]) -> list[str]:
    """Returns the hyperparameters with more than one value."""
    names = sorted({name for chain in chains for name in chain[-1].values})
    return [name for name in names if len(set(values_of(chains, name))) > 1]


def plain(value: Any) -> Any:
    """Returns a value that Optuna and Plotly take, and show as a person writes it."""
    if isinstance(value, float):
        return float(f"{value:.3g}")
    if isinstance(value, bool | int) or value is None:
        return value
    return text(value if isinstance(value, str) else json.dumps(value))


def text(name: str) -> str:
    """Returns a name for a figure, which would take its markup for its own."""
    return escape(name, quote=False)


def _chains(trials: Sequence[TrialRecord]) -> list[Chain]:
    known = {trial.id: trial for trial in trials}
    chains: dict[str, Chain] = {}
    for trial in trials:
        if trial.status != "COMPLETED" or not trial.scores:
            continue
        chain = [trial]
        while (parent := chain[0].parent) in known:
            chain.insert(0, known[parent])
        if len(chain) > len(chains.get(chain[0].id, ())):
            chains[chain[0].id] = chain
    return list(chains.values())
