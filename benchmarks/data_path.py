"""Images per second of `fit` after the first epoch, against a plain DataLoader + ImageFolder loop.

Same network, optimizer, batch size, crop and flip; the photographs are synthetic JPEGs of 500 x 375 pixels.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.timing import row

SIDE, BATCH, IMAGES, EPOCHS, NETWORK = 128, 32, 256, 4, "mobilenetv2_035"


def measure(folder: Path) -> dict[str, Any]:
    photographs(folder / "photos")
    ours, theirs = [], []
    for a, b in zip(effxfer_epochs(folder), plain_epochs(folder), strict=True):
        ours.append(IMAGES * 0.8 / a)
        theirs.append(IMAGES * 0.8 / b)
    return row(f"fit, {NETWORK} at {SIDE} px", ours[1:], "DataLoader loop", theirs[1:], "images/s", "at least 1.5")


def photographs(root: Path) -> None:
    """Write JPEGs with the frequencies of photographs: smooth noise with fine grain."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.normal(0, 8, smooth.shape).astype(np.int16)
        place = root / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)


def network() -> nn.Module:
    import timm

    torch.manual_seed(0)
    made: nn.Module = timm.create_model(NETWORK, num_classes=2)
    return made


def effxfer_epochs(folder: Path) -> Iterator[float]:
    """Time each epoch of `fit`; decoding happened before."""
    from effxfer.data.batches.augment import Augment
    from effxfer.data.batches.batches import make_batches
    from effxfer.data.load import load
    from effxfer.data.settings import DataSettings
    from effxfer.runtime.images.preprocess import Preprocess
    from effxfer.train.devices import pick_device
    from effxfer.train.fit import fit
    from effxfer.train.settings import FitSettings

    settings = DataSettings(source=str(folder / "photos"))
    task = load(settings, Preprocess(size=SIDE), cache=folder / "cache")
    learner = network().to(memory_format=torch.channels_last)
    epochs = make_batches(task, BATCH, Augment(), torch.device("cpu"))
    loss = nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        began = time.perf_counter()
        fit(learner, epochs, lambda net, batch, _done: {"label": loss(net(batch[0]), batch[1])}, FitSettings(epochs=1),
            device=pick_device("cpu"), seed=0)  # fmt: skip
        yield (time.perf_counter() - began) / len(epochs(0)) * IMAGES * 0.8 / BATCH


def plain_epochs(folder: Path) -> Iterator[float]:
    """Time each epoch of the loop that most tutorials show."""
    from torchvision import datasets
    from torchvision.transforms import v2

    transform = v2.Compose([
        v2.RandomResizedCrop(SIDE, scale=(0.35, 1)), v2.RandomHorizontalFlip(), v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(folder / "photos"), transform), BATCH, shuffle=True, num_workers=2, drop_last=True,
        persistent_workers=True,
    )  # fmt: skip
    net, loss = network().train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss(net(pixels), labels).backward()
            optimizer.step()
        yield (time.perf_counter() - began) / len(loader) * IMAGES * 0.8 / BATCH
