"""Taps: the layers of a body whose outputs feed the head, and how wide and where they are.

Shape legend: B batch, S side of the input, D features, h and w sides of a map, n tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.backbones.outputs import tensor_of
from effxfer.net.hooks import as_evaluated, hooks

if TYPE_CHECKING:
    from effxfer.net.net import Net


def with_channels_second(body: nn.Module, output: Any) -> Tensor:
    """Choose the tensor of a module's output (see `tensor_of`), with its channels second.

    Bodies that declare `output_fmt = "NHWC"`, such as timm's Swin, have them last: `(B, h, w, D)`.
    """
    tensor = tensor_of(output)
    last = getattr(body, "output_fmt", "") == "NHWC" and tensor.dim() == 4
    return tensor.permute(0, 3, 1, 2) if last else tensor


def pool(output: Tensor) -> Tensor:
    """Average over positions: maps `(B, D, h, w)` or tokens `(B, n, D)` to `(B, D)`; `(B, D)` stays."""
    if output.dim() == 4:
        return output.mean((2, 3))
    return output.mean(1) if output.dim() == 3 else output


@contextmanager
def capture_taps(body: nn.Module, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that holds, once the body has run in the block, the outputs of its submodules `taps`.

    They are maps `(B, D, h, w)`, tokens `(B, n, D)` or features `(B, D)`; `out` is the body's own output.
    """
    outputs: dict[str, Tensor] = {}

    def capture(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.__setitem__(name, with_channels_second(body, output))

    modules = [(tap, body.get_submodule("" if tap == "out" else tap)) for tap in taps]
    with hooks(module.register_forward_hook(capture(tap)) for tap, module in modules):
        yield outputs


@torch.no_grad()
def tap_widths(net: "Net", names: Sequence[str] = ()) -> dict[str, int]:
    """Measure the width of each tap; without names, of the natural ones: the end of each stage of the body, and `out`.

    Stages end where timm says so (`feature_info`); elsewhere, where the last of the body's blocks of one resolution is.
    """
    names = list(names) or [*stage_ends(net.body, example_input(net)), "out"]
    with as_evaluated(net):
        features = net.pooled_taps(example_input(net), names)
    return {name: features[name].shape[1] for name in names}


def example_input(net: "Net") -> Tensor:
    """Return an input of two examples on the network's device: black images `(2, 3, S, S)`, or ids `(2, n)`."""
    weight = next(net.parameters(), None)
    # Two: a network that squeezes its output would drop a batch of one.
    return torch.from_numpy(net.input.example(2)).to("cpu" if weight is None else weight.device)


def stage_ends(body: nn.Module, example: Tensor) -> list[str]:
    """Name the submodules that end a stage of a body, but for the last where timm does not tell.

    Args:
        body: Any.
        example: Images `(B, 3, S, S)`, where the body is.
    """
    if present := _listed_ends(body):
        return present
    # The last stage is `out`.
    return _measured_ends(body, example)[:-1]


def stage_maps(net: "Net") -> list[str]:
    """Name the first and the last block of each stage of the body in turn, shallowest first, for heads that read maps.

    Raises:
        SettingsError: If the body has fewer than two stages whose ends are maps `(B, D, h, w)`.
    """
    example = example_input(net)
    ends = [] if net.input.kind == "text" else _listed_ends(net.body) or _measured_ends(net.body, example)
    with as_evaluated(net), torch.no_grad():
        outputs = net.outputs(example, ends)
    ends = [name for name in ends if outputs[name].dim() == 4]
    if len(ends) < 2:
        text = f"the backbone {net.backbone['source']} has {len(ends)} stages of maps, two or more are needed"
        raise SettingsError(text, "take a convolutional one, such as timm:resnet18, or options.sharing=hard")
    return [name for end in ends for name in (_first_block(net.body, end), end)]


def _first_block(body: nn.Module, stage: str) -> str:
    """Return the first block of a stage that consists of several; else the stage."""
    module = body.get_submodule(stage)
    return f"{stage}.0" if isinstance(module, nn.Sequential) and len(module) > 1 else stage


def _listed_ends(body: nn.Module) -> list[str]:
    """Return the ends of stages that a body of timm lists, without the first, the shallowest."""
    modules = dict(body.named_modules())
    info = getattr(body, "feature_info", None)
    entries = info if isinstance(info, list) else getattr(info, "info", [])
    listed = [str(entry["module"]) for entry in entries][1:]
    present = [name for name in listed if name in modules]
    return present if present == listed or getattr(body, "exits_early", False) else []


def _measured_ends(body: nn.Module, example: Tensor) -> list[str]:
    """Return the last submodule of each resolution, without the first, which is the stem's."""
    modules = dict(body.named_modules())
    sides: dict[int, str] = {}

    def note(name: str) -> Any:
        def record_side(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                sides[output.shape[-1]] = name

        return record_side

    # At most two levels: blocks and stages, not the layers within; BatchNorm changes no resolution.
    shallow = {n: m for n, m in modules.items() if n and n.count(".") <= 1 and any(True for _ in m.parameters())}
    handles = [m.register_forward_hook(note(n)) for n, m in shallow.items() if not isinstance(m, nn.BatchNorm2d)]
    with as_evaluated(body), hooks(handles):
        body(example)
    return list(sides.values())[1:]
