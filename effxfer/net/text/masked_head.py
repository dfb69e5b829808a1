"""The head that guesses masked tokens: a transform, and the table of token embeddings as decoder (BERT, 1810.04805).

Shape legend: D width of the body, E width of embeddings, V tokens of the vocabulary.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.text.encoder import ACTIVATIONS, INITIAL_DEVIATION, Encoder
from effxfer.runtime.outputs.masked_token import MaskedToken

if TYPE_CHECKING:
    from effxfer.net.net import Net

NAMES = ("masked.dense.weight", "masked.dense.bias", "masked.norm.weight", "masked.norm.bias")
BIASES = ("masked.bias", "masked.decoder.bias")  # of the decoder: BERT's files have both, which are one tensor
DECODER = "masked.decoder.weight"


class MaskedHead(nn.Module):
    """Maps tokens to logits of the vocabulary; its decoder is the body's table of embeddings, which it does not own.

    Args:
        table: `(V, E)`.
        width: D.
        activation: A key of `ACTIVATIONS`.
        eps: Of the norm.
    """

    def __init__(self, table: nn.Embedding, width: int, activation: str, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, table.embedding_dim)
        self.act = ACTIVATIONS[activation]()
        self.norm = nn.LayerNorm(table.embedding_dim, eps=eps)
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings))
        # In a tuple: a module in an attribute would count the table twice among parameters and in the saved weights.
        self._table = (table,)
        nn.init.normal_(self.dense.weight, std=INITIAL_DEVIATION)
        nn.init.zeros_(self.dense.bias)

    def transform(self, tokens: Tensor) -> Tensor:
        """Map tokens `(..., D)` to what the embeddings are compared with, `(..., E)`."""
        transformed: Tensor = self.norm(self.act(self.dense(tokens)))
        return transformed

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(..., D)` to logits `(..., V)`."""
        return F.linear(self.transform(tokens), self._table[0].weight, self.bias)


def set_masked_head(net: "Net") -> None:
    """Set an untrained head that guesses masked tokens; an edit.

    Raises:
        SettingsError: If the body is no text encoder of this package.
    """
    net.head = head = new_masked_head(net)
    net.output, net.taps = MaskedToken(vocabulary=len(head.bias)), ("out",)


def new_masked_head(net: "Net") -> MaskedHead:
    """Build an untrained head that guesses masked tokens with a network's embeddings.

    Raises:
        SettingsError: If the body is no text encoder of this package.
    """
    body = net.body
    if not isinstance(body, Encoder):
        source = net.backbone["source"]
        hint = "start from hf:FOLDER, a model of texts, or a new effxfer.net.text.encoder:Encoder"
        raise SettingsError(f"masked tokens are guessed by a text encoder, and {source} is none", hint)
    arguments = net.backbone["args"]
    table, eps = body.embeddings.tokens, float(arguments.get("eps", 1e-12))
    return MaskedHead(table, int(arguments["width"]), str(arguments.get("activation", "gelu")), eps)


def masked_head(net: "Net") -> MaskedHead | None:
    """Return the head that guesses masked tokens; None if the network has another."""
    return net.head if isinstance(net.head, MaskedHead) else None


def head_tensors(stored: dict[str, Tensor], table: Tensor, folder: Any) -> dict[str, Tensor]:
    """Return the state of a `MaskedHead` from the heads of a file; empty if the file has no such head.

    Args:
        stored: Tensors by the names of `weight_names`.
        table: Token embeddings `(V, E)`.
        folder: The file's folder, for errors.

    Raises:
        ModelFileError: `E405`, if they do not fit the embeddings.
    """
    bias = next((stored[name] for name in BIASES if name in stored), None)
    if bias is None or any(name not in stored for name in NAMES):
        return {}
    if DECODER in stored and not torch.equal(stored[DECODER], table):
        return {}  # it has a table of its own, which no later stage could use
    state = {name.removeprefix("masked."): stored[name] for name in NAMES} | {"bias": bias}
    if bias.shape != table.shape[:1] or state["dense.weight"].shape[:1] != table.shape[1:]:
        text = f"{folder} has a head for masked tokens that does not fit its embeddings"
        raise ModelFileError(text, "get an intact copy", code="E405")
    return state
