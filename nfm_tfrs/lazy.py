"""Names that a package shows, each imported at its first use: to import the package loads nothing heavy."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


def show(package: str, homes: Mapping[str, Sequence[str]], *, packages: Sequence[str] = ()) -> None:
    """Lets a package show names of its submodules, each imported at its first use.

    A name that its submodule bears too (`prepare` of `prepare.py`) is what the submodule defines, whichever of the two
    is imported first; the submodule itself stays in `sys.modules`.

    Args:
        package: The package's `__name__`.
        homes: By module, the names that are shown of it.
        packages: Packages inside it that are shown as well.

    Example:
        >>> import nfm_tfrs.data.prepare
        >>> from nfm_tfrs.data import prepare
        >>> callable(prepare)
        True
    """
    shown = {name: home for home, names in homes.items() for name in names}
    module = sys.modules[package]
    vars(module).update(_homes=shown, _packages=tuple(packages), __all__=sorted([*shown, *packages]))
    module.__class__ = _Package


class _Package(ModuleType):
    """A package that imports what it shows when it is asked for it."""

    _homes: Mapping[str, str]
    _packages: Sequence[str]
    __all__: list[str]

    def __getattr__(self, name: str) -> Any:
        if name in self._packages:
            return import_module(f"{self.__name__}.{name}")
        if name not in self._homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(self._homes[name]), name)
        setattr(self, name, value)  # the next access is an ordinary one
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python makes each submodule that it imports an attribute: `prepare.py` would hide the function `prepare`.
        if isinstance(value, ModuleType) and self._homes.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})
