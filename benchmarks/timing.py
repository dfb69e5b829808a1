"""What the benchmarks share: rows of one form, and commands timed from outside."""

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any


def row(
    what: str, ours: Sequence[float], other: str, theirs: Sequence[float], unit: str, goal: str, paired: bool = False
) -> dict[str, Any]:
    """One line of the table: medians, their ranges, and ours divided by theirs; pair by pair where both took turns."""
    ratio: Any = round(median(ours) / median(theirs), 2)
    if paired:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        ratio = f"{median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
    return {
        "what": what,
        "ours": f"{median(ours):.3g} {unit} [{min(ours):.3g}, {max(ours):.3g}]",
        "against": f"{other}: {median(theirs):.3g} {unit} [{min(theirs):.3g}, {max(theirs):.3g}]",
        "ratio": ratio,
        "n": len(ours),
        "goal": goal,
    }


def seconds(*words: str) -> float:
    """Time a Python command in a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began
