"""The task that everybody gets: decoded images, and a fresh copy of the pretrained network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import settings_of
from effxfer.data.settings import DataSettings
from effxfer.data.task import Split, Task
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        data: Source of the images, or settings of data.
        backbone: Settings of the pretrained network, with the side of its images.
        epochs: Passes of the first training, for everybody.
        recovery: Passes after a pruning, for every peer that prunes.
        latency_ratio: p50 to prune to, as a share of that of the unpruned float32 file.
        seed: Seed of every training.
        folder: Holds all files that are written.
    """

    data: dict[str, Any]
    backbone: dict[str, Any]
    epochs: int
    recovery: int
    latency_ratio: float
    seed: int
    folder: Path

    @cached_property
    def task(self) -> Task:
        """The splits, with their images decoded as the network evaluates them."""
        from effxfer.data.loader import Loader

        return Loader(settings=build(DataSettings, self.data, "data"), cache=self.folder / "cache").load(self.input)

    @property
    def source(self) -> BackboneSettings:
        """The pretrained network that everybody starts from."""
        return build(BackboneSettings, self.backbone, "backbone")

    @cached_property
    def input(self) -> Preprocess:
        """How that network sees images."""
        of = self.network().input
        assert isinstance(of, Preprocess)
        return of

    def network(self) -> Any:
        """Open the pretrained network, without a head for the task."""
        from effxfer.model_source import open_model

        return open_model(self.source)[0]

    def fresh(self) -> Any:
        """Open the network with a new head; the same head for everybody."""
        from effxfer.net.heads.head_edits import set_head

        net = self.network()
        torch.manual_seed(self.seed)
        features = net.features(torch.from_numpy(net.input.example())).shape[1]
        set_head(net, spec={}, features=features, classes=self.task.classes)
        return net

    def images(self, split: Split) -> NDArray[np.float32]:
        """Return the normalised images of a split, as exported files take them: `(N, 3, S, S)`."""
        return self.input.feed(split.rows[:])

    def example(self) -> torch.Tensor:
        """Return one image, for exporters and dependency graphs."""
        return torch.from_numpy(self.images(self.task.val)[:1].copy())

    def export(self, net: nn.Module, name: str) -> Path:
        """Write a network as float32, the way everybody does it: `torch.onnx.export`."""
        file = self.folder / f"{name}.onnx"
        net.eval()
        batch = {"x": {0: torch.export.Dim("batch", min=1, max=4096)}}
        torch.onnx.export(
            net, (self.example().repeat(2, 1, 1, 1),), str(file), input_names=["x"], output_names=["logits"],
            dynamo=True, dynamic_shapes=batch, external_data=False, verbose=False,
        )  # fmt: skip
        return file

    def readers(self, count: int) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Give training images for the calibration of a quantizer, one at a time; always the same ones."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.task.train))[:count]
        for row in chosen:
            yield {"x": self.input.feed(self.task.train.rows[row : row + 1])}


def make_case(data: str, backbone: str, size: int, **rest: Any) -> Case:
    """Build a case of words of the command line."""
    return Case(data=settings_of(data), backbone={"size": size, **settings_of(backbone)}, **rest)
