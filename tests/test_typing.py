"""mypy reads the public face as it is meant: a stub that is wrong, or Any where there is a type, fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_mypy_knows_the_public_face() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typed_face.py"], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
