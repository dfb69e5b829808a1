"""How long `effxfer --help` takes, against an empty Python process."""

from pathlib import Path
from typing import Any

from benchmarks.timing import row, seconds

RUNS = 7


def measure(_folder: Path) -> dict[str, Any]:
    pairs = [(seconds("-m", "effxfer", "--help"), seconds("-c", "pass")) for _ in range(RUNS)]
    ours, theirs = zip(*pairs, strict=True)
    return row("effxfer --help", ours, "empty Python", theirs, "s", "under 0.3 s")
