"""Files of labelled texts, which a network of a few words learns: the class decides which words a text has."""

import csv
from pathlib import Path

import numpy as np

WORDS = {"bad": ("cat", "sat", "the"), "good": ("mat", "was", "great")}
FILLING = ("a", "b", "c", "d", "e", "f")


def texts(per_class: int, seed: int = 0) -> list[tuple[str, str]]:
    """Different texts of 3 to 14 words, with their class, in turn."""
    rng, rows = np.random.default_rng(seed), dict[str, str]()
    while len(rows) < per_class * len(WORDS):
        label = list(WORDS)[len(rows) % len(WORDS)]
        words = [*rng.choice(WORDS[label], 2), *rng.choice(FILLING, rng.integers(1, 13))]
        rows.setdefault(" ".join(rng.permutation(words)), label)
    return list(rows.items())


def write_lines(file: Path, rows: list[tuple[str, str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{label} {text}\n" for text, label in rows), encoding="utf-8")
    return file


def write_table(file: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file
