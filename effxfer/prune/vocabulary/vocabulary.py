"""Vocabulary pruning (Ushio et al., 2023, https://arxiv.org/abs/2305.15020): keep the tokens that texts use.

Half of the weights of a small encoder such as MiniLM are token embeddings, and a task uses a part of them. The outputs
for texts whose tokens all stay are equal to the bit; other texts are written with shorter tokens.

Shape legend: V tokens, E width of embeddings.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net, mask_name
from effxfer.net.text.encoder import Encoder
from effxfer.net.text.masked_head import MaskedHead
from effxfer.net.text.vocabulary import TABLE
from effxfer.prune.vocabulary.tokenizer import model_kind, prune_tokenizer
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.tokens import Tokens

BIAS = "head.bias"
MASK = mask_name(f"body.{TABLE}")


def prune_vocabulary(net: Net, used: Collection[int]) -> NDArray[np.int64]:
    """Keep the tokens of a network, in place: its table of embeddings, and the tokenizer of its input.

    Args:
        net: A network of texts with an encoder of this package.
        used: Ids of tokens that stay. Special tokens, and those that any text may need, stay as well.

    Returns:
        The former ids of the remaining tokens, int64 `(V,)`, in the order of the new ones.

    Raises:
        SettingsError: If the network takes no texts.
        ModelFileError: If its body is another one than an `Encoder`, or its tokenizer's kind is not supported (`E447`).
    """
    tokens, body = check_vocabulary(net)
    template = tokens.loaded.template.ids
    separator = {body.separator} - {-1}
    pruned = prune_tokenizer(tokens.tokenizer, {*used, *template, *separator, tokens.pad})
    # A network may pad with an id that no token has.
    ids = pruned.ids if tokens.pad in pruned.ids else np.append(pruned.ids, tokens.pad)
    state = {name: tensor[torch.from_numpy(ids)].clone() for name, tensor in _tables(net).items()}
    pad = int(np.flatnonzero(ids == tokens.pad)[0])
    new_separator = pruned.new_id(body.separator) if separator else -1
    apply_edit(net, "prune_vocabulary", tokens=len(ids), pad=pad, separator=new_separator)
    with torch.no_grad():
        for name, tensor in _tables(net).items():
            tensor.copy_(state[name])
    net.input = replace(tokens, tokenizer=pruned.content, pad=pad)
    return ids


def check_vocabulary(net: Net) -> tuple[Tokens, Encoder]:
    """Return the input and the encoder of a network whose vocabulary can be pruned.

    Raises:
        SettingsError: See `prune_vocabulary`.
        ModelFileError: See `prune_vocabulary`.
    """
    if not isinstance(net.input, Tokens):
        raise SettingsError(f"a network that takes {net.input.unit} has no vocabulary", "prune its channels instead")
    if not isinstance(net.body, Encoder):
        text = f"the body {type(net.body).__name__} is no encoder whose table of tokens is known"
        raise ModelFileError(text, "take a network from hf:FOLDER", code="E447")
    model_kind(net.input.tokenizer)
    return net.input, net.body


def used_tokens(rows: Sequence[Ragged], min_count: int = 1) -> NDArray[np.int64]:
    """List the ids that occur at least `min_count` times in texts, int64 `(ids,)`.

    Args:
        rows: Ids of texts; several data sets.
        min_count: At least 1, which is all that occur.
    """
    counts = np.bincount(np.concatenate([each.values for each in rows]))
    return np.flatnonzero(counts >= min_count)


def _tables(net: Net) -> dict[str, torch.Tensor]:
    """Return what has a row for each token: the table of embeddings `(V, E)`, its mask, the bias of a masked head."""
    tables: dict[str, torch.Tensor] = {TABLE: net.body.get_parameter(TABLE)}
    if isinstance(net.head, MaskedHead):
        tables[BIAS] = net.head.bias
    return tables | ({MASK: net.get_buffer(MASK)} if MASK in dict(net.named_buffers()) else {})
