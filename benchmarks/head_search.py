"""Head-search trials per minute on features computed once, against running the backbone in each trial; and workers.

The second row is of two processes against one, on a machine with at least two cores that nothing else works on.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.timing import row

TRIALS, EPOCHS = 20, 10
MANY, LONG = 240, 60


def measure(folder: Path) -> dict[str, Any]:
    """Both train a head for equally many epochs per trial; the plain side runs the frozen body each time."""
    net, task = loaded(folder)
    began = time.perf_counter()
    features = features_of(net, task, folder)
    trials(features, folder / "study", trials=TRIALS, epochs=EPOCHS)
    ours = 60 * TRIALS / (time.perf_counter() - began)
    return row("head search", [ours], "backbone in each trial", [plain(net, task)], "trials/min", "at least 20")


def workers(folder: Path) -> dict[str, Any]:
    """Two workers against one on one study, both from features on the disk to the finalists."""
    net, task = loaded(folder)
    features = features_of(net, task, folder)
    rates = {}
    for count in (1, 2):
        began = time.perf_counter()
        trials(features, folder / f"study-{count}", trials=MANY, epochs=LONG, workers=count)
        rates[count] = 60 * MANY / (time.perf_counter() - began)
    return row("two workers", [rates[2]], "one worker", [rates[1]], "trials/min", "near 2 on two idle cores")


def loaded(folder: Path) -> tuple[Any, Any]:
    """The bundled backbone, and digits."""
    from effxfer.data.load import load
    from effxfer.data.settings import DataSettings
    from effxfer.model_source import open_model
    from effxfer.net.settings import BackboneSettings

    net, _ = open_model(BackboneSettings(source="resnet20-cifar10"))
    return net, load(DataSettings(source="digits"), net.input, cache=folder / "cache")


def features_of(net: Any, task: Any, folder: Path) -> Any:
    """Averages of all stages, as the search keeps them."""
    from effxfer.net.taps import tap_widths
    from effxfer.stages.head_search.features import FeaturePlan, compute_features
    from effxfer.stages.head_search.searched_tasks import searched_tasks
    from effxfer.train.devices import pick_device

    plan = FeaturePlan(taps=tuple(tap_widths(net)))
    (labels,) = searched_tasks(net, task, None)
    return compute_features(net, task, plan, folder / "features", pick_device("cpu")).label(labels)


def trials(features: Any, folder: Path, *, trials: int, epochs: int, workers: int = 1) -> None:
    """Search, without stopping trials early."""
    from effxfer.search.space import SearchSettings
    from effxfer.search.study import search_head

    settings = SearchSettings(trials=trials, epochs=epochs, workers=workers, folds=1, pruner="none", latency=False)
    search_head(features, settings=settings, storage_dir=folder, seed=0)


def plain(net: Any, task: Any) -> float:
    """Trials per minute of the loop that runs the body for every batch."""
    from effxfer.data.batches.augment import normalize

    labels = torch.tensor(task.train.labels)
    head = nn.Linear(64, len(task.classes))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
    began = time.perf_counter()
    for index in torch.arange(len(labels)).split(256):
        with torch.no_grad():
            features = net.body(normalize(torch.tensor(task.train.rows[index.numpy()]), task.input))
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels[index]).backward()
        optimizer.step()
    return 60 / (EPOCHS * (time.perf_counter() - began))
