"""What a serialized model says at its top level, read without protobuf (https://protobuf.dev/programming-guides/encoding).

A model is read as far as it can be: where it is damaged, what was found before is given.
"""

from collections.abc import Iterator

IR_VERSION, OPSET, METADATA = 1, 8, 14
NUMBER, TEXT = 0, 2
FIXED = {1: 8, 5: 4}
MOST_FIELDS = 100_000


def properties(content: bytes) -> dict[str, str]:
    """Read a model's metadata."""
    entries = [dict(fields(value)) for number, value in fields(content) if number == METADATA]
    return {_text(entry.get(1)): _text(entry.get(2)) for entry in entries}


def versions(content: bytes) -> str:
    """Say which version of the format and which operator sets a model asks for, such as `IR version 10, opset 20`."""
    found = []
    for number, value in fields(content):
        if number == IR_VERSION:
            found.append(f"IR version {value!r}")
        if number == OPSET:
            entry = dict(fields(value))
            found.append(" ".join(["opset", *filter(None, [_text(entry.get(1))[:50]]), str(entry.get(2, 0))]))
    return ", ".join(found[:10])


def fields(content: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """Walk a message's fields: their numbers, and their content or value."""
    at = 0
    for _ in range(MOST_FIELDS if isinstance(content, bytes) else 0):
        try:
            number, value, at = _field(content, at)  # type: ignore[arg-type]
        except (IndexError, KeyError):
            return
        yield number, value


def entry(key: str, value: str) -> bytes:
    """Serialize one entry of a model's metadata."""
    parts = ((1, key.encode()), (2, value.encode()))
    return _serialized(METADATA, b"".join(_serialized(number, text) for number, text in parts))


def _field(content: bytes, at: int) -> tuple[int, bytes | int, int]:
    key, at = _number(content, at)
    if key & 7 == NUMBER:
        value, at = _number(content, at)
        return key >> 3, value, at
    length, at = _number(content, at) if key & 7 == TEXT else (FIXED[key & 7], at)
    if at + length > len(content):
        raise IndexError
    return key >> 3, content[at : at + length], at + length


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length; give where it ends, too."""
    value = 0
    for step in range(10):
        value |= (content[at + step] & 127) << 7 * step
        if content[at + step] < 128:
            return value, at + step + 1
    raise IndexError


def _serialized(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | TEXT]) + _size(len(content)) + content


def _size(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _size(value >> 7)


def _text(value: bytes | int | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
