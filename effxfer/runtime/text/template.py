"""Special tokens that a tokenizer puts around one text, and around and between two."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from effxfer.runtime.text.fields import is_id

MOST_SPECIAL = 16
Ids = tuple[int, ...]


class Template(NamedTuple):
    """Ids of special tokens.

    Attributes:
        single: Before and after one text.
        pair: Before the first text, between both, and after the second; nothing between if it takes no pairs.
    """

    single: tuple[Ids, Ids] = ((), ())
    pair: tuple[Ids, Ids, Ids] = ((), (), ())

    @property
    def ids(self) -> frozenset[int]:
        """All ids that occur in it."""
        return frozenset(i for part in (*self.single, *self.pair) for i in part)


def read_template(processor: Mapping[str, Any] | None) -> Template:
    """Read the `post_processor` of a `tokenizer.json`, whose kinds and fields were checked.

    Raises:
        ValueError: If it is of another form than special tokens before, between and after texts in their order.
    """
    if processor is None or processor["type"] == "ByteLevel":
        return Template()
    if processor["type"] == "Sequence":
        templates = [t for t in map(read_template, processor["processors"]) if t != Template()]
        if len(templates) > 1:
            raise ValueError("a post-processor that adds special tokens twice")
        return templates[0] if templates else Template()
    if processor["type"] == "TemplateProcessing":
        return _read_processing(processor)
    start, end = (_pair_id(processor.get(name), name) for name in ("cls", "sep"))
    middle = (end, end) if processor["type"] == "RobertaProcessing" else (end,)
    return Template(((start,), (end,)), ((start,), middle, (end,)))


def _read_processing(processor: Mapping[str, Any]) -> Template:
    special = processor.get("special_tokens")
    if not isinstance(special, dict):
        raise ValueError("a template without special_tokens")  # noqa: TRY004 (the file is wrong, not the caller)
    single = _sides(processor.get("single"), "A", special)
    pair = _sides(processor.get("pair"), "AB", special) if processor.get("pair") else (single[0], (), single[1])
    return Template((single[0], single[1]), (pair[0], pair[1], pair[2]))


def _sides(steps: Any, expected: str, special: Mapping[str, Any]) -> tuple[Ids, ...]:
    """Return the ids before, between and after the sequences of a template."""
    if not isinstance(steps, list) or len(steps) > MOST_SPECIAL:
        raise ValueError(f"a template that is no list of at most {MOST_SPECIAL} steps")
    sides: list[list[int]] = [[]]
    order = ""
    for step in steps:
        kind, value = _one_item(step)
        name = value.get("id") if isinstance(value, dict) else None
        if kind == "Sequence":
            order += str(name)
            sides.append([])
        elif kind == "SpecialToken" and isinstance(special.get(str(name)), dict):
            sides[-1] += _ids(special[str(name)].get("ids"))
        else:
            raise ValueError(f"a template with the step {step!s:.60}")
    if order != expected:
        raise ValueError(f"a template of the sequences {order or 'none'}, not {expected}")
    return tuple(map(tuple, sides))


def _one_item(step: Any) -> tuple[str, Any]:
    if not isinstance(step, dict) or len(step) != 1:
        raise ValueError(f"a template with the step {step!s:.60}")
    return next(iter(step.items()))


def _ids(raw: Any) -> Sequence[int]:
    if not isinstance(raw, list) or len(raw) > MOST_SPECIAL or not all(map(is_id, raw)):
        raise ValueError(f"special tokens with the ids {raw!s:.60}")
    return raw


def _pair_id(raw: Any, name: str) -> int:
    """Return the id of `[token, id]`."""
    if not isinstance(raw, list) or len(raw) != 2 or not is_id(raw[1]):
        raise ValueError(f"{name} is {raw!s:.60}, not a token and its id")
    number: int = raw[1]
    return number
