"""No name that another package keeps to itself is used outside `nfm_tfrs.keras_compat`."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import nfm_tfrs
from nfm_tfrs.keras_compat import keras, optimizer, private, search, tuner

ROOT = Path(nfm_tfrs.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent.name != "keras_compat")
PACKAGES = ("tensorflow", "keras", "tf_keras", "keras_tuner", "tensorflow_recommenders")
INSIDE = re.compile(r"\b(tensorflow\.python|tf\.python|(keras_tuner|tf_keras|keras)\.src)\b|\b__internal__\b")
SELF = ("self", "cls", "super()")
DOCUMENTED = {"_asdict", "_fields", "_replace", "_exit"}  # of named tuples, and of os


def is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_(?!_)\w+", name) is not None


def private_names(source: str) -> list[str]:
    """Each use of a name of another package that begins with an underscore or lies inside its own folders."""
    tree = ast.parse(source)
    return [f"{node.lineno}: {name}" for node in ast.walk(tree) for name in used(node) if name not in DOCUMENTED]


def used(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        if is_private(node.attr) and ast.unparse(node.value) not in SELF:  # of those, the classes are asked
            yield node.attr
        if INSIDE.search(ast.unparse(node)):
            yield ast.unparse(node)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if INSIDE.search(alias.name))
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if INSIDE.search(name) or is_private(name.rpartition(".")[2]))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
        text = ast.unparse(node.args[1]).lstrip("f").strip("'\"")
        if is_private(text) or text.startswith("_{"):
            yield text


def overridden(cls: type) -> set[str]:
    """The private names that a class of ours and a class of another package it is made from both use as their own."""
    foreign = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in PACKAGES]
    return own_names(cls) & {name for base in foreign for name in own_names(base)}


@functools.cache  # Keras' own classes are asked again and again
def own_names(cls: type) -> set[str]:
    """The private methods of a class, and what its methods use of `self`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):  # made by a program
        return {name for name in vars(cls) if is_private(name)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)]
    of_self = {node.attr for node in attributes if ast.unparse(node.value) in SELF}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return of_self | {node.name for node in functions if is_private(node.name)}


def our_classes() -> list[type]:
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(nfm_tfrs.__path__, "nfm_tfrs.")
        if ".keras_compat" not in module.name and "__main__" not in module.name
    ]
    found = [cls for module in modules for _, cls in inspect.getmembers(module, inspect.isclass)]
    return sorted({cls for cls in found if cls.__module__ in {module.__name__ for module in modules}}, key=str)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_uses_no_name_that_another_package_keeps_to_itself(path: Path) -> None:
    assert private_names(path.read_text(encoding="utf-8")) == []


def test_no_class_uses_a_name_that_the_class_it_is_made_from_keeps_to_itself() -> None:
    classes = our_classes()
    assert len(classes) > 50
    assert {cls.__qualname__: names for cls in classes if (names := overridden(cls))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "task._loss",
        "self.task._loss",
        "getattr(task, '_loss')",
        "getattr(task, f'_{kind}_metrics')",
        "import keras_tuner.src.protos",
        "from keras_tuner.src import protos",
        "from tensorflow.python.ops import control_flow_util",
        "from tensorflow import _private",
        "keras_tuner.src.engine.oracle.LOCKS",
        "tf.__internal__.tracking",
    ],
)
def test_the_search_finds_private_names(line: str) -> None:
    assert private_names(line) != []


def test_the_search_leaves_our_own_names() -> None:
    source = "self._loss, super()._losses(), parts._asdict(), os._exit(1), thing.__dict__, getattr(self, 'loss')"
    assert private_names(source) == []


def test_the_door_lists_every_private_name_that_it_uses() -> None:
    found = set()
    for path in (ROOT / "keras_compat").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                found.add(node.attr)
            if isinstance(node, ast.ClassDef):
                found |= {
                    item.name for item in node.body if isinstance(item, ast.FunctionDef) and is_private(item.name)
                }
    tables = (private, optimizer, tuner, search)
    listed = {name.rpartition(".")[2] for table in tables for name in table.PRIVATE_NAMES}
    assert len(found) > 30
    assert found - listed - {"__internal__"} == set()


class Metric(keras.metrics.MeanMetricWrapper):
    """A class that overrides what Keras keeps to itself, and reads it."""

    def _flatten_layers(self) -> object:
        return self._fn

    def _ours(self) -> None:
        """Keras has none of this name."""


def test_the_search_finds_names_that_a_class_takes_from_the_one_it_is_made_from() -> None:
    assert overridden(Metric) == {"_fn", "_flatten_layers"}
