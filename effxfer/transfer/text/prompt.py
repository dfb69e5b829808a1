"""Answer a prompt: a pattern makes a text a sentence with a gap, and each class is a word that fits the gap (PET).

Schick & Schütze, 2020, https://arxiv.org/abs/2001.07676; fine-tuned as a whole with a few labels as in LM-BFF (Gao et
al., 2020, https://arxiv.org/abs/2012.15723). The network starts as a classifier that pretraining has taught already:
the head for masked tokens, of which the rows of the label words stay.

Shape legend: C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import nn

from effxfer.data.task import Task
from effxfer.errors import SettingsError, error_of_code
from effxfer.net.heads.label_words import LabelWords
from effxfer.net.net import Net
from effxfer.net.text.encoder import Encoder
from effxfer.net.text.masked_head import MaskedHead
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import MASKS, LoadedTokenizer
from effxfer.runtime.text.tokens import Tokens
from effxfer.transfer.base import Strategy

Words = dict[str, str]
HINT = "pretrain it with `effxfer pretrain`, or take an encoder with its head for masked tokens"


class Prompt(Strategy):
    """Put texts into a pattern, and fine-tune the head for masked tokens on a word for each class.

    The pattern travels with the network and into exported files, which take plain texts. A long text is cut so that the
    pattern stays whole.

    Attributes:
        pattern: How a text becomes a sentence with one mask, written as the tokenizer writes it, such as
            `{text} It was [MASK].`; pairs have `{other}`, too.
        words: The word of each class; without any, the classes' own names are the words.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"text"})

    pattern: str = "{text} It was [MASK]."  # LM-BFF's for sentiment
    words: Words = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_gap(self) -> "Prompt":
        if "{text}" not in self.pattern:
            raise ValueError(f"the pattern {self.pattern!r:.80} lacks {{text}}, where a text goes")
        masks = sum(self.pattern.count(mask) for mask in MASKS)
        if masks != 1:
            names = " or ".join(MASKS)
            raise ValueError(f"the pattern {self.pattern!r:.80} has {masks or 'no'} masks: write {names} once")
        repeated = sorted({word for word in self.words.values() if list(self.words.values()).count(word) > 1})
        if repeated:
            raise ValueError(f"the word {repeated[0]!r} stands for several classes")
        return self

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head of label words."""
        return {"kind": "label_words"}

    def require_classes(self, classes: Sequence[str]) -> None:
        """Refuse words that are not those of the classes.

        Raises:
            SettingsError: If a class has no word, or a word no class.
        """
        if not self.words:
            return
        missing = [name for name in classes if name not in self.words]
        unknown = [name for name in self.words if name not in classes]
        if missing or unknown:
            listed = ", ".join(f"{name} = ..." for name in classes)
            mistake = (
                f"no word for {', '.join(missing)}" if missing else f"a word for {unknown[0]!r}, which is no class"
            )
            raise SettingsError(f"options.words has {mistake}", f"give a word for each class: {listed}")

    def input_for(self, net: Net) -> Input:
        """Return the network's input with the pattern.

        Raises:
            SettingsError: If the network has neither a head for masked tokens nor one of label words, or the pattern
                does not suit its tokenizer.
        """
        if not isinstance(net.head, MaskedHead | LabelWords):
            raise SettingsError(f"{net.backbone['source']} has no head that guesses masked tokens", HINT)
        assert isinstance(net.input, Tokens)
        input = replace(net.input, pattern=self.pattern)
        try:
            gaps = [token for ids in input.compiled_pattern.special for token in ids].count(read_mask(input.loaded))
            input.decode("")  # without room for a text this raises
        except TextError as error:
            raise error_of_code(error.problem, error.hint, error.code) from None
        if gaps != 1:
            mask = next(name for name in MASKS if name in input.loaded.special)
            text = f"the pattern {self.pattern!r:.80} has no mask that the network's tokenizer knows"
            raise SettingsError(text, f"write {mask} in the place of the label word")
        return input

    def start_head(self, net: Net, before: nn.Module, task: Task) -> None:
        """Start each class with the embedding of its word.

        Args:
            net: With a new head of label words.
            before: The head that it had, which guesses masked tokens.
            task: Its classes.

        Raises:
            SettingsError: If the head guesses no masked tokens, or a word has no token.
        """
        if not isinstance(before, MaskedHead):
            raise SettingsError(f"{net.backbone['source']} has no head that guesses masked tokens", HINT)
        self.require_classes(task.classes)
        assert isinstance(net.head, LabelWords)
        assert isinstance(net.body, Encoder)
        assert isinstance(net.input, Tokens)
        ids = [word_ids(net.input.loaded, self.words.get(name, name)) for name in task.classes]
        net.head.start_rows_(net.body.embeddings.tokens.weight, before.bias, ids)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Train everything.

        Raises:
            SettingsError: If the head is no head of label words.
        """
        if not isinstance(net.head, LabelWords):
            hint = "make it one by `effxfer finetune` with strategy prompt"
            raise SettingsError("the network has no head of label words", hint)
        return super().prepare(net, tasks)


def read_mask(tokenizer: LoadedTokenizer) -> int:
    """Return the id of a tokenizer's mask.

    Raises:
        SettingsError: If it has none.
    """
    if tokenizer.mask is None:
        text = "the tokenizer has no mask: neither [MASK] nor <mask> is among its special tokens"
        raise SettingsError(text, "take an encoder that was trained on masked tokens")
    return tokenizer.mask


def word_ids(tokenizer: LoadedTokenizer, word: str) -> list[int]:
    """Return the tokens of a word in the middle of a text.

    Raises:
        SettingsError: If it has none but the unknown one.
    """
    # Byte-level tokenizers write a word behind a blank with other tokens than one that begins a text.
    (encoding,) = tokenizer.encode([f" {word}" if tokenizer.byte_level else word])
    ids = [token for token in encoding.ids if token != tokenizer.unknown]
    if len(ids) < len(encoding.ids) or not ids:
        raise SettingsError(f"the word {word!r} has no token of its own", "choose another one in options.words")
    return ids
