"""The Markdown table of the blocks' times and memory, from benchmarks/results/blocks.json into README.md.

usage: python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "blocks.json"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- blocks:begin -->", "<!-- blocks:end -->"


def table(results: dict[str, Any]) -> str:
    """A row a block: parameters, and for each shape ms ours, DeepCTR's, their ratio, and peak MB ours / DeepCTR's."""
    shapes = list(next(iter(results["entries"].values()))["shapes"])
    headings = [heading for shape in shapes for heading in (f"{shape}: ms", "DeepCTR", "ratio", "MB / DeepCTR")]
    rows = [["block", "parameters", *headings], ["---"] + ["---:"] * (1 + len(headings))]
    for name, entry in results["entries"].items():
        measured = [entry["shapes"][shape] for shape in shapes]
        rows.append([name, _parameters(measured), *(cell for shape in measured for cell in _cells(shape))])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def caption(results: dict[str, Any]) -> str:
    """What the numbers depend on, and what they are."""
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    return (
        f"{results['machine']['cpu']}, {results['machine']['cores']} cores; {versions}; medians of {results['rounds']} "
        f"rounds, seed {results['seed']}; the ratio's 95 % interval in brackets; fields x dim; MB: what the steps add "
        "to the peak memory of a process.\n\n"
    )


def placed(text: str, rendered: str) -> str:
    """The text with what stands between its markers replaced.

    Raises:
        ValueError: There are no markers.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The text has no {BEGIN} followed by {END}. Add both, each on a line of its own.")
    return f"{head}{BEGIN}\n{rendered}{END}{tail}"


def _parameters(measured: list[dict[str, Any]]) -> str:
    """Once, or one a shape where they differ."""
    return " / ".join(dict.fromkeys(f"{shape['parameters']:,}" for shape in measured))


def _cells(measured: dict[str, Any]) -> list[str]:
    ours, theirs, ratio = measured["ours"], measured.get("deepctr"), measured.get("ratio")
    if theirs is None or ratio is None:
        return [_number(ours["milliseconds"]), "", "", str(ours["peak_megabytes"])]
    low, high = ratio["interval"]
    compared = f"{ratio['median']:.2f} [{low:.2f}, {high:.2f}]" + " slower" * (ratio["verdict"] == "slower")
    peaks = f"{ours['peak_megabytes']} / {theirs['peak_megabytes']}"
    return [_number(ours["milliseconds"]), _number(theirs["milliseconds"]), compared, peaks]


def _number(value: float) -> str:
    """Three digits, more only before the point: 0.512, 5.12, 51.2, 5,120."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


def main() -> None:
    results = json.loads(RESULTS.read_text())
    README.write_text(placed(README.read_text(), caption(results) + table(results)))


if __name__ == "__main__":
    main()
