"""Head-search trials per minute on features computed once, against running the backbone in each trial."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.timing import row

TRIALS, EPOCHS = 20, 10


def measure(folder: Path) -> dict[str, Any]:
    """Both train a head for equally many epochs per trial; the plain side runs the frozen body each time."""
    from effxfer.artifact import open_model
    from effxfer.data.load import load
    from effxfer.data.settings import DataSettings
    from effxfer.net.net import tap_widths
    from effxfer.net.settings import BackboneSettings
    from effxfer.search.space import SearchSettings
    from effxfer.search.study import search_head
    from effxfer.stages.search import tap
    from effxfer.train.devices import pick

    net, _ = open_model(BackboneSettings(source="resnet20-cifar10"))
    task = load(DataSettings(source="digits"), net.preprocess, cache=folder / "cache")
    began = time.perf_counter()
    widths = tap_widths(net)
    both = [tap(net, widths, split, pick("cpu")) for split in (task.train, task.val)]
    features = {name: (both[0][name], both[1][name]) for name in widths}
    settings = SearchSettings(trials=TRIALS, epochs=EPOCHS, folds=1, pruner="none")
    search_head(features, (task.train.labels, task.val.labels), len(task.classes), settings=settings,
                storage_dir=folder / "study", seed=0)  # fmt: skip
    ours = 60 * TRIALS / (time.perf_counter() - began)
    return row("head search", [ours], "backbone in each trial", [plain(net, task)], "trials/min", "at least 20")


def plain(net: Any, task: Any) -> float:
    """Trials per minute of the loop that runs the body for every batch."""
    from effxfer.data.augment import normalize

    labels = torch.tensor(task.train.labels)
    head = nn.Linear(64, len(task.classes))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
    began = time.perf_counter()
    for index in torch.arange(len(labels)).split(256):
        with torch.no_grad():
            features = net.body(normalize(torch.tensor(task.train.pixels[index.numpy()]), task.preprocess))
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels[index]).backward()
        optimizer.step()
    return 60 / (EPOCHS * (time.perf_counter() - began))
