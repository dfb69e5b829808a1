"""Find the words of a text, as corpora of tagged words divide it, with their places."""

import re

WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"  # scripts without blanks: each character
    r"|(?:[^\W\d_]\.){2,}"  # U.N.
    # Words and numbers with marks inside; the end of Germany's is a word, as in CoNLL-2003 and the Penn Treebank.
    r"|[\w\u0300-\u036f]+(?:(?:[-.,&/@:]|['\u2019](?!(?:s|re|ve|ll|d|m)\b))[\w\u0300-\u036f]+)*"
    r"|['\u2019](?:s|re|ve|ll|d|m)\b"
    r"|[^\w\s]",
    re.IGNORECASE,
)


def find_words(text: str) -> list[tuple[int, int]]:
    """Return the first character of each word, and the one behind its last.

    >>> text = "Germany's U.N. envoy (O'Neill) paid 1,000.50."
    >>> [text[start:end] for start, end in find_words(text)]
    ['Germany', "'s", 'U.N.', 'envoy', '(', "O'Neill", ')', 'paid', '1,000.50', '.']
    """
    return [match.span() for match in WORD.finditer(text)]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a stretch of a text without the blanks at its ends; tokens of bytes begin with the blank before a word.

    >>> trim("the cat  sat", 3, 9), trim("a  b", 1, 3)
    ((4, 7), (3, 3))
    """
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, max(start, end - len(part) + len(part.rstrip()))
