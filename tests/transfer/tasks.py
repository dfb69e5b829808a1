"""A task that a tiny network learns in a second, and one that shows which weights a strategy moves."""

from dataclasses import replace

import numpy as np
import torch

from effxfer.data.task import Split, Task
from effxfer.net.net import Net
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.stages.train.finetune import train
from effxfer.stages.train.head import new_head
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import score
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work, clone
from effxfer.transfer.base import Strategy

CPU = pick_device("cpu")
PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def task(count: int = 48, seed: int = 0) -> Task:
    """Two classes of stripes, which colour alone does not tell apart: across or down."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        labels = np.arange(n) % 2
        row, column = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
        shift = rng.integers(0, 4, n)[:, None, None]
        stripes = ((np.where(labels[:, None, None], row, column) + shift) // 2) % 2
        pixels = 60 + 120 * stripes[..., None] + rng.integers(0, 50, (n, 16, 16, 3))
        return Split(rows=pixels.astype(np.uint8), labels=labels.astype(np.int64), names=[str(i) for i in range(n)])

    parts = {"train": split(count), "val": split(24), "test": split(24), "unlabelled": split(96)}
    return Task(name="stripes", output=SingleLabel(classes=("down", "across")), **parts, input=PREPROCESS, digest="d",
                class_embeddings=np.eye(2, dtype=np.float32))  # fmt: skip


def two_tasks(seed: int = 0) -> Task:
    """The stripes of `task` with two questions: which way they go, and, of two examples out of three, the reverse."""
    single = task(seed=seed)

    def both(split: Split) -> Split:
        labels = np.stack([split.labels, 1 - split.labels], 1).astype(np.float32)
        labels[::3, 1] = np.nan
        return replace(split, labels=labels)

    parts = {"train": both(single.train), "val": both(single.val), "test": both(single.test)}
    outputs = {"way": single.output, "other": SingleLabel(classes=("up", "along"))}
    return replace(single, output=TaskOutputs(outputs=outputs), unlabelled=None, class_embeddings=None, **parts)


def body(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net({"source": "effxfer.net.cifar:resnet20", "args": {"width": 4}}, PREPROCESS)


def adapt(strategy: Strategy, given: Task, net: Net | None = None, loss=None, work=Work(None), after=None, **fit):  # noqa: B008
    """Train as `finetune` does; give the network, its state before and after, and the rows."""
    net = net or body()
    net.input, head = given.input, net.head
    if new_head(net, given, 0, strategy.head()):
        strategy.start_head(net, head, given)
    before = clone(net)
    settings = FitSettings(**{"epochs": 3, "lr": 0.01, "warmup": 0.0, "keep": "last", **fit})
    after = after or (lambda _done: None)
    rows = train(net, [given], strategy, settings, device=CPU, seed=1, work=work, loss=loss, after_step=after)
    return net, before, clone(net), rows


def accuracy(net: Net, given: Task) -> float:
    return score(net, given.test, CPU)
