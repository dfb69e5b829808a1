"""Audit texts before training: duplicates, contradictions, damage, labels that stand in the text, and lengths.

Findings are

* `E320` the same text in two splits, `W336` with two labels, `W355` several times in one split,
* `W352` damaged characters, `W353` control characters, `W354` marks of HTML,
* `W356` the name of a class stands in most of its texts, `W357` texts longer than the network reads.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.leaks import find_contradictions, find_leaks
from effxfer.data.listing import Finding, Item, Severity
from effxfer.data.texts.examples import Example, content_key, label_name, text_of
from effxfer.data.texts.text_damage import damage_of
from effxfer.report import Measurement
from effxfer.runtime.text.fields import LARGEST_SIZE
from effxfer.runtime.text.tokens import Tokens

KINDS = {
    "W352": "damaged characters: UTF-8 that was read in another encoding, or characters that could not be read",
    "W353": "control characters; U+0080 to U+009F come of text of Windows, whose `encoding` is cp1252",
    "W354": "marks of HTML",
}
LONGEST_LABEL = 60
# Chosen: a label of two letters, or a few texts, meet by chance.
SHORTEST_NAME, FEWEST_TEXTS = 3, 20
# Chosen: of a class's texts, more than a fifth hold its name, ten times as many as of other texts.
NAME_SHARE, NAME_RATIO = 0.2, 10
WORD = re.compile(r"\w+")


def audit_texts(examples: Sequence[Example], *, allow_leakage: bool = False) -> list[Finding]:
    """Check texts that have their final splits.

    Args:
        examples: The texts.
        allow_leakage: Equal texts in two splits are warnings instead of errors.
    """
    contents = _content_items(examples)
    severity: Severity = "warning" if allow_leakage else "error"
    return [
        *find_leaks(contents, {item.path: item.sha256 for item in contents}, "same text", severity),
        *find_contradictions(contents),
        *inspect_texts(examples),
    ]


def inspect_texts(examples: Sequence[Example]) -> list[Finding]:
    """Check texts for what concerns each split alone: repeats, damage, and labels that stand in the text."""
    return [*_find_repeated(_content_items(examples)), *_find_damage(examples), *_find_names(examples)]


def token_lengths(examples: Sequence[Example], tokens: Tokens) -> NDArray[np.int64]:
    """Return the tokens of each text before it is cut, with special tokens, int64 `(N,)`.

    Raises:
        TextError: If a text cannot be tokenized.
    """
    uncut = replace(tokens, size=LARGEST_SIZE, stride=0)
    return uncut.encode([example.source for example in examples]).rows.lengths


def length_rows(lengths: Mapping[str, NDArray[np.int64]], size: int) -> list[Measurement]:
    """Return measurements of lengths in tokens: median, 95th percentile, longest, and the share that is cut.

    Args:
        lengths: Tokens of each text, by split.
        size: Most tokens of a row.
    """
    rows = []
    for split, counts in ((name, values) for name, values in lengths.items() if len(values)):
        p50, p95 = np.percentile(counts, [50, 95])
        rows += [
            Measurement(name=f"length/{split}/{name}", value=float(value), unit="tokens", n=len(counts))
            for name, value in (("p50", p50), ("p95", p95), ("max", counts.max()))
        ]
        share = 100 * float((counts > size).mean())
        rows.append(Measurement(name=f"cut/{split}", value=share, unit="%", n=len(counts), of="texts"))
    return rows


def find_cut(cut: int, count: int, size: int) -> list[Finding]:
    """Note the texts that are longer than a row (W357).

    Args:
        cut: Number of texts that lost tokens.
        count: Number of texts.
        size: Most tokens of a row.
    """
    if not cut:
        return []
    text = f"{cut} of {count} texts ({cut / count:.1%}) are cut at {size} tokens: what follows is not read"
    hint = "raise `backbone.size`, if the network can read longer texts"
    return [Finding(code="W357", severity="warning", path="", text=text, hint=hint)]


def _content_items(examples: Iterable[Example]) -> list[Item]:
    """Return examples as items whose content is their text, without regard to documents."""
    return [Item(e.name, label_name(e)[:LONGEST_LABEL], e.split, "", content_key(e)) for e in examples]


def _find_repeated(contents: Iterable[Item]) -> list[Finding]:
    """List the texts that occur several times in a split (W355), each at its second place."""
    groups = defaultdict(list)
    for item in contents:
        groups[item.split, item.sha256].append(item)
    findings = []
    for (split, _), members in groups.items():
        if len(members) > 1:
            group = f"texts that occur several times in {split or 'the source'}"
            text = f"the same text as {members[0].path}, {len(members)} times in {split or 'the source'}"
            findings.append(Finding(code="W355", severity="warning", path=members[1].path, text=text, group=group))
    return findings


def _find_damage(examples: Iterable[Example]) -> list[Finding]:
    return [
        Finding(code=code, severity="warning", path=example.name, text=f"{KINDS[code]}: {sample!r}", group=KINDS[code])
        for example in examples
        for code, sample in damage_of(text_of(example)).items()
    ]


def _find_names(examples: Sequence[Example]) -> list[Finding]:
    """Warn about classes whose name gives their texts away (W356)."""
    names = {e.label.casefold(): e.label for e in examples if isinstance(e.label, str)}
    usable = {key: name for key, name in names.items() if len(key) >= SHORTEST_NAME and not _is_number(key)}
    if not usable:
        return []
    sizes, holding = Counter[str](), Counter[tuple[str, str]]()
    for example in examples:
        label = str(example.label).casefold()
        sizes[label] += 1
        words = set(WORD.findall(text_of(example).casefold()))
        holding.update((label, key) for key in usable if key in words)
    findings = [_name_finding(key, usable[key], sizes, holding) for key in usable]
    return [finding for finding in findings if finding is not None]


def _name_finding(key: str, name: str, sizes: Counter[str], holding: Counter[tuple[str, str]]) -> Finding | None:
    total, inside = sizes[key], holding[key, key]
    outside = sum(count for (label, word), count in holding.items() if word == key and label != key)
    share, remaining = inside / total, sum(sizes.values()) - total
    background = outside / remaining if remaining else 0.0
    if total < FEWEST_TEXTS or share < NAME_SHARE or share < NAME_RATIO * background:
        return None
    text = f"{share:.0%} of the texts of class {name!r} hold this word, {background:.1%} of the others do"
    hint = "remove the word from the texts, if they will not hold it in use"
    return Finding(code="W356", severity="warning", path="", text=text, hint=hint)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
