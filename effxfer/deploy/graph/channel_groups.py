"""Which tensors of an ONNX graph share their channels, and which constants hold an entry per channel.

Channels are followed from layer to layer as in DepGraph (Fang et al. 2023, https://arxiv.org/abs/2301.12900): what is
added, multiplied or passed on channel by channel has the same channels. Where an operator mixes them in a way that is
not known here, they stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, attributes

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
ZERO_STAYS = {"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "HardSwish", "Gelu", "Mish", "Tanh", "Elu", "Selu",
              "Abs", "Neg", "Sqrt", "Erf", "Softsign", "ThresholdedRelu", "Clip"}  # fmt: skip
ALONE = ZERO_STAYS | {"Sigmoid", "HardSigmoid", "Exp", "Log", "Softplus", "Reciprocal", "Floor", "Ceil"}
POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"}
PAIRS = {"Add", "Mul", "Sub", "Div", "Max", "Min", "Sum"}
FLAT = {"Flatten", "Reshape", "Squeeze"}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """An axis of a constant that holds one entry per channel.

    Attributes:
        name: Of the constant.
        axis: The axis.
        role: `write`: zero there makes the channel zero; `read`: zero there means that nobody reads it.
        filler: What a channel of zeros gets.
        zero: Entries are all zero where this is true, `(C,)`; None to look at the constant itself.
    """

    name: str
    axis: int
    role: str
    filler: float = 0.0
    zero: Any = None


@dataclass(kw_only=True)
class Group:
    """Channels that must stay alike: those of one or several tensors.

    Attributes:
        size: How many.
        slices: Constants that hold an entry per channel.
        layers: Names of the layers that write them.
        depthwise: Names of the layers whose number of groups is theirs.
        flattened: Names of the reshapes that take axes of length 1 off them.
        fixed: They cannot be changed.
        passes_zero: A channel of zeros stays zero on its way.
    """

    size: int = 0
    slices: list[Slice] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    depthwise: list[str] = field(default_factory=list)
    flattened: list[str] = field(default_factory=list)
    fixed: bool = False
    passes_zero: bool = True


def channel_groups(graph: Graph, shapes: Shapes) -> list[Group]:
    """Find which tensors share their channels, and which constants hold an entry per channel."""
    ties = _Ties(graph, shapes)
    for node in graph.nodes:
        ties.visit(node)
    for name in (*(given.name for given in graph.model.graph.input), *graph.outputs):
        ties.fix(name)
    return ties.groups()


class _Ties:
    """Tensors joined where their channels are the same."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self.graph, self.shapes = graph, shapes
        self.parent: dict[str, str] = {}
        self.parts: dict[str, Group] = {}
        self.uses: dict[str, int] = {}

    def root(self, tensor: str) -> str:
        while self.parent.setdefault(tensor, tensor) != tensor:
            tensor = self.parent[tensor]
        return tensor

    def part(self, tensor: str) -> Group:
        """What is known of a tensor's channels by itself; `groups` puts it together."""
        return self.parts.setdefault(tensor, Group())

    def fix(self, *tensors: str) -> None:
        for tensor in tensors:
            self.root(tensor)
            self.part(tensor).fixed = True

    def join(self, one: str, other: str) -> None:
        self.parent[self.root(one)] = self.root(other)

    def groups(self) -> list[Group]:
        """Put together what is known of joined tensors."""
        found: dict[str, Group] = {}
        for tensor in list(self.parent):
            whole, part = found.setdefault(self.root(tensor), Group()), self.part(tensor)
            shape = self.shapes.get(tensor, ())
            size = shape[1] if len(shape) > 1 else 0
            whole.fixed |= part.fixed or not size or (whole.size not in {0, size})
            whole.size, whole.passes_zero = size, whole.passes_zero and part.passes_zero
            whole.slices += part.slices
            whole.layers += part.layers
            whole.depthwise += part.depthwise
            whole.flattened += part.flattened
        for group in found.values():
            group.fixed |= any(self.uses[one.name] > 1 for one in group.slices)
        return list(found.values())

    def visit(self, node: "onnx.NodeProto") -> None:
        """Join and note what a node says about channels."""
        known = self._layer(node) or self._pair(node) or self._alone(node)
        if not known:
            self.fix(*(name for name in (*node.input, *node.output) if name and name not in self.graph.constants))

    def note(self, tensor: str, name: str, axis: int, role: str, filler: float = 0.0, zero: Any = None) -> None:
        self.uses[name] = len(self.graph.consumers.get(name, []))
        self.root(tensor)
        self.part(tensor).slices.append(Slice(name=name, axis=axis, role=role, filler=filler, zero=zero))

    def _layer(self, node: "onnx.NodeProto") -> bool:
        """Convolutions and matrix products with constant weights: they read some channels and write others."""
        weight = self._weight(node)
        if weight is None:
            return False
        x, y, about = node.input[0], node.output[0], attributes(node)
        out, into = (0, 1) if node.op_type == "Conv" or about.get("transB") else (1, 0)
        alone = about.get("group", 1) > 1
        if alone and weight.shape[:2] != (about["group"], 1):
            return False
        if alone:
            self.join(x, y)
            self.part(y).depthwise.append(node.name)
        else:
            self.note(x, node.input[1], into, "read")
        self.note(y, node.input[1], out, "through" if alone else "write")
        self.part(y).layers.append(node.name)
        for name in filter(None, node.input[2:]):
            self.note(y, name, self.graph.constants[name].ndim - 1, "write")
        return True

    def _weight(self, node: "onnx.NodeProto") -> Array | None:
        """Give the weight of a layer whose channels can be followed, else None."""
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.input[0] in self.graph.constants:
            return None
        weight, about = self.graph.constants.get(node.input[1]), attributes(node)
        if weight is None or about.get("transA") or len(self.shapes.get(node.output[0], ())) < 2:
            return None
        if node.op_type != "Conv" and not weight.ndim == len(self.shapes[node.output[0]]) == 2:
            return None
        out = weight.shape[0 if node.op_type == "Conv" or about.get("transB") else 1]
        biases = [self.graph.constants.get(name) for name in node.input[2:] if name]
        return weight if all(value is not None and value.size == out for value in biases) else None

    def _pair(self, node: "onnx.NodeProto") -> bool:
        """Element-wise nodes of several inputs: equal channels are joined, constants noted."""
        if node.op_type not in PAIRS:
            return False
        y, given = node.output[0], [name for name in node.input if name not in self.graph.constants]
        shape = self.shapes.get(y, ())
        if len(shape) < 2 or not given or any(self.shapes.get(n, ())[1:2] != shape[1:2] for n in given):
            return False
        if any(len(self.shapes[n]) != len(shape) for n in given):
            return False
        for name in given:
            self.join(name, y)
        return all(self._constant(node, name, shape) for name in node.input if name in self.graph.constants)

    def _constant(self, node: "onnx.NodeProto", name: str, shape: tuple[int, ...]) -> bool:
        value, y = self.graph.constants[name], node.output[0]
        axis = value.ndim - (len(shape) - 1)
        kept = node.op_type == "Mul" or (node.op_type == "Div" and name == node.input[1])
        if value.size == 1:
            self.part(y).passes_zero &= kept or not value.any()
            return True
        if axis < 0 or value.size != value.shape[axis] or value.size != shape[1]:
            return False
        self.note(y, name, axis, "through" if kept else "write", filler=float(node.op_type == "Div"))
        return True

    def _alone(self, node: "onnx.NodeProto") -> bool:
        """Nodes of one input that keep channels apart."""
        if not node.input or node.input[0] in self.graph.constants or any(name for name in node.output[1:]):
            return False
        x, y = node.input[0], node.output[0]
        if node.op_type == "BatchNormalization":
            return self._normalization(node)
        if not (node.op_type in ALONE | POOLS or self._over_space(node) or self._flat(node)):
            return False
        if any(
            self.graph.constants.get(name, np.zeros(2)).size > 1 for name in node.input[1:] if node.op_type in ALONE
        ):
            return False
        self.join(x, y)
        self.part(y).flattened += [node.name] if node.op_type == "Reshape" else []
        self.part(y).passes_zero &= node.op_type not in ALONE - ZERO_STAYS and self._clips_zero(node)
        return True

    def _clips_zero(self, node: "onnx.NodeProto") -> bool:
        if node.op_type != "Clip":
            return True
        about = attributes(node)
        ends = [self.graph.constants.get(name) if name else None for name in node.input[1:]]
        low = float(ends[0]) if ends and ends[0] is not None else about.get("min", -np.inf)
        high = float(ends[1]) if len(ends) > 1 and ends[1] is not None else about.get("max", np.inf)
        return bool(low <= 0 <= high)

    def _over_space(self, node: "onnx.NodeProto") -> bool:
        if node.op_type not in {"ReduceMean", "ReduceMax", "ReduceSum"}:
            return False
        axes = attributes(node).get("axes")
        if axes is None and len(node.input) > 1:
            axes = self.graph.constants.get(node.input[1])
        dims = len(self.shapes.get(node.input[0], ()))
        return axes is not None and dims > 2 and all(int(axis) % dims > 1 for axis in axes)

    def _flat(self, node: "onnx.NodeProto") -> bool:
        """A reshape that only takes away axes of length 1 after the channels."""
        before, after = self.shapes.get(node.input[0], ()), self.shapes.get(node.output[0], ())
        return node.op_type in FLAT and len(after) == 2 and before[:2] == after and set(before[2:]) <= {1}

    def _normalization(self, node: "onnx.NodeProto") -> bool:
        values = [self.graph.constants[name] for name in node.input[1:] if name in self.graph.constants]
        if len(values) < 4 or attributes(node).get("training_mode"):
            return False
        gamma, beta, mean, var = values
        shift = beta - mean * gamma / np.sqrt(var + attributes(node).get("epsilon", 1e-5))
        self.join(node.input[0], node.output[0])
        for name, filler in zip(node.input[1:], (0.0, 0.0, 0.0, 1.0), strict=True):
            role = "write" if name == node.input[2] else "through"
            self.note(node.output[0], name, 0, role, filler, zero=shift == 0 if role == "write" else None)
        return True
