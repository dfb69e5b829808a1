"""A tiny random network that reads texts, with a tokenizer of a few words."""

import torch

from effxfer.net.heads.head_edits import set_head
from effxfer.net.net import Net
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.tokens import Tokens
from tests.runtime.text.tiny_tokenizers import WORDPIECE, WORDS

SIZE = 40
TOKENS = Tokens(tokenizer=WORDPIECE, size=SIZE, pad=0)
LABELS = ("bad", "göod", "so so")
TEXTS = (
    "the cat sat",
    "it was great . " * 9,
    "a",
    "the mat",
    "play ##ing on the mat , the cat sat " * 3,
    "cat sat cat sat [ sep ]",
    "",
    "it was a cat . it was a mat . great",
)
ENCODER = {
    "vocabulary": len(WORDS), "width": 32, "layers": 2, "heads": 2, "mlp": 64, "positions": 64, "segments": 2,
    "separator": WORDS.index("[SEP]"),
}  # fmt: skip


def text_net(output: Output | None = None, seed: int = 0, tokens: Tokens = TOKENS) -> Net:
    """A network of single labels, or of `output`, whose weights are large enough that words matter."""
    torch.manual_seed(seed)
    net = Net({"source": "effxfer.net.text.encoder:Encoder", "args": ENCODER}, tokens)
    for parameter in net.body.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    classes = output.classes if output else LABELS
    set_head(net, spec={}, features=ENCODER["width"], classes=classes, output=output.to_json() if output else None)
    for name, parameter in net.head.named_parameters():
        if name.endswith("out.weight"):  # of several tasks there is one for each
            torch.nn.init.normal_(parameter, std=0.5)
    return net.eval()


def texts(count: int, seed: int = 0) -> list[str]:
    """Random texts of 1 to 30 words."""
    rng = torch.Generator().manual_seed(seed)
    words = [word for word in WORDS if word.isalpha()]
    lengths = torch.randint(1, 31, (count,), generator=rng).tolist()
    return [" ".join(words[int(i)] for i in torch.randint(len(words), (n,), generator=rng)) for n in lengths]


def rows(count: int, seed: int = 0, tokens: Tokens = TOKENS) -> Ragged:
    """Their ids."""
    return tokens.encode(texts(count, seed)).rows
