"""Read a serialized model's top-level fields without protobuf (https://protobuf.dev/programming-guides/encoding).

A damaged model is read up to the damage.
"""

from collections.abc import Iterator

IR_VERSION, GRAPH, OPSET, METADATA = 1, 7, 8, 14
GRAPH_INPUT = 11
NUMBER, TEXT = 0, 2
FIXED = {1: 8, 5: 4}
# Chosen: a model has one graph and some entries; a file of empty fields takes 0.6 s per MB, so 2 GB some 20 minutes.
MOST_FIELDS = 100_000


def properties(content: bytes) -> dict[str, str]:
    """Read a model's metadata entries."""
    entries = [dict(fields(value)) for number, value in fields(content) if number == METADATA]
    return {_text(entry.get(1)): _text(entry.get(2)) for entry in entries}


def input_names(content: bytes) -> list[str]:
    """List the inputs of a model's graph, those with a default value as well."""
    graphs = [value for number, value in fields(content) if number == GRAPH]
    inputs = [value for graph in graphs for number, value in fields(graph) if number == GRAPH_INPUT]
    return [_text(dict(fields(each)).get(1)) for each in inputs]


def versions(content: bytes) -> str:
    """Describe the format version and operator sets of a model, such as `IR version 10, opset 20`."""
    parts = []
    for number, value in fields(content):
        if number == IR_VERSION:
            parts.append(f"IR version {value!r}")
        if number == OPSET:
            entry = dict(fields(value))
            parts.append(" ".join(["opset", *filter(None, [_text(entry.get(1))[:50]]), str(entry.get(2, 0))]))
    # A message names a few; a forged file may have thousands of operator sets.
    return ", ".join(parts[:10])


def fields(content: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """Yield a message's fields: number, and content or value."""
    position = 0
    for _ in range(MOST_FIELDS if isinstance(content, bytes) else 0):
        try:
            number, value, position = _read_field(content, position)  # type: ignore[arg-type]
        except (IndexError, KeyError):
            return
        yield number, value


def entry(key: str, value: str) -> bytes:
    """Serialize one entry of a model's metadata."""
    parts = ((1, key.encode()), (2, value.encode()))
    return _serialize(METADATA, b"".join(_serialize(number, text) for number, text in parts))


def _read_field(content: bytes, position: int) -> tuple[int, bytes | int, int]:
    key, position = _read_varint(content, position)
    if key & 7 == NUMBER:
        value, position = _read_varint(content, position)
        return key >> 3, value, position
    length, position = _read_varint(content, position) if key & 7 == TEXT else (FIXED[key & 7], position)
    if position + length > len(content):
        raise IndexError
    return key >> 3, content[position : position + length], position + length


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    """Read a varint; return its value and the position after it."""
    value = 0
    # 64 bits, 7 in each byte.
    for step in range(10):
        value |= (content[position + step] & 127) << 7 * step
        if content[position + step] < 128:
            return value, position + step + 1
    raise IndexError


def _serialize(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | TEXT]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _text(value: bytes | int | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
