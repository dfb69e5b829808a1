"""An ONNX graph in memory, with look-ups of the producers, consumers and constants of its tensors."""

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
from effxfer.runtime.session import error_summary

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Graph:
    """Look-ups on a model; create a new `Graph` after changing the model.

    Attributes:
        model: The model with its weights.
    """

    model: "onnx.ModelProto"

    @property
    def nodes(self) -> "list[onnx.NodeProto]":
        """All nodes, in order."""
        return list(self.model.graph.node)

    @cached_property
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """Values of initializers and constant nodes, by tensor, except initializers that are also inputs."""
        from onnx import numpy_helper

        # An initializer that is an input as well is only its default.
        inputs = {value_info.name for value_info in self.model.graph.input}
        constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer if t.name not in inputs}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        return constants

    @cached_property
    def producers(self) -> "Mapping[str, onnx.NodeProto]":
        """By tensor, the node that computes it."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> "Mapping[str, list[onnx.NodeProto]]":
        """By tensor, the nodes that read it, once per use; reads of subgraphs (branches, loops) count too."""
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in (*node.input, *_subgraph_reads(node)):
                consumers.setdefault(name, []).append(node)
        return consumers

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the model's outputs."""
        return frozenset(value_info.name for value_info in self.model.graph.output)

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return next((o.version for o in self.model.opset_import if o.domain in {"", "ai.onnx"}), 1)

    def only_reader(self, tensor: str) -> "onnx.NodeProto | None":
        """Return the only node that reads a tensor; None if it is read several times or is an output of the model."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """An alternative graph of a model.

    Attributes:
        model: The graph.
        nodes: Names of the changed nodes of the file.
        exact: Whether it computes the same function, up to rounding.
    """

    model: "onnx.ModelProto"
    nodes: tuple[str, ...]
    exact: bool = True


def attributes(node: "onnx.NodeProto") -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def open_graph(file: Path) -> Graph:
    """Read a file of any origin, and check that ONNX Runtime accepts it.

    Raises:
        ModelFileError: If it is absent, broken, refused, or refers to weights outside its folder.
    """
    import onnx

    model = read_onnx(file)
    try:
        # Checked before onnx follows them.
        sidecars(model, file)
        onnx.load_external_data_for_model(model, str(file.parent))
    except ModelFileError:
        raise
    except Exception as error:  # damaged tensors raise anything
        raise ModelFileError(f"{file} is damaged: {error_summary(error)}", "export it again", code="E424") from error
    open_session(file, 1)
    return Graph(name_nodes(model))


def name_nodes(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Give every node a unique name, in place."""
    names: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{number}"
        names.add(node.name)
    return model


def copy_model(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy that may be changed."""
    import onnx

    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate


def set_constant(model: "onnx.ModelProto", name: str, value: NDArray[Any]) -> str:
    """Add a constant, or replace the one of that name; return the name."""
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for old in model.graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def replace_nodes(model: "onnx.ModelProto", nodes: "Iterable[onnx.NodeProto]") -> "onnx.ModelProto":
    """Replace a model's nodes in place; remove constants that are not read, and inferred shapes."""
    new_nodes = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(new_nodes)
    read = {name for node in new_nodes for name in (*node.input, *_subgraph_reads(node))} | {
        o.name for o in model.graph.output
    }
    tensors = [t for t in model.graph.initializer if t.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    # Shapes of tensors that may be gone or changed; ONNX Runtime infers them anew.
    del model.graph.value_info[:]
    return model


def remove_unread_nodes(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Remove nodes whose outputs are not read, in place."""
    graph = Graph(model)
    read = set(graph.consumers) | graph.outputs
    used = [node for node in graph.nodes if any(name in read for name in node.output)]
    return model if len(used) == len(graph.nodes) else remove_unread_nodes(replace_nodes(model, used))


def _subgraph_reads(node: "onnx.NodeProto") -> list[str]:
    """Names that the subgraphs of a node read, their inner names included."""
    inner = [a.g for a in node.attribute if a.HasField("g")]
    return [
        name
        for graph in inner
        for inner_node in graph.node
        for name in (*inner_node.input, *_subgraph_reads(inner_node))
    ]
