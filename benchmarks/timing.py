"""What the benchmarks share: rows of one form, and commands timed from outside."""

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any


def row(what: str, ours: Sequence[float], other: str, theirs: Sequence[float], unit: str, goal: str) -> dict[str, Any]:
    """One line of the table: medians, their ranges, and ours divided by theirs."""
    return {
        "what": what,
        "ours": f"{median(ours):.3g} {unit} [{min(ours):.3g}, {max(ours):.3g}]",
        "against": f"{other}: {median(theirs):.3g} {unit} [{min(theirs):.3g}, {max(theirs):.3g}]",
        "ratio": round(median(ours) / median(theirs), 2),
        "n": len(ours),
        "goal": goal,
    }


def seconds(*words: str) -> float:
    """Time a Python command in a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began
