"""Text networks that other rooms' tests prune and adapt."""

import torch
from torch import nn

from effxfer.net.net import Net
from effxfer.net.text.encoder import Encoder
from tests.runtime.text import tiny_tokenizers

SEPARATOR = 3
SIZES = {
    "vocabulary": len(tiny_tokenizers.WORDS), "width": 32, "layers": 3, "heads": 4, "mlp": 48, "positions": 40,
    "separator": SEPARATOR,
}  # fmt: skip
VARIANTS = {
    "bert": {"segments": 2},
    "clip": {"pre_norm": True, "embedding_norm": False, "causal": True, "activation": "quick_gelu", "pooling": "last"},
    "electra": {"segments": 2, "embedding_width": 16},
    "modern": {
        "pre_norm": True, "first_norm": False, "rotary": 1e3, "local_rotary": 1e2, "window": 4, "global_every": 2,
        "gated": True, "biased": False,
    },
    "mpnet": {"positions_from_pad": True, "relative_buckets": 32},
    "pre-norm": {"pre_norm": True},
}  # fmt: skip


class Classifier(nn.Module):
    """Anybody's module around an encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(SIZES["width"], 3)

    def forward(self, ids):
        return self.head(self.encoder.features(ids))


def classifier(variant: str = "bert") -> Classifier:
    return randomized(Classifier(Encoder(**SIZES, **VARIANTS[variant])))


def text_net(variant: str = "bert") -> Net:
    """A network with a text encoder, without a head."""
    backbone = {"source": "effxfer.net.text.encoder:Encoder", "args": {**SIZES, **VARIANTS[variant]}}
    return randomized(Net(backbone, tiny_tokenizers.tokens(32)))


def randomized(module: nn.Module) -> nn.Module:
    """Draw larger weights than those of a new encoder, whose attention is uniform."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return module.eval()


def texts(batch: int = 8, length: int = 17) -> torch.Tensor:
    """Ids of texts of different lengths, with separators and padding."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, SIZES["vocabulary"], (batch, length), generator=draw)
    for row in range(batch):
        end = length - 2 * row % (length - 3)
        ids[row, end // 2], ids[row, end - 1], ids[row, end:] = SEPARATOR, SEPARATOR, 0
    return ids
