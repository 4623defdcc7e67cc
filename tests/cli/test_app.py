"""The app: its help and version, its other entry points, and what holds for all commands."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import nfm_tfrs
from nfm_tfrs.cli import app
from nfm_tfrs.cli.settings import option_of

PACKAGE = Path(nfm_tfrs.__file__).parent
COMMANDS = ("quickstart", "train", "tune", "evaluate", "predict", "drift", "describe")


def command_of(name):
    return typer.main.get_command(app).commands[name]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(done, option):
    output = done(option)
    for name in COMMANDS:
        assert name in output


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_command_has_help_whose_flags_stand_alone(done, name, option):
    output = done(name, option)
    assert "--help" in output
    assert "<bool>" not in output
    assert "BOOLEAN" not in output


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_is_described(name):
    command = command_of(name)
    assert command.help
    options = [parameter for parameter in command.params if parameter.name != "help"]
    assert options
    assert [option.name for option in options if not (option.help or "").endswith((".", "…"))] == []


def test_help_of_tune_shows_space_budget_schedule_and_finals(done):
    output = done("tune", "--help")
    for panel in (
        "What there is to search",
        "How long to search",
        "How trials are trained",
        "What becomes of the best",
    ):
        assert panel in output
    for name in ("blocks", "fixed", "trials", "minutes", "search", "passes", "finalists", "refit"):
        assert option_of(name) in output


def test_version_is_that_of_the_package(done):
    assert done("--version") == f"nfm-tfrs {nfm_tfrs.__version__}\n"


@pytest.mark.parametrize("module", ["nfm_tfrs", "nfm_tfrs.cli"])
def test_python_runs_the_package_as_the_command(module, tmp_path):
    command = [sys.executable, "-m", module]
    ran = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == f"nfm-tfrs {nfm_tfrs.__version__}\n"


def test_help_and_version_import_nothing_heavy(run_python):
    heavy = ("tensorflow", "tf_keras", "keras", "keras_tuner", "sklearn", "matplotlib", "pandas", "optuna", "plotly")
    run_python(
        "import sys\nfrom typer.testing import CliRunner\nfrom nfm_tfrs.cli import app\n"
        "for given in (['--version'], ['--help'], *([name, '--help'] for name in "
        f"{COMMANDS})):\n    assert CliRunner().invoke(app, given).exit_code == 0\n"
        f"assert sorted(set(sys.modules) & set({heavy})) == []"
    )


def lines_of_code(function, lines):
    """How many lines of a function hold code: no docstring, no comment, no empty line."""
    numbers = set(range(function.lineno, function.end_lineno + 1))
    if ast.get_docstring(function) is not None:
        numbers -= set(range(function.body[0].lineno, function.body[0].end_lineno + 1))
    return sum(lines[number - 1].strip()[:1] not in ("", "#") for number in numbers)


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_a_function_of_the_command_line_fits_a_screen_and_takes_few_arguments(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert lines_of_code(node, text.splitlines()) <= 60, node.name
            assert len(node.args.args + node.args.kwonlyargs) <= 14, node.name


def test_nothing_below_the_command_line_prints():
    printing = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent != PACKAGE / "cli":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = node.func if isinstance(node, ast.Call) else None
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if getattr(called, "id", "") == "print" or any(name.split(".")[0] == "rich" for name in names):
                    printing.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert printing == []
