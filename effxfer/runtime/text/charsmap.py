"""Check the table of replacements that SentencePiece compiles into a tokenizer (`precompiled_charsmap`).

The library reads it without checks: a damaged table ends the process. It holds the size of a trie in bytes, the trie
(uint32 units of a double array, as the library darts-clone writes it), and replacements that end with a zero byte.
"""

import base64
import binascii

import numpy as np

LARGEST = 4_000_000
LONGEST_REPLACEMENT = 64  # bytes; the longest of Unicode's NFKC has 33
LEAF, HAS_LEAF, WIDE = 1 << 31, 1 << 8, 1 << 9


def check_charsmap(text: str) -> int:
    """Return the most characters that one character is replaced by.

    Args:
        text: The table in base64.

    Raises:
        ValueError: If it is damaged.
    """
    if len(text) > LARGEST:
        raise ValueError(f"a table of {len(text)} characters, {LARGEST} at most")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a table that is no base64") from None
    size = int.from_bytes(raw[:4], "little")
    if size % 4 or not 0 < size <= len(raw) - 4:
        raise ValueError("a table whose size is wrong")
    replacements = raw[4 + size :]
    _check_trie(np.frombuffer(raw, "<u4", size // 4, 4).astype(np.int64), replacements)
    longest = max(map(len, replacements.split(b"\0")))
    if longest > LONGEST_REPLACEMENT:
        raise ValueError(f"a replacement of {longest} bytes, {LONGEST_REPLACEMENT} at most")
    return max(1, longest)


def _check_trie(units: "np.ndarray[tuple[int], np.dtype[np.int64]]", replacements: bytes) -> None:
    """Refuse a trie in which some text leads outside of it, or to a place between two characters.

    Raises:
        ValueError: If there is such a text.
    """
    # A search begins at unit 0, whether it calls itself a leaf or not.
    inner = np.flatnonzero((units < LEAF) | (np.arange(len(units)) == 0))
    offsets = (units[inner] >> 10) << ((units[inner] & WIDE) >> 6)
    following = inner ^ offsets
    if not len(inner) or (following | 0xFF).max() >= len(units):  # any byte may be looked up behind a unit
        raise ValueError("a table that leads outside of itself")
    places = units[following[(units[inner] & HAS_LEAF) > 0]] & (LEAF - 1)
    bytes_there = np.frombuffer(replacements, np.uint8)
    if len(places) and (places.max() >= len(replacements) or ((bytes_there[places] & 0xC0) == 0x80).any()):
        raise ValueError("a table that leads outside of its replacements")
    try:
        replacements.decode()
    except UnicodeDecodeError:
        raise ValueError("a table whose replacements are not UTF-8") from None
