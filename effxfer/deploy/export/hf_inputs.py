"""Write a file of texts with the inputs that servers of Hugging Face feed, beside the file of effxfer.

A file of effxfer has one input, `ids`; the network derives padding and segments from it. Servers pass what their
tokenizers return: `input_ids`, `attention_mask`, and `token_type_ids` where there are segments. The graph is the same
but for its beginning: where the mask is 0 the id is that of padding, and segments are looked up as they are passed.

It is a second file, because the runtime, the gates and `bench` run files of one input: a caller cannot pass segments or
a mask that do not fit the ids. The runtime refuses this one, and names the other.

Shape legend: B texts, n tokens.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.onnx import load
from effxfer.deploy.graph.graph import remove_unread_nodes
from effxfer.errors import ModelFileError
from effxfer.runtime.model_file.metadata import HF_INPUTS, INPUT, OUTPUT
from effxfer.runtime.text.tokens import Tokens

if TYPE_CHECKING:
    import onnx

INPUT_IDS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
SEGMENT_TABLE = "embeddings.segments.weight"


def write_hf_inputs(file: Path, out: Path, tokens: Tokens) -> Path:
    """Write a copy of an exported file with the inputs of Hugging Face, int64 `(B, n)` each.

    Args:
        file: File of texts that `export_onnx` wrote, or an int8 file made from one.
        out: File to write. Its output is that of `file`.
        tokens: Input of the file.

    Raises:
        ModelFileError: `E426` if the graph has no input of ids.
    """
    import onnx

    model = load(file)
    ids = next((value for value in model.graph.input if value.name == tokens.name), None)
    if ids is None:
        raise ModelFileError(f"{file.name} has no input {tokens.name!r}", "export a network of texts", code="E426")
    make = onnx.helper.make_node
    nodes = [
        make("Cast", [MASK], [f"{MASK}_bool"], name=f"{MASK}_cast", to=onnx.TensorProto.BOOL),
        make("Where", [f"{MASK}_bool", INPUT_IDS, f"{tokens.name}_pad"], [tokens.name], name=f"{tokens.name}_where"),
    ]
    body, names = list(model.graph.node), [INPUT_IDS, MASK]
    if look_ups := [node for node in body if node.op_type == "Gather" and node.input[0].endswith(SEGMENT_TABLE)]:
        names.append(SEGMENTS)
        for node in look_ups:
            node.input[1] = SEGMENTS
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    pad = onnx.numpy_helper.from_array(np.array(tokens.pad, np.int64), f"{tokens.name}_pad")
    model.graph.initializer.append(pad)
    _replace_input(model, ids, names)
    _describe(model)
    return write_model(remove_unread_nodes(model), out)


def hf_feed(ids: NDArray[np.int64], tokens: Tokens, separator: int) -> dict[str, NDArray[np.int64]]:
    """Return what a tokenizer of Hugging Face passes for ids `(B, n)`, padding behind each text.

    Args:
        ids: Padded ids.
        tokens: Input of the network.
        separator: Id behind each segment; -1 without segments.
    """
    mask = (ids != tokens.pad).astype(np.int64)
    behind = (ids == separator).astype(np.int64)
    # Of a pair and no more, as the network counts them: a sample of repeated tokens may hold more separators.
    segments = {SEGMENTS: np.minimum(behind.cumsum(1) - behind, 1) * mask} if separator >= 0 else {}
    return {INPUT_IDS: ids, MASK: mask, **segments}


def _replace_input(model: "onnx.ModelProto", ids: "onnx.ValueInfoProto", names: list[str]) -> None:
    """Put inputs of the type and the axes of `ids` in its place."""
    import onnx

    other_inputs = [value for value in model.graph.input if value.name != ids.name]
    inputs = []
    for name in names:
        value = onnx.ValueInfoProto()
        value.CopyFrom(ids)
        value.name = name
        inputs.append(value)
    del model.graph.input[:]
    model.graph.input.extend([*inputs, *other_inputs])


def _describe(model: "onnx.ModelProto") -> None:
    """Leave out what says that the runtime can run the file."""
    import onnx

    properties = {entry.key: entry.value for entry in model.metadata_props if entry.key not in (INPUT, OUTPUT)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**properties, HF_INPUTS: "true"})
