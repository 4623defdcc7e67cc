"""The README does what it says: its Python blocks run, its commands are those of CI and the command line."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{number}" for number in range(len(BLOCKS))])
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_every_option_in_a_command_exists():
    import typer.main

    from nfm_tfrs.cli import app

    commands = typer.main.get_command(app).commands
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ").splitlines()
    used = [line.split()[1:] for line in lines if line.startswith("nfm-tfrs ")]
    assert {words[0] for words in used} == {"describe", "train", "tune", "evaluate", "predict"}
    for command, *words in used:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_no_other_line_of_the_readme_runs_the_tests_before_the_command():
    first = next(line for line in README.splitlines() if "pytest" in line)  # what .ci/run takes
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q '.[dev]' && .venv/bin/pytest"


def test_the_table_of_blocks_has_every_block_and_model():
    from tfrs_registry import blocks, models

    rows = re.findall(r"^\| `(\w+)`( \*)? \| .* \| (.*)\|$", README, re.MULTILINE)
    ours = {name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")}
    assert {name for name, _, _ in rows} == ours
    assert {name for name, star, _ in rows if star} == {n for n in ours if blocks.load(n).returns_logit}
    listed = {name for _, _, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {name for name in models.names() if models.provider(name).startswith("nfm-tfrs ")}
