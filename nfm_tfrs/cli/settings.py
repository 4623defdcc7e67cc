"""Options of a command from the fields of settings: a command takes frozen dataclasses, a person their fields."""

import ast
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import typer

_NAMES = {
    "trials": "--max-trials",
    "precisions": "--precision",
    "fixed": "--set",
    "from_run": "--from",
    "histories": "--history",
}
_JSON_WORDS = {"true": "True", "false": "False", "null": "None"}  # what --set takes beside Python's own
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+?)(?=^ {4}\w+: |\Z)", re.MULTILINE | re.DOTALL)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with one option for each field of the settings that it takes.

    Each parameter whose type is a dataclass is replaced by options named, typed, defaulted and described as the
    dataclass's fields, and shown together under the first line of its docstring; what a person gives is made such an
    object again. Other parameters stay.

    Args:
        command: A function whose parameters are settings or Typer's own.
    """
    hints = get_type_hints(command, include_extras=True)
    settings = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in settings:
            parameters += _options(settings[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY))
    # Typer shows what is required first, and Python wants it so.
    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)

    @functools.wraps(command)
    def told(**given: Any) -> None:
        made: dict[str, Any] = {}
        for name, kind in settings.items():
            hints = get_type_hints(kind)
            values = {field.name: _read(field, hints[field.name], given.pop(field.name)) for field in fields(kind)}
            made[name] = cast(Callable[..., Any], kind)(
                **{field: value for field, value in values.items() if value is not MISSING}
            )
        command(**made, **given)

    told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    told.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return told


def arguments_of(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Returns what `NAME=VALUE` says, by name; a value is JSON, Python's, or a bare word.

    Args:
        settings: What was given.
        option: The option that it was given to.

    Raises:
        ValueError: There is no `=`.

    Example:
        >>> arguments_of(["embedding_dim=32", "batch_norm=true", "activation=relu"])
        {'embedding_dim': 32, 'batch_norm': True, 'activation': 'relu'}
    """
    found = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"{option} takes NAME=VALUE; received {setting!r}.")
        try:
            found[name] = ast.literal_eval(_JSON_WORDS.get(value, value))
        except (ValueError, SyntaxError):
            found[name] = value  # a bare word is a string
    return found


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names that a text lists, separated by commas."""
    return tuple(name.strip() for name in text.split(","))


def option_of(field: str) -> str:
    """Returns the option by which a person gives a field."""
    return _NAMES.get(field, f"--{field.replace('_', '-')}")


def descriptions(cls: type) -> dict[str, str]:
    """Returns what the docstring of a dataclass says about each of its fields, in one line each."""
    listed = inspect.getdoc(cls) or ""
    listed = listed.partition("Args:\n")[2].partition("\n\n")[0] + "\n"
    return {name: " ".join(text.replace("`", "").split()) for name, text in _ARGUMENT.findall(listed)}


def _options(cls: Any) -> list[inspect.Parameter]:
    hints, texts = get_type_hints(cls), descriptions(cls)
    panel = (inspect.getdoc(cls) or "").partition("\n")[0].removesuffix(".")
    return [_option(field, hints[field.name], texts[field.name], panel) for field in fields(cls)]


def _option(field: Field, hint: Any, text: str, panel: str) -> inspect.Parameter:
    kind, default = _typed(hint), _default(field)
    required = default is inspect.Parameter.empty
    shown = None if required or default is None or kind is bool else default
    named = option_of(field.name)
    option = typer.Option(
        f"{named}/--no-{named[2:]}" if default is True else named,
        help=text,
        show_default=shown is not None,
        rich_help_panel=panel or None,
    )
    annotation = Annotated[(kind if required or default is not None else kind | None), option]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(field: Field) -> Any:
    """A field's default as a person would give it; a list's and a dict's, which are empty, as None."""
    if field.default_factory is not MISSING:
        return None
    if field.default is MISSING:
        return inspect.Parameter.empty
    return ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default


def _bare(hint: Any) -> Any:
    """A type without `| None`."""
    return next((part for part in get_args(hint) if type(None) in get_args(hint) and part is not type(None)), hint)


def _typed(hint: Any) -> Any:
    """What Typer is to read for a field of this type."""
    kind = _bare(hint)
    if kind in (bool, int, float, Path) or get_origin(kind) is list:
        return kind
    # NAME=VALUE, repeated; or a name, one of several words, or names separated by commas.
    return list[str] if get_origin(kind) is Mapping else str


def _read(field: Field, hint: Any, given: Any) -> Any:
    """What a person gave as the field has it; MISSING leaves its default."""
    kind = _bare(hint)
    if given is None or given == []:
        return MISSING if _default(field) is not inspect.Parameter.empty else given
    if get_origin(kind) is Mapping:
        return arguments_of(given, option_of(field.name))
    if given == "":
        raise ValueError(f"{option_of(field.name)} is empty. Give a value, or leave it out.")
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        try:
            return tuple(of(name) for name in names_in(given))
        except ValueError as error:
            raise ValueError(
                f"{option_of(field.name)} takes {of.__name__} values, separated by commas; received {given!r}."
            ) from error
    return given
