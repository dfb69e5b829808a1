"""A network that remembers how to rebuild itself.

Shape legend: B batch, S side of the input, D features, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError, out_of_memory
from effxfer.net.backbones.architectures import build_body
from effxfer.net.backbones.outputs import tensor_of
from effxfer.net.heads.pools import pool_of
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.runtime.images.preprocess import Preprocess

Edit = dict[str, Any]
KEEP = "keep/"


class Left(Exception):  # noqa: N818
    """A body's pass ends here, with its output; raised and caught within it.

    Attributes:
        output: What the body gives.
    """

    def __init__(self, output: Tensor) -> None:
        super().__init__("a body ended early outside of its own pass")
        self.output = output


class Cut(nn.Module):
    """A body that ends early: see `effxfer.net.early_exit`. Its class is derived from the body's own."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the body up to its end."""
        try:
            return super().forward(*inputs, **named)
        except Left as left:
            return left.output


class Net(nn.Module):
    """A backbone and a head, plus the edits that led to them.

    `rebuild(net.backbone, net.edits)` gives a network of the same shape, so that weights are stored without code.

    Attributes:
        backbone: What `build_body` takes: `{"source": ..., "args": {...}}`.
        preprocess: What its input must look like.
        classes: Names of the head's columns; empty before the first head.
        taps: Names of the body's submodules whose outputs feed the head; `out` is the body's own output.
        edits: Architecture changes, in order.
        body: Maps images `(B, 3, S, S)` to features or feature maps.
        head: Maps features `(B, D)` to logits `(B, C)`.
        smoothing: The largest label smoothing that it was trained with for its present classes; 0 is none.
    """

    def __init__(self, backbone: Mapping[str, Any], preprocess: Preprocess) -> None:
        super().__init__()
        self.backbone, self.preprocess = dict(backbone), preprocess
        self.classes: tuple[str, ...] = ()
        self.taps: tuple[str, ...] = ("out",)
        self.edits: list[Edit] = []
        self.smoothing = 0.0
        self.body = build_body(**self.backbone)
        self._settle()
        self.head: nn.Module = nn.Identity()

    @torch.no_grad()
    def _settle(self) -> None:
        """Let lazy layers learn their shapes."""
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in self.body.parameters()):
            with as_evaluated(self.body):
                self.body(torch.zeros(2, 3, self.preprocess.size, self.preprocess.size))

    def tapped(self, x: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Map images `(B, 3, S, S)` to the pooled features `(B, D)` of each of `taps`."""
        return {name: pool(output) for name, output in self.outputs(x, taps).items()}

    def outputs(self, x: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Map images `(B, 3, S, S)` to what each of `taps` gives: maps, tokens or features."""
        with caught(self, taps) as found:
            out = self.body(x)
        return {**found, "out": in_order(self.body, out)}

    def features(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to what the head's classifier sees: `(B, D)`, pooled as the head says."""
        found = self.outputs(x, self.taps)
        own = pool_of(self.head)
        if own is not None:
            return own([found[t] for t in self.taps])  # type: ignore[no-any-return]
        pooled = [pool(found[t]) for t in self.taps]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits `(B, C)`."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @torch.no_grad()
    def take_size(self, size: int) -> None:
        """Expect images of another side from now on.

        Raises:
            SettingsError: If the backbone cannot take them.
        """
        before = self.preprocess
        self.preprocess = replace(before, size=size)
        try:
            with as_evaluated(self):
                self.tapped(example_input(self), self.taps)
        except Exception as error:  # whatever a foreign backbone raises at a size it does not know
            self.preprocess = before
            if out_of_memory(error):
                raise
            text = f"the backbone cannot take images of {size} px: {str(error).splitlines()[0]}"
            raise SettingsError(text, f"leave size out, or give {before.size}") from None

    def edit(self, kind: str, **arguments: Any) -> None:
        """Change the architecture and remember the change."""
        from effxfer.net.edits import EDITS

        EDITS[kind](self, **arguments)
        self.edits.append({"kind": kind, **arguments})

    @torch.no_grad()
    def constrain_(self) -> None:
        """Zero, in place, the weights that a ticket removed; training calls this after every step."""
        for name, keep in self.kept().items():
            weight = self.original(name)
            weight.mul_(keep.view(torch.uint8).to(weight.dtype))  # bool converts half as fast

    def original(self, name: str) -> Tensor:
        """Give a weight as it is stored: without what an adapter makes of it, where one changes it."""
        path, _, leaf = name.rpartition(".")
        layer = self.get_submodule(path)
        changed: Any = getattr(layer, "parametrizations", {})
        return changed[leaf].original if leaf in changed else layer.get_parameter(leaf)

    def kept(self) -> dict[str, Tensor]:
        """Give the mask of each masked weight, by the weight's name; true means keep."""
        masks = dict(self.named_buffers(recurse=False))
        return {n.removeprefix(KEEP).replace("/", "."): m for n, m in masks.items() if n.startswith(KEEP)}


def rebuild(
    backbone: Mapping[str, Any], edits: Sequence[Edit], preprocess: Preprocess, classes: Sequence[str] = ()
) -> Net:
    """Make an untrained network by replaying recorded edits."""
    net = Net(backbone, preprocess)
    for edit in edits:
        net.edit(**edit)
    net.classes = tuple(classes)
    return net


def in_order(body: nn.Module, output: Any) -> Tensor:
    """Choose the tensor of what a body or one of its modules gives, see `tensor_of`, with its channels second.

    They are last where a body says so: `(B, h, w, D)`, as Swin's of timm are.
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
def caught(net: Net, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Give, once the body has run in the block, the outputs of its submodules named; `out` is its own.

    They are maps `(B, D, h, w)`, tokens `(B, n, D)` or features `(B, D)`.
    """
    found: dict[str, Tensor] = {}

    def catch(name: str) -> Any:
        return lambda _module, _inputs, output: found.__setitem__(name, in_order(net.body, output))

    modules = [(tap, net.body.get_submodule("" if tap == "out" else tap)) for tap in taps]
    with hooks(module.register_forward_hook(catch(tap)) for tap, module in modules):
        yield found


@torch.no_grad()
def tap_widths(net: Net, names: Sequence[str] = ()) -> dict[str, int]:
    """Measure the width of each tap; without names, of the natural ones: the end of each stage of the body, and `out`.

    Stages end where timm says so (`feature_info`); elsewhere, where the last of the body's blocks of one resolution is.
    """
    names = list(names) or [*stage_ends(net), "out"]
    with as_evaluated(net):
        found = net.tapped(example_input(net), names)
    return {name: found[name].shape[1] for name in names}


def example_input(net: Net) -> Tensor:
    """Give two black images `(2, 3, S, S)`, where the network is."""
    weight = next(net.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    return torch.zeros(2, 3, net.preprocess.size, net.preprocess.size, device=device)


def stage_ends(net: Net) -> list[str]:
    """Name the submodules of the body that end a stage, but for the last where timm does not tell."""
    modules = dict(net.body.named_modules())
    info = getattr(net.body, "feature_info", None)
    entries = info if isinstance(info, list) else getattr(info, "info", [])
    told = [str(entry["module"]) for entry in entries][1:]
    kept = [name for name in told if name in modules]
    if kept and (kept == told or isinstance(net.body, Cut)):
        return kept
    sides: dict[int, str] = {}

    def note(name: str) -> Any:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                sides[output.shape[-1]] = name

        return see

    shallow = {n: m for n, m in modules.items() if n and n.count(".") <= 1 and any(True for _ in m.parameters())}
    handles = [m.register_forward_hook(note(n)) for n, m in shallow.items() if not isinstance(m, nn.BatchNorm2d)]
    with as_evaluated(net), hooks(handles):
        net(example_input(net))
    return list(sides.values())[1:-1]
