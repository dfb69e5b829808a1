"""Rename the tensors of CLIP, as transformers and open_clip name them, to those of `Encoder` and of timm's towers.

Shape legend: D width of a tower, E numbers of an embedding, n positions.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Tower = Literal["text", "image"]
PROJECTION, SCALE = "projection", "logit_scale"
# transformers; `text_model.` is absent in files of a text tower alone. timm's blocks have the names of ours.
TRANSFORMERS = {
    "text": {
        "embeddings.token_embedding.weight": "embeddings.tokens.weight",
        "embeddings.position_embedding.weight": "embeddings.positions.weight",
        "final_layer_norm.": "norm.",
    },
    "image": {
        "embeddings.class_embedding": "cls_token",
        "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
        "embeddings.position_embedding.weight": "pos_embed",
        "pre_layrnorm.": "norm_pre.",  # transformers' own spelling
        "post_layernorm.": "norm.",
    },
}
TRANSFORMERS_BLOCK = {
    "self_attn.q_proj.": "attn.q.", "self_attn.k_proj.": "attn.k.", "self_attn.v_proj.": "attn.v.",
    "self_attn.out_proj.": "attn.proj.", "layer_norm1.": "norm1.", "layer_norm2.": "norm2.", "mlp.": "mlp.",
}  # fmt: skip
OPEN_CLIP = {
    "text": {
        "token_embedding.weight": "embeddings.tokens.weight",
        "positional_embedding": "embeddings.positions.weight",
        "ln_final.": "norm.",
    },
    "image": {
        "class_embedding": "cls_token",
        "conv1.weight": "patch_embed.proj.weight",
        "positional_embedding": "pos_embed",
        "ln_pre.": "norm_pre.",
        "ln_post.": "norm.",
    },
}
OPEN_CLIP_BLOCK = {
    "attn.in_proj_": "attn.qkv.", "attn.out_proj.": "attn.proj.", "ln_1.": "norm1.", "ln_2.": "norm2.",
    "mlp.c_fc.": "mlp.fc1.", "mlp.c_proj.": "mlp.fc2.",
}  # fmt: skip
BLOCK = re.compile(r"(encoder\.layers|transformer\.resblocks)\.(\d{1,4})\.(.+)")
# Tensors that are computed from sizes alone.
DERIVED = re.compile(r"(.*\.)?(position_ids|attn_mask)")


class Place(NamedTuple):
    """What a stored tensor is.

    Attributes:
        tower: The tower that it belongs to; the scale of cosines belongs to both, and has `image`.
        name: Its name there, or `PROJECTION` or `SCALE`.
        transposed: Whether it is stored as `(D, E)`, as open_clip's projections are.
    """

    tower: Tower
    name: str
    transposed: bool = False


def place_of(stored: str) -> Place | None:
    """Return what a tensor is by its name in a file; None for one that a plain CLIP has not."""
    if stored in ("logit_scale", "text_projection.weight", "visual_projection.weight"):
        tower: Tower = "text" if stored.startswith("text") else "image"
        return Place(tower, SCALE if stored == SCALE else PROJECTION)
    if stored in ("text_projection", "text.text_projection", "visual.proj"):
        return Place("image" if stored.startswith("visual") else "text", PROJECTION, transposed=True)
    for prefix, of in (("vision_model.", "image"), ("visual.", "image"), ("text_model.", "text"), ("text.", "text")):
        if stored.startswith(prefix):
            return _place_in(of, stored.removeprefix(prefix))  # type: ignore[arg-type]
    return _place_in("text", stored)


def _place_in(tower: Tower, name: str) -> Place | None:
    match = BLOCK.fullmatch(name)
    if match is not None:
        table = TRANSFORMERS_BLOCK if match[1].startswith("encoder") else OPEN_CLIP_BLOCK
        inner = _rename(match[3], table)
        return Place(tower, f"blocks.{int(match[2])}.{inner}") if inner else None
    renamed = _rename(name, {**TRANSFORMERS[tower], **OPEN_CLIP[tower]})
    return Place(tower, renamed) if renamed else None


def _rename(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name == old or (old.endswith((".", "_")) and name.startswith(old)):
            return new + name.removeprefix(old)
    return ""


def stored_shape(shape: torch.Size, place: Place) -> torch.Size:
    """Return the shape in a file of a tensor whose shape in the network is known."""
    if place.transposed:
        return torch.Size(reversed(shape))
    # timm's has leading axes of 1 for broadcasting.
    return {"cls_token": shape[2:], "pos_embed": shape[1:]}.get(place.name, shape)


def built_tensor(tensor: Tensor, shape: torch.Size, place: Place) -> Tensor:
    """Return a stored tensor in the shape that the network has."""
    return (tensor.mT if place.transposed else tensor).reshape(shape)
