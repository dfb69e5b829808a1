"""Let a stage's network learn from what it was when the stage got it."""

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.gradients import Loss
from effxfer.train.settings import Teacher
from effxfer.transfer.base import Strategy
from effxfer.transfer.distill import TEMPERATURE, distilled, listener


def taught(net: Net, strategy: Strategy, settings: Teacher, *, fresh: bool) -> tuple[Loss, Report]:
    """Give the loss to train with, which listens to a copy of the network as it is now, if there is to be a teacher.

    Args:
        net: On its device. The teacher keeps its side of images.
        strategy: How the pupil is trained.
        settings: How much to listen, and to what.
        fresh: Whether the head is new, so that there is nothing to be learnt from it.

    Returns:
        The loss; and a note, where the teacher was trained with label smoothing.

    Raises:
        SettingsError: If there is nothing to listen to, or the strategy cannot listen.
    """
    if not settings.listens:
        return strategy.loss, Report()
    if not strategy.of_images:
        name = type(strategy).__name__.lower()
        raise SettingsError(f"teacher cannot be combined with strategy {name!r}", "use strategy = 'full'")
    if fresh:
        raise SettingsError("teacher: the network is not trained for these classes yet", "run finetune before it")
    temperature = settings.temperature or (1.0 if net.smoothing else TEMPERATURE)
    loss: Loss = distilled(
        strategy.loss, listener(net), logits=settings.logits, size=net.preprocess.size, features=settings.features,
        temperature=temperature,
    )  # fmt: skip
    return loss, smoothed(net.smoothing, temperature) if settings.logits else Report()


def smoothed(smoothing: float, temperature: float) -> Report:
    """Note that a teacher was trained with label smoothing, which makes its outputs say little about other classes."""
    if not smoothing:
        return Report()
    text = f"the teacher was trained with label smoothing {smoothing:g}"
    if temperature > 1:
        advice = (
            f"which distils badly at temperature {temperature:g}: leave teacher.temperature out, or train it without"
        )
    else:
        advice = f"so its outputs are taken at temperature {temperature:g}; one trained without would teach more"
    return Report(notes=(f"{text}, {advice}",))
