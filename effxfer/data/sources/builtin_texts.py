"""A built-in data set of texts: requests to a shop, made from templates, without a download.

The templates of the splits share no wording, so that a network that knows the training words alone answers badly.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from effxfer.data.listing import SPLITS
from effxfer.data.texts.examples import Example

BUILTIN_TEXTS = ("requests",)
TEMPLATES = Path(__file__).parent / "requests.toml"
SLOTS = "slots"
# Chosen: enough that no slot's word belongs to an intent; a template of 20 fillings is learned from 5.
FILLINGS = {"train": 20, "val": 8, "test": 8}


@cache
def read_builtin_texts(name: str) -> tuple[Example, ...]:
    """Return the examples of a built-in data set, with their splits; equal each time.

    Args:
        name: One of `BUILTIN_TEXTS`.
    """
    tables = tomllib.loads((TEMPLATES.parent / f"{name}.toml").read_text(encoding="utf-8"))
    slots = tables.pop(SLOTS)
    texts = {
        text: (label, split)
        for label, templates in tables.items()
        for split in SPLITS
        for template in templates[split]
        for text in _fillings(template, slots, FILLINGS[split])
    }
    # In no order of labels, as in a file that somebody collected.
    shuffled = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    return tuple(Example(text, texts[text][0], f"{n:04d}", texts[text][1]) for n, text in enumerate(shuffled, 1))


def _fillings(template: str, slots: Mapping[str, Sequence[str]], count: int) -> Iterator[str]:
    """Yield different fillings of a template, with a beginning and an end; fewer if there are not as many."""
    names = [name for name in slots if f"{{{name}}}" in template]
    for number in range(count):
        words = {name: slots[name][_draw(template, name, number) % len(slots[name])] for name in names}
        tone, close = (slots[name][_draw(template, name, number) % len(slots[name])] for name in ("tone", "close"))
        text = template.format(**words)
        yield f"{tone or ''}{text if tone else text[0].upper() + text[1:]}.{close}"


def _draw(*parts: object) -> int:
    """Return a number that depends on the parts alone, on any machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
