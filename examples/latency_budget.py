"""Give a network of torchvision half of its latency, measured on this machine, and export it.

`python examples/latency_budget.py` takes about two minutes: it measures what single layers cost in ONNX Runtime, and
keeps that for the next time. The weights are random, so that nothing is downloaded; with your own, train afterwards.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from effxfer.deploy.export.module import export_module
from effxfer.prune.channels.layer_prices import LayerPrices
from effxfer.prune.result import PruneResult
from effxfer.stages.prune.latency import prune_to_measured_latency


def main(
    folder: Path = Path(), clock: Callable[[nn.Module], float] | None = None, prices: LayerPrices | None = None
) -> PruneResult:
    """Prune; a `clock` of your own returns the milliseconds of a network on the device that counts."""
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(weights=None, num_classes=10).eval()
    images, labels = torch.rand(16, 3, 64, 64), torch.arange(16) % 10

    @torch.inference_mode()
    def loss(candidate: nn.Module) -> float:
        return float(F.cross_entropy(candidate(images), labels))

    result = prune_to_measured_latency(
        net, loss=loss, latency_ratio=0.5, example=images, clock=clock, prices=prices, threads=1
    )  # fmt: skip
    for name in ("latency/measured", "parameters/ratio", "macs/ratio"):
        print(f"{name}: {result.report[name].value:.2f} of the dense network's")
    export_module(net, folder / "fast.onnx", images)
    return result


if __name__ == "__main__":
    main()
