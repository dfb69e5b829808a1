"""Read the weights of one or both towers of a dual encoder; nothing is read of a file whose shapes do not fit."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from effxfer.errors import ModelFileError
from effxfer.net.backbones.checkpoint import abbreviate, read_tables
from effxfer.net.backbones.missing_names import name_missing
from effxfer.net.backbones.weights import convert_tensors, dtype_notes
from effxfer.net.dual_encoder.description import Description
from effxfer.net.dual_encoder.tower_names import (
    DERIVED,
    PROJECTION,
    SCALE,
    Place,
    Tower,
    built_tensor,
    place_of,
    stored_shape,
)
from effxfer.net.text.folder_files import require_fit
from effxfer.net.text.huggingface import FLOAT, Shapes, State, stored_shapes
from effxfer.net.text.weight_names import fuse_queries, split_queries

HINT = "get an intact copy of the folder"
# OpenAI's limit; a scale beyond it is no CLIP's.
LARGEST_LOG_SCALE = math.log(1e4)


@dataclass(frozen=True, kw_only=True, eq=False)
class TowerWeights:
    """The weights of a tower.

    Attributes:
        state: Its `state_dict`, float32, with its projection `(E, D)` as `PROJECTION` if it has one.
        scale: What cosines are multiplied by; 1 where the file does not say.
    """

    state: State
    scale: float = 1.0


def read_towers(
    description: Description, expected: Mapping[Tower, Shapes], optional: Collection[str] = ()
) -> tuple[dict[Tower, TowerWeights], tuple[str, ...]]:  # fmt: skip
    """Read the weights of towers.

    Args:
        description: Of the folder.
        expected: The shapes of each tower to read, with that of its projection.
        optional: Names among these that may be absent.

    Returns:
        The weights by tower, and notes on what was converted.

    Raises:
        ModelFileError: `E434` if there is no file, `E403` if it is torn, `E405` or `E406` if it does not fit, `E407` or
            `E409` if it has no numbers.
    """
    file = _file(description)
    if file.suffix == ".safetensors":
        _match(stored_shapes(file), expected, optional, file)
    tensors = read_tables(file).get("", {})
    places = _match({name: tensor.shape for name, tensor in tensors.items()}, expected, optional, file)
    floats, notes = _floats({stored: tensors[stored] for stored in places}, file)
    scale = _scale([floats[stored] for stored, place in places.items() if place.name == SCALE], file)
    towers: dict[Tower, TowerWeights] = {}
    for tower, shapes in expected.items():
        shape_of = {**split_queries(shapes), **shapes}
        members = {stored: place for stored, place in places.items() if place.tower == tower and place.name != SCALE}
        state = {
            place.name: built_tensor(floats[stored], shape_of[place.name], place) for stored, place in members.items()
        }
        towers[tower] = TowerWeights(state=fuse_queries(state), scale=scale)
    return towers, notes


def _file(description: Description) -> Path:
    folder = description.file.parent
    for name in description.weights:
        if (folder / name).is_file():
            return folder / name
    sharded = [name for name in description.weights if (folder / f"{name}.index.json").exists()]
    hint = "save them in one file: `save_pretrained(folder, max_shard_size='50GB')`" if sharded else HINT
    names = " or ".join(description.weights)
    text = f"{folder} has its weights in several files" if sharded else f"{folder} has no {names}"
    raise ModelFileError(text, hint, code="E434")


def _floats(tensors: State, file: Path) -> tuple[State, tuple[str, ...]]:
    if integers := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        text = f"{file} has weights that are no floating-point numbers: {abbreviate(integers)}"
        raise ModelFileError(text, "save them as float32", code="E409")
    expected = dict.fromkeys(tensors, FLOAT)
    return convert_tensors(tensors, expected, file), dtype_notes(tensors, expected, file)


def _scale(logarithms: list[Tensor], file: Path) -> float:
    if not logarithms:
        return 1.0
    logarithm = float(logarithms[0].reshape(-1)[0])
    if logarithm > LARGEST_LOG_SCALE:
        raise ModelFileError(f"{file} has a scale of e to the power {logarithm:.4g}", HINT, code="E405")
    return math.exp(logarithm)


def _match(
    stored: Shapes, expected: Mapping[Tower, Shapes], optional: Collection[str], file: Path
) -> dict[str, Place]:  # fmt: skip
    """Return what the tensors of towers are by their names in a file, and check that all are there in their shapes.

    Raises:
        ModelFileError: `E405`, if some are missing or of another shape; `E406`, if there are unknown ones.
    """
    places = {name: place_of(name) for name in stored if not DERIVED.fullmatch(name)}
    unknown = [name for name, place in places.items() if place is None]
    missing, wrong, matched = list[str](), list[str](), dict[str, Place]()
    for tower, shapes in expected.items():
        members = {
            place.name: (name, place) for name, place in places.items() if place is not None and place.tower == tower
        }
        # open_clip stores queries, keys and values together, transformers apart.
        required = shapes if any(".attn.qkv." in name for name in members) else split_queries(shapes)
        absent = [name for name in required if name not in members and name not in optional]
        missing += [
            f"{tower} {name}" for name in name_missing(absent, {tensor: at for tensor, (at, _) in members.items()})
        ]
        unknown += [
            name for inner, (name, _) in members.items() if inner not in required and inner not in (SCALE, PROJECTION)
        ]
        for inner, (name, place) in members.items():
            if inner in required:
                matched[name] = place
                if stored[name] != (shape := stored_shape(required[inner], place)):
                    wrong.append(f"{name} is {tuple(stored[name])}, not {tuple(shape)}")
    require_fit(file, "the configuration beside it", missing=missing, wrong=wrong, unknown=unknown, hint=HINT)
    return matched | ({SCALE: Place("image", SCALE)} if SCALE in stored else {})
