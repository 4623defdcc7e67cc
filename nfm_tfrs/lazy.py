"""Names that a package shows, each imported at its first use: to import the package loads nothing heavy."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


def show(package: str, homes: Mapping[str, Sequence[str]], *, packages: Sequence[str] = ()) -> None:
    """Lets a package show names of other modules, each imported at its first use.

    The package imports the same names under `TYPE_CHECKING`, as `from home import name as name`, for type checkers and
    editors, which read no calls. A test holds the two equal.

    A name that a submodule bears too (`prepare` of `prepare.py`) is always what is shown, whichever of the two is
    imported first. `importlib.import_module` gives the submodule itself; `import nfm_tfrs.data.prepare as name` gives
    what is shown.

    Args:
        package: The package's `__name__`.
        homes: By module, the names that are shown of it.
        packages: Packages inside it that are shown as well.

    Raises:
        TypeError: The names of a module are one string, as where a comma is missing.
        ValueError: A name is shown twice.

    Example:
        >>> import nfm_tfrs.data.prepare
        >>> from nfm_tfrs.data import prepare
        >>> callable(prepare)
        True
    """
    found = {name: f"{package}.{name}" for name in packages}
    for home, names in homes.items():
        if isinstance(names, str):
            raise TypeError(f"{package} shows a tuple of names of {home}; received {names!r}. Put a comma behind it.")
        for name in names:
            if name in found:
                raise ValueError(f"{package} shows {name!r} of both {found[name]} and {home}. Remove one of them.")
            found[name] = home
    module = sys.modules[package]
    module.__dict__.update(_homes=found, _packages=frozenset(packages), __all__=sorted(found))
    module.__class__ = _Package


class _Package(ModuleType):
    """A package that imports what it shows when it is asked for it."""

    _homes: Mapping[str, str]
    _packages: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__["_homes"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        home = import_module(self._homes[name])
        value = home if name in self._packages else getattr(home, name)
        setattr(self, name, value)  # the next access is an ordinary one
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python makes each submodule that it imports an attribute, whenever that is: `prepare.py` would hide the
        # function `prepare`. Left out, the name is found by `__getattr__`.
        shown = name in self._homes and name not in self._packages
        if shown and value is sys.modules.get(f"{self.__name__}.{name}"):
            return
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle, which sends functions to other processes, knows modules by their exact class.
        return import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._homes} - {"_homes", "_packages"})
