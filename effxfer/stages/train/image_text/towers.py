"""The two networks of a dual encoder: their heads, their features, and the table of classes that both answer with.

Shape legend: N examples, D features, C classes, E numbers of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from effxfer import model_source
from effxfer.data.labels.captions import fill_prompts
from effxfer.data.task import Task
from effxfer.errors import DataError, SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import tap_widths
from effxfer.net.text.text_tower import TextTower
from effxfer.runtime.class_tables.class_table import require_distinct
from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokens import Tokens
from effxfer.stages.settings.clip_settings import Clip
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features

USUAL = BackboneSettings(source="text-small")
HEAD = {"kind": "compare", "form": "cosine"}
# Of a head, what stays where its classes change.
PROJECTION = ("map.", "standardize.", "scale")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A network of images and one of texts, each with a cosine head into one space.

    Attributes:
        image: The network of images.
        text: The network of texts.
        is_new: Whether the heads are untrained.
        notes: Notes on the weights of the text tower.
    """

    image: Net
    text: Net
    is_new: bool
    notes: tuple[str, ...] = ()


def open_pair(net: Net, settings: Clip, classes: Sequence[str]) -> Pair:
    """Give a network of images and its text tower heads for some classes; a trained pair keeps its projections.

    Args:
        net: Network of images, changed in place.
        settings: The text tower, the width and the seed.
        classes: C names.

    Raises:
        SettingsError: If the text tower takes no single texts, or has a projection into another space.
        DataError: `E372` if names of classes are alike.
    """
    try:
        require_distinct(classes)
    except ClassTableError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    old = net.text.net if net.text is not None and settings.text is None else None
    text, notes = (old, ()) if old is not None else model_source.open_model(settings.text or USUAL)
    if not isinstance(text.input, Tokens) or text.input.takes_pairs:
        text_of = f"pairs of {text.input.unit}" if isinstance(text.input, Tokens) else text.input.unit
        raise SettingsError(f"the text tower takes {text_of}", "name an encoder of single texts, such as hf:FOLDER")
    states = [net.head.state_dict(), text.head.state_dict()] if old is not None else [{}, {}]
    for number, (tower, state) in enumerate(zip((net, text), states, strict=True)):
        _set_head(tower, classes, settings, number, state)
    net.text = TextTower(lambda: text, settings.prompts)
    return Pair(image=net, text=text, is_new=old is None, notes=tuple(notes))


def new_heads(pair: Pair, settings: Clip, classes: Sequence[str], seed: int) -> None:
    """Give both networks untrained heads again."""
    for number, tower in enumerate((pair.image, pair.text)):
        _set_head(tower, classes, settings.model_copy(update={"seed": seed}), number, {})
    text = pair.text
    pair.image.text = TextTower(lambda: text, settings.prompts)


def _set_head(net: Net, classes: Sequence[str], settings: Clip, number: int, state: Mapping[str, Tensor]) -> None:
    """Set a cosine head; `state` is that of an earlier one, whose projection and scale stay."""
    projection = {name: tensor for name, tensor in state.items() if name.startswith(PROJECTION)}
    width = len(projection["map.weight"]) if projection else settings.width
    torch.manual_seed(settings.seed + number)
    net.smoothing = 0.0
    net.edits[:] = [edit for edit in net.edits if edit["kind"] != "set_head" or edit.get("spec") != HEAD]
    apply_edit(
        net, "set_head", spec=HEAD, features=tap_widths(net, ("out",))["out"], classes=list(classes), embeddings=width
    )
    net.head.load_state_dict(projection, strict=False)
    net.to(next(net.parameters()).device)


def image_features(net: Net, rows: Any, device: Device) -> Tensor:
    """Compute the features of decoded examples in evaluation mode: float32 `(N, D)` on the CPU; none of none."""
    if not len(rows):
        return torch.empty(0, net.head.get_parameter("map.weight").shape[1])
    return predict(Features(net), rows, net.input, device)


def token_rows(net: Net, texts: Sequence[str]) -> Any:
    """Tokenize texts: a row of ids for each, cut at the tower's size.

    Raises:
        DataError: If one cannot be tokenized.
    """
    assert isinstance(net.input, Tokens)
    try:
        return net.input.encode(list(texts)).rows
    except TextError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None


def standardize_towers(pair: Pair, images: Tensor, texts: Tensor) -> None:
    """Set the standardisation of new heads: of images each feature by itself, of texts all by one deviation.

    Captions of templates differ in few words: a feature that hardly differs among them may among other texts.
    """
    for net, features, separately in ((pair.image, images, True), (pair.text, texts, False)):
        assert isinstance(net.head, Compare)
        device = net.head.table.device
        deviation = features.std(0, correction=0)
        deviation = deviation if separately else deviation.square().mean().sqrt().expand_as(deviation)
        net.head.standardize.fit_(features.mean(0).to(device), deviation.to(device))


@torch.no_grad()
def embed(net: Net, features: Tensor) -> NDArray[np.float32]:
    """Map features `(N, D)` into the space of both networks: float32 `(N, E)`, of length 1."""
    head = net.head
    assert isinstance(head, Compare)
    embeddings: NDArray[np.float32] = head.embed(features.to(head.table.device)).float().cpu().numpy()
    return embeddings


def class_table(text: Net, names: Sequence[str], prompts: Sequence[str], device: Device) -> Tensor:
    """Return the embeddings of class names by a text tower, averaged over prompts, of length 1: `(C, E)`."""
    filled = [fill_prompts(name, prompts) for name in names]
    rows = token_rows(text, [prompt for own in filled for prompt in own])
    each = torch.from_numpy(embed(text, image_features(text, rows, device)))
    return F.normalize(each.view(len(names), len(prompts), -1).mean(1), dim=1)


@torch.no_grad()
def set_classes(pair: Pair, table: Tensor, scale: float) -> None:
    """Set the table of classes `(C, E)` and the scale of cosines in both heads."""
    for net in (pair.image, pair.text):
        head = net.head
        assert isinstance(head, Compare)
        head.table.copy_(table)
        head.scale.fill_(scale)


def with_embedded_classes(net: Net, task: Task, device: Device) -> Task:
    """Return a task with the embeddings of its class names, and of those of its target, by a network's text tower."""
    target, tower = task.target, net.text
    if tower is None or target is None:
        return task
    table = class_table(tower.net, target.classes, tower.prompts, device).numpy()
    rows = net.head.get_buffer("table").cpu().numpy()
    return replace(task, class_embeddings=rows, target=replace(target, class_embeddings=table))
