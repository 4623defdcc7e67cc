"""`python benchmarks` lists the benchmarks and starts the one that is named, from whatever folder."""

import subprocess
import sys

import pytest
from lib.places import BENCHMARKS


def start(folder, *arguments):
    command = [sys.executable, str(BENCHMARKS), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_without_a_name_it_lists_every_script_of_the_rooms(tmp_path):
    lines = start(tmp_path).stdout.splitlines()
    files = [
        path
        for room in ("speed", "quality", "memory", "trust")
        for path in sorted((BENCHMARKS / room).glob("[!_]*.py"))
    ]
    assert [line.split()[0] for line in lines] == [path.stem for path in files]
    for line, path in zip(lines, files, strict=True):
        assert path.read_text().startswith(f'"""{line.partition(" ")[2].strip()}')


def test_a_name_finds_its_file_and_hands_on_the_options(tmp_path):
    (tmp_path / "benchmarks").mkdir()  # a relative path of that name would be this one
    done = start(tmp_path, "stream_memory", "--gigabytes", "many")
    assert done.returncode == 2
    assert done.stderr.endswith("error: argument --gigabytes: invalid float value: 'many'\n")


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path):
    done = start(tmp_path, "tables")
    assert done.returncode == 1
    assert done.stderr.startswith("There is no benchmark 'tables'. Take one of blocks, checks, cold_start, ")


@pytest.mark.parametrize("script", ["gpu", "tables"])
def test_a_script_at_the_top_is_hidden_by_no_folder(script):
    assert (BENCHMARKS / f"{script}.py").exists()
    assert not (BENCHMARKS / script).exists()
