"""Operator sets 13 to 17, for runtimes older than the exporter supports.

torch writes operator set 18 and later. ONNX's own version converter does not get below from there: it has no way back
for `Add` and `Split`, and leaves attributes that its checker refuses. So every node is either given the older version's
number, where the schemas of both show that nothing but types and optional attributes were added and that this node uses
none of them, or written with older operators. What is left is refused by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from effxfer.deploy.graph.graph import Graph, attributes, name_nodes, replace_nodes
from effxfer.deploy.settings import OPSET
from effxfer.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

NATIVE = 18  # the oldest operator set that torch writes
RELEASED = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8}  # the IR version of the first ONNX release with an operator set
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
# Newer versions of these take more types or optional attributes; what they compute has not changed.
WIDENED = frozenset(
    {"Add", "BatchNormalization", "CumSum", "Div", "GRU", "GreaterOrEqual", "Identity", "LSTM", "LeakyRelu",
     "LessOrEqual", "LpPool", "Mul", "PRelu", "Pad", "Pow", "RNN", "Relu", "Reshape", "Resize", "ScatterElements",
     "ScatterND", "Shape", "Split", "Sub", "Where", *(f"Reduce{kind}" for kind in REDUCTIONS)}
)  # fmt: skip
Nodes: TypeAlias = "list[onnx.NodeProto] | None"


@dataclass(frozen=True)
class Facts:
    """Graph facts that rewriting needs: types, shapes and new constants.

    Attributes:
        graph: The original graph.
        added: New constants.
    """

    graph: Graph
    added: "list[onnx.TensorProto]" = field(default_factory=list)

    @cached_property
    def values(self) -> "dict[str, onnx.TypeProto.Tensor]":
        """Type and shape by tensor, where the exporter wrote them."""
        graph = self.graph.model.graph
        return {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}

    def kind(self, name: str) -> str:
        """Return a tensor's type in the notation of schemas, such as `tensor(float)`; empty if unknown."""
        from onnx import TensorProto

        value = self.values.get(name)
        return f"tensor({TensorProto.DataType.Name(value.elem_type).lower()})" if value and value.elem_type else ""

    def side(self, name: str, axis: int) -> int:
        """Return the length of a tensor along an axis; 0 if it is unknown or free."""
        dims = self.values[name].shape.dim if name in self.values else []
        return int(dims[axis].dim_value) if -len(dims) <= axis < len(dims) else 0

    def constant(self, name: str, value: Any, kind: Any = np.int64) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.added.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name


def lower(model: "onnx.ModelProto", opset: int) -> None:
    """Convert a model of operator set 18 to an older one, in place, with the matching IR version.

    Args:
        model: Model with types and shapes of its tensors, like torch writes it.
        opset: 13 to 17.

    Raises:
        ModelFileError: If a node cannot be expressed there (E431), with the operator and the oldest set that has it.
    """
    if opset not in RELEASED:
        raise ModelFileError(f"no way to operator set {opset}", "set opset to 13 or later", code="E426")
    # Names first: new nodes and tensors are called after the old ones.
    facts, nodes = Facts(Graph(name_nodes(model))), list["onnx.NodeProto"]()
    for node in model.graph.node:
        lowered = _lower_node(node, facts, opset)
        if lowered is None:
            raise _refusal(model, opset)
        nodes += lowered
    model.graph.initializer.extend(facts.added)
    replace_nodes(model, nodes)
    next(o for o in model.opset_import if o.domain in {"", "ai.onnx"}).version = opset
    model.ir_version = RELEASED[opset]


def describe_excess(model: "onnx.ModelProto", opset: int) -> str:
    """Explain how a model exceeds the older operator set of its source file; empty if it does not."""
    now = Graph(model).opset
    if opset < OPSET and now != opset:
        return f"it needs operator set {now}, not {opset}"
    if model.ir_version > RELEASED.get(opset, model.ir_version):
        return f"it needs IR version {model.ir_version}, operator set {opset} came with {RELEASED[opset]}"
    return ""


def _refusal(model: "onnx.ModelProto", opset: int) -> ModelFileError:
    """Name the operator with the newest requirement, and the oldest operator set that supports the graph."""
    from onnx import defs

    facts = Facts(Graph(model))
    needs = [
        next((version for version in range(opset, NATIVE) if _lower_node(node, facts, version) is not None), NATIVE)
        for node in model.graph.node
    ]
    node = model.graph.node[needs.index(max(needs))]
    operator = f"{node.op_type} (version {defs.get_schema(node.op_type, NATIVE).since_version}, node {node.name})"
    problem = f"operator set {opset} cannot express {operator} as this network uses it"
    return ModelFileError(problem, f"set opset={max(needs)} or later", code="E431")


def _lower_node(node: "onnx.NodeProto", facts: Facts, opset: int) -> Nodes:
    """Return nodes of an operator set that compute the same as a node; None if there are none."""
    from onnx import defs

    if any(a.HasField("g") or a.graphs for a in node.attribute):
        return None  # graphs inside a node are left alone
    if defs.get_schema(node.op_type, NATIVE).since_version <= opset:
        return [node]
    rewritten = REWRITES[node.op_type](node, facts) if node.op_type in REWRITES else [node]
    # What replaces a node may itself be too new.
    nodes = [older for part in rewritten or [] if (older := _downgrade(part, facts, opset)) is not None]
    return nodes if rewritten and len(nodes) == len(rewritten) else None


def _downgrade(node: "onnx.NodeProto", facts: Facts, opset: int) -> "onnx.NodeProto | None":
    """Drop a node's default attributes; return it if its operator supports the rest in an older operator set."""
    from onnx import NodeProto, defs

    try:
        schema, now = defs.get_schema(node.op_type, opset), defs.get_schema(node.op_type, NATIVE)
    except defs.SchemaError:
        return None
    older = NodeProto()
    older.CopyFrom(node)
    used = [a for a in node.attribute if a.name in schema.attributes or not _is_default(a, node, facts, now)]
    del older.attribute[:]
    older.attribute.extend(used)
    compatible = schema.since_version == now.since_version or node.op_type in WIDENED
    return (
        older if compatible and all(a.name in schema.attributes for a in used) and _fits(older, schema, facts) else None
    )


def _is_default(attribute: Any, node: "onnx.NodeProto", facts: Facts, schema: Any) -> bool:
    """Whether an attribute has its default value."""
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    formal = schema.attributes.get(attribute.name)
    if formal is not None and formal.default_value.name and helper.get_attribute_value(formal.default_value) == value:
        return True
    # `allowzero` differs only for sides of 0, which a computed shape has only for an empty batch
    return attribute.name == "allowzero" and 0 not in facts.graph.constants.get(node.input[1], np.ones(1))


def _fits(node: "onnx.NodeProto", schema: Any, facts: Facts) -> bool:
    """Whether an operator took this many inputs and outputs, of these types."""
    counts = schema.min_input <= len(node.input) <= schema.max_input and len(node.output) <= schema.max_output
    return bool(
        counts and _types_match(node.input, schema.inputs, facts) and _types_match(node.output, schema.outputs, facts)
    )


def _types_match(names: Sequence[str], formal: Sequence[Any], facts: Facts) -> bool:
    pairs = [(facts.kind(name), formal[min(i, len(formal) - 1)].types) for i, name in enumerate(names)]
    return all(not kind or kind in types for kind, types in pairs)


def _hard_swish(node: "onnx.NodeProto", _facts: Facts) -> Nodes:
    """Input times HardSigmoid; the operator came with operator set 14."""
    return _times(node, [_part(node, "HardSigmoid", [node.input[0]], "gate", alpha=1 / 6, beta=0.5)])


def _mish(node: "onnx.NodeProto", _facts: Facts) -> Nodes:
    """Input times Tanh of Softplus; the operator came with operator set 18."""
    soft = _part(node, "Softplus", [node.input[0]], "soft")
    return _times(node, [soft, _part(node, "Tanh", [soft.output[0]], "gate")])


def _times(node: "onnx.NodeProto", gate: "list[onnx.NodeProto]") -> Nodes:
    return [*gate, _part(node, "Mul", [node.input[0], gate[-1].output[0]], "")]


def _layer_norm(node: "onnx.NodeProto", facts: Facts) -> Nodes:
    """Mean, variance and scale in single steps, as exporters wrote it before operator set 17 had the operator."""
    settings = {"axis": -1, "epsilon": 1e-5, **attributes(node)}
    rank = len(facts.values[node.input[0]].shape.dim) if node.input[0] in facts.values else 0
    first = settings["axis"] - rank if settings["axis"] >= 0 and rank else settings["axis"]
    # In half precision the operator computes its statistics in float32, which single steps would not.
    if first >= 0 or any(node.output[1:]) or facts.kind(node.input[0]) != "tensor(float)":
        return None  # of an unknown rank, with its statistics as outputs, or in another precision inside
    axes, name = list(range(first, 0)), node.name
    mean = _part(node, "ReduceMean", [node.input[0]], "mean", axes=axes, keepdims=1)
    centred = _part(node, "Sub", [node.input[0], mean.output[0]], "centred")
    square = _part(node, "Mul", [centred.output[0]] * 2, "square")
    variance = _part(node, "ReduceMean", [square.output[0]], "variance", axes=axes, keepdims=1)
    tiny = facts.constant(f"{name}/epsilon", settings["epsilon"], np.float32)
    safe = _part(node, "Add", [variance.output[0], tiny], "safe")
    deviation = _part(node, "Sqrt", [safe.output[0]], "deviation")
    even = _part(node, "Div", [centred.output[0], deviation.output[0]], "even")
    nodes = [mean, centred, square, variance, safe, deviation, even]
    biased = len(node.input) > 2 and bool(node.input[2])
    nodes.append(_part(node, "Mul", [even.output[0], node.input[1]], "scaled" if biased else ""))
    return [*nodes, _part(node, "Add", [nodes[-1].output[0], node.input[2]], "")] if biased else nodes


def _reduction(node: "onnx.NodeProto", facts: Facts) -> Nodes:
    """Axes were an attribute before operator set 18."""
    settings = attributes(node)
    noop = settings.pop("noop_with_empty_axes", 0)
    if len(node.input) > 1 and node.input[1]:
        axes = facts.graph.constants.get(node.input[1])
        if axes is None or (noop and not axes.size):
            return None
        settings |= {"axes": axes.reshape(-1).tolist()} if axes.size else {}
    elif noop:
        return None
    return [_part(node, node.op_type, [node.input[0]], "", **settings)]


def _shape(node: "onnx.NodeProto", facts: Facts) -> Nodes:
    """A stretch of the shape was cut out by Slice before operator set 15."""
    # Slice's way to say "to the end".
    settings = {"start": 0, "end": np.iinfo(np.int64).max, **attributes(node)}
    full = _part(node, "Shape", [node.input[0]], "whole")
    ends = [facts.constant(f"{node.name}/{key}", [settings[key]]) for key in ("start", "end")]
    return [full, _part(node, "Slice", [full.output[0], *ends], "")]


def _split(node: "onnx.NodeProto", facts: Facts) -> Nodes:
    """Sizes of parts, or none for equal ones; their number became an attribute in operator set 18."""
    settings = attributes(node)
    count = settings.pop("num_outputs", None)
    if count is None:
        return [node]
    side = facts.side(node.input[0], settings.get("axis", 0))
    if not side:
        return None
    part = -(-side // count)
    sizes = [part] * (count - 1) + [side - part * (count - 1)]
    inputs = [node.input[0], facts.constant(f"{node.name}/sizes", sizes)]
    return [_part(node, "Split", inputs, "", **settings)]


def _part(node: "onnx.NodeProto", op: str, inputs: Sequence[str], name: str, **settings: Any) -> "onnx.NodeProto":
    """Make a replacement node; the last one, without a name, has the outputs of the original."""
    from onnx import helper

    outputs = [f"{node.name}/{name}"] if name else list(node.output)
    return helper.make_node(op, list(inputs), outputs, name=f"{node.name}/{name}" if name else node.name, **settings)


REWRITES: "dict[str, Callable[[onnx.NodeProto, Facts], Nodes]]" = {
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_norm,
    "Mish": _mish,
    "Shape": _shape,
    "Split": _split,
    **{f"Reduce{kind}": _reduction for kind in REDUCTIONS},
}
