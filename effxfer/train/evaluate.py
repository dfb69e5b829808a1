"""Evaluate a network: logits of a split, and their accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.data.batches.augment import normalize
from effxfer.data.task import Split
from effxfer.net.hooks import as_evaluated
from effxfer.report import Measurement
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.train.devices import Device
from effxfer.train.settings import Amp


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode and no gradients, and back to each submodule's own mode."""
    with as_evaluated(module), torch.inference_mode():
        yield


def predict(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    preprocess: Preprocess,
    device: Device,
    *,
    batch: int = 256,
    amp: Amp = "off",
) -> Tensor:
    """Run a module over uint8 images `(N, S, S, 3)`; give its outputs `(N, ...)` in float32 on the CPU."""
    out = []
    with evaluating(module), device.autocast(amp):
        # 256: chosen; at 224 px the input takes 154 MB, the first maps of a ResNet-18 0.8 GB.
        for start in range(0, len(pixels), batch):
            chunk = torch.tensor(pixels[start : start + batch]).to(device.torch)
            out.append(module(normalize(chunk, preprocess)).float().cpu())
    return torch.cat(out)


def accuracy(logits: Tensor, labels: NDArray[np.int64], name: str) -> Measurement:
    """Share of images whose largest logit is the label's, in percent."""
    correct = logits.argmax(1).eq(torch.from_numpy(labels))
    return Measurement(name=name, value=100 * float(correct.double().mean()), unit="%", n=len(labels), of="images")


def balanced_accuracy(logits: Tensor, labels: NDArray[np.int64], name: str) -> Measurement:
    """Mean over the classes of the share of their images whose largest logit is the label's, in percent."""
    correct = logits.argmax(1).eq(torch.from_numpy(labels)).numpy()
    shares = [correct[labels == one].mean() for one in np.unique(labels)]
    of = "images, all classes alike"
    return Measurement(name=name, value=100 * float(np.mean(shares)), unit="%", n=len(labels), of=of)


def if_uneven(logits: Tensor, labels: NDArray[np.int64], name: str) -> tuple[Measurement, ...]:
    """Give `balanced accuracy/NAME` where a class has twice the images of another; where not, it says nothing new."""
    sizes = np.unique(labels, return_counts=True)[1]
    # Of two classes, one up to twice the other, both accuracies differ by at most a sixth of the classes' difference.
    if not len(sizes) or sizes.max() < 2 * sizes.min():
        return ()
    return (balanced_accuracy(logits, labels, f"balanced accuracy/{name}"),)


def score(module: nn.Module, split: Split, preprocess: Preprocess, device: Device, name: str) -> Measurement:
    """Measure a network's accuracy on a split."""
    return accuracy(predict(module, split.pixels, preprocess, device), split.labels, name)
