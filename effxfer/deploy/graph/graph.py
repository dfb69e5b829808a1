"""An ONNX file in memory: who makes a tensor, who reads it, and what is constant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.measure.size import read_onnx, sidecars
from effxfer.benchmark.protocol.runners import open_session
from effxfer.errors import ModelFileError
from effxfer.runtime.session import reason

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Graph:
    """Look-ups on a model; make a new one after changing it.

    Attributes:
        model: Weights included.
    """

    model: "onnx.ModelProto"

    @property
    def nodes(self) -> "list[onnx.NodeProto]":
        """All nodes, in order."""
        return list(self.model.graph.node)

    @cached_property
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """Values of initializers and constant nodes, by tensor; one that the caller may replace is none."""
        from onnx import numpy_helper

        given = {put.name for put in self.model.graph.input}
        found = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer if t.name not in given}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        return found

    @cached_property
    def producers(self) -> "Mapping[str, onnx.NodeProto]":
        """By tensor, the node that makes it."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> "Mapping[str, list[onnx.NodeProto]]":
        """By tensor, the nodes that read it, once per use; what a branch or loop inside a node reads counts too."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in (*node.input, *_captured(node)):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def outputs(self) -> frozenset[str]:
        """What the model gives."""
        return frozenset(put.name for put in self.model.graph.output)

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return next((o.version for o in self.model.opset_import if o.domain in {"", "ai.onnx"}), 1)

    def only_reader(self, tensor: str) -> "onnx.NodeProto | None":
        """Give the one node that reads a tensor once; None if others do, too, or if the model gives it out."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """Another graph for the same job.

    Attributes:
        model: The graph.
        nodes: What was changed, by names of the file's nodes.
        exact: It computes the same function, up to rounding.
    """

    model: "onnx.ModelProto"
    nodes: tuple[str, ...]
    exact: bool = True


def attributes(node: "onnx.NodeProto") -> dict[str, Any]:
    """Give a node's attributes as plain values."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def open_graph(file: Path) -> Graph:
    """Read a file that anybody may have written, and make sure that ONNX Runtime takes it.

    Raises:
        ModelFileError: If it is absent, broken, refused, or wants weights from elsewhere than beside it.
    """
    import onnx

    model = read_onnx(file)
    try:
        sidecars(model, file)
        onnx.load_external_data_for_model(model, str(file.parent))
    except ModelFileError:
        raise
    except Exception as error:  # damaged tensors raise anything
        raise ModelFileError(f"{file} is damaged: {reason(error)}", "export it again", code="E424") from error
    open_session(file, 1)
    return Graph(named(model))


def named(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Give every node a name of its own, in place."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return model


def copy(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Give a copy that may be changed."""
    import onnx

    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def put(model: "onnx.ModelProto", name: str, value: NDArray[Any]) -> str:
    """Add a constant, or replace the one of that name; give the name."""
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for old in model.graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def replace_nodes(model: "onnx.ModelProto", nodes: "Iterable[onnx.NodeProto]") -> "onnx.ModelProto":
    """Give the model other nodes, in place; constants that nobody reads are dropped, and so are inferred shapes."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    read = {name for node in kept for name in (*node.input, *_captured(node))} | {o.name for o in model.graph.output}
    tensors = [t for t in model.graph.initializer if t.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    del model.graph.value_info[:]
    return model


def _captured(node: "onnx.NodeProto") -> list[str]:
    """What the graphs inside a node read, names of their own included."""
    inner = [a.g for a in node.attribute if a.HasField("g")]
    return [name for graph in inner for one in graph.node for name in (*one.input, *_captured(one))]
