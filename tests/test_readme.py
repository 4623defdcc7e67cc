"""The README and the pages in docs/ do what they say: their Python runs, and what they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
README, MEASURED = PAGES["README.md"], PAGES["docs/measured.md"]
BLOCKS = {
    f"{page}-{number}": block
    for page, text in sorted(PAGES.items())
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}


@pytest.mark.parametrize("name", BLOCKS)
def test_python_block_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[name], name, "exec"), {"__name__": "page"})


def used(start):
    """What stands behind the start of a command, on every page, with continued lines joined."""
    return [words for text in PAGES.values() for words in re.findall(rf"{start}([^`\n;]*)", text.replace("\\\n", " "))]


def test_every_option_in_a_command_exists():
    import typer.main

    from nfm_tfrs.cli import app

    commands = typer.main.get_command(app).commands
    shown = [words.split() for words in used("nfm-tfrs ") if words[:1].islower()]
    assert {words[0] for words in shown} == {
        "quickstart",
        "describe",
        "train",
        "tune",
        "evaluate",
        "predict",
        "export",
        "drift",
    }
    for command, *words in shown:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_every_benchmark_that_is_named_exists_and_has_the_options_shown():
    shared = (ROOT / "benchmarks" / "lib" / "reports.py").read_text()
    shown = [words.split() for words in used("python benchmarks ") if not words.startswith("NAME")]
    assert {"blocks", "movielens", "stream_memory"} <= {words[0] for words in shown}
    for name, *words in shown:
        (script,) = ROOT.glob(f"benchmarks/*/{name}.py")
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in script.read_text() + shared
    for path in re.findall(r"benchmarks/[\w/]+\.\w+", "".join(PAGES.values())):
        assert (ROOT / path).exists(), path


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        name, _, heading = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if heading:
            assert heading in map(anchor, re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)), target


def test_every_page_is_linked_from_the_readme():
    assert {page for page in PAGES if page not in README} == {"README.md"}


def test_every_figure_in_the_readme_was_measured():
    section = README.partition("## Measured\n")[2].partition("\n## ")[0]
    figures = re.findall(r"\d+\.\d+", section)
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in MEASURED] == []


def test_no_other_line_of_the_readme_runs_the_tests_before_the_command():
    first = next(line for line in README.splitlines() if "pytest" in line)  # what .ci/run takes
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q '.[dev]' && .venv/bin/pytest"


def test_the_glossary_says_each_word_once():
    words = re.findall(r"^- \*\*(.+?)\*\*: .+[.]$", PAGES["docs/glossary.md"], re.MULTILINE)
    lines = [line for line in PAGES["docs/glossary.md"].splitlines() if line.startswith("-")]
    assert len(words) == len(lines) == len(set(words))


def test_the_table_of_blocks_has_every_block_and_model():
    from tfrs_registry import blocks, models

    rows = re.findall(r"^\| `(\w+)`( \*)? \| .* \| (.*)\|$", README, re.MULTILINE)
    ours = {name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")}
    assert {name for name, _, _ in rows} == ours
    assert {name for name, star, _ in rows if star} == {n for n in ours if blocks.load(n).returns_logit}
    listed = {name for _, _, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {name for name in models.names() if models.provider(name).startswith("nfm-tfrs ")}
