"""Edit a network's architecture; edits are recorded as JSON and replayed to rebuild it.

Each edit stands beside the modules that it makes: this file lists them all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from effxfer.net.adapters.bottleneck import houlsby, parallel_adapter
from effxfer.net.adapters.ia3 import ia3
from effxfer.net.adapters.lora import lora
from effxfer.net.adapters.prompts import prompts
from effxfer.net.adapters.ssf import ssf
from effxfer.net.backbones.grey import grey
from effxfer.net.compression.early_exit import exit_early
from effxfer.net.compression.low_rank_layer import factorize
from effxfer.net.compression.masks import densify, remove_masks_inside, sparsify
from effxfer.net.compression.removed_block import remove_blocks
from effxfer.net.compression.resize import add_bias, resize
from effxfer.net.heads.head_edits import grow_head, keep_tasks, set_head, set_output
from effxfer.net.multi_task.cross_stitch import cross_stitch
from effxfer.net.net import BODY, BODY_PREFIXES, Edit, Net
from effxfer.net.text.masked_head import set_masked_head
from effxfer.net.text.vocabulary import prune_vocabulary
from effxfer.runtime.inputs import Input
from effxfer.runtime.outputs.single_label import SingleLabel

HEAD_EDITS = ("grow_head", "keep_tasks", "set_head", "set_masked_head", "set_output")


EDITS: dict[str, Callable[..., None]] = {
    "add_bias": add_bias,
    "cross_stitch": cross_stitch,
    "cut": exit_early,
    "densify": densify,
    "factorize": factorize,
    "grey": grey,
    "grow_head": grow_head,
    "houlsby": houlsby,
    "ia3": ia3,
    "keep_tasks": keep_tasks,
    "lora": lora,
    "parallel_adapter": parallel_adapter,
    "prompts": prompts,
    "prune_vocabulary": prune_vocabulary,
    "remove_blocks": remove_blocks,
    "resize": resize,
    "set_head": set_head,
    "set_masked_head": set_masked_head,
    "set_output": set_output,
    "sparsify": sparsify,
    "ssf": ssf,
}


def apply_edit(net: Net, kind: str, **arguments: Any) -> None:
    """Change a network's architecture and record the change.

    Args:
        net: Network, changed in place.
        kind: A key of `EDITS`.
        arguments: Arguments of the edit, in their JSON form.
    """
    EDITS[kind](net, **arguments)
    net.edits.append({"kind": kind, **arguments})


def rebuild(backbone: Mapping[str, Any], edits: Sequence[Edit], input: Input, classes: Sequence[str] = ()) -> Net:
    """Build an untrained network by replaying recorded edits."""
    net = Net(backbone, input)
    for edit in edits:
        apply_edit(net, **edit)
    if isinstance(net.output, SingleLabel):
        net.output = SingleLabel(classes=tuple(classes))
    return net


def body_edits(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits without their parts about the head, which belongs to a task and not to the body."""
    lists = {"add_bias": "layers", "densify": "weights", "sparsify": "weights"}
    selected = list[Edit]()
    for edit in edits:
        if edit["kind"] in lists:
            names = lists[edit["kind"]]
            edit = {**edit, names: [name for name in edit[names] if name.startswith(BODY)]}
        elif edit["kind"] == "resize":
            edit = {
                "kind": "resize",
                "shapes": {n: shape for n, shape in edit["shapes"].items() if n.startswith(BODY_PREFIXES)},
                "sizes": {n: size for n, size in edit["sizes"].items() if n == "body" or n.startswith(BODY)},
            }
        if edit["kind"] not in HEAD_EDITS:
            selected.append(edit)
    return selected


def remove_head(net: Net) -> None:
    """Remove the head of a network, with its edits and masks, so that it gives features."""
    net.edits = body_edits(net.edits)
    remove_masks_inside(net, "head")
    net.head, net.output, net.taps, net.smoothing = nn.Identity(), SingleLabel(), ("out",), 0.0
    net.text = None
