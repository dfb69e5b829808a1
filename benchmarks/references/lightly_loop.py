"""Self-supervised pretraining as lightly's examples do it: its data set, transform, heads, losses and schedules.

Written after lightly 1.6.0's `examples/pytorch/simclr.py`, `byol.py` and `vicreg.py`. What differs from them is what
would not be equal otherwise: the network, the widths of the heads, and the values of the augmentation.
effxfer differs in that all views are one batch for BatchNorm, and in the last layer of SimCLR's head, which has none.

Shape legend: B images, S side in pixels.
"""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.transfer.self_supervised.views import VIEWS

HIDDEN, WIDTH, VICREG_WIDTH = 512, 128, 512  # of the heads, as effxfer's are by default
TEMPERATURE, MOMENTUM = 0.5, 0.99
EXAMPLE_LR = 0.06  # of SGD in all three examples, constant and without momentum


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What both sides have in common.

    Attributes:
        epochs: Passes over the training images.
        batch: Images per step.
        lr: Peak learning rate of AdamW, after half an epoch of warm-up, with a cosine down to zero; None is the
            optimizer of lightly's examples instead.
        weight_decay: Of AdamW.
        seed: Of weights, order and views.
    """

    epochs: int
    batch: int
    lr: float | None
    weight_decay: float
    seed: int


def pretrain(net: Net, folder: Path, method: str, recipe: Recipe) -> float:
    """Train the body of a network in place on the images that `write_images` has written.

    Returns:
        Images per second of processor time, which does not depend on what else the machine does.
    """
    torch.manual_seed(recipe.seed)
    images = loader(folder, net.input, recipe.batch)
    learner = METHODS[method](net)
    optimizer, scheduler = optimizer_of(learner, recipe, len(images))
    began, count = time.process_time(), 0
    for epoch in range(recipe.epochs):
        learner.train()
        learner.begin_epoch(epoch, recipe.epochs)
        for views, _labels, _names in images:
            loss = learner.loss(*views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler()
            count += len(views[0])
    return count / (time.process_time() - began)


def loader(folder: Path, of: Any, batch: int) -> Any:
    """Return lightly's data set of a folder, in batches of two views `(B, 3, S, S)` of each image."""
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    assert isinstance(of, Preprocess)
    transform = SimCLRTransform(
        input_size=of.size, cj_prob=1.0, cj_strength=1.0, cj_bright=VIEWS.colour, cj_contrast=VIEWS.colour,
        cj_sat=VIEWS.colour, cj_hue=0.0, min_scale=VIEWS.scale, random_gray_scale=VIEWS.grey,
        gaussian_blur=VIEWS.blur, normalize={"mean": list(of.mean), "std": list(of.std)},
    )  # fmt: skip
    dataset: Any = LightlyDataset(str(folder), transform=transform)
    return torch.utils.data.DataLoader(dataset, batch, shuffle=True, drop_last=True)


def write_images(task: Task, folder: Path) -> None:
    """Write the training images as PNG files, as the network's evaluation sees them, and without labels."""
    from PIL import Image

    folder.mkdir(parents=True)
    decode = task.train.decode_row
    assert decode is not None
    for row in range(len(task.train)):
        Image.fromarray(decode(row)).save(folder / f"{row:06d}.png")


def optimizer_of(learner: nn.Module, recipe: Recipe, steps: int) -> tuple[Optimizer, Callable[[], None]]:
    """Return the optimizer, and what moves its learning rate after each step."""
    from lightly.utils.scheduler import CosineWarmupScheduler

    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    if recipe.lr is None:
        return torch.optim.SGD(trained, lr=EXAMPLE_LR), lambda: None
    optimizer = torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=recipe.weight_decay)
    scheduler = CosineWarmupScheduler(optimizer, warmup_epochs=steps / 2, max_epochs=recipe.epochs * steps)
    return optimizer, scheduler.step


class SimClr(nn.Module):
    """A body with the projection head of SimCLR."""

    def __init__(self, net: Net) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        super().__init__()
        self.net = net
        self.head = SimCLRProjectionHead(width_of(net), HIDDEN, WIDTH)
        self.criterion = NTXentLoss(temperature=TEMPERATURE)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Nothing changes from epoch to epoch."""

    def loss(self, first: Tensor, second: Tensor) -> Any:
        """Return the loss of two views `(B, 3, S, S)` of each image."""
        return self.criterion(*(self.head(self.net.features(view)) for view in (first, second)))


class VicReg(SimClr):
    """A body with the projection head of VICReg."""

    def __init__(self, net: Net) -> None:
        from lightly.loss import VICRegLoss
        from lightly.models.modules.heads import VICRegProjectionHead

        super().__init__(net)
        self.head = VICRegProjectionHead(width_of(net), VICREG_WIDTH, VICREG_WIDTH)
        self.criterion = VICRegLoss()


class Byol(nn.Module):
    """A body with projection and prediction heads, and slow copies of body and projection."""

    def __init__(self, net: Net) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        super().__init__()
        self.net = net
        self.projection_head = BYOLProjectionHead(width_of(net), HIDDEN, WIDTH)
        self.prediction_head = BYOLPredictionHead(WIDTH, HIDDEN, WIDTH)
        self.slow = nn.ModuleList([deepcopy(self.net), deepcopy(self.projection_head)])
        deactivate_requires_grad(self.slow)
        self.criterion = NegativeCosineSimilarity()
        self.momentum = MOMENTUM

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the momentum, as lightly's example does once for each epoch."""
        from lightly.utils.scheduler import cosine_schedule

        self.momentum = cosine_schedule(epoch, epochs, MOMENTUM, 1)

    def loss(self, first: Tensor, second: Tensor) -> Any:
        """Move the slow copies; return the loss of two views `(B, 3, S, S)` of each image."""
        from lightly.models.utils import update_momentum

        update_momentum(self.net, self.slow[0], m=self.momentum)
        update_momentum(self.projection_head, self.slow[1], m=self.momentum)
        predicted = [self.prediction_head(self.projection_head(self.net.features(v))) for v in (first, second)]
        targets = list(self.targets(first, second))
        return 0.5 * (self.criterion(predicted[0], targets[1]) + self.criterion(predicted[1], targets[0]))

    def targets(self, *views: Tensor) -> Iterator[Tensor]:
        """Give the slow copies' projections of views."""
        slow: Any = self.slow
        body, head = slow
        with torch.no_grad():
            for view in views:
                yield head(body.features(view)).detach()


def width_of(net: Net) -> int:
    """Return the number of features of a network."""
    with torch.no_grad():
        return int(net.features(torch.from_numpy(net.input.example())).shape[1])


METHODS: dict[str, Callable[[Net], Any]] = {"byol": Byol, "simclr": SimClr, "vicreg": VicReg}
