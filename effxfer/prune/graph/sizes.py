"""The sizes of a pruned network as plain values, so that another instance of its class takes its weights.

Pickled modules break with every change of the code and run what they hold; a record of sizes beside a `state_dict`
does neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.compression.resize import measure_shapes, resize_between
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
    # Folding adds biases, and pruning adds nothing besides.
    resize = resize_between(old, new, {f"{name}.bias" for name in biases})
    return [*([{"kind": "add_bias", "layers": sorted(biases)}] if biases else []), resize]
