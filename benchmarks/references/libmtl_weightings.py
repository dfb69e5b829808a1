"""Do the weightings of several tasks reach what LibMTL's own reach? Test accuracy, in one run.

`python -m benchmarks.references.libmtl_weightings --data MNIST` trains LeNet by each weighting of effxfer and by that
of LibMTL: from the same weights, on the same batches, by Adam at the same constant rate, once for each seed. The images
are those of MultiMNIST; `--questions cifar` asks three questions about images of CIFAR-10.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import settings_of
from benchmarks.references import cifar_questions, libmtl_trainer, multi_mnist, question_table
from benchmarks.references.installed import installed_version
from benchmarks.references.libmtl_trainer import WEIGHTINGS
from effxfer.cli import show
from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import make_batches, seed_of
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report, Table
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build
from effxfer.train.devices import Device
from effxfer.train.settings import FitSettings

CPU = Device(torch=torch.device("cpu"))
PLAIN = Augment(crop="none", flip=False)
QUESTIONS: dict[str, Any] = {"digits": multi_mnist, "cifar": cifar_questions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.references.libmtl_weightings", description=__doc__)
    parser.add_argument("weightings", nargs="*", choices=[*WEIGHTINGS, []], help="all, if none is named")
    parser.add_argument("--data", required=True, help="a source of images, or settings of data as JSON")
    parser.add_argument("--questions", choices=list(QUESTIONS), default="digits", help="what is asked about the images")
    parser.add_argument("--trained", type=int, default=12_000, help="training images")
    parser.add_argument("--tested", type=int, default=4_000, help="test images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-lr", type=float, default=1e-3, help="of effxfer's gradnorm; LibMTL's is `--lr`")
    parser.add_argument("--seeds", type=int, default=2)
    told = parser.parse_args()
    version = installed_version("LibMTL")
    if version is None:
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, show.progress():
        task = open_task(told, Path(scratch))
        rows = [compare(name, told, task) for name in told.weightings or WEIGHTINGS]
    title = f"{told.questions}: {told.trained} images, {told.epochs} epochs, seeds: {told.seeds}, n = {len(task.test)}"
    title += f"; LibMTL {version}"
    print(Report(tables=(Table(title=title, rows=tuple(rows)),)))


def open_task(told: argparse.Namespace, folder: Path) -> Task:
    """Make the images with several answers, and decode them as the network sees them."""
    about, settings = QUESTIONS[told.questions], build(DataSettings, settings_of(told.data), "data")
    images = Loader(settings=settings, cache=folder / "images").load(preprocess(about.READ))
    counts = {"train": told.trained, "val": 200, "test": told.tested}
    table = about.write(images, folder / "table", counts)
    return Loader(settings=table, cache=folder / "cache").load(preprocess(about.SIDE))


def preprocess(size: int) -> Preprocess:
    return Preprocess(size=size, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)


def compare(weighting: str, told: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Train by one weighting on both sides; differences are between networks of the same seed."""
    ours, theirs = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for seed in range(told.seeds):
        net = start(task, seed)
        theirs.append(libmtl(deepcopy(net), weighting, told, task, seed))
        ours.append(effxfer(net, weighting, told, task, seed))
        print(f"{weighting}, seed {seed}: effxfer {ours[-1].round(2)}, LibMTL {theirs[-1].round(2)}", flush=True)
    apart = np.stack(ours).mean(1) - np.stack(theirs).mean(1)
    row: dict[str, Any] = {"weighting": weighting, "effxfer, mean": spread(np.stack(ours).mean(1).tolist())}
    row |= {"LibMTL, mean": spread(np.stack(theirs).mean(1).tolist()), "apart": spread(apart.tolist())}
    for number, name in enumerate(outputs(task)):
        row[name] = f"{np.stack(ours).mean(0)[number]:.2f}, {np.stack(theirs).mean(0)[number]:.2f}"
    return row


def start(task: Task, seed: int) -> Net:
    """Make an untrained network with a head for each task."""
    from effxfer.stages.train.head import new_head

    torch.manual_seed(seed)
    of: Any = task.input
    net = Net({"source": f"{question_table.__name__}:lenet", "args": {"side": of.size}}, task.input)
    new_head(net, task, seed)
    return net


def effxfer(net: Net, weighting: str, told: argparse.Namespace, task: Task, seed: int) -> NDArray[np.float64]:
    """Train as `finetune` does; give the test accuracy of each task in percent."""
    from effxfer.stages.train.finetune import train
    from effxfer.train.state import Work
    from effxfer.transfer.multi_task.multi_task import MultiTask

    options = {"weighting": weighting, "batch": told.batch, "augment": {"crop": "none", "flip": False}}
    options |= {"weight_lr": told.weight_lr} if weighting == "gradnorm" else {}
    settings = FitSettings(
        epochs=told.epochs, optimizer="adam", lr=told.lr, weight_decay=0.0, schedule="constant", warmup=0.0,
        keep="last", amp="off",
    )  # fmt: skip
    strategy = build(MultiTask, options, "options")
    train(net, [task], strategy, settings, device=CPU, seed=seed, work=Work(None))
    return accuracy(lambda images: torch.split(net(images), [len(o.classes) for o in outputs(task).values()], 1), task)


def libmtl(net: Net, weighting: str, told: argparse.Namespace, task: Task, seed: int) -> NDArray[np.float64]:
    """Train by LibMTL on the same batches; give the test accuracy of each task in percent."""
    draw = make_batches(task, told.batch, PLAIN, CPU.torch)
    random.seed(seed)
    torch.manual_seed(seed)
    heads: Any = net.head
    network = libmtl_trainer.train(
        net.body, dict(zip(outputs(task), heads.heads, strict=True)), weighting,
        lambda epoch: draw(seed_of(seed, epoch)), told.epochs, told.lr,
    )  # fmt: skip
    return accuracy(lambda images: list(network(images).values()), task)


def outputs(task: Task) -> Mapping[str, Any]:
    of: Any = task.output
    answers: Mapping[str, Any] = of.outputs
    return answers


def accuracy(answer: Any, task: Task) -> NDArray[np.float64]:
    """Return the share of right answers to each question about the test images, in percent."""
    right = np.zeros(len(outputs(task)))
    of: Any = task.input
    for first in range(0, len(task.test), 500):
        images = torch.from_numpy(of.feed(task.test.rows[first : first + 500]))
        with torch.no_grad():
            chosen = np.stack([scores.argmax(1).numpy() for scores in answer(images)], 1)
        right += (chosen == task.test.labels[first : first + 500]).sum(0)
    return 100 * right / len(task.test)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()
