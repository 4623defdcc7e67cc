"""Installs the wheel on each supported Python of this machine and runs the quick tests there.

usage: python benchmarks/pythons.py [--quick] [--only 3.12 ...]

A Python is `python3.X` on the PATH, or one of pyenv's. Each gets an environment of its own, made anew in a temporary
folder, with the wheel and what its tests need. `--quick` runs the tests of the registry and of the import alone.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "pythons.json"
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
QUICK_TESTS = ("tests/test_import.py", "tests/registry")
SHOWN = ("tensorflow", "tf_keras", "keras", "keras_tuner", "tensorflow_recommenders", "numpy")


def interpreter(version: str) -> str | None:
    """Returns the path of a Python that starts and is of this version; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)]
    command = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    for path in filter(None, found):  # a shim of pyenv is on the PATH whether there is such a Python or not
        started = subprocess.run([path, *command], capture_output=True, text=True, check=False)
        if started.stdout.strip() == version:
            return path
    return None


def tested(python: str, wheel: Path, folder: Path, quick: bool) -> dict[str, Any]:
    """Returns what the tests say on a Python, in an environment made in this folder."""
    bin_folder = folder / ("Scripts" if sys.platform == "win32" else "bin")
    steps = [
        [python, "-m", "venv", str(folder)],
        [str(bin_folder / "pip"), "install", "-q", "--no-compile", f"{wheel}[dev]"],
        # Not python -m pytest, which would test the checkout instead of the wheel.
        [str(bin_folder / "pytest"), "-q", "-p", "no:cacheprovider", *(QUICK_TESTS if quick else ("-m", "not slow"))],
    ]
    start = time.monotonic()
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip().splitlines() or [""]
        if done.returncode and step is not steps[-1]:
            return {"works": False, "said": said[-1]}
    listed = subprocess.run([str(bin_folder / "pip"), "freeze"], capture_output=True, text=True, check=True).stdout
    versions = dict(line.replace("-", "_").split("==") for line in listed.splitlines() if "==" in line)
    return {
        "works": not done.returncode,
        "said": next((line for line in reversed(said) if re.search(r"\d (passed|failed|error)", line)), said[-1]),
        "seconds": round(time.monotonic() - start),
        "versions": {name: versions[name] for name in SHOWN if name in versions},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Tests, prints a line a Python, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the tests of the registry and of the import alone")
    parser.add_argument("--only", nargs="+", default=SUPPORTED, choices=SUPPORTED, help="Pythons to test")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", temporary, str(ROOT)]
        subprocess.run(build, check=True)
        wheel = next(Path(temporary).glob("nfm_tfrs-*.whl"))
        for version in options.only:
            python = interpreter(version)
            if python is None:
                results[version] = {"works": None, "said": "no such Python on this machine"}
            else:
                results[version] = tested(python, wheel, Path(temporary) / version, options.quick)
                shutil.rmtree(Path(temporary) / version, ignore_errors=True)  # 3 GB
            print(f"Python {version}: {results[version]['said']}", flush=True)
    tests = "quick" if options.quick else "not slow"
    RESULTS.write_text(json.dumps({"platform": sys.platform, "tests": tests, "pythons": results}, indent=2) + "\n")
    if any(result["works"] is False for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
