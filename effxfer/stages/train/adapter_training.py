"""Save the adapter of a fine-tuning run, report its size, and check that merging preserved the outputs."""

import torch
from torch import Tensor

from effxfer import artifact
from effxfer.adapter_file import AdapterFile, pack, sizes
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import GateError
from effxfer.net.merge import MERGEABLE, adapters, base_state, merge_
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.stages.settings.common import ADAPTER, Finetune
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy

# Chosen: a merge that is wrong changes nearly every image.
IMAGES = 32
# About 80 of float32's roundings (1.2e-7): products are summed in another order, in some dozen layers.
TOLERANCE = 1e-5


class Adapting:
    """A fine-tuning run whose strategy adds an adapter to a frozen body.

    Args:
        net: Network with its head, before the strategy prepares it.
        task: Training task.
        strategy: Strategy that adds the adapter.
        settings: Settings of the stage.
        work: Its `result` directory receives the file.
    """

    def __init__(self, net: Net, task: Task, strategy: Strategy, settings: Finetune, work: Work) -> None:
        # The base that the adapter names has its zeros; without masks its digest would be another.
        net.apply_masks_()
        self.task, self.strategy, self.settings, self.work = task, strategy, settings, work
        self.base = {name: tensor.detach().cpu().clone() for name, tensor in base_state(net).items()}
        self.packed: AdapterFile | None = None
        self.before = torch.empty(0)

    def record(self, net: Net) -> None:
        """Keep the trained adapter and the network's logits before the adapter is merged."""
        if self.settings.fit.epochs:
            # Now, as the file is packed before `train` notes it on the network.
            net.smoothing = max(net.smoothing, self.strategy.label_smoothing)
        origin = {
            "key": self.work.key,
            "data": [{"name": self.task.name, "digest": self.task.digest, "classes": len(self.task.classes)}],
            "versions": artifact.versions(),
        }
        self.packed = pack(
            net, self.base, strategy=self.settings.strategy, recipe=self.settings.plain(), origin=origin,
            trained=sum(p.numel() for p in net.parameters() if p.requires_grad),
        )  # fmt: skip
        self.before = sample_logits(net, self.task)

    def save(self, net: Net, reached: Report, device: Device) -> Report:
        """Write the adapter file next to the result; report its size and the effect of merging.

        Args:
            net: Network after `strategy.finish`.
            reached: Its accuracy report.
            device: Device; only the leading process writes.
        """
        if self.packed is None:
            return Report()
        scores = {row.name: row.value for row in reached.scores}
        packed, file = self.packed.with_origin(reached=scores), self.work.result
        if file is not None and device.leads:
            packed.save(file / ADAPTER)
        proof = Report() if self.strategy.keeps_adapters() else difference(self.before, sample_logits(net, self.task))
        return sizes(packed) + proof


def merge_adapters(net: Net, task: Task) -> Report:
    """Merge a network's adapters if they only change weights, and check the outputs; otherwise return a note.

    Raises:
        GateError: If merging changed the outputs, see `difference`.
    """
    edits = adapters(net)
    if not edits:
        return Report()
    if not any(edit["kind"] in MERGEABLE for edit in edits):
        names = ", ".join(edit["kind"] for edit in edits)
        return Report(notes=(f"{names} cannot be merged and stays in separate layers",))
    before = sample_logits(net, task)
    merge_(net)
    return difference(before, sample_logits(net, task))


@torch.inference_mode()
def sample_logits(net: Net, task: Task) -> Tensor:
    """Return a network's logits `(B, C)` for the first validation images, in float32."""
    net.eval()
    device = next(net.parameters()).device
    logits: Tensor = net(input_tensor(task.val.rows[:IMAGES], net.input, device))
    return logits.float().cpu().clone()


def difference(before: Tensor, after: Tensor) -> Report:
    """Measure the largest change of logits `(B, C)` by merging.

    Raises:
        GateError: If it exceeds 1e-5 times the largest logit, or 1e-5 if all logits are below 1.
    """
    largest = float((after - before).abs().max())
    # `not <=` and not `>`: NaN must fail.
    if not largest <= TOLERANCE * max(1.0, float(before.abs().max())):
        text = f"merging the adapter changed a logit by {largest:.2g}"
        raise GateError(text, "keep it as it is with options.merge = false, and report the network's name")
    return Report(rows=(Measurement(name="merge/difference", value=largest, n=len(before)),))
