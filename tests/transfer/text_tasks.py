"""A task of texts that a tiny encoder learns in a second: the class decides which words a text has."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from effxfer.data.target import attach_target
from effxfer.data.task import Split, Task
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.runtime.outputs.single_label import SingleLabel
from tests.data.text_files import FILLING, texts
from tests.data.text_files import WORDS as BY_CLASS
from tests.runtime.text.tiny_tokenizers import WORDS, tokens

INPUT = tokens(size=24)
ENCODER = {
    "vocabulary": len(WORDS), "width": 24, "layers": 2, "heads": 3, "mlp": 48, "positions": 40, "segments": 2,
    "separator": WORDS.index("[SEP]"),
}  # fmt: skip


def text_task(train: int = 64, held_out: int = 24, pattern: str = "{text}") -> Task:
    input = replace(INPUT, pattern=pattern)
    rows = texts((train + 2 * held_out) // 2)
    classes = tuple(BY_CLASS)

    def split(start: int, stop: int) -> Split:
        part = rows[start:stop]
        labels = np.array([classes.index(label) for _, label in part], np.int64)
        ids = input.encode([text for text, _ in part]).rows
        return Split(rows=ids, labels=labels, names=[str(n) for n in range(start, stop)])

    ends = np.cumsum([train, held_out, held_out]).tolist()
    parts = [split(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
    output = SingleLabel(classes=classes)
    return Task(name="t", output=output, train=parts[0], val=parts[1], test=parts[2], input=input, digest="d")


def text_domains(count: int = 160) -> Task:
    """Texts of two domains: half of the target's words that tell the class do not occur in the source."""
    source, target = (_domain(count, share, seed) for share, seed in ((0.0, 0), (0.6, 1)))
    return attach_target(source, target)


def _domain(count: int, share: float, seed: int) -> Task:
    """Texts of two words that tell the class: the third of them with a probability, else one of the first two."""
    rng, classes = np.random.default_rng(seed), tuple(BY_CLASS)
    labels = rng.integers(0, 2, count)
    odds = [(1 - share) / 2, (1 - share) / 2, share]
    words = [[*rng.choice(BY_CLASS[classes[k]], 2, p=odds), *rng.choice(FILLING, rng.integers(1, 9))] for k in labels]
    ids = INPUT.encode([" ".join(rng.permutation(each)) for each in words]).rows
    ends = (0, count // 2, count * 3 // 4, count)

    def split(start: int, stop: int) -> Split:
        names = [str(n) for n in range(start, stop)]
        return Split(rows=ids[start:stop], labels=labels[start:stop], names=names)

    train, val, test = (split(start, stop) for start, stop in pairwise(ends))
    output = SingleLabel(classes=classes)
    return Task(name="t", output=output, train=train, val=val, test=test, input=INPUT, digest="d")


def encoder(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net({"source": "effxfer.net.text.encoder:Encoder", "args": ENCODER}, INPUT)


def encoder_with_masked_head(seed: int = 0) -> Net:
    net = encoder(seed)
    apply_edit(net, "set_masked_head")
    return net
