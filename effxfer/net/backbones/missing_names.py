"""Name the tensors that a weights file lacks as the file would name them, judged by those that it has."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

OWN_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
SIBLINGS = {"weight": "bias", "bias": "weight", "gamma": "beta", "beta": "gamma"}


def name_missing(
    missing: Iterable[str], stored: Mapping[str, str], candidates: Callable[[str], Sequence[str]] = lambda _: ()
) -> list[str]:
    """Return texts such as `encoder.layer.1.output.dense.bias for blocks.1.mlp.fc2.bias`.

    Args:
        missing: Names of the network's tensors that the file lacks.
        stored: Names in the file of those that it has, by the name in the network.
        candidates: Returns names that files have for a tensor, where the file has no tensor like it.

    Returns:
        One for each missing tensor; the network's name alone where none in the file is known.
    """
    # One block stands for all: they differ by their number alone.
    alike = {match[2]: (match[1], name) for tensor, name in stored.items() if (match := OWN_BLOCK.fullmatch(tensor))}
    texts = list[str]()
    for tensor in missing:
        names = [_block_name(tensor, alike) or _sibling_name(tensor, stored)]
        if not names[0]:
            names = list(candidates(tensor))
        texts.append(f"{' or '.join(names)} for {tensor}" if names else tensor)
    return texts


def _block_name(tensor: str, alike: Mapping[str, tuple[str, str]]) -> str:
    """Return the name of a tensor by that of the same tensor in another block; empty without one."""
    match = OWN_BLOCK.fullmatch(tensor)
    if match is None or match[2] not in alike:
        return ""
    number, name = alike[match[2]]
    return name.replace(f".{number}.", f".{match[1]}.", 1)


def _sibling_name(tensor: str, stored: Mapping[str, str]) -> str:
    """Return the name of a weight by that of its bias, or of a bias by its weight; empty without one."""
    path, _, leaf = tensor.rpartition(".")
    name = stored.get(f"{path}.{SIBLINGS.get(leaf)}", "")
    place, _, sibling = name.rpartition(".")
    return f"{place}.{SIBLINGS[sibling]}" if sibling in SIBLINGS else ""
