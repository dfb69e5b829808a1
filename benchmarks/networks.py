"""Channels of published networks pruned by 30 and 60 %: what is left of them, and whether the export computes the same.

`python -m benchmarks.networks [name ...]` prints one row per network. Random weights, small images (32 to 96 pixels),
one run each (n = 1), because nothing but the seconds varies; those are processor time of pruning alone.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from effxfer.errors import EffxferError
from effxfer.report import Report, Table
from tests.prune.networks import MATRIX, QUICK, complaints, try_one

RATIOS = (0.3, 0.6)


def main() -> None:
    """Try the networks named on the command line, or all of the matrix."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("names", nargs="*", help="all of the matrix, if none is named")
    known = {**MATRIX, **QUICK}
    names = parser.parse_args().names or list(MATRIX)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no network {unknown[0]!r}; there are: {', '.join(known)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = tuple(measured(name, Path(folder)) for name in names)
    print(Report(tables=(Table(title="Channels pruned by 30 and 60 %", rows=rows),)))


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Prune one network by both shares; where that is refused, say so."""
    network = {**MATRIX, **QUICK}[name]
    try:
        both = [try_one(name, network, ratio, folder / str(ratio)) for ratio in RATIOS]
    except EffxferError as error:
        return {"network": name, "not as expected": error.problem}
    left = list(both[-1]["left"])
    return {
        "network": name,
        "parameters M": both[0]["parameters M"],
        **{f"MACs at {100 * one['ratio']:.0f} %": round(one["MACs ratio"], 3) for one in both},
        "parity": max(one["parity"] for one in both),
        "seconds": round(max(one["seconds"] for one in both), 1),
        "layers left": f"{len(left)}: {left[0]}" if left else "none",
        "not as expected": "; ".join(text for one in both for text in complaints(network, one)),
    }


if __name__ == "__main__":
    main()
