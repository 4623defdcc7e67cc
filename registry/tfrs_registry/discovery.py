"""What a package offers: the spec it writes, and the claim that its entry point makes."""

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """What can be said about a component without importing it; entry points refer to one.

    It belongs in a module that imports no TensorFlow, so that listing stays light.

    Args:
        name: the name to look it up by, `[a-z][a-z0-9_]*`; the entry point's name as well.
        target: where the class is, "module:attribute".
        summary: one line.
        tags: words to filter by.
        paper: the reference, if there is one.
        formula: what it computes, in one line of plain text.

    Raises:
        ValueError: the name, the target or the tags do not have this form.
    """

    name: str
    target: str
    summary: str
    tags: tuple[str, ...] = ()
    paper: str = ""
    formula: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"A name matches [a-z][a-z0-9_]*; received {self.name!r}.")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"A target is 'module:attribute'; received {self.target!r} for {self.name!r}.")
        if not isinstance(self.tags, tuple):
            raise ValueError(f"Tags are a tuple of words; received {self.tags!r} for {self.name!r}.")

    def load(self) -> Any:
        """Import the class; whatever its import raises comes through."""
        return _import_target(self.target)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One package's claim to a name: what its entry point says.

    Args:
        name: the entry point's name.
        value: "module:attribute" of the ComponentSpec.
        distribution: the package's name.
        version: the package's version.
        builtin: whether the package is the one that ships this registry.
        registered: the ComponentSpec itself, if `register` made the claim.
    """

    name: str
    value: str
    distribution: str
    version: str = ""
    builtin: bool = False
    registered: ComponentSpec | None = None

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}".strip()

    def load(self) -> Any:
        return self.registered or _import_target(self.value)


def installed_claims(group: str) -> Iterator[Claim]:
    """What the installed packages' entry points offer in this group.

    Of a package that is on `sys.path` twice, as after an editable install, only the first copy counts.
    """
    entries = metadata.entry_points()
    scripts = entries.select(group="console_scripts")
    home = {entry.dist.name for entry in scripts if entry.dist and entry.value.startswith("tfrs_registry.")}
    for entry in entries.select(group=group):
        if entry.dist is not None:
            yield Claim(
                name=entry.name,
                value=entry.value,
                distribution=entry.dist.name,
                version=entry.dist.version,
                builtin=entry.dist.name in home,
            )


def _import_target(target: str) -> Any:
    module, _, attributes = target.partition(":")
    value: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    return value


def find_target(target: str) -> Any:
    """What a target leads to if it is loaded already; imports nothing and runs no lazy export."""
    module, _, attributes = target.partition(":")
    value: Any = sys.modules.get(module)
    for attribute in attributes.split("."):
        value = getattr(value, "__dict__", {}).get(attribute)
    return value
