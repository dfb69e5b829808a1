"""Make one int8 candidate of any kind from a float file, images and a recipe."""

from collections.abc import Collection, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from effxfer.deploy.export.onnx import load
from effxfer.deploy.int8.bias_correction import correct_biases
from effxfer.deploy.int8.dynamic import write_dynamic, write_weights
from effxfer.deploy.int8.embeddings import embedding_tables, round_tables
from effxfer.deploy.int8.equalize import equalize
from effxfer.deploy.int8.recipes import AUTO, DEFAULT, HEAVY, Recipe
from effxfer.deploy.int8.rescale import rescale
from effxfer.deploy.int8.static import HISTOGRAM_IMAGES, Feeds, is_depthwise, write_candidate
from effxfer.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

# Chosen: MobileNetV2 has 17 depthwise of 52 convolutions, ResNets none; a ViT-tiny has 97 % in matrix products.
LINEAR, DEPTHWISE = 0.5, 0.2


def make_candidate(prepared: Path, out: Path, recipe: Recipe, feeds: Feeds, float_nodes: Collection[str] = ()) -> Path:
    """Quantize a file by a recipe.

    Args:
        prepared: File that `prepare` wrote. Ranges and the equalized graph are cached next to it for other recipes.
        out: Scratch file for the candidate, without metadata.
        recipe: The recipe, of any kind.
        feeds: Calibration images.
        float_nodes: Nodes that stay in float32 besides the recipe's.

    Raises:
        ModelFileError: If the recipe does not fit the graph.
    """
    if recipe.kind == "dynamic":
        write_dynamic(prepared, out, recipe, float_nodes)
    elif recipe.kind == "weights":
        write_weights(prepared, out, float_nodes)
    else:
        _write_static(prepared, out, recipe, feeds, float_nodes)
    if recipe.tables:
        model = load(out)
        if not round_tables(model, float_nodes):
            raise ModelFileError("no embedding table to quantize", "use the recipe without `-table`", code="E426")
        out.write_bytes(model.SerializeToString())
    return out


def _write_static(prepared: Path, out: Path, recipe: Recipe, feeds: Feeds, float_nodes: Collection[str]) -> None:
    base = equalize_graph(prepared, feeds) if recipe.equalize else prepared
    write_candidate(base, out, recipe, feeds, base.parent, float_nodes)
    model, exact = load(out), load(base)
    # Before the biases are corrected: only then every bias can be moved at all.
    rescale(model, exact)
    # On fewer images: means need fewer than ranges do.
    if recipe.correct:
        correct_biases(model, exact, feeds.subset(HISTOGRAM_IMAGES))
    out.write_bytes(model.SerializeToString())


def equalize_graph(prepared: Path, feeds: Feeds) -> Path:
    """Return the equalized graph, in its own folder so that its ranges are stored separately.

    Raises:
        ModelFileError: If there is nothing to equalize.
    """
    file = prepared.parent / "equalized" / prepared.name
    if not file.exists():
        model = load(prepared)
        if not equalize(model, feeds):
            raise ModelFileError("no two convolutions that can be equalized", "use a recipe without it", code="E426")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(model.SerializeToString())
    return file


def suitable_recipes(graph: "onnx.GraphProto", recipes: Sequence[str]) -> tuple[str, ...]:
    """Replace `auto` by the recipes that suit the network's layers.

    Most weights in matrix products: dynamic ones, also with embedding tables as int8 rows if there are any. A fifth or
    more of its convolutions depthwise: equalized ones.
    """
    if tuple(recipes) != DEFAULT:
        return tuple(recipes)
    size = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    weights = {kind: _weights(graph, kind, size) for kind in HEAVY}
    if weights["MatMul"] > LINEAR * sum(weights.values()):
        return AUTO["tables" if embedding_tables(graph) else "linear"]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    narrow = sum(map(is_depthwise, convolutions))
    return AUTO["depthwise" if narrow > DEPTHWISE * len(convolutions) else "convolutions"]


def _weights(graph: "onnx.GraphProto", kind: str, size: dict[str, int]) -> int:
    return sum(size.get(name, 0) for node in graph.node if node.op_type == kind for name in node.input[1:2])
