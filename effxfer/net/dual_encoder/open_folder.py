"""Open a dual encoder's folder: `clip:FOLDER` for both towers, `hf:FOLDER` for that of texts alone.

Shape legend: D features of a tower, E numbers of an embedding.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.dual_encoder import open_clip_layout, transformers_layout
from effxfer.net.dual_encoder.description import HINT, Description
from effxfer.net.dual_encoder.tower_names import PROJECTION, Tower
from effxfer.net.dual_encoder.tower_weights import TowerWeights, read_towers
from effxfer.net.edits import apply_edit
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.net.settings import DUAL_ENCODER, ENCODER, BackboneSettings
from effxfer.net.text.encoder import Encoder
from effxfer.net.text.folder_files import read_optional, read_table
from effxfer.net.text.folder_tokens import stated_length
from effxfer.net.text.text_tower import TextTower
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.pretrained import read_tokens
from effxfer.runtime.text.tokens import Tokens

HEAD = {"kind": "compare", "form": "cosine"}
PROMPTS = ("a photo of a {}",)  # until a stage is told others
TABLE = "embeddings.tokens.weight"
Shapes = dict[str, torch.Size]


def is_dual_encoder(folder: Path) -> bool:
    """Whether a folder holds CLIP, or one of its towers, in one of the two layouts."""
    if (folder / open_clip_layout.CONFIG).is_file():
        return True
    file = folder / transformers_layout.CONFIG
    return file.is_file() and read_optional(file).get("model_type") in transformers_layout.KINDS


def open_text_tower(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Open the text tower of a folder.

    Args:
        settings: `source` is `hf:FOLDER`; `size` is the most tokens of a text, `args` replace arguments of `Encoder`.

    Returns:
        The network and notes on its weights. With a projection, its head is that of a text tower without classes.

    Raises:
        ModelFileError: As `open_dual_encoder`.
        SettingsError: If a setting is one of images.
    """
    description = describe(_folder(settings))
    tokens = text_input(description, settings.size or 0)
    net = _build({"source": ENCODER, "args": {**_encoder_arguments(description), **settings.args}}, tokens, settings)
    notes: tuple[str, ...] = ()
    if settings.pretrained:
        shapes = {**_text_shapes(description), **_projection(description, _text_width(description))}
        towers, notes = read_towers(description, {"text": shapes}, optional=(PROJECTION,))
        _load(net, _with_padding(towers["text"]))
    return net, notes


def open_dual_encoder(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Open both towers of a folder.

    Args:
        settings: `source` is `clip:FOLDER`; the others are of the image tower.

    Returns:
        The network of images, whose head has no classes yet, with its text tower, and notes on the weights.

    Raises:
        ModelFileError: If a file is absent or unreadable (E434, E403), holds code (E401), describes a network that
            cannot be built (E433), does not fit the others (E405, E406, E436, E443), or has no numbers (E407, E409); if
            there is no usable tokenizer (E440 to E445).
        SettingsError: If weights are not wanted, or a setting does not suit the tower.
    """
    if not settings.pretrained:
        raise SettingsError(
            f"{DUAL_ENCODER} opens pretrained towers", "leave pretrained out, or name a backbone of timm"
        )
    description = describe(_folder(settings))
    image = description.image
    if image is None or description.text is None:
        raise ModelFileError(f"{description.file}: {_absent(description)}", _hint(description), code="E434")
    tokens = text_input(description, 0)
    text = _build({"source": ENCODER, "args": _encoder_arguments(description)}, tokens, BackboneSettings(source="hf:"))
    net = _build({"source": image.source, "args": {**image.args, **settings.args}}, image.input, settings)
    if net.input.size != image.input.size:
        problem = f"the image tower of {description.file.parent} takes images of {image.input.size} px"
        raise SettingsError(problem, "leave size out")
    shapes: dict[Tower, Shapes] = {
        "text": {**_text_shapes(description), **_projection(description, _text_width(description))},
        "image": {**_shapes(net.body), **_projection(description, _width(net.body))},
    }
    towers, notes = read_towers(description, shapes)
    _load(text, _with_padding(towers["text"]))
    _load(net, towers["image"])
    net.text = TextTower(lambda: text, PROMPTS)
    return net, notes


def describe(folder: Path) -> Description:
    """Read the configuration of a dual encoder's folder.

    Raises:
        ModelFileError: `E433` or `E434`.
    """
    if (folder / open_clip_layout.CONFIG).is_file():
        return open_clip_layout.describe_open_clip(folder, read_table(folder / open_clip_layout.CONFIG))
    config = read_table(folder / transformers_layout.CONFIG)
    if config.get("model_type") not in transformers_layout.KINDS:
        kind = str(config.get("model_type"))[:60]
        text = f"{folder} holds a model of type {kind!r}, no dual encoder of images and texts"
        raise ModelFileError(
            text, "CLIP of transformers and open_clip works; hf:FOLDER opens text encoders", code="E432"
        )
    return transformers_layout.describe_transformers(folder, config)


def text_input(description: Description, size: int) -> Tokens:
    """Return the input of a text tower, with an id of its own for padding: CLIP pads with the end of the text.

    Args:
        description: Of the folder.
        size: Most tokens of a text; 0 for what the folder says.

    Raises:
        ModelFileError: `E434` without a text tower; `E436` if texts do not end with the token that the network reads;
            `E437` if `size` is beyond its positions; `E440` to `E445` without a usable tokenizer.
    """
    if description.text is None:
        raise ModelFileError(f"{description.file}: {_absent(description)}", "name a text encoder", code="E434")
    folder, room = description.file.parent, int(description.text["positions"])
    if size > room:
        text = f"texts of {size} tokens, where the position table of {folder.name} has room for {room}"
        raise ModelFileError(text, f"set size to {room} or less", code="E437")
    limit = size or min(room, stated_length(folder) or room)
    try:
        tokens = read_tokens(folder, limit, pad=int(description.text["vocabulary"]))
        tokens.require_fit(int(description.text["vocabulary"]) + 1)
    except TextError as error:
        raise ModelFileError(f"{folder}: {error.problem}", error.hint, code=error.code) from None
    end = max(tokens.loaded.tokens.values()) if description.end is None else description.end
    behind = tokens.loaded.template.single[1]
    if not behind or behind[-1] != end:
        ends = behind[-1] if behind else "no token"
        text = f"{folder}: the network reads a text at the token {end}, the tokenizer ends it with {ends}"
        raise ModelFileError(text, "take the tokenizer that the network was trained with", code="E436")
    return tokens


def _folder(settings: BackboneSettings) -> Path:
    folder = settings.folder()
    if folder is None or not folder.is_dir():
        raise ModelFileError(f"no folder {folder}", "write clip:FOLDER, with configuration and weights", code="E434")
    return folder


def _build(backbone: Mapping[str, Any], input: Any, settings: BackboneSettings) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(backbone, settings.adjust(input))


def _encoder_arguments(description: Description) -> dict[str, Any]:
    """Return arguments of `Encoder`: those of the description with a row for padding, and what all CLIPs share."""
    assert description.text is not None
    vocabulary = int(description.text["vocabulary"])
    shared = {"pre_norm": True, "embedding_norm": False, "causal": True, "pooling": "last"}
    return {**description.text, **shared, "vocabulary": vocabulary + 1, "pad": vocabulary}


def _text_shapes(description: Description) -> Shapes:
    """Return the shapes of a file's text tower, which has no row for padding."""
    assert description.text is not None
    with torch.device("meta"):
        shapes = _shapes(Encoder(**_encoder_arguments(description)))
    rows, width = shapes[TABLE]
    return {**shapes, TABLE: torch.Size((rows - 1, width))}


def _shapes(body: nn.Module) -> Shapes:
    return {name: tensor.shape for name, tensor in body.state_dict().items()}


def _projection(description: Description, width: int) -> Shapes:
    return {PROJECTION: torch.Size((description.embeddings, width))}


def _text_width(description: Description) -> int:
    assert description.text is not None
    return int(description.text["width"])


def _width(body: nn.Module) -> int:
    return int(body.num_features)  # type: ignore[arg-type]


def _with_padding(weights: TowerWeights) -> TowerWeights:
    """Add a row of zeros for padding behind the tokens of the file."""
    table = weights.state[TABLE]
    padded = torch.cat([table, torch.zeros(1, table.shape[1])])
    return replace(weights, state={**weights.state, TABLE: padded})


def _load(net: Net, weights: TowerWeights) -> None:
    """Load a tower into a network; its projection becomes a head without classes."""
    state = dict(weights.state)
    projection: Tensor | None = state.pop(PROJECTION, None)
    net.body.load_state_dict(state)
    net.eval()
    if projection is None:
        return
    embeddings, features = projection.shape
    apply_edit(net, "set_head", spec=HEAD, features=features, classes=[], embeddings=embeddings)
    head = net.head
    assert isinstance(head, Compare)
    with torch.no_grad():
        head.map.weight.copy_(projection)
        head.map.bias.zero_()
        head.scale.fill_(weights.scale)


def _absent(description: Description) -> str:
    tower = "image tower" if description.image is None else "text tower"
    return f"it has no {tower} that can be built"


def _hint(description: Description) -> str:
    if description.image is None:
        return "towers of timm open alone: timm:NAME@FILE as the source, and hf:FOLDER as `text`"
    return HINT
