"""Starts a benchmark: `python benchmarks NAME [OPTION ...]`, or without a name lists them.

Python puts this folder on the path of what it starts, so that every benchmark finds `lib` and the other rooms.
"""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOMS = ("speed", "quality", "memory", "trust")


def benchmarks() -> dict[str, Path]:
    """The file of each benchmark by its name, room by room."""
    files = [path for room in ROOMS for path in sorted((HERE / room).glob("*.py"))]
    return {path.stem: path for path in files if path.stem != "__init__"}


def listing() -> str:
    """A line a benchmark: its name and the sentence at the top of its file."""
    found = {name: ast.get_docstring(ast.parse(path.read_text())) for name, path in benchmarks().items()}
    return "".join(f"{name:14} {docstring.splitlines()[0]}\n" for name, docstring in found.items())


def main() -> None:
    if len(sys.argv) < 2:
        print(listing(), end="")
        return
    known, name = benchmarks(), sys.argv.pop(1)
    if name not in known:
        sys.exit(f"There is no benchmark {name!r}. Take one of {', '.join(known)}.")
    sys.path[0] = str(HERE)  # absolute: a benchmark may go to another folder
    runpy.run_module(f"{known[name].parent.name}.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
