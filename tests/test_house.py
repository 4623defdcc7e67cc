"""How the package is built: sizes of functions, keys of dicts, the direction of imports, and who prints."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import nfm_tfrs
import tfrs_registry

ROOTS = [Path(package.__file__).parent for package in (nfm_tfrs, tfrs_registry)]
FILES = {
    ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for root in ROOTS
    for path in sorted(root.rglob("*.py"))
}
MOST_LINES, MOST_ARGUMENTS = 60, 14
MOST_SUBSCRIPTS = 60  # by a string, in all the package: what travels has a type, not keys
CONSTRUCTORS = {("nfm_tfrs.models.ranking", "__init__")}  # of a Keras model, with an argument for each attribute
# From the ground up: a room imports from those before it.
ROOMS = [
    {
        "lazy",
        "full_disk",
        "trust",
        "versions",
        "platform_calls",
        "arguments",
        "specs",
        "target",
        "written",
        "configuration",
        "evidence",
    },
    {"keras_compat"},
    {"features", "metrics", "precision"},
    {"blocks", "migration", "data"},
    {"embedding"},  # whose attention normalises and multiplies as blocks do
    {"optimizers"},
    {"models"},
    {"runs"},
    {"training", "testing", "report"},
    {"tuning", "serving"},
    {"cli"},
]
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def too_large(source: str) -> list[str]:
    """The functions of too many lines of code, docstrings and comments not counted, or of too many arguments."""
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in LAYOUT
        for line in range(token.start[0], token.end[0] + 1)
    }
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        first = node.body[0]
        said = set(range(first.lineno, (first.end_lineno or 0) + 1)) if ast.get_docstring(node) else set()
        lines = len((code - said) & set(range(node.lineno, (node.end_lineno or 0) + 1)))
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        many = len(arguments) - (arguments[:1] in (["self"], ["cls"])) > MOST_ARGUMENTS
        if lines > MOST_LINES or many:
            found.append(f"{node.name}: {lines} lines, {len(arguments)} arguments")
    return found


def imports(source: str) -> Iterator[str]:
    """The modules that are imported with a module itself: neither for type checkers nor inside functions."""

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name if name in FILES else node.module for name in inside)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                yield from walk(node.orelse)
            elif not isinstance(node, ast.FunctionDef):
                for field in ("body", "orelse", "finalbody"):
                    yield from walk(getattr(node, field, []))

    yield from walk(ast.parse(source).body)


IMPORTS = {module: {name for name in imports(path.read_text()) if name in FILES} for module, path in FILES.items()}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", FILES)
def test_functions_fit_a_screen(module: str) -> None:
    found = [one for one in too_large(FILES[module].read_text()) if (module, one.partition(":")[0]) not in CONSTRUCTORS]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "def long():\n" + "    pass\n" * MOST_LINES,
        f"def many({', '.join(f'a{n}' for n in range(MOST_ARGUMENTS + 1))}): pass",
    ],
)
def test_large_functions_are_found(source: str) -> None:
    assert len(too_large(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'def told():\n    """Says.\n' + "    More.\n" * MOST_LINES + '    """\n',
        "def empty():\n" + "    # Why.\n\n" * MOST_LINES + "    pass\n",
        f"class A:\n    def many(self, {', '.join(f'a{n}' for n in range(MOST_ARGUMENTS))}): pass",
    ],
)
def test_docstrings_comments_and_self_do_not_count(source: str) -> None:
    assert too_large(source) == []


def subscripts(source: str) -> list[str]:
    """The strings that anything is subscripted by, but for types, and for what `from_json` reads."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef) and child.name == "from_json":
                continue
            if isinstance(child, ast.Subscript) and isinstance(child.slice, ast.Constant):
                of_a_type = isinstance(child.value, ast.Name) and child.value.id[:1].isupper()
                if isinstance(child.slice.value, str) and not of_a_type:
                    yield child.slice.value
            yield from walk(child)

    return list(walk(ast.parse(source)))


def test_few_dicts_are_read_by_strings() -> None:
    assert sum(len(subscripts(path.read_text())) for path in FILES.values()) < MOST_SUBSCRIPTS


def test_subscripts_by_strings_are_found_but_for_types_and_from_json() -> None:
    source = (
        'def read(found: Iterable["Table"]):\n    return found["name"][0]["kind"]\n'
        'def from_json(written):\n    return written["label"]\n'
    )

    assert sorted(subscripts(source)) == ["kind", "name"]


@pytest.mark.parametrize(
    "module", [module for module in FILES if module.startswith("nfm_tfrs.") and room_of(module) in LEVELS]
)
def test_rooms_import_from_the_rooms_below(module: str) -> None:
    room = room_of(module)
    others = {room_of(name) for name in IMPORTS[module] if name.startswith("nfm_tfrs.")} - {room, ""}

    assert {other for other in others if LEVELS[other] >= max(LEVELS[room], 1)} == set()


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module) for module in FILES if module.startswith("nfm_tfrs.")} - {"__main__"}

    assert rooms == set(LEVELS)


def test_no_imports_go_in_a_circle() -> None:
    left = {module: set(names) for module, names in IMPORTS.items()}
    while free := {module for module, names in left.items() if not names}:
        left = {module: names - free for module, names in left.items() if module not in free}

    assert left == {}


def test_imports_are_found_but_for_those_of_functions_and_type_checkers() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "from nfm_tfrs.data import split\n"
        "from nfm_tfrs.target import Target\n"
        "if TYPE_CHECKING:\n    from nfm_tfrs.models import nfm\n"
        "def inside():\n    import nfm_tfrs.evidence\n"
        "try:\n    import nfm_tfrs.lazy\nexcept ImportError:\n    pass\n"
    )

    assert list(imports(source)) == ["typing", "nfm_tfrs.data.split", "nfm_tfrs.target", "nfm_tfrs.lazy"]


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("nfm_tfrs.") and room_of(name) != "cli"])
def test_nothing_below_the_command_line_prints(module: str) -> None:
    called = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(FILES[module].read_text())) if isinstance(node, ast.Call)
    }

    assert "print" not in called
