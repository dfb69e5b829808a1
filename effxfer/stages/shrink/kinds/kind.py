"""The contract of the kinds of candidates: one small file for each way of making a network faster."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor, no_grad, stack

from effxfer.data.batches.batches import Batches, seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.prune.recovery.reconstruct import reconstruct_
from effxfer.prune.weights.scores.context import Losses
from effxfer.stages.prune.calibration import TAYLOR_BATCHES, losses, plain_batches, recalibrate_on_
from effxfer.stages.prune.channels import LOSS_BATCHES, SOLVE_BATCHES
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.train.devices import Device

BATCH = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Workbench:
    """What a kind builds its candidate with.

    Attributes:
        limit: Largest latency, as a share of the input network's float32 p50.
        present: Timing of the network that is to become faster, at the precision that ships.
        time: Times a network at the precision that ships, in turns with the input network in float32.
        task_for: Returns the task with images as a network takes them.
        settings: Settings of the stage.
        device: Device of networks and images.
        full_side: Largest side of images in pixels.
        is_trained: Whether all of the network is trained on the task, and not its head alone.
    """

    limit: float
    present: PairedTiming
    time: Callable[[Net], PairedTiming]
    task_for: Callable[[Net], Task]
    settings: Shrink
    device: Device
    full_side: int
    is_trained: bool = True

    def batches(self, net: Net) -> Batches:
        """Return batches of training images, without augmentation, as a network takes them."""
        return plain_batches(self.task_for(net), BATCH, self.device, seed_of(self.settings.seed, "shrink"))

    def examples(self, net: Net) -> Losses:
        """Return a function that yields the losses of 16 batches under a network that takes images like `net`."""
        return losses(self.batches(net), TAYLOR_BATCHES)

    def loss(self, net: Net) -> float:
        """Mean loss of a network on 128 training images, always the same ones."""
        with no_grad():
            return float(stack([*islice(self.examples(net)(net), LOSS_BATCHES)]).mean())

    def recover_(self, net: Net, before: Net, kept_outputs: Mapping[str, Sequence[int]] | None = None) -> None:
        """Solve the weights of a pruned network for the outputs it had, and re-estimate BatchNorm statistics.

        Args:
            net: The pruned network, changed in place.
            before: The network before, with images of the same side.
            kept_outputs: See `reconstruct_`; None where every layer kept its outputs.
        """
        plain = self.batches(net)

        def images() -> "islice[Tensor]":
            return islice((inputs for inputs, _ in plain), SOLVE_BATCHES)

        reconstruct_(net, before, images, kept_outputs or {})
        recalibrate_on_(net, plain)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sized:
    """A candidate that meets the latency, before its training.

    Attributes:
        net: The network.
        timing: Its latency at the precision that ships.
        detail: Its size in words, such as `72 px`.
        kept_outputs: By layer, the outputs that it kept; layers that are not named have all.
    """

    net: Net
    timing: PairedTiming
    detail: str
    kept_outputs: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a kind has no candidate at a latency.

    Attributes:
        reason: The reason.
        nearest: Timing of the fastest network that was tried; None if there was none.
    """

    reason: str
    nearest: PairedTiming | None = None


def too_slow(fastest: str, nearest: PairedTiming) -> Refusal:
    """Return the refusal of a kind whose fastest network is slower than the limit."""
    return Refusal(reason=f"{fastest}: {nearest.ratio:.3f} x remains at least", nearest=nearest)


Build = Callable[[Net, Workbench], Sized | Refusal]
