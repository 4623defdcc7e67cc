"""What packages show lazily: the same for type checkers as at run time, never shadowed, and light to import."""

import ast
import copy
import pickle
import sys
from importlib import import_module
from pathlib import Path

import pytest

import nfm_tfrs
from tfrs_registry import blocks, models

ROOT = Path(nfm_tfrs.__file__).parent
HEAVY = {"tensorflow", "tf_keras", "keras", "keras_tuner", "numpy", "pyarrow", "matplotlib", "typer", "rich"}


def trees():
    """The source of each package that shows names lazily, by its name."""
    for path in sorted(ROOT.rglob("__init__.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy.show" for node in ast.walk(tree)):
            yield ".".join([ROOT.name, *path.parent.relative_to(ROOT).parts]), tree


TREES = dict(trees())


def shown(package):
    """The module of each name that a package shows."""
    return dict(vars(import_module(package))["_homes"])


def shadowable():
    """Each package with what it shows of a name that one of its files has as well."""
    for package in TREES:
        folder = ROOT.joinpath(*package.split(".")[1:])
        inside = {path.stem for path in folder.iterdir()}
        packages = vars(import_module(package))["_packages"]
        yield from ((package, name, home) for name, home in shown(package).items() if name in inside - packages)


@pytest.mark.parametrize("package", TREES)
def test_type_checkers_see_what_is_shown(package: str) -> None:
    (checked,) = (n for n in TREES[package].body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = {}
    for node in checked.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # else it is no re-export
            inside = node.module == package
            seen[alias.name] = f"{package}.{alias.name}" if inside else node.module
    assert seen == shown(package)


@pytest.mark.parametrize("package", TREES)
def test_a_package_is_pickled_and_copied_by_its_name(package: str) -> None:
    module = import_module(package)
    assert pickle.loads(pickle.dumps(module)) is module
    assert copy.deepcopy(module) is module


@pytest.mark.parametrize("package", TREES)
def test_every_name_that_is_shown_is_there_and_listed(package: str) -> None:
    module = import_module(package)
    for name in shown(package):
        assert getattr(module, name) is not None
    assert set(shown(package)) == set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize(("registry", "package"), [(models, "nfm_tfrs.models"), (blocks, "nfm_tfrs.blocks")])
def test_the_class_of_every_registered_name_is_shown(registry, package: str) -> None:
    ours = [name for name in registry.names() if registry.provider(name).startswith("nfm-tfrs ")]
    classes = {registry.load(name) for name in ours}
    assert len(classes) == len(ours)
    assert {getattr(import_module(package), cls.__name__) for cls in classes} == classes


def test_importing_every_package_imports_nothing_heavy(run_python) -> None:
    lines = [f"import {package}; dir({package})" for package in TREES]
    done = run_python("\n".join(["import sys", *lines, "print(*sys.modules)"]))
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


def test_the_packages_are_attributes_without_an_import_of_their_own(run_python) -> None:
    names = ("blocks", "data", "features", "metrics", "models", "training", "tuning")
    done = run_python(f"import nfm_tfrs; print(*(getattr(nfm_tfrs, name).__name__ for name in {names}))")
    assert done.stdout.split() == [f"nfm_tfrs.{name}" for name in names]


SUBMODULE_FIRST = "import_module(f'{package}.{name}'); check(); import_module(home); check()"
NAME_FIRST = "check(); import_module(f'{package}.{name}'); check()"


@pytest.mark.slow
@pytest.mark.parametrize("order", [SUBMODULE_FIRST, NAME_FIRST], ids=["submodule", "name"])
def test_no_name_that_is_shown_is_shadowed_by_its_file(run_python, order: str) -> None:
    found = list(shadowable())
    assert {("nfm_tfrs.data", "prepare"), ("nfm_tfrs.tuning", "search")} <= {
        (package, name) for package, name, _ in found
    }
    script = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for package, name, home in {found}:\n"
        "    def check():\n"
        "        shown = getattr(import_module(package), name)\n"
        "        assert shown is getattr(sys.modules[home], name), (package, name)\n"
        "        assert shown is not sys.modules.get(f'{package}.{name}'), (package, name)\n"
        f"    {order}\n"
    )
    run_python(script)


# --- of a package made for it


@pytest.fixture
def make_package(tmp_path, monkeypatch):
    """Make a package `toy` that shows `thing` of this module, and has a file of that name."""

    def make(home: str, show: str = ""):
        folder = tmp_path / "toy"
        folder.mkdir()
        show = show or f"lazy.show(__name__, {{'toy.{home}': ('thing',)}})"
        (folder / "__init__.py").write_text(f"from nfm_tfrs import lazy\n{show}\n")
        for module in ("thing", "other"):
            (folder / f"{module}.py").write_text(f"thing = 'the thing of {module}'\n")
        monkeypatch.syspath_prepend(tmp_path)
        return import_module("toy")

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


@pytest.mark.parametrize("home", ["thing", "other"])
@pytest.mark.parametrize("first", ["submodule", "name"])
def test_a_file_of_a_shown_name_never_takes_its_place(make_package, home: str, first: str) -> None:
    toy = make_package(home)
    if first == "name":
        assert toy.thing == f"the thing of {home}"
    assert import_module("toy.thing").thing == "the thing of thing"
    assert toy.thing == f"the thing of {home}"
    assert toy.thing == f"the thing of {home}"


def test_a_name_is_an_ordinary_attribute_after_its_first_use(make_package) -> None:
    toy = make_package("other")
    assert "thing" not in vars(toy)
    assert "toy.other" not in sys.modules
    assert toy.thing == vars(toy)["thing"]
    toy.thing = "another"  # as a test that patches it
    assert toy.thing == "another"
    assert "_homes" not in dir(toy)


def test_a_name_that_is_not_shown_is_an_attribute_error(make_package) -> None:
    with pytest.raises(AttributeError, match=r"^module 'toy' has no attribute 'nothing'$"):
        make_package("other").nothing  # noqa: B018


@pytest.mark.parametrize(
    ("show", "kind", "message"),
    [
        (
            "lazy.show(__name__, {'toy.other': ('thing')})",
            TypeError,
            "toy shows a tuple of names of toy.other; received 'thing'. Put a comma behind it.",
        ),
        (
            "lazy.show(__name__, {'toy.other': ('thing',), 'toy.thing': ('thing',)})",
            ValueError,
            "toy shows 'thing' of both toy.other and toy.thing. Remove one of them.",
        ),
    ],
)
def test_names_that_cannot_be_shown_are_refused(make_package, show: str, kind, message: str) -> None:
    with pytest.raises(kind) as caught:
        make_package("other", show)
    assert str(caught.value) == message
