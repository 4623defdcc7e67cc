"""The script that tries each Python finds those that start, and writes what they said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pythons

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_python_that_starts_is_found() -> None:
    assert pythons.interpreter(HERE) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
def test_a_shim_without_a_python_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    assert pythons.interpreter("3.12") is None


def test_a_python_that_fails_or_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--wheel-dir") + 1]) / "nfm_tfrs-0.1.0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0)

    said = {"3.11": {"works": True, "said": "9 passed"}, "3.12": {"works": False, "said": "1 failed"}, "3.13": None}
    monkeypatch.setattr(pythons, "RESULTS", tmp_path / "pythons.json")
    monkeypatch.setattr(pythons.subprocess, "run", run)
    monkeypatch.setattr(pythons, "interpreter", lambda version: version if said[version] else None)
    monkeypatch.setattr(pythons, "tested", lambda python, wheel, folder, quick: said[python])
    with pytest.raises(SystemExit):
        pythons.main(["--only", *said])
    assert capsys.readouterr().out.splitlines()[-1] == "Python 3.13: no such Python on this machine"
    written = json.loads((tmp_path / "pythons.json").read_text())
    assert [result["works"] for result in written["pythons"].values()] == [True, False, None]


def test_the_pythons_tried_are_those_that_the_package_takes() -> None:
    pyproject = (Path(pythons.ROOT) / "pyproject.toml").read_text()
    lowest, above = pythons.SUPPORTED[0], int(pythons.SUPPORTED[-1].split(".")[1]) + 1
    assert f'requires-python = ">={lowest},<3.{above}"' in pyproject
