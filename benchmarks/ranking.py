"""Do scores before training tell the order after it? By weighted Kendall tau, over backbones that are fine-tuned.

`python -m benchmarks.ranking --data FOLDER --size 96 --epochs 4 BACKBONE BACKBONE ...` fine-tunes each backbone with
the same recipe and prints, for every score, how well its order agrees with that of the validation accuracy (1: the same
order, 0: chance, -1: reversed; the best ones count most, Vigna, 2015, https://arxiv.org/abs/1404.3325).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from scipy.stats import weightedtau

from benchmarks import settings_of
from effxfer.cli import show
from effxfer.data.settings import DataSettings
from effxfer.report import Report, Table
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.data.rank_backbones import COLUMNS, rank
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import transform
from effxfer.stages.settings.common import Rank

RECIPE: dict[str, dict[str, Any]] = {
    "fit": {"lr": 5e-4, "head_lr": 4.0, "warmup": 0.5, "keep": "last"},
    "options": {"batch": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("backbones", nargs="+", help="sources, or settings of a backbone as JSON")
    parser.add_argument("--data", required=True, help="a source, or settings of data as JSON")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, help="keep the fine-tuned networks here, to go on where it was cut off")
    told = parser.parse_args()
    backbones = [json.loads(one) if one.startswith("{") else one for one in told.backbones]
    settings = build(Rank, {"backbones": backbones, "size": told.size, "max_seconds": 10}, "rank")
    data = build(DataSettings, {"val_fraction": 0.25, **settings_of(told.data)}, "data")
    with tempfile.TemporaryDirectory() as scratch, show.progress():
        folder = told.out or Path(scratch)
        table = rank(settings, data, RunContext(out=folder / "rank")).tables[0]
        after = {
            name: tuned(name, one, settings, data, told.epochs, folder)
            for name, one in short_names(settings.backbones).items()
        }
    rows = tuple({**row, "fine-tuned val %": after[str(row["backbone"])]} for row in table.rows)
    print(Report(tables=(Table(title=f"{len(rows)} backbones, {told.epochs} epochs each", rows=rows), taus(rows))))


def tuned(name: str, backbone: Any, settings: Rank, data: DataSettings, epochs: int, folder: Path) -> float:
    """Fine-tune one backbone; give its validation accuracy in percent."""
    sized = backbone.model_copy(update={"size": backbone.size or settings.size})
    stage = STAGES["finetune"]
    recipe = build(stage.settings, {**RECIPE, "fit": {**RECIPE["fit"], "epochs": epochs}}, "finetune")
    made = transform(stage, recipe, sized, [data], RunContext(out=folder / name.replace(":", "-")))
    return made.manifest.report["accuracy/val"].value


def taus(rows: tuple[dict[str, Any], ...]) -> Table:
    """Compare every score's order with that of the accuracy after fine-tuning."""
    found = []
    for column in [*COLUMNS.values(), "LEEP"]:
        known = [row for row in rows if row[column] is not None]
        tau = weightedtau([row[column] for row in known], [row["fine-tuned val %"] for row in known]).statistic
        found.append({"score": column, "weighted Kendall tau": float(tau), "backbones": len(known)})
    return Table(title="Agreement with the order after fine-tuning", rows=tuple(found))


if __name__ == "__main__":
    main()
