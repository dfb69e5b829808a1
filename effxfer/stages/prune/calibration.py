"""What a score of weights is estimated from: losses of training images as evaluation sees them."""

from collections.abc import Iterator
from itertools import islice

from torch import Tensor, nn

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_batches, seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.prune.weights.lottery import Rank
from effxfer.prune.weights.scores import SCORES
from effxfer.prune.weights.scores.context import Losses, ScoreContext
from effxfer.stages.settings.prune_settings import Gradual, Lottery
from effxfer.train.channels_last import safe_gradients
from effxfer.train.devices import Device

TAYLOR_BATCHES = 16
SAMPLES = {"fisher": (1, 512), "taylor": (64, TAYLOR_BATCHES)}


def plain_batches(task: Task, size: int, device: Device, seed: int) -> Batches:
    """Give training images in random order, not varied."""
    return make_batches(task, size, Augment(crop="none", flip=False), device.torch)(seed)


def losses(batches: Batches, most: int) -> Losses:
    """Make the function that gives the losses of the first `most` batches under the network that it is passed."""

    def examples(net: Net) -> Iterator[Tensor]:
        with safe_gradients(net):
            for inputs, labels in islice(batches, most):
                yield nn.functional.cross_entropy(net(inputs), labels)

    return examples


def ranking(settings: Lottery | Gradual, task: Task, device: Device) -> Rank:
    """Make the function that scores weights as the settings say.

    `taylor` looks at 16 batches of 64 images, `fisher` at 512 images one by one, always the same.
    """
    size, most = SAMPLES.get(settings.score, (1, 0))
    plain = plain_batches(task, size, device, seed_of(settings.seed, "score")) if most else None
    context = ScoreContext(examples=losses(plain, most) if plain else None, seed=settings.seed)
    return lambda net, mask: SCORES[settings.score](net, list(mask.keep), context)
