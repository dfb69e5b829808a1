"""Draw several augmented views of each image, without its label."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_views
from effxfer.data.task import Task
from effxfer.transfer.base import Strategy

# SimCLR's without hue and blur, at half of its strength of colour, and the area of solo-learn's recipes for CIFAR-10.
VIEWS = Augment(scale=0.2, colour=0.4, grey=0.2)
OF_LABELS = ("balance", "label_smoothing", "multi_label", "validator")


def draw_views(
    tasks: Sequence[Task], size: int, settings: Augment, device: torch.device, views: int = 2
) -> Callable[[int], Batches]:
    """Prepare the images of `make_view_maker`; return a function from an epoch's seed to batches of `size` of them."""
    count, look = make_view_maker(tasks, settings, device, views)
    return lambda seed: Batches(count, size, look, seed)


def make_view_maker(
    tasks: Sequence[Task], settings: Augment, device: torch.device, views: int
) -> tuple[int, Callable[[Tensor, Generator], Tensor]]:
    """Prepare the training images of the last task, with and without labels.

    Args:
        tasks: The last one is used: its training images, and those of `unlabelled`.
        settings: Augmentation; the views of an image differ by it alone.
        device: Where views are made, all of a batch in one pass.
        views: Views of each image.

    Returns:
        The number of images, and a function from B of their rows and a generator to
        `(views * B, 3, S, S)`: the first B are one view of each image.
    """
    task = tasks[-1]
    splits = [task.train, *([] if task.unlabelled is None else [task.unlabelled])]
    looks = [make_views(split, task.input, settings, device) for split in splits]
    first, count = len(task.train), sum(map(len, splits))

    def look_at(index: Tensor, rng: Generator) -> Tensor:
        repeated = index.repeat(views)
        labelled = repeated < first
        rows = ((labelled, repeated), (~labelled, repeated - first))
        # A part may have no images, which nothing can augment.
        parts = [look(of[part], rng) for look, (part, of) in zip(looks, rows, strict=False) if part.any()]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.cat([labelled.nonzero(), (~labelled).nonzero()])[:, 0].argsort().to(device)]

    return count, look_at


def refuse_options_of_labels(strategy: Strategy) -> None:
    """Refuse options that say something about labels, or need them.

    Raises:
        ValueError: If one is set.
    """
    defaults = Strategy.model_fields
    idle = [name for name in OF_LABELS if getattr(strategy, name) != defaults[name].default]
    idle += [f"augment.{name}" for name in ("mixup", "cutmix") if getattr(strategy.augment, name)]
    if idle:
        raise ValueError(f"{idle[0]} has no effect on a strategy that uses no labels")
