"""Measure everything in one run and print one table: figures are ratios of what ran side by side on this machine."""

import argparse
import tempfile
from pathlib import Path

from benchmarks import data_path, head_search, masked_step, noise, rerun, startup, text_training
from effxfer.report import Report, Table

ALL = {
    "startup": startup.measure,
    "rerun": rerun.measure,
    "data_path": data_path.measure,
    "head_search": head_search.measure,
    "head_workers": head_search.workers,
    "masked_step": masked_step.measure,
    "text_training": text_training.measure,
    "noise": noise.measure,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="all, if none is named")
    names = parser.parse_args().names or list(ALL)
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"benchmark": name, **ALL[name](Path(folder))})
    print(Report(tables=(Table(title="Benchmarks", rows=tuple(rows)),)))


if __name__ == "__main__":
    main()
