"""Cut a sequence of tokens to a length: at its end, or into overlapping windows."""

from typing import NamedTuple

from effxfer.runtime.text.errors import TextError


class Window(NamedTuple):
    """The tokens of each field that one row holds: first and last + 1, by field."""

    spans: tuple[tuple[int, int], ...]


def cut_lengths(lengths: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Return how many tokens of one or two fields are used, if they have to share `room` tokens.

    Two fields lose tokens as the library's strategy `longest_first` takes them: the longer one first, then both.

    >>> cut_lengths((3, 10), 8), cut_lengths((9, 9), 7), cut_lengths((9,), 7)
    ((3, 5), (3, 4), (7,))
    """
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return (room,)
    shorter, longer = sorted(lengths)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return (longer, shorter) if lengths[0] > lengths[1] else (shorter, longer)


def windows(lengths: tuple[int, ...], room: int, stride: int) -> list[Window]:
    """Return the windows of one or two fields.

    Args:
        lengths: Tokens of each field.
        room: Tokens of all fields together in one row; at least 1.
        stride: Tokens of the last field that two successive windows share; 0 for a single window, cut at its end. With
            two fields and a stride, the first one is in every window, with half of the room at most.

    Raises:
        TextError: `E218` if the stride leaves no token that is new in each window.
    """
    if sum(lengths) <= room:
        return [Window(tuple((0, length) for length in lengths))]
    if not stride:
        return [Window(tuple((0, length) for length in cut_lengths(lengths, room)))]
    first = tuple((0, min(length, room // 2)) for length in lengths[:-1])
    width = room - sum(end for _, end in first)
    if stride >= width:
        hint = f"give a stride below {width}, or a larger size"
        raise TextError(f"a stride of {stride} tokens in windows of {width}", hint, code="E218")
    count = max(0, -(-(lengths[-1] - width) // (width - stride))) + 1
    starts = (number * (width - stride) for number in range(count))
    return [Window((*first, (start, min(start + width, lengths[-1])))) for start in starts]
