"""A new, untrained text encoder with a tokenizer of its own, which is trained on the texts of the data set."""

from collections.abc import Iterable
from typing import Any

import torch

from effxfer.net.net import Net
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.net.text.wordpiece import SPECIAL, train_wordpiece
from effxfer.runtime.text.tokens import Tokens

# Chosen: a sentence or two. Each position is a row of the table of positions.
SIZE = 128
# Small enough for minutes on a CPU, and for a phone: 1.8 M parameters, more than half of them embeddings.
DEFAULTS: dict[str, Any] = {
    "vocabulary": 8000, "width": 128, "layers": 4, "heads": 4, "mlp": 512, "eps": 1e-5,
}  # fmt: skip
PAD = SPECIAL.index("[PAD]")


def new_encoder(settings: BackboneSettings, texts: Iterable[str]) -> tuple[Net, tuple[str, ...]]:
    """Train a tokenizer on texts, and build an untrained encoder for it.

    Args:
        settings: `args` replace arguments of `Encoder` in `DEFAULTS`, of which `vocabulary` is the most tokens of the
            tokenizer; `size` is the most tokens of a text.
        texts: The training texts.

    Returns:
        The network, without a head and with the same initial weights each time, and a note on its tokenizer.

    Raises:
        SettingsError: If the encoder refuses the arguments, or a setting is one of images.
        ResourceError: If the package `tokenizers` is not installed.
    """
    arguments = {**DEFAULTS, **settings.args}
    content = train_wordpiece(texts, int(arguments["vocabulary"]))
    tokens = settings.adjust(Tokens(tokenizer=content, size=SIZE, pad=PAD))
    assert isinstance(tokens, Tokens)
    arguments |= {"vocabulary": tokens.loaded.largest_id + 1, "pad": PAD}
    arguments.setdefault("positions", tokens.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net({"source": ENCODER, "args": arguments}, tokens)
    return net, (f"new encoder with a WordPiece tokenizer of {arguments['vocabulary']} tokens",)
