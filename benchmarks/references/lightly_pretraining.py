"""Does `pretrain` reach what lightly's own loop reaches? Accuracy of 20 neighbours at equal epochs, in one run.

`python -m benchmarks.references.lightly_pretraining --data FOLDER --backbone BACKBONE simclr vicreg byol` trains the
same untrained network on the same images, once for each seed and side, and evaluates both bodies by the same report.
lightly's loop has AdamW and the schedule of effxfer; with `--sgd` also the optimizer of its examples.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import settings_of
from benchmarks.references import lightly_loop
from benchmarks.references.installed import installed_version
from benchmarks.references.lightly_loop import METHODS, Recipe
from effxfer.cli import show
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.report import Report, Table
from effxfer.settings import build
from effxfer.stages.train.feature_report import report_features
from effxfer.train.devices import Device
from effxfer.train.settings import FitSettings

CPU = Device(torch=torch.device("cpu"))
UNTRAINED, OURS, LIGHTLY, EXAMPLES = "untrained", "effxfer", "lightly, AdamW", "lightly, SGD"


@dataclass(frozen=True, kw_only=True)
class Body:
    """What came out of one training.

    Attributes:
        report: Neighbours and probe on the features.
        speed: Images per second of processor time of the training; None for the untrained body.
    """

    report: Report
    speed: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.references.lightly_pretraining", description=__doc__)
    parser.add_argument("methods", nargs="+", choices=METHODS)
    parser.add_argument("--data", required=True, help="a source with classes, or settings of data as JSON")
    parser.add_argument("--backbone", required=True, help="a source, or settings of a backbone as JSON")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sgd", action="store_true", help="also train with the optimizer of lightly's examples")
    told = parser.parse_args()
    version = installed_version("lightly")
    if version is None:
        return
    torch.set_num_threads(1)
    recipe = Recipe(epochs=told.epochs, batch=told.batch, lr=told.lr, weight_decay=0.01, seed=0)
    with tempfile.TemporaryDirectory() as scratch, show.progress():
        task = open_task(told.data, told.backbone, told.size, Path(scratch))
        lightly_loop.write_images(task, Path(scratch) / "images")
        rows = []
        for method in told.methods:
            rows += compare(method, told, task, recipe, Path(scratch) / "images")
    title = (
        f"{len(task.train)} images, {told.epochs} epochs, seeds: {told.seeds}, n = {len(task.test or ())} test images"
    )
    print(Report(tables=(Table(title=f"{title}; lightly {version}", rows=tuple(rows)),)))


def open_task(data: str, backbone: str, size: int, folder: Path) -> Task:
    """Decode the images as the network sees them."""
    loader = Loader(settings=build(DataSettings, settings_of(data), "data"), cache=folder / "cache")
    return loader.load(untrained(backbone, size, 0).input)


def untrained(backbone: str, size: int, seed: int) -> Net:
    """Open a network with weights that are drawn from a seed."""
    from effxfer.model_source import open_model
    from effxfer.net.reinitialize import initial_weights

    told = {"size": size, "pretrained": False, **settings_of(backbone)}
    net = open_model(build(BackboneSettings, told, "backbone"))[0]
    net.load_state_dict(initial_weights(net, seed), strict=False)
    return net


def compare(method: str, told: argparse.Namespace, task: Task, recipe: Recipe, images: Path) -> list[dict[str, Any]]:
    """Give one row for each side, of all seeds."""
    bodies: dict[str, list[Body]] = {}
    for seed in range(told.seeds):
        own, start = replace(recipe, seed=seed), untrained(told.backbone, told.size, seed)
        sides: dict[str, Callable[[Net, Recipe], Body]] = {
            UNTRAINED: lambda net, _own: Body(report=report_features(net, task, CPU)),
            OURS: lambda net, own: effxfer(net, task, method, own),
            LIGHTLY: lambda net, own: lightly(net, task, images, method, own),
        }
        if told.sgd:
            sides[EXAMPLES] = lambda net, own: lightly(net, task, images, method, replace(own, lr=None))
        for name, train in sides.items():
            bodies.setdefault(name, []).append(train(deepcopy(start), own))
            print(
                f"{method}, seed {seed}, {name}: knn/test {bodies[name][-1].report['knn/test'].value:.1f} %", flush=True
            )
    return [row_of(method, name, runs, bodies[OURS]) for name, runs in bodies.items()]


def effxfer(net: Net, task: Task, method: str, recipe: Recipe) -> Body:
    """Train as `pretrain` does; its time has the rank of the validation images after each epoch."""
    from effxfer.stages.train.finetune import train
    from effxfer.train.state import Work
    from effxfer.transfer import SELF_SUPERVISED
    from effxfer.transfer.strategies import select_strategy

    strategy = select_strategy(SELF_SUPERVISED, method, {"batch": recipe.batch})
    settings = FitSettings(
        epochs=recipe.epochs, lr=recipe.lr, weight_decay=recipe.weight_decay, keep="last", amp="off"
    )  # fmt: skip
    began = time.process_time()
    train(net, [task], strategy, settings, device=CPU, seed=recipe.seed, work=Work(None))
    speed = recipe.epochs * (len(task.train) // recipe.batch) * recipe.batch / (time.process_time() - began)
    return Body(report=report_features(net, task, CPU), speed=speed)


def lightly(net: Net, task: Task, images: Path, method: str, recipe: Recipe) -> Body:
    """Train by lightly's loop."""
    speed = lightly_loop.pretrain(net, images, method, recipe)
    return Body(report=report_features(net.eval(), task, CPU), speed=speed)


def row_of(method: str, name: str, bodies: Sequence[Body], ours: Sequence[Body]) -> dict[str, Any]:
    """Give means and ranges; differences are between bodies of the same seed."""
    speeds = [body.speed for body in bodies if body.speed is not None]
    row: dict[str, Any] = {"method": method, "trained by": name}
    for metric in ("knn/test", "probe/test"):
        row[metric] = spread([body.report[metric].value for body in bodies])
        apart = [
            body.report[metric].value - other.report[metric].value for body, other in zip(bodies, ours, strict=True)
        ]
        row[f"{metric} - effxfer's"] = spread(apart)
    return {**row, "images/s of CPU time": spread(speeds) if speeds else ""}


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


if __name__ == "__main__":
    main()
