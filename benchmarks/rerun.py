"""How long a finished pipeline takes when it is run again, against the first run and against importing torch."""

from pathlib import Path
from typing import Any

from benchmarks.timing import row, seconds

RUNS = 5
SHORT = ("dense.fit.epochs=1", "ticket.fit.epochs=1", "channels.fit.epochs=1", "head.trials=3", "bench.max_seconds=3")


def measure(folder: Path) -> dict[str, Any]:
    words = ["-m", "effxfer", "run", "demo", "--out", str(folder / "run"), "--set", "data.max_per_class=20"]
    words += [word for change in SHORT for word in ("--set", change)]
    seconds(*words)
    pairs = [(seconds(*words), seconds("-c", "import torch")) for _ in range(RUNS)]
    ours, theirs = zip(*pairs, strict=True)
    return row("rerun of a finished pipeline", ours, "import torch", theirs, "s", "under 2 s")
