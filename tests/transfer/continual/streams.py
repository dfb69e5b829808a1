"""A stream of tasks on vectors that a small perceptron learns, and forgets, in a second."""

from copy import deepcopy
from functools import cache

import numpy as np
import torch

from effxfer.data.task import Split, Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import build
from effxfer.stages.settings.continual_settings import Continual
from effxfer.stages.train.continual.continual import learn_tasks
from effxfer.train.devices import pick_device
from effxfer.train.state import Work

CPU = pick_device("cpu")
WIDTH, CLOUDS = 8, 3
FIT = {"epochs": 15, "lr": 0.01, "warmup": 0.0, "keep": "last", "schedule": "constant", "weight_decay": 0.0}


def names(number: int, per_task: int = 2) -> tuple[str, ...]:
    return tuple(f"c{number * per_task + i}" for i in range(per_task))


@cache
def class_task(number: int, count: int = 80, seed: int = 0) -> Task:
    """Two new classes: each of them three clouds around points of its own."""
    centres = np.random.default_rng(seed).normal(0, 1.0, (20, CLOUDS, WIDTH))
    rng = np.random.default_rng([seed, number])

    def split(n: int) -> Split:
        labels = np.arange(n) % 2
        rows = centres[labels + 2 * number, rng.integers(0, CLOUDS, n)] + rng.normal(0, 0.3, (n, WIDTH))
        return Split(rows=rows.astype(np.float32), labels=labels.astype(np.int64), names=[str(i) for i in range(n)])

    return Task(
        name=f"t{number}", output=SingleLabel(classes=names(number)), train=split(count), val=split(40),
        test=split(100), input=Vectors(size=WIDTH), digest=f"digest {number} {seed}",
    )  # fmt: skip


def body(hidden: int = 32, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net({"source": "effxfer.net.mlp:mlp", "args": {"inputs": WIDTH, "hidden": [hidden]}}, Vectors(size=WIDTH))


def settings_of(strategy: str, fit: dict | None = None, **options) -> Continual:
    table = {"strategy": strategy, "options": {"batch": 16, **options}, "fit": {**FIT, **(fit or {})}}
    return build(Continual, table, "continual")


def learn(strategy, tasks, net=None, work=Work(None), fit=None, **options):  # noqa: B008
    """Learn tasks in time; return the network and what was reached."""
    net = deepcopy(net) if net is not None else body()
    new = [task for task in tasks if task.name not in {t["name"] for t in (net.memory.tasks if net.memory else ())}]
    forgetting, _ = learn_tasks(net, tasks, new, settings_of(strategy, fit, **options), CPU, work)
    return net, forgetting
