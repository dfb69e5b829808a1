"""The edit of a text encoder whose vocabulary was pruned."""

import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.net import Net, mask_name
from effxfer.net.text.encoder import Encoder
from effxfer.net.text.masked_head import MaskedHead
from effxfer.runtime.outputs.masked_token import MaskedToken

TABLE = "embeddings.tokens.weight"


def prune_vocabulary(net: Net, *, tokens: int, pad: int, separator: int) -> None:
    """Shrink the table of token embeddings, whose rows are zeros afterwards, and set the new ids of two tokens.

    The bias of a head that guesses masked tokens shrinks with it.

    Args:
        net: A network whose body is an `Encoder`.
        tokens: Rows of the table.
        pad: Id of padding.
        separator: Id behind each segment; -1 without segments.

    Raises:
        ModelFileError: If the body is another one, or the table would grow or lack one of the ids.
    """
    body = net.body
    if not isinstance(body, Encoder):
        raise ModelFileError("an edit prunes the vocabulary of a body without one", "get an intact copy", code="E404")
    table = body.embeddings.tokens
    if not (0 <= pad < tokens <= table.num_embeddings and -1 <= separator < tokens):
        text = f"an edit keeps {tokens} of {table.num_embeddings} tokens with padding {pad} and separator {separator}"
        raise ModelFileError(text, "get an intact copy", code="E404")
    body.pad, body.separator, table.num_embeddings = pad, separator, tokens
    table.weight = nn.Parameter(torch.zeros_like(table.weight[:tokens]))
    if isinstance(net.head, MaskedHead):
        net.head.bias = nn.Parameter(torch.zeros_like(net.head.bias[:tokens]))
        net.output = MaskedToken(vocabulary=tokens)
    if (weight := f"body.{TABLE}") in net.masks():
        net.register_buffer(mask_name(weight), torch.ones_like(table.weight, dtype=torch.bool))
