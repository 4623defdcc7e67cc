"""The command `tfrs-registry`: list, show and check what is installed."""

import argparse
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import NoReturn

from tfrs_registry import blocks, models
from tfrs_registry.errors import BrokenPluginError, LegacyKerasError, PluginWarning, RegistryError
from tfrs_registry.registry import Registry, unknown_component


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 if `check` found a fault, 2 for an error."""
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings(record=True) as caught:
        try:
            status: int = options.run(options)
            sys.stdout.flush()
        except (RegistryError, LegacyKerasError) as error:
            print(f"tfrs-registry: {error}", file=sys.stderr)
            status = 2
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
    for message in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, PluginWarning)):
        print(f"tfrs-registry: warning: {message}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tfrs-registry: {message}\n")  # one line, without the usage


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tfrs-registry", description="The models and interaction blocks that are installed.")
    commands = parser.add_subparsers(required=True, metavar="list | show | check")

    command = commands.add_parser("list", help="list names, the packages that offer them, and their papers")
    command.add_argument("pattern", nargs="?", default="*", help="a glob pattern, such as '*nfm*'")
    command.add_argument("--tag", action="append", default=[], help="only those with this tag; repeatable")
    kind = command.add_mutually_exclusive_group()
    both = (models, blocks)
    kind.add_argument("--models", dest="registries", action="store_const", const=(models,), default=both)
    kind.add_argument("--blocks", dest="registries", action="store_const", const=(blocks,), default=both)
    command.set_defaults(run=_list)

    command = commands.add_parser("show", help="show one component, without importing it")
    command.add_argument("name")
    command.add_argument("--arguments", action="store_true", help="import the class, and show its arguments too")
    command.set_defaults(run=_show)

    command = commands.add_parser("check", help="import every component; exit status 1 if one is broken")
    command.set_defaults(run=_check)
    return parser


def _list(options: argparse.Namespace) -> int:
    # Cut where a terminal's line ends; a file's lines stay whole.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for registry in options.registries:
        for name in registry.names(options.pattern, tags=options.tag):
            line = f"{registry.kind:<6} {name:<23} {_described(registry, name)}".rstrip()
            print(line if width is None or len(line) <= width else f"{line[: width - 1]}…")
    return 0


def _show(options: argparse.Namespace) -> int:
    found = [registry for registry in (models, blocks) if registry.names(options.name)]
    if not found:
        raise unknown_component("model or block", options.name, sorted({*models.names(), *blocks.names()}))
    # All before the first line is printed: one of them may be broken.
    for line in [line for registry in found for line in _shown(registry, options.name, options.arguments)]:
        print(line)
    return 0


def _shown(registry: Registry, name: str, arguments: bool) -> list[str]:
    """What the spec says and, if asked for, the class's arguments, which imports it."""
    spec = registry.spec(name)
    lines = [f"{registry.kind} {spec.name}: {spec.summary}"]
    lines += [f"  class    {spec.target}", f"  from     {registry.provider(spec.name)}"]
    for label, text in (("formula", spec.formula), ("tags", ", ".join(spec.tags)), ("paper", spec.paper)):
        lines += [f"  {label:<7}  {text}"] if text else []
    return lines + (_arguments(registry, spec.name) if arguments else [])


def _arguments(registry: Registry, name: str) -> list[str]:
    """A line for each argument of the constructor, with its default if it has one."""
    component = registry.load(name)
    try:
        parameters = signature(component).parameters.values()
    except (TypeError, ValueError) as error:
        raise BrokenPluginError(
            f"The {registry.kind} {name!r} of {registry.provider(name)} does not tell its arguments: {error}. "
            "Ask its authors for a constructor with a signature."
        ) from error
    lines = [str(parameter.replace(annotation=Parameter.empty)) for parameter in parameters]
    return ["  arguments", *(f"    {line.replace('=', ' = ', 1)}" for line in lines)]


def _check(options: argparse.Namespace) -> int:
    faults = 0
    for registry in (models, blocks):
        for name, error in registry.check():
            faults += error is not None
            print(f"{registry.kind:<6} {name:<23} {'ok' if error is None else f'broken: {error}'}")
    return 1 if faults else 0


def _described(registry: Registry, name: str) -> str:
    """Who offers a component, and its paper."""
    try:
        return f"{registry.provider(name):<23} {registry.spec(name).paper}"
    except RegistryError as error:
        return f"broken: {error}"


if __name__ == "__main__":
    sys.exit(main())
