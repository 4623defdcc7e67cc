"""Names that installed packages offer, their light specs, and the classes behind them."""

import difflib
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from tfrs_registry.discovery import NAME, Claim, ComponentSpec, find_target, installed_claims
from tfrs_registry.errors import (
    BrokenPluginError,
    NameClashError,
    PluginWarning,
    RegistryError,
    UnknownComponentError,
)


class Registry:
    """The components of one entry-point group, in three stages: names → specs → classes.

    Each stage is paid for only when asked for: names read metadata, a spec imports a light module,
    a class imports TensorFlow. A package that is broken is an error only when its own component is used.

    Args:
        group: the entry-point group, such as "tfrs_registry.models".
        discover: lists the claims of the installed packages to a group.
        before_load: called before any class is imported.
    """

    def __init__(
        self,
        group: str,
        *,
        discover: Callable[[str], Iterable[Claim]] = installed_claims,
        before_load: Callable[[], None] = lambda: None,
    ) -> None:
        self.group = group
        self.kind = group.rpartition(".")[2].removesuffix("s")
        self._discover = discover
        self._before_load = before_load
        self._installed: dict[str, list[Claim]] | None = None
        self._local: dict[str, Claim] = {}

    def names(self, pattern: str = "*", *, tags: Iterable[str] = ()) -> list[str]:
        """The names that match a glob pattern, sorted; without tags only metadata is read."""
        if tags:
            return [spec.name for spec in self.specs(pattern, tags=tags)]
        return [name for name in self._names(pattern) if self._well_formed(name)]

    def specs(self, pattern: str = "*", *, tags: Iterable[str] = ()) -> list[ComponentSpec]:
        """The specs whose name matches and that carry all the tags; broken plugins are warned about."""
        wanted = {tags} if isinstance(tags, str) else set(tags)
        found = []
        for name in self._names(pattern):
            try:
                spec = self.spec(name)
            except RegistryError as error:
                warnings.warn(f"Left out of the list: {error}", PluginWarning, stacklevel=2)
            else:
                if wanted <= set(spec.tags):
                    found.append(spec)
        return found

    def spec(self, name: str) -> ComponentSpec:
        """The spec of a name, without importing its class.

        Raises:
            UnknownComponentError: nobody offers the name.
            NameClashError: two packages do, and neither is built in.
            BrokenPluginError: the package that offers it cannot deliver it.
        """
        owner = self._owner(name)
        for claim in self._claims()[owner.name]:
            if owner.builtin and claim is not owner:
                warnings.warn(
                    f"{claim.provider} also offers the {self.kind} {owner.name!r}; "
                    f"the built-in one of {owner.provider} is used.",
                    PluginWarning,
                    stacklevel=2,
                )
        return self._read(owner)

    def load(self, name: str) -> Any:
        """The class of a name.

        Raises:
            RegistryError: as `spec` does.
            BrokenPluginError: the class cannot be imported.
        """
        spec = self.spec(name)
        self._before_load()
        try:
            component = spec.load()
        except (Exception, SystemExit) as error:  # a plugin may call sys.exit
            raise self._broken(self._owner(name), spec.target, error) from error
        if not callable(component):
            wrong = TypeError(f"expected a class, found {component!r}")
            raise self._broken(self._owner(name), spec.target, wrong) from wrong
        return component

    def create(self, name: str, /, **config: Any) -> Any:
        """An instance: `create("nfm", embedding_dim=64)`; what the constructor raises comes through."""
        return self.load(name)(**config)

    def provider(self, name: str) -> str:
        """Who offers a name: "nfm-tfrs 0.1.0", or "this process" if `register` did; imports nothing."""
        return self._owner(name).provider

    def name_of(self, component: Any) -> str | None:
        """The registered name of a class, or None; imports specs but no other class."""
        readable = {}
        for name in self._names("*"):
            try:
                readable[name] = self._read(self._owner(name)).target
            except RegistryError:
                continue
        here = f"{component.__module__}:{component.__qualname__}"
        for name, target in readable.items():
            if target == here:
                return name
        # The target may be another address of the class, such as its package's __init__.
        return next((name for name, target in readable.items() if find_target(target) is component), None)

    def register(self, spec: ComponentSpec) -> None:
        """Offer a component in this process only, as from a notebook.

        The same target may be registered again, so a cell can be run twice.

        Raises:
            NameClashError: the name is taken.
        """
        for claim in self._claims().get(spec.name, ()):
            if claim.registered is None or claim.value != spec.target:
                raise NameClashError(
                    f"The {self.kind} {spec.name!r} already belongs to {claim.provider} ({claim.value}); "
                    "choose another name."
                )
        self._local[spec.name] = Claim(name=spec.name, value=spec.target, distribution="this process", registered=spec)

    def refresh(self) -> None:
        """Look again at what is installed, after an install in this process; registrations stay."""
        importlib.invalidate_caches()
        self._installed = None

    def check(self) -> Iterator[tuple[str, RegistryError | None]]:
        """Load every component, even one that no list shows: each name, and what is wrong with it."""
        for name in self._names("*"):
            try:
                self.load(name)
            except RegistryError as error:
                yield name, error
            else:
                yield name, None

    def _claims(self) -> dict[str, list[Claim]]:
        if self._installed is None:
            self._installed = {}
            for claim in self._discover(self.group):
                self._installed.setdefault(_fold(claim.name), []).append(claim)
        claims = {name: list(rivals) for name, rivals in self._installed.items()}
        for name, claim in self._local.items():
            claims.setdefault(name, []).append(claim)
        return claims

    def _names(self, pattern: str) -> list[str]:
        patterns = {pattern.lower(), _fold(pattern)}  # the first keeps the "-" of [a-m]
        return sorted(n for n in self._claims() if any(fnmatchcase(n, p) for p in patterns))

    def _well_formed(self, name: str) -> list[Claim]:
        return [claim for claim in self._claims()[name] if NAME.fullmatch(claim.name)]

    def _owner(self, name: str) -> Claim:
        key = _fold(str(name))
        if key not in self._claims():
            raise unknown_component(self.kind, name, self.names())
        rivals = self._well_formed(key)
        if not rivals:
            claim = self._claims()[key][0]
            raise BrokenPluginError(
                f"{claim.provider} calls a {self.kind} {claim.name!r}, but a name matches [a-z][a-z0-9_]*; "
                "ask its authors to rename it."
            )
        rivals = [claim for claim in rivals if claim.builtin] or rivals
        if len(rivals) > 1:
            providers = " and ".join(sorted(claim.provider for claim in rivals))
            raise NameClashError(f"The {self.kind} {key!r} is offered by {providers}; remove all but one of them.")
        return rivals[0]

    def _read(self, claim: Claim) -> ComponentSpec:
        try:
            spec = claim.load()
        except (Exception, SystemExit) as error:  # a plugin may call sys.exit
            raise self._broken(claim, claim.value, error) from error
        if not isinstance(spec, ComponentSpec):
            wrong: Exception = TypeError(f"expected a ComponentSpec, found {type(spec).__name__}")
            raise self._broken(claim, claim.value, wrong) from wrong
        if spec.name != claim.name:
            wrong = ValueError(f"the spec is named {spec.name!r}")
            raise self._broken(claim, claim.value, wrong) from wrong
        return spec

    def _broken(self, claim: Claim, address: str, error: BaseException) -> BrokenPluginError:
        reason = (str(error).splitlines() or ["no message"])[0].rstrip(".")
        return BrokenPluginError(
            f"The {self.kind} {claim.name!r} of {claim.provider} cannot be loaded from {address!r}: "
            f"{type(error).__name__}: {reason}. Repair or remove {claim.distribution}."
        )


def unknown_component(kind: str, name: object, known: list[str]) -> UnknownComponentError:
    """The error for a name that nobody offers, with the nearest known one."""
    near = difflib.get_close_matches(_fold(str(name)[:60]), known, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownComponentError(f"Unknown {kind} {name!r:.60}.{guess} Known: {', '.join(known) or 'none'}.")


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
