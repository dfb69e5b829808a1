"""Rename the tensors of transformers' BERT-like models to those of `Encoder`, and sort out their heads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

OUTSIDE_BLOCKS = {
    "embeddings.word_embeddings": "embeddings.tokens",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.norm",
    "embeddings_project": "embeddings.proj",
    "encoder.relative_attention_bias": "relative.bias",
    # ModernBERT
    "embeddings.tok_embeddings": "embeddings.tokens",
    "embeddings.norm": "embeddings.norm",
    "final_norm": "norm",
}
IN_BLOCKS = {
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "norm2",
    # DistilBERT
    "attention.q_lin": "attn.q",
    "attention.k_lin": "attn.k",
    "attention.v_lin": "attn.v",
    "attention.out_lin": "attn.proj",
    "sa_layer_norm": "norm1",
    "ffn.lin1": "mlp.fc1",
    "ffn.lin2": "mlp.fc2",
    "output_layer_norm": "norm2",
    # MPNet
    "attention.attn.q": "attn.q",
    "attention.attn.k": "attn.k",
    "attention.attn.v": "attn.v",
    "attention.attn.o": "attn.proj",
    "attention.LayerNorm": "norm1",
    # ModernBERT, whose queries, keys and values are one tensor
    "attn.Wqkv": "attn.qkv",
    "attn.Wo": "attn.proj",
    "attn_norm": "norm1",
    "mlp.Wi": "mlp.fc1",
    "mlp.Wo": "mlp.fc2",
    "mlp_norm": "norm2",
}
# The head that guesses masked tokens, and BERT's pooler: one set of names for all kinds.
HEADS = {
    "pooler.dense": "pooler",
    "cls.predictions.transform.dense": "masked.dense",
    "cls.predictions.transform.LayerNorm": "masked.norm",
    "cls.predictions.decoder": "masked.decoder",
    "cls.predictions": "masked",
    "lm_head.dense": "masked.dense",
    "lm_head.layer_norm": "masked.norm",
    "lm_head.decoder": "masked.decoder",
    "lm_head": "masked",
    "vocab_transform": "masked.dense",
    "vocab_layer_norm": "masked.norm",
    "vocab_projector": "masked.decoder",
    "generator_predictions.dense": "masked.dense",
    "generator_predictions.LayerNorm": "masked.norm",
    "generator_lm_head": "masked.decoder",
    "head.dense": "masked.dense",
    "head.norm": "masked.norm",
    "decoder": "masked.decoder",
}
OTHER_HEADS = (
    "cls.seq_relationship.", "classifier.", "pre_classifier.", "qa_outputs.", "discriminator_predictions.",
    "sequence_summary.", "score.", "dropout.",
)  # fmt: skip
DERIVED = ("embeddings.position_ids", "embeddings.token_type_ids")
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}  # the last two: TensorFlow's names
BLOCK = re.compile(r"(?:(?:encoder|transformer)\.layer|layers)\.(\d{1,4})\.(.+)")


@dataclass(frozen=True, eq=False)
class SortedNames:
    """The names of a file's tensors by what they are; `body` and `heads` map a new name to that in the file.

    Attributes:
        body: Of `Encoder`, with `attn.q`, `attn.k` and `attn.v` in place of `attn.qkv`.
        heads: Of heads.
        unknown: All others, but for what is computed from sizes alone.
    """

    body: dict[str, str] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def sort_names(names: Mapping[str, object] | list[str], prefix: str) -> SortedNames:
    """Sort the names of a file's tensors; `prefix` may begin those of the body."""
    result = SortedNames()
    for name in names:
        plain = name.removeprefix(prefix)
        body, head = _body_name(plain), _rename(plain, HEADS)
        if body and body not in result.body:
            result.body[body] = name
        elif head or plain.startswith(OTHER_HEADS):
            result.heads[head or plain] = name
        elif plain not in DERIVED:
            result.unknown.append(name)
    return result


def split_queries(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    """Replace the shapes of `qkv` by those of its three parts."""
    parts: dict[str, torch.Size] = {}
    for name, shape in shapes.items():
        if ".attn.qkv." in name:
            third = torch.Size((shape[0] // 3, *shape[1:]))
            parts |= {name.replace(".qkv.", f".{part}."): third for part in "qkv"}
        else:
            parts[name] = shape
    return parts


def fuse_queries(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate queries, keys and values of each block to `qkv`."""
    fused: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".attn.q." in name:
            parts = [tensor, *(state[name.replace(".attn.q.", f".attn.{part}.")] for part in "kv")]
            fused[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
        elif ".attn.k." not in name and ".attn.v." not in name:
            fused[name] = tensor
    return fused


def names_in_files(tensor: str, stored: Iterable[str], prefix: str) -> list[str]:
    """Return the names that files of transformers have for a tensor of `Encoder`.

    Args:
        tensor: Its name in `Encoder`, see `SortedNames.body`.
        stored: Names of other tensors of the body in the file, which say how it calls blocks, and if it has the prefix.
        prefix: May begin the names.
    """
    path, _, leaf = tensor.rpartition(".")
    match, table, place = re.fullmatch(r"blocks\.(\d+)\.(.+)", path), OUTSIDE_BLOCKS, ""
    names = list(stored)
    if match:
        blocks = (BLOCK.fullmatch(name.removeprefix(prefix)) for name in names)
        style = next((block[0][: block.start(1)] for block in blocks if block), "encoder.layer.")
        path, table, place = match[2], IN_BLOCKS, f"{style}{match[1]}."
    begin = prefix if any(name.startswith(prefix) for name in names) else ""
    return [f"{begin}{place}{name}.{leaf}" for name, renamed in table.items() if renamed == path]


def _body_name(name: str) -> str:
    """Return the name in `Encoder`; empty if it has no such tensor."""
    match = BLOCK.fullmatch(name)
    if match is None:
        return _rename(name, OUTSIDE_BLOCKS)
    inner = _rename(match[2], IN_BLOCKS)
    return f"blocks.{int(match[1])}.{inner}" if inner else ""


def _rename(name: str, table: Mapping[str, str]) -> str:
    path, _, leaf = name.rpartition(".")
    return f"{table[path]}.{LEAVES[leaf]}" if path in table and leaf in LEAVES else ""
