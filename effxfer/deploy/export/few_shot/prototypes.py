"""Export of networks whose classes are points, with these as an input: new classes need no new file.

Points are prototypes, the mean features of a few examples, or class embeddings, such as attributes.

Shape legend: B images, S side, D features, C classes.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.errors import GateError
from effxfer.net.heads.compare import Compare
from effxfer.net.heads.multi_head import MultiHead
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.model import Model
from effxfer.runtime.model_file.metadata import CALIBRATION, CLASS_TABLES
from effxfer.runtime.rows import Rows

if TYPE_CHECKING:
    import onnx

# Chosen: counts from 1 to 8 show that the number of classes is free; each is a run of 32 images.
IMAGES, MAX_PROTOTYPES = 32, 8


class PrototypeInput(nn.Module):
    """A network that takes images and prototypes, and returns logits and features."""

    def __init__(self, net: Net, head: Prototypes) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, images: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, 3, S, S)` and `(C, D)` to `(B, C)` and `(B, D)`."""
        features = self.head.transform(self.net.features(images))
        return self.head.compare(features, prototypes), features


class ClassEmbeddingInput(nn.Module):
    """A network that takes examples and class embeddings, and returns logits."""

    def __init__(self, net: Net, head: Compare) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, examples: Tensor, class_embeddings: Tensor) -> Tensor:
        """Map an input `(B, ...)` and `(C, E)` to `(B, C)`."""
        return self.head.compare(self.net.features(examples), class_embeddings)


class TaskAnswers(nn.Module):
    """A network of several tasks with an output for each."""

    def __init__(self, net: Net, head: MultiHead) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an input `(B, ...)` to the outputs of the tasks, `(B, c)` each."""
        return self.head.answers(self.net.features(x))


def class_embeddings_of(net: Net) -> Tensor | None:
    """Return the class embeddings of a network's own classes, `(C, E)`; None for heads that compare with none."""
    return net.head.table if isinstance(net.head, Compare) else None


def calibration_metadata(net: Net) -> dict[str, str]:
    """Return the metadata entry that says what a network's own classes are lowered by beside new ones."""
    return {CALIBRATION: repr(float(net.head.calibration))} if isinstance(net.head, Compare) else {}


def exported_module(net: Net) -> tuple[nn.Module, Tensor | None]:
    """Return the module to export in evaluation mode, and its prototypes (None for other heads)."""
    if isinstance(net.head, MultiHead):
        return TaskAnswers(net, net.head).eval(), None
    if isinstance(net.head, Compare):
        return ClassEmbeddingInput(net, net.head).eval(), None
    if not isinstance(net.head, Prototypes):
        return net, None
    return PrototypeInput(net, net.head).eval(), net.head.out.weight


def from_prototypes(graph: "onnx.GraphProto") -> list[str]:
    """List the nodes that depend on rows of classes: their range is unknown, so they are not quantized."""
    dependent, names = {value.name for value in graph.input} & set(CLASS_TABLES), list[str]()
    for node in graph.node:
        if dependent & set(node.input):
            dependent |= set(node.output)
            names.append(node.name)
    return names


def check_prototypes(model: Model, net: Net, pixels: NDArray[np.uint8], tolerance: float) -> Report:
    """Run a file with new prototypes, and compare its logits with those computed from its features.

    Args:
        model: Exported model of any precision.
        net: The exported network; nothing is checked if its head has no prototypes.
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
    for count in range(1, min(MAX_PROTOTYPES, len(features)) + 1):
        prototypes = features[:count]
        answers = model.with_prototypes(prototypes, [str(number) for number in range(count)]).logits(pixels[:IMAGES])
        expected = _compare(net.head, features, prototypes)
        worst, scale = max(worst, float(np.abs(answers - expected).max())), max(scale, float(np.abs(expected).max()))
    if not worst <= tolerance * scale:
        text = f"{model.path.name} answers otherwise than its features say when it gets prototypes"
        raise GateError(f"{text}: a logit differs by {worst:.3g}", "report the network's name", code="E601")
    return Report(rows=(Measurement(name="parity/prototypes", value=worst, n=len(features)),))


@torch.no_grad()
def _compare(head: Prototypes, features: NDArray[np.float32], prototypes: NDArray[np.float32]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = head.compare(torch.from_numpy(features), torch.from_numpy(prototypes)).numpy()
    return logits


@torch.no_grad()
def check_class_embeddings(model: Model, net: Net, rows: Rows, tolerance: float) -> Report:
    """Run a file with other class embeddings, and compare its logits with those of its network.

    Args:
        model: Exported model in float32.
        net: The exported network; nothing is checked if its head compares with no class embeddings.
        rows: Decoded examples, of which some are used.
        tolerance: Largest difference of a logit, as a share of the largest one (of 1, where all are smaller).

    Returns:
        `parity/class embeddings`: that difference.

    Raises:
        GateError: If it is larger.
    """
    if not isinstance(net.head, Compare):
        return Report()
    chosen = rows[:IMAGES]
    features = net.eval().features(torch.from_numpy(net.input.feed(chosen)))
    worst, scale = 0.0, 1.0
    for count in range(1, MAX_PROTOTYPES + 1):
        # Mixtures of its own classes are in the range of what it will be asked for.
        mixed = net.head.table.roll(count, 0)[: min(count, len(net.head.table))] * 0.5 + net.head.table[:1] * 0.5
        labels = [str(number) for number in range(len(mixed))]
        answers = model.with_classes(mixed.numpy(), labels, calibration=0.0).logits(chosen)
        expected = net.head.compare(features, mixed).numpy()
        worst, scale = max(worst, float(np.abs(answers - expected).max())), max(scale, float(np.abs(expected).max()))
    if not worst <= tolerance * scale:
        text = f"{model.path.name} answers otherwise than its network when it gets class embeddings"
        raise GateError(f"{text}: a logit differs by {worst:.3g}", "report the network's name", code="E601")
    return Report(rows=(Measurement(name="parity/class embeddings", value=worst, n=len(chosen)),))
