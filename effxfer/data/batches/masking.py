"""Hide tokens of texts, which a network then guesses (BERT: Devlin et al., 2018, https://arxiv.org/abs/1810.04805).

Shape legend: B texts, n tokens, V tokens of the vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import SettingsError
from effxfer.runtime.text.tokens import Tokens

CONTINUES = "##"  # begins a WordPiece token that continues a word
BLANKS = ("Ġ", "▁")  # begin a token that begins a word, in byte-level and SentencePiece vocabularies
IGNORED = -100


@dataclass(frozen=True, eq=False)
class Masking:
    """How tokens are hidden.

    Attributes:
        mask: Id of the mask.
        special: Which ids are never hidden, bool `(V,)`: special tokens, padding and the unknown token.
        continues: Which ids continue the word of the token before, bool `(V,)`.
        rate: Share of the words of a text that are hidden, in (0, 1); at least one is.
        keep: Share of these that stay as they are, so that the network cannot rely on the mask.
        random: Share of these that any token replaces.
    """

    mask: int
    special: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    rate: float
    keep: float
    random: float

    @classmethod
    def of(
        cls, tokens: Tokens, *, rate: float = 0.15, keep: float = 0.1, random: float = 0.1, whole_words: bool = True
    ) -> "Masking":
        """Read the vocabulary of a tokenizer.

        Raises:
            SettingsError: If it has no mask.
        """
        loaded = tokens.loaded
        if loaded.mask is None:
            text = "the tokenizer has no mask: neither [MASK] nor <mask> is among its special tokens"
            raise SettingsError(text, "take an encoder that was trained on masked tokens")
        size = max(loaded.largest_id, tokens.pad) + 1
        special = np.zeros(size, bool)
        special[[*loaded.reserved, tokens.pad, loaded.mask]] = True
        if loaded.unknown is not None:
            special[loaded.unknown] = True
        continues = _continuations(loaded.tokens, size) & whole_words
        return cls(loaded.mask, special, continues, rate, keep, random)

    def hide(self, ids: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hide words of texts.

        Args:
            ids: Padded texts `(B, n)`.
            rng: Draws the words, and what replaces them.

        Returns:
            Ids with hidden tokens `(B, n)`, and the tokens to guess `(B, n)`, -100 elsewhere.
        """
        hidden = self._choose(ids, rng)
        fate, drawn = rng.random(ids.shape), rng.choice(np.flatnonzero(~self.special), ids.shape)
        masked = np.where(hidden & (fate >= self.keep + self.random), self.mask, ids)
        masked = np.where(hidden & (fate >= self.keep) & (fate < self.keep + self.random), drawn, masked)
        return masked, np.where(hidden, ids, IGNORED)

    def _choose(self, ids: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Choose which tokens of texts `(B, n)` are hidden: all tokens of as many words as the rate says."""
        real = ~self.special[ids]
        starts = real & ~self.continues[ids]
        counts = np.maximum(1, np.rint(self.rate * starts.sum(1))).astype(np.int64)
        # The words with the smallest numbers; 2 is above all that are drawn.
        numbers = np.where(starts, rng.random(ids.shape), 2.0)
        limits = np.take_along_axis(np.sort(numbers, 1), counts[:, None] - 1, 1)
        chosen = starts & (numbers <= limits)
        word = np.maximum.accumulate(np.where(starts, np.arange(ids.shape[1]), 0), 1)  # where a token's word begins
        hidden: NDArray[np.bool_] = np.take_along_axis(chosen, word, 1) & real
        return hidden


def _continuations(tokens: Mapping[str, int], size: int) -> NDArray[np.bool_]:
    """Tell which ids continue a word, bool `(size,)`; none where tokens are whole words."""
    flags = np.zeros(size, bool)
    if any(token.startswith(CONTINUES) for token in tokens):
        flags[[number for token, number in tokens.items() if token.startswith(CONTINUES)]] = True
    elif any(token.startswith(BLANKS) for token in tokens):
        flags[[number for token, number in tokens.items() if not token.startswith(BLANKS)]] = True
    return flags
