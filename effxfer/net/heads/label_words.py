"""The head that a prompt is answered with: the transform of the head for masked tokens, and a row for each class.

A class is a word that fits the place of the mask (PET: Schick & Schütze, 2020, https://arxiv.org/abs/2001.07676). As in
LM-BFF (Gao et al., 2020, https://arxiv.org/abs/2012.15723) the rows are trained with the rest, so that what is exported
is an ordinary classifier of C columns.

Shape legend: B texts, D width of the body, E width of embeddings, C classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.text.masked_head import MaskedHead, new_masked_head

if TYPE_CHECKING:
    from effxfer.net.net import Net


class LabelWords(nn.Module):
    """Maps the token at the mask's place to logits of classes.

    Args:
        transform: The head whose transform it takes over, with its weights.
        classes: C; their rows are zeros until `start_rows_`.
    """

    def __init__(self, transform: MaskedHead, classes: int) -> None:
        super().__init__()
        self.dense, self.act, self.norm = transform.dense, transform.act, transform.norm
        self.out = nn.Linear(transform.dense.out_features, classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, D)` to logits `(B, C)`."""
        logits: Tensor = self.out(self.norm(self.act(self.dense(tokens))))
        return logits

    @torch.no_grad()
    def start_rows_(self, table: Tensor, bias: Tensor, words: Sequence[Sequence[int]]) -> None:
        """Set each class's row and bias to those of its word, in place: the mean over the word's tokens.

        Args:
            table: Token embeddings `(V, E)`.
            bias: Of the decoder, `(V,)`.
            words: Ids of each class's word, at least one each.
        """
        for row, ids in enumerate(words):
            self.out.weight[row] = table[list(ids)].mean(0)
            self.out.bias[row] = bias[list(ids)].mean()


def label_words_head(net: "Net", classes: int) -> LabelWords:
    """Build the head for a network; it takes over the transform of the head for masked tokens, if the network has one.

    Raises:
        ModelFileError: If the network's body is no text encoder of this package.
    """
    try:
        transform = net.head if isinstance(net.head, MaskedHead) else new_masked_head(net)
    except SettingsError as error:
        raise ModelFileError(f"label words: {error.problem}", error.hint, code="E404") from None
    return LabelWords(transform, classes)


def reads_mask(head: nn.Module) -> bool:
    """Whether a head takes the token at the mask's place, and no average of the text."""
    return isinstance(head, LabelWords)
