"""The table of the package's blocks, from their specs and classes: what each computes, and the models around it."""

from inspect import signature

from nfm_tfrs import specs
from tfrs_registry import ComponentSpec


def spec_table() -> str:
    """A row a block: its name, starred where it returns a logit, its formula, and the models that have it."""
    models: dict[str, list[str]] = {}
    for model in _named("_MODEL"):
        models.setdefault(_default_block(model), []).append(f"`{model.name}`")
    rows = [["block", "computes", "models"], ["---"] * 3]
    for block in _named("_BLOCK"):
        star = " *" if block.load().returns_logit else ""
        rows.append([f"`{block.name}`{star}", block.formula.replace("|", r"\|"), ", ".join(models.get(block.name, []))])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _named(ending: str) -> list[ComponentSpec]:
    """The specs of one kind, in the order of their file."""
    return [spec for name, spec in vars(specs).items() if name.endswith(ending)]


def _default_block(model: ComponentSpec) -> str:
    """The registered name of the block that a model has if none is given."""
    default = signature(model.load()).parameters["interaction"].default
    name: str = default["name"] if isinstance(default, dict) else default
    return name
