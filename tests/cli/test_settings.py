"""Options of a command from the fields of settings."""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from nfm_tfrs.cli.options import Rows
from nfm_tfrs.cli.settings import arguments_of, descriptions, names_in, option_of, with_options
from nfm_tfrs.cli.train import RecipeOptions
from nfm_tfrs.tuning.settings import Budget, Finals, Schedule, Space


@dataclass(frozen=True, kw_only=True)
class Oven:
    """How to bake.

    Args:
        dish: What is in the
            `oven`, in one line.
        degrees: Heat.
        minutes: Time; until it is done if not given.
        shelves: Where it stands.
        racks: Which racks are in.
        fan: Whether the air moves.
        book: The recipe.
        set: Anything else.
        guests: Who eats.
    """

    dish: str
    degrees: int = 180
    minutes: float | None = None
    shelves: tuple[int, ...] = (2, 3)
    racks: tuple[str, ...] | None = None
    fan: bool = False
    book: Path | None = None
    set: Mapping[str, object] = field(default_factory=dict)
    guests: list[str] = field(default_factory=list)


def told(*given):
    """What a command is given, and what it prints for --help."""
    found = {}

    def bake(oven: Oven, cook: Annotated[str, typer.Option(help="Who bakes.")] = "me") -> None:
        """Bake."""
        found.update(oven=oven, cook=cook)

    app = typer.Typer()
    app.command()(with_options(bake))
    result = CliRunner().invoke(app, list(given))
    return found, result


def test_a_command_is_given_the_object_that_options_make():
    given = ("--degrees", "200", "--minutes", "1.5", "--shelves", "1, 4", "--racks", "top,bottom", "--fan")
    more = ("--book", "b.txt", "--set", "salt=2", "--set", "hot=true", "--guests", "ann", "--guests", "bo")
    found, result = told("--dish", "pie", *given, *more, "--cook", "you")
    assert result.exit_code == 0, result.output
    assert found["cook"] == "you"
    assert found["oven"] == Oven(
        dish="pie",
        degrees=200,
        minutes=1.5,
        shelves=(1, 4),
        racks=("top", "bottom"),
        fan=True,
        book=Path("b.txt"),
        set={"salt": 2, "hot": True},
        guests=["ann", "bo"],
    )


def test_options_that_are_not_given_leave_the_defaults():
    found, _ = told("--dish", "pie")
    assert found == {"oven": Oven(dish="pie"), "cook": "me"}


def test_a_field_without_a_default_is_asked_for():
    found, result = told("--degrees", "200")
    assert result.exit_code == 2
    assert "--dish" in result.stderr
    assert found == {}


def test_help_shows_fields_under_the_first_line_of_their_settings():
    _, result = told("--help")
    said = " ".join(result.output.replace("│", " ").split())
    assert "How to bake" in said
    assert "What is in the oven, in one line." in said
    assert "[default: 2,3]" in said


@pytest.mark.parametrize("settings", [Rows, RecipeOptions, Space, Budget, Schedule, Finals])
def test_each_field_of_each_setting_is_described_and_becomes_an_option(settings):
    described = descriptions(settings)
    assert set(described) == {entry.name for entry in fields(settings)}
    assert all(text.endswith(".") for text in described.values())


def test_no_two_settings_of_a_command_have_one_option():
    for together in ((Rows, RecipeOptions), (Rows, Space, Budget, Schedule, Finals)):
        options = [option_of(entry.name) for settings in together for entry in fields(settings)]
        assert len(options) == len(set(options))


def test_what_is_required_comes_first():
    def bake(oven: Oven, cook: str) -> None:
        """Bake."""

    parameters = list(inspect.signature(with_options(bake)).parameters.values())
    required = [parameter.default is parameter.empty for parameter in parameters]
    assert required == sorted(required, reverse=True)
    assert next(entry for entry in fields(Oven) if entry.name == "dish").default is MISSING


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("relu", "relu"),
        ("'32'", "32"),
        ("[16,8]", [16, 8]),
        ("{'name': 'cross'}", {"name": "cross"}),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_value_is_json_pythons_or_a_word(text, value):
    found = arguments_of([f"name={text}"])["name"]
    assert found == value
    assert type(found) is type(value)


def test_an_argument_without_a_value_is_refused():
    with pytest.raises(ValueError, match="--set takes NAME=VALUE; received 'embedding_dim'"):
        arguments_of(["embedding_dim"])


def test_names_are_separated_by_commas_and_spaces_beside_them_are_no_part():
    assert names_in("user, film ,price") == ("user", "film", "price")


@pytest.mark.parametrize(
    ("name", "option"),
    [("trials", "--max-trials"), ("precisions", "--precision"), ("fixed", "--set"), ("batch_sizes", "--batch-sizes")],
)
def test_some_fields_have_the_options_that_they_always_had(name, option):
    assert option_of(name) == option
