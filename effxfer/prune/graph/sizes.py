"""The sizes of a pruned network as plain values, so that another instance of its class takes its weights.

Pickled modules break with every change of the code and run what they hold; a record of sizes beside a `state_dict`
does neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.edits import measure_shapes
from effxfer.net.net import Edit
from effxfer.prune.network import edit_

KINDS = ("add_bias", "remove_blocks", "resize")
SizeRecord = Sequence[Mapping[str, Any]]


def apply_sizes(module: nn.Module, record: SizeRecord) -> None:
    """Change the layer sizes of a module to those of a pruned one, in place; its weights are loaded afterwards.

    >>> first, second = nn.Sequential(nn.Linear(4, 8)), nn.Sequential(nn.Linear(4, 8))
    >>> apply_sizes(second, [{"kind": "resize", "shapes": {"0.weight": [5, 4], "0.bias": [5]}, "sizes": {}}])
    >>> second[0].weight.shape
    torch.Size([5, 4])

    Args:
        module: A new instance of the class that was pruned, of the sizes that it had before.
        record: `PruneResult.record`, or the same read from JSON.

    Raises:
        ModelFileError: If the record is of another network, or holds something else than sizes.
    """
    for edit in record:
        if edit.get("kind") not in KINDS:
            raise ModelFileError(f"a record of sizes cannot hold {edit.get('kind')!r}", f"it holds {', '.join(KINDS)}")
        try:
            edit_(module, **{str(key): value for key, value in edit.items()})
        except (AttributeError, TypeError) as error:
            text = f"the record of sizes does not fit this {type(module).__name__}: {error}"
            raise ModelFileError(text, "make the module as it was before pruning") from error


def sizes_between(before: nn.Module, after: nn.Module) -> list[Edit]:
    """Return the changes from a module to a pruned copy: new biases, and other sizes.

    Raises:
        ModelFileError: If the copy has other tensors besides.
    """
    old, new = measure_shapes(before), measure_shapes(after)
    biases = [name.removesuffix(".bias") for name in new[0].keys() - old[0].keys() if name.endswith(".bias")]
    added = {f"{name}.bias" for name in biases}
    # Biases are what folding adds; anything else would need a rule of its own to be rebuilt.
    if new[0].keys() - added != old[0].keys():
        raise ModelFileError("pruning added or removed tensors", "report the network's name: it needs its own rule")
    sizes = {
        name: {key: value for key, value in numbers.items() if old[1][name].get(key) != value}
        for name, numbers in new[1].items()
    }
    resize = {
        "kind": "resize",
        "shapes": {name: shape for name, shape in new[0].items() if old[0].get(name, shape) != shape},
        "sizes": {name: numbers for name, numbers in sizes.items() if numbers},
    }
    return [*([{"kind": "add_bias", "layers": sorted(biases)}] if biases else []), resize]
