"""Which way of fine-tuning is best at equal epochs? Test accuracy of strategies, adapters too, against `full`.

`python -m benchmarks.strategies BACKBONE --data FOLDER --labels 5 --epochs 12 full full@2e-3 probe lp_ft ...` trains
each on the same images of the same splits, once for each seed (other images, another order, another head), and prints
the mean, the range, and the range of the differences to the first one named. `NAME@RATE` changes the peak learning
rate, `NAME@RATE{"rank": 1}` options, too. A strategy that learns from images without labels gets those that `--labels`
leaves out.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import settings_of
from effxfer.cli import show
from effxfer.data.settings import REST, DataSettings
from effxfer.files import digest
from effxfer.net.settings import BackboneSettings
from effxfer.report import Report, Table
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import transform

UNLABELLED, UNVARIED = ("fixmatch",), ("probe",)
OPTIONS = {"batch": 8, "augment": {"scale": 0.5}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strategies", description=__doc__)
    parser.add_argument("backbone", help="a source, or settings of a backbone as JSON")
    parser.add_argument("strategies", nargs="+", metavar="NAME[@RATE][{OPTIONS}]")
    parser.add_argument("--data", required=True, help="a source, or settings of data as JSON")
    parser.add_argument("--labels", type=int, help="training images per class; all, if not given")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--head-lr", type=float, default=4.0)
    parser.add_argument("--options", type=json.loads, default=OPTIONS, help="of every strategy, as JSON")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keep the networks here, to go on where it was cut off")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, show.progress():
        folder = told.out or Path(scratch)
        runs = {word: list[dict[str, float | None]]() for word in told.strategies}
        for seed in range(told.seeds):
            for word, rows in runs.items():
                rows.append(tuned(word, seed, told, folder))
    print(Report(tables=(compared(runs, told),)))


def tuned(word: str, seed: int, told: argparse.Namespace, folder: Path) -> dict[str, float | None]:
    """Train once; give the accuracy on the test split in percent, and the millions of parameters of an adapter."""
    head, brace, own = word.partition("{")
    name, _at, rate = head.partition("@")
    data = {"max_per_class": told.labels, "split_seed": seed, **settings_of(told.data)}
    if name in UNLABELLED:
        data["unlabelled"] = REST
    fit = {"epochs": told.epochs, "lr": float(rate or told.lr), "head_lr": told.head_lr, "keep": "last"}
    options = {key: value for key, value in told.options.items() if name not in UNVARIED or key != "augment"}
    options |= json.loads(brace + own or "{}")
    stage = STAGES["finetune"]
    recipe = build(stage.settings, {"strategy": name, "fit": fit, "options": options, "seed": seed}, "finetune")
    backbone = build(BackboneSettings, {"size": told.size, **settings_of(told.backbone)}, "backbone")
    context = RunContext(out=folder / f"{head}{'-' + digest(own) if own else ''}-{seed}")
    report = transform(stage, recipe, backbone, [build(DataSettings, data, "data")], context).manifest.report
    trained = next((row.value for row in report.rows if row.name == "trained parameters"), None)
    return {"test": report["accuracy/test"].value, "trained": trained}


def compared(runs: dict[str, list[dict[str, Any]]], told: argparse.Namespace) -> Table:
    """One row for each strategy; differences are between runs of the same seed."""
    base = next(iter(runs.values()))
    rows = []
    for word, found in runs.items():
        tests = [one["test"] for one in found]
        apart = [one["test"] - other["test"] for one, other in zip(found, base, strict=True)]
        rows.append({
            "strategy": word, "trained, M": found[0]["trained"],
            "test %": statistics.fmean(tests), "from": min(tests), "to": max(tests),
            f"against {told.strategies[0]}": statistics.fmean(apart), "least": min(apart), "most": max(apart),
        })  # fmt: skip
    images = f"{told.labels} images per class" if told.labels else "all images"
    return Table(
        title=f"{images}, {told.epochs} epoch{'s' * (told.epochs > 1)}, {told.seeds} seed{'s' * (told.seeds > 1)}",
        rows=tuple(rows),
    )


if __name__ == "__main__":
    main()
