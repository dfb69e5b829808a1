"""Patterns that make one sequence of fields and words: `{text}`, `{text}{sep}{other}`, `{text} It was [MASK].`."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import LoadedTokenizer
from effxfer.runtime.text.template import Ids

SINGLE, PAIR = "{text}", "{text}{sep}{other}"
FIELDS = ("text", "other")
LONGEST = 1000
PLACEHOLDER = re.compile(r"\{(\w+)\}")
HINT = 'use "{text}", or "{text}{sep}{other}" for pairs; special tokens are written as the tokenizer writes them'


class Chunk(NamedTuple):
    """A stretch without special tokens: pieces of text, and the names of fields.

    Attributes:
        pieces: Text, or a field's name, in order.
        names: For each piece, the field's name; empty for text.
    """

    pieces: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return the chunk with the fields' texts."""
        return "".join(fields[name] if name else piece for piece, name in zip(self.pieces, self.names, strict=True))


class Pattern(NamedTuple):
    """A pattern for one tokenizer: chunks, with the ids of special tokens before, between and behind them.

    Attributes:
        chunks: In order.
        special: One tuple of ids more than chunks.
        fields: Names of the fields, in order.
    """

    chunks: tuple[Chunk, ...]
    special: tuple[Ids, ...]
    fields: tuple[str, ...]

    @property
    def is_single(self) -> bool:
        """Whether it is one text and nothing else, beside special tokens around it."""
        return self.chunks == (Chunk(("text",), ("text",)),)


def field_names(pattern: str) -> tuple[str, ...]:
    """Return the fields of a pattern, in order.

    >>> field_names("{text}{sep}{other}")
    ('text', 'other')

    Raises:
        TextError: `E218` if it is too long, names another field, a field twice, or none; `text` comes first.
    """
    names = tuple(name for name in PLACEHOLDER.findall(pattern) if name != "sep")
    if len(pattern) > LONGEST or names not in (FIELDS[:1], FIELDS) or pattern.count("{sep}") > 1:
        text = f"the pattern {pattern!r:.80} has the fields {', '.join(names) or 'none'}"
        raise TextError(text, HINT, code="E218")
    return names


def read_pattern(pattern: str, tokenizer: LoadedTokenizer) -> Pattern:
    """Split a pattern at its special tokens.

    Args:
        pattern: Text with `{text}` and perhaps `{other}`; `{sep}` is what the tokenizer puts between two texts.
        tokenizer: Its special tokens are recognized in the pattern, but never in a user's text.

    Raises:
        TextError: `E218` if it is no pattern, or the tokenizer has nothing to put between two texts.
    """
    fields, template = field_names(pattern), tokenizer.template
    (before, behind), middle = template.single, Ids()
    if "{sep}" in pattern:
        before, middle, behind = template.pair
        if not middle:
            raise TextError(
                "the tokenizer puts nothing between two texts", "write a pattern without {sep}", code="E218"
            )
    steps = [step for step in _splitter(tokenizer).split(pattern) if step]
    special, chunks = [list(before)], list[Chunk]()
    for position, step in enumerate(steps):
        if step == "{sep}":
            special[-1] += middle
        elif step in tokenizer.special:
            special[-1].append(tokenizer.special[step][0])
        elif chunk := _chunk(_strip(step, steps, position, tokenizer)):
            chunks.append(chunk)
            special.append([])
    special[-1] += behind
    return Pattern(tuple(chunks), tuple(map(tuple, special)), fields)


def _splitter(tokenizer: LoadedTokenizer) -> re.Pattern[str]:
    names = sorted(tokenizer.special, key=lambda name: -len(name))
    return re.compile(f"({'|'.join(map(re.escape, ['{sep}', *names]))})")


def _strip(step: str, steps: Sequence[str], position: int, tokenizer: LoadedTokenizer) -> str:
    """Remove blanks that the special tokens beside a stretch take."""
    earlier = tokenizer.special.get(steps[position - 1]) if position else None
    following = tokenizer.special.get(steps[position + 1]) if position + 1 < len(steps) else None
    step = step.lstrip() if earlier and earlier[2] else step
    return step.rstrip() if following and following[1] else step


def _chunk(step: str) -> Chunk | None:
    parts = [part for part in re.split(r"(\{\w+\})", step) if part]
    names = tuple(part[1:-1] if PLACEHOLDER.fullmatch(part) else "" for part in parts)
    pieces = tuple(name or part for part, name in zip(parts, names, strict=True))
    return Chunk(pieces, names) if pieces else None
