"""A model in one line, and as a short HTML table: its name, features, blocks, structure and parameters."""

from collections import Counter
from html import escape
from typing import Any

from tfrs_registry import blocks

_NAMES = 6  # of features; a line with forty of them is none that a person reads


def describe(model: Any) -> str:
    """Returns what a `RankingModel`, or an ensemble of some, is, in one line.

    Example:
        >>> from nfm_tfrs import NFM
        >>> print(describe(NFM(name="small", hidden_units=(16, 8))))
        <NFM 'small': no features yet, bi_interaction, stacked, hidden_units=(16, 8), no parameters yet>
    """
    facts = _facts(model)
    text = f"<{type(model).__name__} {model.name!r}: {', '.join(facts.values())}>"
    return " ".join(text.split())  # a column's name may hold anything


def describe_as_html(model: Any) -> str:
    """Returns what a `RankingModel` is, as a table for a notebook."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in _facts(model).items())
    return f"<table><caption>{escape(type(model).__name__)} {escape(repr(model.name))}</caption>{rows}</table>"


def _facts(model: Any) -> dict[str, str]:
    """What there is to say, by the name of each."""
    if model.features is None:
        features, parameters = "no features yet", "no parameters yet"
    else:
        known = [feature.name for feature in model.features.features]
        listed = ", ".join(known[:_NAMES] + ["…"] * (len(known) > _NAMES))
        features = f"{len(known)} {'feature' if len(known) == 1 else 'features'} ({listed})"
        parameters = f"{model.count_params():,} parameters"
    return {"features": features, **_made_of(model), "parameters": parameters}


def _made_of(model: Any) -> dict[str, str]:
    """What stands between features and output."""
    if model.parts[0] is not model:
        counts = Counter(type(part).__name__ for part in model.parts)
        return {"models": "mean of " + " + ".join(f"{count} {name}" for name, count in counts.items())}
    interaction = model.interaction if isinstance(model.interaction, list | tuple) else [model.interaction]
    names = [blocks.name_of(type(block)) or type(block).__name__ for block in interaction]
    several = {"members": f"{model.members} members"} if model.members > 1 else {}
    structure = f"{model.structure}, hidden_units={tuple(model.hidden_units)}" if model.hidden_units else "no tower"
    return {"block" if len(names) == 1 else "blocks": " + ".join(names), "structure": structure, **several}
