"""Where the benchmarks keep what they measure, and how one of them starts another process of itself."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARKS / "results"
SEARCHES = BENCHMARKS / ".searches"  # what searches keep between two starts


def command_of(name: str) -> list[str]:
    """The command that starts the benchmark of this name, without its options."""
    return [sys.executable, str(BENCHMARKS), name]
