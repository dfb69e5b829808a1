"""VPT: learned tokens in a frozen vision transformer (Jia et al., 2022, https://arxiv.org/abs/2203.12119)."""

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.merge import adapters
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.adapters.adapter_sites import blocks_of, record_shapes
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter
from effxfer.transfer.base import Strategy


class Prompts(Strategy):
    """Train additional tokens in the input of the blocks, and the head; needs attention over all tokens, which ViT has.

    Attributes:
        tokens: Number of learned tokens; 0 trains only the head.
        deep: Whether each block has its own tokens; otherwise those of the first block pass through all blocks.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "layers"

    tokens: int = Field(default=10, ge=0, le=1024)  # chosen: the paper tries 1 to 200
    deep: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and add the tokens."""
        if not self.tokens:
            return attach_adapter(net, None)
        blocks, width = transformer_blocks(net)
        return attach_adapter(
            net, {"kind": "prompts", "blocks": blocks, "count": self.tokens, "width": width, "deep": self.deep}
        )

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body."""
        return detach_adapter(learner, merge=False)


def transformer_blocks(net: Net) -> tuple[list[str], int]:
    """Return a transformer's blocks in the order of execution, and the width of its tokens.

    Raises:
        SettingsError: If the network has no transformer blocks, or they fail with an additional token.
    """
    shapes_by_block = record_shapes(net, list(blocks_of(net)))
    shapes, hint = {(s.inputs, s.outputs) for s in shapes_by_block.values()}, "lora, ssf and houlsby adapt any network"
    if (
        not shapes_by_block
        or len(shapes) != 1
        or len(next(iter(shapes))[0]) != 3
        or not _attends(net, list(shapes_by_block))
    ):
        raise SettingsError("prompts need a transformer whose blocks all read the same tokens, as ViT has", hint)
    width = next(iter(shapes_by_block.values())).inputs[-1]
    if not adapters(net) and not _takes_one_more(net, list(shapes_by_block), width):
        raise SettingsError("prompts need attention over all tokens, whatever their number", hint)
    return list(shapes_by_block), width


def _attends(net: Net, names: list[str]) -> bool:
    return all(any("attention" in type(m).__name__.lower() for m in net.get_submodule(n).modules()) for n in names)


@torch.no_grad()
def _takes_one_more(net: Net, names: list[str], width: int) -> bool:
    """Whether the network's blocks work with one more token."""
    # On a copy: a network that refuses the token must stay unchanged.
    trial = deepcopy(net).eval()
    apply_edit(trial, "prompts", blocks=names, count=1, width=width, deep=True)
    try:
        record_shapes(trial, names)
    except Exception:  # whatever a foreign network raises
        return False
    return True
