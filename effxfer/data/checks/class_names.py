"""Check the names of classes, labels, tags or values, whatever the source is."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from effxfer.data.listing import Finding, LabelKind, first_names
from effxfer.documents.fields import LONGEST_NAME

KINDS_WITHOUT_CLASSES = ("none", "value")


def check_names(names: Iterable[str], kind: LabelKind = "single") -> list[Finding]:
    """Warn about names that are easily taken for one another, and refuse those that no model file can hold.

    Args:
        names: Of classes, labels, tags or values.
        kind: Kind of label.

    Returns:
        `W337` for classes that are equal as numbers, `W318` for those that differ in spelling alone; `E334` for names
        that are too long, or no text.
    """
    names = sorted(set(names))
    alike = [] if kind in KINDS_WITHOUT_CLASSES else [*_find_equal_numbers(names), *_find_collisions(names)]
    return [*alike, *_find_unstorable(names)]


def _find_equal_numbers(names: Iterable[str]) -> list[Finding]:
    """Warn about class names that are equal as numbers, such as `1` and `01`."""
    groups = defaultdict[float, list[str]](list)
    for name in names:
        try:
            groups[float(name)].append(name)
        except ValueError:
            continue
    return [
        Finding(code="W337", severity="warning", path="", text=f"equal as numbers, read as separate classes: {listed}")
        for listed in (first_names([repr(name) for name in group]) for group in groups.values() if len(group) > 1)
    ]


def _find_collisions(names: Iterable[str]) -> list[Finding]:
    """Warn about classes whose names differ only in case, spaces at the ends or Unicode form."""
    groups = defaultdict[str, list[str]](list)
    for name in names:
        groups[_spelling_key(name)].append(name)
    return [
        Finding(code="W318", severity="warning", path="", text=f"classes differ only in spelling: {first_names(group)}")
        for group in groups.values()
        if len(group) > 1
    ]


def spelled_alike(names: Iterable[str], reference: Iterable[str]) -> str:
    """Return pairs of names that differ from `reference` only in case, spaces or Unicode form; empty without any.

    >>> spelled_alike(["Cat", "owl"], ["cat", "dog"])
    "'Cat' and 'cat'"
    """
    spellings = {_spelling_key(name): name for name in reference}
    pairs = ((name, spellings.get(_spelling_key(name), name)) for name in names)
    return first_names([f"{name!r} and {twin!r}" for name, twin in pairs if twin != name])


def _spelling_key(name: str) -> str:
    # Compatibility form: full-width letters and ligatures look alike as well.
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _find_unstorable(names: Iterable[str]) -> list[Finding]:
    """Refuse names that a manifest refuses, before a network is trained for them."""
    findings = []
    for name in names:
        text, hint = f"a class has a name of {len(name)} characters: {name!r:.60}", f"{LONGEST_NAME} at most"
        if any("\ud800" <= character <= "\udfff" for character in name):
            text = f"the name of class {name!r:.60} holds half of a character (a lone surrogate)"
            hint = "decode it again from its bytes"
        elif len(name) <= LONGEST_NAME:
            continue
        findings.append(Finding(code="E334", severity="error", path="", text=text, hint=hint))
    return findings
