"""Training images without augmentation, for scores of weights and for BatchNorm statistics."""

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_batches, seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.net.recalibrate import recalibrate_
from effxfer.prune.weights.lottery import Rank
from effxfer.prune.weights.scores import SCORES
from effxfer.prune.weights.scores.context import Losses, ScoreContext
from effxfer.stages.settings.prune_settings import Gradual, Lottery
from effxfer.train.channels_last import safe_gradients
from effxfer.train.devices import Device
from effxfer.train.losses import label_loss

# 16 x 64 = 1,024 images, chosen: Molchanov et al. (1906.10771) average over 10 to 30 minibatches; time grows with them.
TAYLOR_BATCHES = 16
# Fisher takes single images: the square of a batch's mean gradient is not the mean of squares that its diagonal is of.
SAMPLES = {"fisher": (1, 512), "taylor": (64, TAYLOR_BATCHES)}


def plain_batches(task: Task, size: int, device: Device, seed: int) -> Batches:
    """Yield batches of training images in random order, without augmentation."""
    # As evaluation sees them: scores are of the network that will be measured, not of augmentation.
    return make_batches(task, size, Augment(crop="none", flip=False), device.torch)(seed)


def recalibrate_on_(net: Net, batches: Batches) -> None:
    """Re-estimate a network's BatchNorm statistics on the first 1,024 images of batches, in place."""
    recalibrate_(net, (inputs for inputs, _ in islice(batches, TAYLOR_BATCHES)))


def losses(batches: Batches, limit: int) -> Losses:
    """Return a function that yields a network's losses on the first `limit` batches."""

    def examples(net: Net) -> Iterator[Tensor]:
        with safe_gradients(net):
            for inputs, labels in islice(batches, limit):
                yield label_loss(net.output, net(inputs), labels)

    return examples


def ranking(settings: Lottery | Gradual, task: Task, device: Device) -> Rank:
    """Return the function that scores weights by the settings.

    `taylor` uses 16 batches of 64 images, `fisher` 512 single images; the images are fixed by the seed.
    """
    size, limit = SAMPLES.get(settings.score, (1, 0))
    plain = plain_batches(task, size, device, seed_of(settings.seed, "score")) if limit else None
    context = ScoreContext(examples=losses(plain, limit) if plain else None, seed=settings.seed)
    return lambda net, mask: SCORES[settings.score](net, list(mask.keep), context)
