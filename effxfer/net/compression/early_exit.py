"""End a body early: remove the layers behind the deepest one that feeds the head.

A body may have any `forward`. The first removed module that is still called returns its input as the body's output and
ends the pass. The body itself must call it, not another module: exporters could not follow that. Modules at the end of
an `nn.Sequential` or `nn.ModuleList` are simply deleted.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.net import Net
from effxfer.net.taps import example_input, pool


class ExitSignal(Exception):  # noqa: N818
    """Ends a body's forward pass with its output; raised and caught within the body.

    Attributes:
        output: Output of the body.
    """

    def __init__(self, output: Tensor) -> None:
        super().__init__("a body ended early outside of its own pass")
        self.output = output


class EarlyExit(nn.Module):
    """A body that ends early; its class is derived from this one and the body's own."""

    exits_early = True

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the body up to its end."""
        try:
            return super().forward(*inputs, **named)
        except ExitSignal as signal:
            return signal.output


class ExitPoint(nn.Module):
    """Replaces a removed module: ends the body's pass and returns its own input."""

    def __call__(self, x: Tensor, *_args: Any, **_named: Any) -> Tensor:
        """Raise `ExitSignal`. It overrides `__call__`, so that forward hooks do not fire."""
        raise ExitSignal(x)


def exit_early(net: Net, *, gone: Sequence[str]) -> None:
    """End the body at the first call of the named submodules, and remove them.

    Raises:
        ModelFileError: If the body has no such submodule.
    """
    modules = dict(net.body.named_modules())
    for name in gone:
        if name not in modules:
            raise ModelFileError(f"the body has no layer {name!r}{did_you_mean(name, modules)}")
    # From the end: only a last child of a Sequential can be deleted.
    for name in sorted(gone, key=list(modules).index, reverse=True):
        path, _, leaf = name.rpartition(".")
        owner: Any = net.body.get_submodule(path)
        if path and type(owner) in (nn.Sequential, nn.ModuleList) and leaf == str(len(owner) - 1):
            del owner[-1]
        elif not path:
            setattr(owner, leaf, ExitPoint().train(owner.training))
        else:
            raise ModelFileError(f"the body cannot end at {name}, in the middle of {path}", "choose the end of a stage")
    if not isinstance(net.body, EarlyExit):
        kind = type(net.body)
        # A class and no wrapper, which would put `body.` before every name.
        net.body.__class__ = type(kind.__name__, (EarlyExit, kind), {})


@torch.no_grad()
def find_modules_after(net: Net, tap: str) -> list[str]:
    """List the submodules of the body that are called only after `tap`, for `exit_early`.

    Submodules inside a listed one are not listed.
    """
    if tap == "out":
        return []
    tap_passed, called_before, called_after = False, set[str](), dict[str, None]()

    def call_recorder(name: str) -> Any:
        return lambda _module, _inputs: called_after.setdefault(name) if tap_passed else called_before.add(name)

    def mark_tap(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal tap_passed
        tap_passed = True

    handles = [m.register_forward_pre_hook(call_recorder(n)) for n, m in net.body.named_modules()]
    handles.append(net.body.get_submodule(tap).register_forward_hook(mark_tap))
    with as_evaluated(net), hooks(handles):
        net.body(example_input(net))
    unused = [
        name
        for name in called_after
        if name not in called_before and not isinstance(net.body.get_submodule(name), ExitPoint)
    ]
    return [name for name in unused if not any(name.startswith(f"{parent}.") for parent in unused)]


@torch.no_grad()
def check_exit(net: Net, tap: str, gone: Sequence[str]) -> bool:
    """Whether the body, ended early, returns exactly the output of `tap`; both are pooled first."""
    if not gone:
        return False
    trial = deepcopy(net).eval()
    # Not black: networks without biases answer 0 to black wherever they end.
    x = example_input(trial)
    x = x.uniform_(0, 1) if x.is_floating_point() else x
    expected = trial.outputs(x, (tap,))[tap]
    try:
        exit_early(trial, gone=gone)
        outputs = trial.outputs(x, (tap,))
    except Exception:  # a user's backbone may raise anything without its layers
        return False
    return outputs["out"].shape == expected.shape and torch.equal(pool(outputs["out"]), pool(expected))
