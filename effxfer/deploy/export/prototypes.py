"""A network whose classes are points, as a file that takes the points as an input: new classes need no new file.

Shape legend: B images, S side, D features, C classes.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.errors import GateError
from effxfer.net.heads.prototypes import Prototypes, nearness
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.model import Model
from effxfer.runtime.model_file.metadata import PROTOTYPES

if TYPE_CHECKING:
    import onnx

IMAGES, MOST = 32, 8


class Open(nn.Module):
    """A network that takes its prototypes beside images, and gives features beside logits."""

    def __init__(self, net: Net, head: Prototypes) -> None:
        super().__init__()
        self.net, self.distance = net, head.distance

    def forward(self, images: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, 3, S, S)` and `(C, D)` to `(B, C)` and `(B, D)`."""
        features = self.net.features(images)
        return nearness(features, prototypes, self.distance), features


def opened(net: Net) -> tuple[nn.Module, Tensor | None]:
    """Give what is exported of a network, in evaluation mode: itself, or one that takes prototypes, and its own."""
    if not isinstance(net.head, Prototypes):
        return net, None
    return Open(net, net.head).eval(), net.head.out.weight


def from_prototypes(graph: "onnx.GraphProto") -> list[str]:
    """Name the nodes that see prototypes: the range of what will be given is not known, so they are not quantized."""
    if PROTOTYPES not in {put.name for put in graph.input}:
        return []
    seen, names = {PROTOTYPES}, list[str]()
    for node in graph.node:
        if seen & set(node.input):
            seen |= set(node.output)
            names.append(node.name)
    return names


def check_prototypes(model: Model, net: Net, pixels: NDArray[np.uint8], tolerance: float) -> Report:
    """Give a file prototypes that it has not seen, and compare its answers with what its features say.

    Args:
        model: Of any precision.
        net: What it was made from; nothing is checked if its head is another one.
        pixels: uint8 `(N, S, S, 3)`, of which some are used.
        tolerance: Largest difference of a logit, as a share of the largest one (of 1, where all are smaller).

    Returns:
        `parity/prototypes`: that difference.

    Raises:
        GateError: If it is larger.
    """
    if not isinstance(net.head, Prototypes):
        return Report()
    features = model.features_of(pixels[:IMAGES])
    worst, scale = 0.0, 1.0
    for count in range(1, min(MOST, len(features)) + 1):
        given = features[:count]
        answers = model.with_prototypes(given, [str(one) for one in range(count)]).logits(pixels[:IMAGES])
        expected = nearness(torch.from_numpy(features), torch.from_numpy(given), net.head.distance).numpy()
        worst, scale = max(worst, float(np.abs(answers - expected).max())), max(scale, float(np.abs(expected).max()))
    if not worst <= tolerance * scale:
        text = f"{model.path.name} answers otherwise than its features say when it gets prototypes"
        raise GateError(f"{text}: a logit differs by {worst:.3g}", "report the network's name", code="E601")
    return Report(rows=(Measurement(name="parity/prototypes", value=worst, n=len(features)),))
